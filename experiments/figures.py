"""What people look at: image grids, curves, tables, and the files that keep them."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import t as student
from torch import Tensor

from colorquant_nn import comparison, palette_swatch, quantize_image, save_image
from colorquant_nn.functional import metrics

RESULTS = Path(__file__).parent / "results"
STAGE_NAMES = {"train": "training", "val": "validation", "test": "test"}

# Hues that stay apart for the colour-blind (Wong, Points of view: color blindness, 2011), and grey.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"


def image_grid(columns: Mapping[str, Tensor], palette: Tensor | None = None) -> Image.Image:
    """Images side by side, a row per image, each with its error against the first column.

    Args:
        columns: by caption, images (B, 3, H, W) in [0, 1]; the first are the originals.
        palette: (K, 3), drawn below.

    Returns:
        The picture.
    """
    rows = []
    for images in zip(
        *(x.detach().float().cpu().clamp(0, 1) for x in columns.values()), strict=True
    ):
        panels = dict(zip(columns, images, strict=True))
        first, *others = columns
        errors = {x: _error(panels[first], panels[x]) for x in others}
        rows.append(comparison({f"{x}\n{errors.get(x, '')}": panels[x] for x in columns}))
    if palette is not None:
        rows.append(palette_swatch(palette))
    size = max(row.width for row in rows), sum(row.height for row in rows)
    picture = Image.new("RGB", size, rows[0].getpixel((0, 0)))  # type: ignore[arg-type]
    top = 0
    for row in rows:
        picture.paste(row, (0, top))
        top += row.height
    return picture


def error_curve(
    steps: Sequence[tuple[int, float]],
    epochs: Sequence[tuple[int, float]],
    references: Mapping[str, float],
) -> Image.Image:
    """The MSE over a run: of training batches, of the validation, and of full k-means on both.

    Args:
        steps: of training batches: the step and the MSE.
        epochs: of validation: the step and the MSE.
        references: MSE of full k-means by stage, ``"train"`` or ``"val"``.

    Returns:
        The picture.
    """
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    colors = {"train": BLUE, "val": ORANGE}
    if steps:
        axes.plot(*zip(*steps, strict=True), color=BLUE, linewidth=1, label="training batches")
    if epochs:
        points = zip(*epochs, strict=True)
        axes.plot(*points, color=ORANGE, marker="o", markersize=4, label="validation")
    for stage, mse in references.items():
        label = f"k-means of the training images, {STAGE_NAMES[stage]}"
        axes.axhline(mse, color=colors[stage], linestyle="--", linewidth=1, label=label)
    axes.set(xlabel="step", ylabel="MSE")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return as_picture(figure)


def as_picture(figure: Figure, dpi: int = 120) -> Image.Image:
    """A figure's pixels."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _error(image: Tensor, other: Tensor) -> str:
    mse, psnr = metrics.mse(image, other).item(), metrics.psnr(image, other).item()
    return f"MSE {mse:.5f}, {psnr:.2f} dB"


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds, and half the width of its 95 % t-interval.

    Args:
        values: one per seed.

    Returns:
        Both in the values' unit; the half width of a single value is 0.

    References:
        Student, The probable error of a mean (1908).

    Examples:
        >>> from experiments.figures import mean_interval
        >>> mean, half = mean_interval([1.0, 2.0, 3.0])
        >>> f"{mean:.2f} ± {half:.2f}"
        '2.00 ± 2.48'
    """
    mean, number = statistics.fmean(values), len(values)
    if number == 1:
        return mean, 0.0
    error = statistics.stdev(values) / number**0.5
    return mean, float(student.ppf(0.975, number - 1)) * error


def interval_text(values: Sequence[float], digits: int) -> str:
    """The mean and its 95 % interval to so many decimals; a single value alone, without one.

    Examples:
        >>> from experiments.figures import interval_text
        >>> interval_text([1.0, 2.0, 3.0], 1), interval_text([1.0], 1)
        ('2.0 ± 2.5', '1.0')
    """
    mean, half = mean_interval(values)
    return f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if len(values) > 1 else "")


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table; what is None or missing becomes a dash.

    Examples:
        >>> from experiments.figures import markdown_table
        >>> print(markdown_table([{"colours": 2, "MSE": "0.01"}, {"colours": 4}]))
        | colours | MSE |
        | --- | --- |
        | 2 | 0.01 |
        | 4 | – |
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[row.get(column) for column in columns] for row in rows]
    lines = [columns, ["---"] * len(columns)]
    lines += [["–" if value is None else str(value) for value in line] for line in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def save_picture(path: Path, picture: Image.Image, num_colors: int = 128) -> None:
    """Write an RGB picture as an indexed PNG, as small as the results want it."""
    pixels = torch.from_numpy(np.array(picture)).movedim(-1, 0)
    save_image(path, quantize_image(pixels, num_colors))


def paragraphs(text: str) -> str:
    """Paragraphs, divided by empty lines, in lines of at most 100 characters.

    Examples:
        >>> from experiments.figures import paragraphs
        >>> print(paragraphs("one\\ntwo\\n\\nthree"))
        one two
        <BLANKLINE>
        three
    """
    return "\n\n".join(fill(" ".join(part.split()), 100) for part in text.strip().split("\n\n"))


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
        folder: where to; made if need be.
        name: of the files.
        title: headline of the Markdown.
        text: what was measured and how to measure it again.
        rows: the table as people read it.
        values: the unrounded numbers, for the JSON.
        plot: the picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n")
    save_picture(folder / f"{name}.png", plot, num_colors=64)
    (folder / f"{name}.md").write_text(
        f"# {title}\n\n{paragraphs(text)}\n\n{markdown_table(rows)}\n\n![{title}]({name}.png)\n"
    )
