"""What a command reads and what it writes: settled before any work is done."""

from __future__ import annotations

import errno
import os
import stat
import sys
import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from colorquant_nn.cli.options import Output, boundary, shown
from colorquant_nn.files import STANDARD, check_suffix
from colorquant_nn.image_files import FORMATS, PICTURES, is_format

__all__ = ["DRAWINGS", "STANDARD", "Job", "expand", "plan", "settle", "target_for", "to_source"]

SUFFIX = "-quantized"
COMPARE = "-compare"
DRAWINGS = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG"}  # comparisons and plots
# What a folder is searched for; a file that is named is opened whatever it is called.
SUFFIXES = {suffix for suffixes in PICTURES.values() for suffix in suffixes}
MOVING = {"GIF": ".gif", "WEBP": ".webp", "TIFF": ".tif"}  # formats that keep frames or pages


class Job(NamedTuple):
    """One input with what is made of it; `target_for` says where the picture goes."""

    source: Path
    target: Path
    """Without its suffix where that depends on what the source holds."""
    comparison: Path | None
    claims: Claims
    is_open: bool
    """Whether the target has yet to get its suffix."""
    makes_folder: bool
    """Whether a folder for the target is made."""


class Claims:
    """Everything that a command reads and everything that it writes: nothing is both, or twice.

    Args:
        reads: all files that are read.
        force: replace existing files.
    """

    def __init__(self, reads: Sequence[Path], force: bool) -> None:
        self._force = force
        self._reads = {key for path in reads for key in _keys(path)}
        self._owners: dict[Hashable, tuple[object, Path]] = {}

    def claim(self, owner: object, *targets: tuple[Path, bool]) -> None:
        """Check targets, and that nobody else has them; all are the owner's, or none is.

        Args:
            owner: whose results they are.
            targets: files to write, each with whether folders that are missing are made for it.

        Raises:
            ValueError: for a target that cannot or may not be written.
        """
        own: dict[Hashable, tuple[object, Path]] = {}
        for target, makes_folder in targets:
            real = os.path.realpath(target)
            if target == STANDARD:
                keys = self._check_standard_output()
            else:
                self._check(target, makes_folder)
                folded = "folded", unicodedata.normalize("NFC", real).casefold()
                keys = {*_keys(target), folded}
            if not own.keys().isdisjoint(keys):
                raise ValueError(f"{shown(target)}: expected different files for different results")
            for key in keys:
                whose, other = self._owners.get(key, (owner, target))
                # Where capitals make no difference, it shows as soon as the first file is there.
                if whose != owner and (key == real or _is_same(target, other)):
                    raise ValueError(
                        f"{shown(owner)}: would replace {shown(target)}, "
                        f"the result of {shown(whose)}"
                    )
            own |= dict.fromkeys(keys, (owner, target))
        self._owners |= own

    def _check_standard_output(self) -> set[Hashable]:
        """What standard output is known by if it is a file, as with ``>>``."""
        if getattr(sys.stdout, "buffer", None) is None:
            raise ValueError("-: standard output is closed")
        if sys.stdout.isatty():
            raise ValueError("-: standard output is a terminal; -o FILE writes to a file")
        try:
            found = os.fstat(sys.stdout.fileno())
        except (OSError, ValueError):  # no file at all
            return set()
        if not stat.S_ISREG(found.st_mode):
            return set()
        keys: set[Hashable] = {(found.st_dev, found.st_ino)}
        if keys & self._reads:
            raise ValueError("-: standard output is an input, and inputs are never replaced")
        return keys

    def _check(self, target: Path, makes_folder: bool) -> None:
        found = _status(target)
        if found is not None:
            if stat.S_ISDIR(found.st_mode):
                raise ValueError(f"{shown(target)}: expected a file, got a folder")
            if _keys(target) & self._reads:
                hint = "; --suffix gives results other names" if makes_folder else ""
                raise ValueError(
                    f"{shown(target)}: is an input, and inputs are never replaced{hint}"
                )
            if not stat.S_ISREG(found.st_mode):
                raise ValueError(f"{shown(target)}: expected a file to write to, got a device")
            if not self._force:
                raise ValueError(f"{shown(target)}: exists; --force replaces it")
        folder = Path(os.path.realpath(target)).parent
        while makes_folder and not os.path.lexists(folder):
            folder = folder.parent
        if not folder.exists():
            raise ValueError(f"{shown(target)}: the folder {shown(folder)} does not exist")
        if not folder.is_dir():
            raise ValueError(f"{shown(target)}: expected a folder, got a file: {shown(folder)}")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ValueError(f"{shown(target)}: the folder {shown(folder)} cannot be written to")


