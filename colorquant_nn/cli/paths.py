"""What a command reads and what it writes: settled before any work is done."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from colorquant_nn.cli import report
from colorquant_nn.cli.options import Output
from colorquant_nn.files import check_suffix
from colorquant_nn.image_files import FORMATS, PICTURES

__all__ = ["DRAWINGS", "Job", "check_target", "expand", "plan"]

SUFFIX = "-quantized"
DRAWINGS = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG"}  # comparisons and plots
# What a folder is searched for; a file that is named is opened whatever it is called.
SUFFIXES = {suffix for suffixes in PICTURES.values() for suffix in suffixes}


class Job(NamedTuple):
    """One input with what is made of it."""

    source: Path
    target: Path
    comparison: Path | None


def expand(inputs: Sequence[str], subfolders: bool = False) -> tuple[list[Path], int]:
    """Files, those of folders in order of their names, and how many inputs were no good."""
    sources: list[Path] = []
    failures = 0
    for name in inputs:
        path = Path(name)
        if not path.is_dir():
            sources.append(path)
            continue
        found = sorted(
            file
            for file in (path.rglob("*") if subfolders else path.iterdir())
            if file.suffix.lower() in SUFFIXES and not file.stem.endswith(SUFFIX) and file.is_file()
        )
        if not found:
            failures += report.report_failure(f"{path}: no pictures in this folder")
        sources += found
    return list(dict.fromkeys(sources)), failures


def plan(source: Path, output: Output, inputs: int, taken: dict[Path, Path]) -> Job:
    """Where the results go, checked before any work is done."""
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such file")
    name = f"{source.stem}{SUFFIX}{_suffix_for(source)}"
    target, picture = source.with_name(name), None
    if output.file is not None:
        target = _place(output.file, name, inputs, FORMATS)
    if output.picture is not None:
        picture = _place(output.picture, f"{source.stem}-compare.png", inputs, DRAWINGS)
    for path, given, formats, what in (
        (target, output.file, FORMATS, "an image without loss"),
        (picture, output.picture, DRAWINGS, "a picture"),
    ):
        if path is None:
            continue
        check_suffix(path, formats, what)
        check_target(path, [source], output.force, makes_folder=path != Path(given or path))
        other = taken.setdefault(path.resolve(), source)
        if other != source:
            raise ValueError(f"{source}: would replace {path}, the result of {other}")
    if target == picture:
        raise ValueError(f"{target}: expected different files for -o and --compare")
    return Job(source, target, picture)


def _place(given: str, name: str, inputs: int, formats: Collection[str]) -> Path:
    """The path given, or the name in it where it is a folder."""
    path = Path(given)
    if not (path.is_dir() or inputs > 1 or given.endswith(("/", os.sep))):
        return path
    if path.suffix.lower() in formats and not path.is_dir():
        raise ValueError(f"{path}: expected a folder for {inputs} inputs, got a file name")
    return path / name


def _suffix_for(source: Path) -> str:
    """.png, but the input's own if it holds frames or pages that this format can keep."""
    suffix = source.suffix.lower()
    if suffix not in (".gif", ".webp", ".tif", ".tiff"):
        return ".png"
    from PIL import Image

    try:
        with Image.open(source, formats=tuple(PICTURES)) as image:
            return suffix if getattr(image, "n_frames", 1) > 1 else ".png"
    except Exception:  # whatever it is, loading it will say so
        return ".png"


def check_target(
    target: Path, sources: Sequence[Path], force: bool, makes_folder: bool = False
) -> None:
    """Refuse a target that is an input, exists, or has no folder that can be written to."""
    if target.exists() and target.resolve() in map(Path.resolve, sources):
        raise ValueError(f"{target}: is an input, and inputs are never replaced")
    if target.is_dir():
        raise ValueError(f"{target}: expected a file, got a folder")
    if target.exists() and not force:
        raise ValueError(f"{target}: exists; --force replaces it")
    folder = target.parent
    while makes_folder and not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise ValueError(f"{target}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{target}: the folder {folder} cannot be written to")
