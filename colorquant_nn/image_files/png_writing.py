"""PNG and APNG, written: https://www.w3.org/TR/png-3/."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from colorquant_nn.image_files.display import METRE, Display, as_fraction
from colorquant_nn.image_files.packing import changed_box, pack_rows
from colorquant_nn.image_files.png import SIGNATURE, pack_chunk, walk_chunks

__all__ = ["encode_png"]

Array = NDArray[np.uint8]

LARGE = 1 << 22  # pixels
LEVEL, LEVEL_LARGE = 9, 6
MEMORY_LEVEL = 7  # blocks with codes of their own: the best of 4 to 9, by 0.3 % to 0.6 %
LEVEL_TRUE_COLOR = 8  # 2 % to 4 % smaller than 6 for twice the time, some 0.1 s a megapixel


def encode_png(frames: Iterator[Array], display: Display, colors: Array | None) -> bytes:
    """Encode a still as PNG, several frames as APNG of what changes from one to the next.

    Args:
        frames: as in `image_files.encode`.
        display: as in `image_files.encode`.
        colors: as in `image_files.encode`; all of them are stored, in their order.

    Returns:
        the content of the file.
    """
    file = io.BytesIO()
    before = None
    number = 0  # of the next chunk of an animation
    animated = len(display.durations) > 1
    for frame, duration in zip(frames, display.durations, strict=False):
        if before is None:
            file.write(_header(frame, colors, display))
        box = rows, columns = changed_box(before, frame)
        if animated:
            control = struct.pack(
                ">IIIIIHHBB",
                number,
                columns.stop - columns.start,
                rows.stop - rows.start,
                columns.start,
                rows.start,
                *as_fraction(duration),
                0,  # it stays,
                0,  # and replaces what it covers
            )
            file.write(pack_chunk(b"fcTL", control))
            number += 1
        data = _compress(frame[box], colors)
        if before is None:
            file.write(pack_chunk(b"IDAT", data))
        else:
            file.write(pack_chunk(b"fdAT", struct.pack(">I", number) + data))
            number += 1
        before = frame
    file.write(pack_chunk(b"IEND", b""))
    return file.getvalue()


def _header(frame: Array, colors: Array | None, display: Display) -> bytes:
    height, width = frame.shape[:2]
    kind = 3 if colors is not None else 2 if frame.shape[2] == 3 else 6
    bits = 8 if colors is None else _bits(colors)
    parts = [
        SIGNATURE,
        pack_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)),
    ]
    if display.resolution is not None:
        across, down = (max(1, round(dots * METRE)) for dots in display.resolution)
        parts.append(pack_chunk(b"pHYs", struct.pack(">IIB", across, down, 1)))
    if colors is not None:
        parts.append(pack_chunk(b"PLTE", colors[:, :3].tobytes()))
        alpha = colors[:, 3].tobytes().rstrip(b"\xff") if colors.shape[1] == 4 else b""
        if alpha:
            parts.append(pack_chunk(b"tRNS", alpha))
    if (count := len(display.durations)) > 1:
        parts.append(pack_chunk(b"acTL", struct.pack(">II", count, display.plays)))
    return b"".join(parts)


def _bits(colors: Array) -> int:
    return next(bits for bits in (1, 2, 4, 8) if len(colors) <= 1 << bits)


def _compress(pixels: Array, colors: Array | None) -> bytes:
    """The rows with their filters, deflated."""
    large = pixels.shape[0] * pixels.shape[1] > LARGE
    if colors is None:
        return _compress_true_color(pixels, LEVEL_LARGE if large else LEVEL_TRUE_COLOR)
    # Indices are names, whose differences mean nothing: no filter.
    rows = np.pad(pack_rows(pixels, _bits(colors)), ((0, 0), (1, 0)))
    level = LEVEL_LARGE if large else LEVEL
    compressor = zlib.compressobj(level, memLevel=MEMORY_LEVEL)
    return compressor.compress(rows.data) + compressor.flush()


def _compress_true_color(pixels: Array, level: int) -> bytes:
    """Pillow chooses a filter for each row."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=level)
    data = file.getvalue()
    chunks = walk_chunks(data)
    return b"".join(data[start:stop] for kind, start, stop in chunks if kind == b"IDAT")