def plan(inputs: Sequence[str], output: Output, reads: Sequence[str] = ()) -> tuple[list[Job], int]:
    """Settle what ``colorquant quantize`` reads and writes.

    Args:
        inputs: pictures, or folders that are searched with their subfolders.
        output: where results go; those of a folder keep its structure.
        reads: other files that are read, such as a palette; those that do not exist count not.

    Returns:
        a job for each picture, and how many inputs failed, each told on stderr.

    Raises:
        ValueError: for an output that cannot be that of these inputs.
    """
    found, failures = _search(inputs, output)
    several = len(inputs) > 1 or any(map(os.path.isdir, inputs))
    _check_output(output, several)
    sources = [*found, *map(to_source, reads)]
    _check_standard(sources)
    claims = Claims(sources, output.force)
    jobs: list[Job] = []
    for source, inside in found.items():
        with boundary(source) as outcome:
            jobs.append(_job(source, inside, output, several, claims))
        failures += outcome.failures
    return jobs, failures


def target_for(job: Job, frames: int, data: bytes) -> tuple[Path, str]:
    """Where a picture goes, now that it has been read.

    Results are .png, but animations and documents keep a format that can hold them.

    Args:
        job: one of `plan`.
        frames: how many there are.
        data: the content of the source.

    Returns:
        the file to write, or `STANDARD`; and the suffix of its format.

    Raises:
        ValueError: for a target that cannot or may not be written.
    """
    suffix = job.target.suffix.lower()
    if job.is_open or job.target == STANDARD:
        moving = (MOVING[format] for format in MOVING if frames > 1 and is_format(data, format))
        suffix = next(moving, ".png")
        if suffix == ".tif" and job.source.suffix.lower() == ".tiff":
            suffix = ".tiff"
    if job.target == STANDARD:
        return STANDARD, suffix
    target = job.target.with_name(job.target.name + suffix) if job.is_open else job.target
    check_suffix(target, FORMATS, "an image without loss")
    comparisons = [] if job.comparison is None else [(job.comparison, True)]
    job.claims.claim(job.source, (target, job.makes_folder), *comparisons)
    return target, suffix


def settle(reads: Sequence[Path], writes: Mapping[str, str | None], force: bool) -> None:
    """Check what a command reads and writes that has few outputs, each named.

    Args:
        reads: all files that are read.
        writes: option to file, or None.
        force: replace existing files.

    Raises:
        ValueError: for a target that cannot or may not be written, or standard input twice.
    """
    _check_standard(reads)
    targets = [Path(name) for name in writes.values() if name is not None]
    Claims(reads, force).claim("this command", *((target, False) for target in targets))


def expand(inputs: Sequence[str], output: Output) -> tuple[list[Path], int]:
    """Find the pictures that are meant.

    Args:
        inputs: files, or folders that are searched with their subfolders. Left out are what is
            hidden, links to folders, and results of this command.
        output: where results go.

    Returns:
        files, those of a folder in order of their names; and how many inputs failed, each told on
        stderr.
    """
    found, failures = _search(inputs, output)
    return list(found), failures


def to_source(name: str) -> Path:
    """The path of an input: "-" is standard input, "./-" a file."""
    path = Path(name)
    return Path.cwd() / path if path == STANDARD and name != "-" else path


def _search(inputs: Sequence[str], output: Output) -> tuple[dict[Path, Path], int]:
    """File to its place below the folder that was searched, and how many inputs failed."""
    found: dict[Path, Path] = {}
    failures = 0
    for path in map(to_source, inputs):
        if path == STANDARD or not os.path.isdir(path):
            found.setdefault(path, Path(path.name))
            continue
        files, errors = _walk(path, output)
        if not files and not errors:
            errors.append(ValueError(f"{path}: no pictures in this folder"))
        for error in errors:
            with boundary(getattr(error, "filename", path)) as outcome:
                raise error
            failures += outcome.failures
        for file in sorted(files):
            found.setdefault(file, file.relative_to(path))
    return found, failures


