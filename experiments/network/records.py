"""What runs leave behind: a small JSON file for each, so that a study goes on where it stopped."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

Record: TypeAlias = dict[str, Any]

RECORDS = Path("runs/network")  # what is published of them is written by the report


def record(folder: Path, name: str, run: Callable[[], Record], **settings: float | None) -> Record:
    """What a run found: from its file, or from running it now.

    Args:
        folder: of the records; made if need be.
        name: of the run and of its file, such as ``"shared-4-seed0"``.
        run: gives what is to be kept, numbers and texts by name.
        settings: kept beside it; a run of others is not taken for this one.

    Returns:
        That, with the ``minutes`` that it took.

    Raises:
        ValueError: its file tells of a run with other settings.

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
        found: Record = json.loads(file.read_text())
        others = {key: found.get(key) for key in settings if found.get(key) != settings[key]}
        if others:
            asked = ", ".join(f"{key} {settings[key]}" for key in others)
            got = ", ".join(f"{key} {value}" for key, value in others.items())
            raise ValueError(
                f"{file} tells of a run with {got}, asked for is {asked}: "
                "remove it, or name another folder of records"
            )
        return found
    began = time.monotonic()
    found = settings | run() | {"minutes": round((time.monotonic() - began) / 60, 2)}
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


def part_of(found: Mapping[str, Record], prefix: str) -> dict[str, Record]:
    """Those records whose names begin so."""
    return {name: run for name, run in found.items() if name.startswith(prefix)}
