"""Tables and plots of the sweeps, written as Markdown, JSON and PNG."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from PIL import Image

RESULTS = Path(__file__).parent / "results"


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same keys as a Markdown table; None becomes a dash.

    Example:
        >>> print(markdown_table([{"colours": 2, "MSE": "0.01"}, {"colours": 4, "MSE": None}]))
        | colours | MSE |
        | --- | --- |
        | 2 | 0.01 |
        | 4 | – |
    """
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [["–" if value is None else str(value) for value in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_results(
    folder: Path,
    name: str,
    *,
    title: str,
    text: str,
    rows: Sequence[Mapping[str, Any]],
    values: Any,
    plot: Image.Image,
) -> None:
    """Write ``name.md`` (the rows, the text and the plot), ``name.json`` and ``name.png``.

    Args:
        folder: Where to; made if need be.
        name: Of the files.
        title: Headline of the Markdown.
        text: What was measured and how to measure it again.
        rows: The table as people read it.
        values: The unrounded numbers, for the JSON.
        plot: The picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n")
    plot.quantize(64).save(folder / f"{name}.png", optimize=True)
    prose = "\n\n".join(fill(" ".join(part.split()), 100) for part in text.strip().split("\n\n"))
    (folder / f"{name}.md").write_text(
        f"# {title}\n\n{prose}\n\n{markdown_table(rows)}\n\n![{title}]({name}.png)\n"
    )