def _walk(top: Path, output: Output) -> tuple[list[Path], list[Exception]]:
    """The pictures below a folder, and what cannot be read."""
    endings = tuple({SUFFIX, output.suffix or SUFFIX} | ({COMPARE} if output.picture else set()))
    results = {key for name in (output.file, output.picture) if name for key in _inode(Path(name))}
    files: list[Path] = []
    errors: list[Exception] = []
    for place, folders, names in os.walk(top, onerror=errors.append):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and results.isdisjoint(_inode(Path(place, name)))
        ]
        for file in (Path(place, name) for name in names if not name.startswith(".")):
            if file.suffix.lower() in SUFFIXES and not file.stem.endswith(endings):
                files += [file] if _may_be_read(file) else []
    return files, errors


def _may_be_read(file: Path) -> bool:
    try:
        return stat.S_ISREG(file.stat().st_mode)
    except OSError as error:  # a link to nowhere is left out; what is forbidden is told of
        return error.errno == errno.EACCES


def _check_output(output: Output, several: bool) -> None:
    """Whether results of these inputs can go where they are wanted."""
    named = output.file is not None and not _is_folder(output.file, several)
    if named and output.suffix is not None:
        raise ValueError(f"--suffix names results in folders: it does not go with -o {output.file}")
    if output.file == "-" and several:
        raise ValueError("-o -: expected one input for standard output, got several")
    for given, formats in ((output.file, FORMATS), (output.picture, DRAWINGS)):
        if given is None or given == "-" or Path(given).is_dir():
            continue
        if several and Path(given).suffix.lower() in formats and not _ends_as_folder(given):
            raise ValueError(
                f"{shown(given)}: expected a folder for several inputs, got a file name"
            )


def _check_standard(sources: Sequence[Path]) -> None:
    if sources.count(STANDARD) > 1:
        raise ValueError("-: standard input can be read only once")


def _job(source: Path, inside: Path, output: Output, several: bool, claims: Claims) -> Job:
    if source != STANDARD and _status(source) is None:
        hint = f"; for {source} colours: -k {source}" if str(source).isdecimal() else ""
        raise FileNotFoundError(f"{source}: no such file{hint}")
    stem = "stdin" if source == STANDARD else source.stem
    to_folder = output.file is not None and _is_folder(output.file, several)
    is_open = False
    if output.file == "-" or (source == STANDARD and output.file is None):
        target = STANDARD
    elif output.file is not None and not to_folder:
        target = Path(output.file)
    else:
        name = stem + (output.suffix or ("" if to_folder else SUFFIX))
        target = Path(output.file or "", inside) if to_folder else source
        target = target.with_name(name)
        suffix = source.suffix.lower()
        is_open = suffix not in SUFFIXES or suffix in {*MOVING.values(), ".tiff"}
        if not is_open:
            target = target.with_name(f"{name}.png")
    targets: list[tuple[Path, bool]] = []
    if target == STANDARD:
        targets.append((target, False))
    elif not is_open:
        check_suffix(target, FORMATS, "an image without loss")
        targets.append((target, to_folder))
    comparison = None if output.picture is None else Path(output.picture)
    if comparison is not None:
        makes_folder = _is_folder(str(output.picture), several)
        if makes_folder:
            comparison = Path(comparison, inside).with_name(f"{stem}{COMPARE}.png")
        check_suffix(comparison, DRAWINGS, "a picture")
        targets.append((comparison, makes_folder))
    claims.claim(source, *targets)
    return Job(source, target, comparison, claims, is_open, to_folder)


def _is_folder(given: str, several: bool) -> bool:
    """Whether a place for results is a folder, which need not be there yet."""
    return given != "-" and (several or _ends_as_folder(given) or Path(given).is_dir())


def _ends_as_folder(given: str) -> bool:
    return given.endswith(("/", os.sep)) or Path(given).name in ("", "..")


def _status(path: Path) -> os.stat_result | None:
    """Of what is there; None: nothing is.

    Raises:
        ValueError: it cannot be said, such as for links in a circle.
    """
    try:
        if path == STANDARD:
            return os.fstat(sys.stdin.fileno())
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{shown(path)}: {reason}") from error


def _keys(path: Path) -> set[Hashable]:
    """What a path is known by: links resolved; and the device and the number of what is there."""
    return {os.path.realpath(path), *_inode(path)}


def _inode(path: Path) -> set[Hashable]:
    try:
        found = _status(path)
    except ValueError:
        return set()
    return {(found.st_dev, found.st_ino)} if found is not None and found.st_ino else set()


def _is_same(path: Path, other: Path) -> bool:
    return bool(_inode(path) & _inode(other))
