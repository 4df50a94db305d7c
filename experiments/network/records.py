"""What runs leave behind: a small JSON file for each, so that a study goes on where it stopped."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

Record: TypeAlias = dict[str, Any]

RECORDS = Path("runs/network")  # what is published of them is written by the report


def record(folder: Path, name: str, run: Callable[[], Record]) -> Record:
    """What a run found: from its file, or from running it now.

    Args:
        folder: of the records; made if need be.
        name: of the run and of its file, such as ``"shared-4-seed0"``.
        run: gives what is to be kept, numbers and texts by name.

    Returns:
        That, with the ``minutes`` that it took.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from experiments.network.records import record
        >>> folder = Path(tempfile.mkdtemp())
        >>> record(folder, "a", lambda: {"top1": 0.5})["top1"]
        0.5
        >>> record(folder, "a", lambda: {"top1": 0.9})["top1"]  # it is there
        0.5
    """
    file = folder / f"{name}.json"
    if file.exists():
        return json.loads(file.read_text())  # type: ignore[no-any-return]
    began = time.monotonic()
    found = run() | {"minutes": round((time.monotonic() - began) / 60, 2)}
    folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(found, indent=1) + "\n")
    partial.replace(file)
    numbers = {key: value for key, value in found.items() if isinstance(value, int | float)}
    print(name, numbers, file=sys.stderr, flush=True)
    return found


def records(folder: Path, prefix: str) -> dict[str, Record]:
    """All records of a folder whose names begin so, by name, in the order of the names."""
    files = sorted(folder.glob(f"{prefix}*.json"))
    return {file.stem: json.loads(file.read_text()) for file in files}
