"""GIF89a, written: https://www.w3.org/Graphics/GIF/spec-gif89a.txt."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image

from colorquant_nn.image_files.display import Display, FormatError, in_hundredths
from colorquant_nn.image_files.packing import box_of

__all__ = ["encode_gif"]

Array = NDArray[np.uint8]

HALF_OPAQUE = 128
LEAVE, CLEAR = 1, 2  # disposal: what becomes of a frame before the next one


def encode_gif(frames: Iterator[Array], display: Display, colors: Array | None) -> bytes:
    """Encode indexed frames with one table of colours, each cropped to what changes.

    Pillow compresses the frames, but merges equal ones and may give each its own colours.

    Args:
        frames: as in `image_files.encode`.
        display: as in `image_files.encode`; frames too short for a GIF are left out.
        colors: as in `image_files.encode`. All are stored, in their order; a GIF has one
            transparent index, the first colour that is more clear than not, which stands for all
            such colours.

    Returns:
        the content of the file.

    Raises:
        FormatError: there are no ``colors``.
    """
    if colors is None:
        raise FormatError("a GIF holds an indexed image; quantize the picture first")
    delays = in_hundredths(display.durations)
    same = np.arange(len(colors), dtype=np.uint8)
    transparent = None
    if colors.shape[1] == 4 and (clear := colors[:, 3] < HALF_OPAQUE).any():
        transparent = int(clear.argmax())
        same[clear] = transparent
    shown = (same[frame] for number, frame in enumerate(frames) if number in delays)
    file = io.BytesIO()
    frame, screen = next(shown), None
    first = frame
    for delay in delays.values():
        following = next(shown, first)
        options: dict[str, Any] = {"duration": 10 * delay}
        changed = np.ones(frame.shape, np.bool_) if screen is None else screen != frame
        if screen is None:
            file.write(_header(frame, colors, display, len(delays)))
        if len(delays) > 1:
            options["disposal"] = LEAVE
        if transparent is not None:
            options["transparency"] = transparent
            vanishing = (frame != transparent) & (following == transparent)
            if vanishing.any():  # a frame can only clear what it covers
                options["disposal"] = CLEAR
                changed |= vanishing
        rows, columns = box_of(changed)
        pixels = frame[rows, columns]
        image = Image.frombytes("P", pixels.shape[::-1], pixels.tobytes())
        offset = columns.start, rows.start
        file.writelines(GifImagePlugin.getdata(image, offset, **options))
        screen = frame
        if options.get("disposal") == CLEAR:
            screen = frame.copy()
            screen[rows, columns] = transparent
        frame = following
    file.write(b";")
    return file.getvalue()


def _header(indices: Array, colors: Array, display: Display, count: int) -> bytes:
    height, width = indices.shape
    bits = max(1, (len(colors) - 1).bit_length())
    # A table has 2, 4, 8 ... entries. Repeating the last one says how many are meant.
    table = np.pad(colors[:, :3], ((0, (1 << bits) - len(colors)), (0, 0)), "edge")
    data = struct.pack("<6sHHBBB", b"GIF89a", width, height, 0xF0 | (bits - 1), 0, 0)
    data += table.tobytes()
    if count > 1 and display.plays != 1:
        repeats = max(0, display.plays - 1)
        data += b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", repeats, 0)
    return data
