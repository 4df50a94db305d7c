"""Files as bytes: read once, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

try:
    import fcntl
except ImportError:  # on Windows; leftovers stay there, as nobody can tell whose they are
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "MAX_BYTES",
    "STANDARD",
    "PathLike",
    "check_suffix",
    "discard_partials",
    "read_file",
    "write_atomically",
]

PathLike = str | os.PathLike[str]
AnyPath = TypeVar("AnyPath", bound=PathLike)

STANDARD = Path("-")  # standard input or output
MAX_BYTES = 1 << 30  # of a file that is read, as a whole
MANY = 1000  # names in a folder
CHUNK = 1 << 20  # bytes of a pipe that are read at once
FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
PREFIX, SUFFIX = ".colorquant-", ".partial"  # what is being written, beside its target

_partials: set[Path] = set()  # of this process
_looked: dict[Path, float] = {}  # large folder to when it may be searched for leftovers again


def read_file(path: PathLike, what: str, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a file that is not empty, once: it may be a pipe, too.

    Args:
        path: a file; "-" is standard input.
        what: is expected in it, for the message.
        max_bytes: that it may have; no more than these are read.

    Returns:
        its content.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, is empty, or is larger.
        TypeError: for something else than a path.
    """
    file = _to_path(path)
    try:
        if file == STANDARD:
            path = "standard input"
            if sys.stdin is None or sys.stdin.isatty():
                raise ValueError(f"{path}: expected {what} in a pipe, got no standard input")
            data = _read_at_most(sys.stdin.buffer, path, max_bytes)
        else:
            kind = file.stat().st_mode  # before it is opened, which does something to a device
            if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
                got = "folder" if stat.S_ISDIR(kind) else "device"
                raise ValueError(f"{path}: expected {what}, got a {got}")
            with open(file, "rb") as opened:
                data = _read_at_most(opened, path, max_bytes)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not data:
        raise ValueError(f"{path}: the file is empty")
    return data


def write_atomically(files: Mapping[AnyPath, bytes], replace: bool = True) -> None:
    """Write files beside their targets, then rename: all are whole, or as they were.

    A file that is replaced keeps its mode, and its owner where that is permitted; a link stays a
    link. What a process that was killed left in the folder is removed.

    Args:
        files: path to content; the path "-" is standard output.
        replace: whether files may be there already.

    Raises:
        ValueError: a target is not a regular file or may not be replaced, its folder does not
            exist, or the disk fails.
        TypeError: for something else than paths.

    Examples:
        >>> import os, tempfile
        >>> from colorquant_nn.files import write_atomically
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomically({f"{folder}/a.txt": b"a", f"{folder}/b.txt": b"b"})
        ...     sorted(os.listdir(folder))
        ['a.txt', 'b.txt']
    """
    partials: list[_Partial] = []
    created: list[_Partial] = []
    name: PathLike = ""
    try:
        for path, data in files.items():
            name = path
            if _to_path(path) != STANDARD:
                partials.append(_begin(path))
                _fill(partials[-1], data)
        for partial in partials:
            name = partial.path
            _place(partial, replace)
            if partial.before is None:
                created.append(partial)
        created.clear()
    except OSError as error:
        if isinstance(error, FileExistsError):
            raise ValueError(f"{name}: exists, and is not to be replaced") from error
        raise ValueError(f"{name}: cannot be written ({error.strerror or error})") from error
    finally:
        for partial in created:  # a later one failed
            with contextlib.suppress(OSError):
                partial.target.unlink()
        for partial in partials:
            _discard(partial.place)
            if fcntl is not None:
                os.close(partial.descriptor)
    for path, data in files.items():
        if _to_path(path) == STANDARD:
            _write_standard(data)


def discard_partials() -> None:
    """Remove what this process is writing, before it dies by a signal."""
    for place in list(_partials):
        _discard(place)


class _Partial(NamedTuple):
    """A file that is being written, locked as long as its writer lives."""

    path: PathLike
    """As it was given, for messages."""
    place: Path
    target: Path
    before: os.stat_result | None
    """Of the target; None: there is none."""
    descriptor: int


def _begin(path: PathLike) -> _Partial:
    """Make an empty file beside a target."""
    target = Path(os.path.realpath(path))  # a link stays a link
    before = target.stat() if target.exists() else None
    if before is not None and not stat.S_ISREG(before.st_mode):
        raise ValueError(f"{path}: expected a file to write to, got a folder or a device")
    folder = target.parent
    if not folder.is_dir():
        raise ValueError(f"{path}: the folder {folder} does not exist")
    _remove_leftovers(folder)
    # A file that replaces one may be as private as that one.
    mode = 0o666 if before is None else 0o600
    while True:
        # A short name: names have a limit.
        place = folder / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
        _partials.add(place)
        try:
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | FLAGS, mode)
            if _lock(descriptor) is not False:
                return _Partial(path, place, target, before, descriptor)
        except BaseException:
            _discard(place)
            raise
        os.close(descriptor)  # somebody took it for a leftover in this very moment
        _discard(place)


