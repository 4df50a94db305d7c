"""TIFF pages, written: TIFF 6.0, with the deflate of its Photoshop supplement."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from colorquant_nn.image_files.display import Display, FormatError
from colorquant_nn.image_files.packing import is_opaque

__all__ = ["directory", "encode_tiff", "resolution_entries"]

Array = NDArray[np.uint8]
Entries = dict[int, tuple[str, list[int]]]

SHORT, LONG, RATIONAL = "H", "I", "II"
TYPES = {SHORT: 3, LONG: 4, RATIONAL: 5}
LEVEL = 6
LARGEST = (1 << 32) - 1  # bytes


def encode_tiff(frames: Iterator[Array], display: Display, colors: Array | None) -> bytes:
    """Encode pages, each of its own size.

    Args:
        frames: as in `image_files.encode`.
        display: as in `image_files.encode`; pages have no times.
        colors: as in `image_files.encode`. A page has all of them, in their order, if its pixels
            are opaque, else true colour: a palette in TIFF has no alpha.

    Returns:
        the content of the file.

    Raises:
        FormatError: for more than 4 GB.
    """
    file = io.BytesIO()
    file.write(struct.pack("<2sHI", b"II", 42, 0))
    pointer = 4  # to the next directory
    for frame in frames:
        height, width = frame.shape[:2]
        entries: Entries = {256: (LONG, [width]), 257: (LONG, [height])}
        if colors is not None and is_opaque(frame, colors):
            # Fewer bits save next to nothing once deflated, and not every program reads them.
            # Repeating the last colour says how many are meant.
            table = np.pad(colors[:, :3], ((0, 256 - len(colors)), (0, 0)), "edge")
            entries |= {258: (SHORT, [8]), 262: (SHORT, [3]), 277: (SHORT, [1])}
            entries[320] = (SHORT, (table.T.astype(int) * 257).ravel().tolist())
            rows = frame
        else:
            rows = frame if colors is None else colors[frame]
            channels = 3 if is_opaque(rows, None) else 4
            rows = rows[..., :channels]
            entries |= {258: (SHORT, [8] * channels), 262: (SHORT, [2])}
            entries[277] = (SHORT, [channels])
            if channels == 4:
                entries[338] = (SHORT, [2])  # alpha that colours are not multiplied by
        data = zlib.compress(np.ascontiguousarray(rows).data, LEVEL)
        if display.resolution is not None:
            entries |= resolution_entries(display.resolution)
        start = file.tell()
        entries |= {259: (SHORT, [8]), 273: (LONG, [start]), 278: (LONG, [height])}
        entries[279] = (LONG, [len(data)])
        at = start + len(data) + len(data) % 2
        if at + 4096 > LARGEST:
            raise FormatError("a TIFF holds at most 4 GB; use several files")
        file.write(data.ljust(at - start, b"\0"))
        file.write(directory(entries, at))
        file.seek(pointer)
        file.write(struct.pack("<I", at))
        file.seek(0, io.SEEK_END)
        pointer = at + 2 + 12 * len(entries)
    return file.getvalue()


def directory(entries: Entries, at: int) -> bytes:
    """Lay out a directory of tags, the last of its file.

    Args:
        entries: tag to the kind of its numbers and those.
        at: position in the file.

    Returns:
        the directory with what does not fit into it; an even number of bytes.
    """
    head, more = [struct.pack("<H", len(entries))], b""
    at += 2 + 12 * len(entries) + 4
    for tag, (kind, numbers) in sorted(entries.items()):
        data = struct.pack(f"<{len(numbers)}{kind[0]}", *numbers)
        if len(data) > 4:
            data, more = struct.pack("<I", at + len(more)), more + data + b"\0" * (len(data) % 2)
        head.append(struct.pack("<HHI", tag, TYPES[kind], len(numbers) // len(kind)))
        head.append(data.ljust(4, b"\0"))
    return b"".join([*head, bytes(4), more])


def resolution_entries(resolution: tuple[float, float]) -> Entries:
    """Write a resolution as tags.

    Args:
        resolution: dots per inch, across and down.

    Returns:
        the entries of a directory.
    """
    across, down = (Fraction(dots).limit_denominator(1000) for dots in resolution)
    return {
        282: (RATIONAL, [across.numerator, across.denominator]),
        283: (RATIONAL, [down.numerator, down.denominator]),
        296: (SHORT, [2]),  # inches
    }
