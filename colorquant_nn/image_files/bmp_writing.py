"""BMP, written: a BITMAPINFOHEADER and rows from the bottom to the top."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from colorquant_nn.image_files.display import METRE, Display, FormatError
from colorquant_nn.image_files.packing import is_opaque, pack_rows

__all__ = ["encode_bmp"]

Array = NDArray[np.uint8]

HEADERS = 54  # bytes
LARGEST = (1 << 32) - 1  # bytes


def encode_bmp(frames: Iterator[Array], display: Display, colors: Array | None) -> bytes:
    """Encode one opaque picture.

    Args:
        frames: as in `image_files.encode`, one.
        display: as in `image_files.encode`.
        colors: as in `image_files.encode`; all of them are stored, in their order.

    Returns:
        the content of the file.

    Raises:
        FormatError: for several frames, for a pixel that is not opaque, for more than 4 GB.
    """
    if len(display.durations) > 1:
        raise FormatError(
            f"a BMP holds one picture, got {len(display.durations)} frames; "
            "use .gif, .png, .webp or .tif"
        )
    (frame,) = frames
    if not is_opaque(frame, colors):
        raise FormatError("a BMP has no transparency; use .png")
    height, width = frame.shape[:2]
    if colors is None:
        bits, table = 24, b""
        rows = frame[..., 2::-1].reshape(height, 3 * width)
    else:
        bits = next(bits for bits in (1, 4, 8) if len(colors) <= 1 << bits)
        if bits == 4 and (colors[:, :3] == np.arange(len(colors))[:, None]).all():
            bits = 8  # Pillow fails on such greys in 4 bits
        table = np.pad(colors[:, 2::-1], ((0, 0), (0, 1))).tobytes()
        rows = pack_rows(frame, bits)
    start = HEADERS + len(table)
    size = height * (rows.shape[1] + -rows.shape[1] % 4)
    if start + size > LARGEST:
        raise FormatError("a BMP holds at most 4 GB; use .png")
    across, down = (round(dots * METRE) for dots in display.resolution or (0, 0))
    used = 0 if colors is None else len(colors)
    file = struct.pack("<2sIII", b"BM", start + size, 0, start)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, size, across, down, used, 0)
    padded = np.pad(rows[::-1], ((0, 0), (0, -rows.shape[1] % 4)))
    return b"".join([file, info, table, padded.data])