def _discard(place: Path) -> None:
    place.unlink(missing_ok=True)
    _partials.discard(place)


def _fill(partial: _Partial, data: bytes) -> None:
    # An open file keeps its lock, but on Windows no other name.
    with open(partial.descriptor, "wb", closefd=fcntl is None) as file:
        file.write(data)
    if fcntl is None:
        return
    os.close(os.dup(partial.descriptor))  # some file systems tell only now that they are full
    before = partial.before
    if before is None:
        return
    mode = stat.S_IMODE(before.st_mode) & 0o777
    for owner, group in ((before.st_uid, before.st_gid), (-1, before.st_gid)):
        with contextlib.suppress(OSError):
            os.fchown(partial.descriptor, owner, group)
            break
    else:  # another group is not let in: it has the rights of all others
        mode = mode & ~0o070 | (mode & 0o007) << 3
    os.fchmod(partial.descriptor, mode)


def _place(partial: _Partial, replace: bool) -> None:
    """Give a file its name, which without ``replace`` nobody may have."""
    if replace:
        os.replace(partial.place, partial.target)
        return
    try:
        os.link(partial.place, partial.target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        os.close(os.open(partial.target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        try:
            os.replace(partial.place, partial.target)
        except OSError:
            partial.target.unlink()
            raise


def _remove_leftovers(folder: Path) -> None:
    """Remove what writers left that were killed."""
    start = time.monotonic()
    if fcntl is None or start < _looked.get(folder, 0):
        return
    with contextlib.suppress(OSError):
        names = os.listdir(folder)
        for name in names:
            is_partial = name.startswith(PREFIX) and name.endswith(SUFFIX)
            if is_partial and folder / name not in _partials:
                with contextlib.suppress(OSError):
                    _remove_leftover(folder / name)
        if len(names) > MANY:  # for no more than a fifth of the time
            _looked[folder] = time.monotonic() + 4 * (time.monotonic() - start)


def _remove_leftover(place: Path) -> None:
    # Whatever it is called, opening it must not wait, nor lead elsewhere.
    descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | FLAGS)
    try:
        if _lock(descriptor):  # so its writer does not live
            place.unlink()
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Whether a file is ours alone; None where that cannot be said."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return os.fstat(descriptor).st_nlink > 0


def _write_standard(data: bytes) -> None:
    stream = getattr(sys.stdout, "buffer", None)
    if stream is None:
        raise ValueError("-: standard output is closed")
    try:
        sys.stdout.flush()
        stream.write(data)
        stream.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        pass
    except OSError as error:
        raise ValueError(f"-: cannot be written ({error.strerror or error})") from error


def _read_at_most(opened: BinaryIO, path: PathLike, max_bytes: int) -> bytes:
    """The rest of a file, of which no more is read than to know that it is too large."""
    try:
        size = os.fstat(opened.fileno()).st_size
    except (OSError, ValueError):  # no file at all
        size = 0
    parts: list[bytes] = []
    count = 0
    while count <= max_bytes and size <= max_bytes:
        parts.append(opened.read(min(max(CHUNK, size + 1), max_bytes + 1 - count)) or b"")
        count += len(parts[-1])
        if not parts[-1]:
            return b"".join(parts)
    raise ValueError(f"{path}: larger than {max_bytes:,} bytes, too large to be trusted")


def check_suffix(path: PathLike, formats: Collection[str], what: str) -> str:
    """Check that a path ends in a suffix of those given.

    Args:
        path: of a file to write.
        formats: suffixes with their dots.
        what: is written in these formats, for the message.

    Returns:
        the suffix in small letters.

    Raises:
        ValueError: it is another.
        TypeError: for something else than a path.

    Examples:
        >>> from colorquant_nn.files import check_suffix
        >>> check_suffix("photo.PNG", [".png", ".gif"], "an image")
        '.png'
    """
    suffix = _to_path(path).suffix.lower()
    if suffix not in formats:
        raise ValueError(
            f"{path}: expected a name that ends in {', '.join(formats)} for {what}, got {suffix!r}"
        )
    return suffix


def _to_path(path: PathLike) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"expected a path as text or os.PathLike, got {type(path).__name__}")
    return Path(path)
