"""Files as bytes: read once, written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

__all__ = ["PathLike", "check_suffix", "read_file", "write_atomically"]

PathLike = str | os.PathLike[str]
AnyPath = TypeVar("AnyPath", bound=PathLike)


def read_file(path: PathLike, what: str) -> bytes:
    """Read a file that is not empty.

    Args:
        path: a file.
        what: is expected in it, for the message.

    Returns:
        its content.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or is empty.
        TypeError: for something else than a path.
    """
    file = _to_path(path)
    if not file.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if file.is_dir():
        raise ValueError(f"{path}: expected {what}, got a folder")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if not data:
        raise ValueError(f"{path}: the file is empty")
    return data


def write_atomically(files: Mapping[AnyPath, bytes]) -> None:
    """Write files beside their targets, then rename: all are whole, or as they were.

    Args:
        files: path to content.

    Raises:
        ValueError: a target is not a regular file, its folder does not exist, or the disk fails.
        TypeError: for something else than paths.

    Examples:
        >>> import os, tempfile
        >>> from colorquant_nn.files import write_atomically
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomically({f"{folder}/a.txt": b"a", f"{folder}/b.txt": b"b"})
        ...     sorted(os.listdir(folder))
        ['a.txt', 'b.txt']
    """
    moves: dict[AnyPath, tuple[Path, Path]] = {}
    try:
        for path, data in files.items():
            target = Path(os.path.realpath(_to_path(path)))  # a link stays a link
            if target.exists() and not stat.S_ISREG(target.stat().st_mode):
                raise ValueError(f"{path}: expected a file to write to, got a folder or a device")
            if not target.parent.is_dir():
                raise ValueError(f"{path}: the folder {target.parent} does not exist")
            # A short name: names have a limit.
            moves[path] = target.with_name(f".{secrets.token_hex(8)}.partial"), target
            with open(moves[path][0], "xb") as file:
                file.write(data)
        for path in files:
            os.replace(*moves[path])
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        for partial, _ in moves.values():
            partial.unlink(missing_ok=True)


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
