"""GIF: the blocks of a file, read as browsers do. Pillow undoes the compression of a frame.

References:
    https://www.w3.org/Graphics/GIF/spec-gif89a.txt
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image

from colorquant_nn.image_files.compositing import CLEAR, KEEP, RESTORE, Patch, compose
from colorquant_nn.image_files.contents import Contents, Decoded, check_sizes
from colorquant_nn.image_files.decoding import Refused

__all__ = ["Frame", "Gif", "parse_gif", "scan_gif"]

Array = NDArray[np.uint8]

GREYS = bytes(value for value in range(256) for _ in range(3))
AFTER = {2: CLEAR, 3: RESTORE, 4: RESTORE}  # 4: an old draft of the specification
LOOPS = (b"NETSCAPE2.0\3\1", b"ANIMEXTS1.0\3\1")


def scan_gif(data: bytes, max_pixels: int) -> Contents:
    """Read the blocks of a GIF.

    Args:
        data: the content of the file.
        max_pixels: of the screen.

    Returns:
        what it holds.

    Raises:
        ValueError: it is cut within a block, holds no frame, or there are too many pixels.
    """
    gif = parse_gif(data)
    check_sizes([gif.size] * len(gif.frames), max_pixels)
    check_sizes([(frame.width, frame.height) for frame in gif.frames], max_pixels)

    def frames() -> Iterator[Decoded]:
        for canvas in compose(gif.size, (_draw(data, frame) for frame in gif.frames)):
            yield Decoded(Image.fromarray(canvas).convert("RGB"), canvas[..., 3])

    return Contents(frames, [10.0 * frame.delay for frame in gif.frames], gif.plays)


class Frame(NamedTuple):
    """An image of the file, still compressed."""

    left: int
    top: int
    width: int
    height: int
    interlaced: bool
    colors: bytes
    """Three bytes each; empty without a table."""
    start: int
    stop: int
    """Where in the file its compressed data are."""
    delay: int = 0
    """Hundredths of a second."""
    disposal: int = 0
    transparent: int | None = None


class Gif(NamedTuple):
    """What a file says before anything is decompressed."""

    size: tuple[int, int]
    frames: list[Frame]
    plays: int


def parse_gif(data: bytes) -> Gif:
    """Read the blocks of a GIF.

    Args:
        data: the content of the file.

    Returns:
        its frames in order.

    Raises:
        ValueError: it is cut within a block, or holds no frame.
    """
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _table_length(flags)
    colors = data[13:position]
    frames: list[Frame] = []
    plays, control = 1, (0, 0, None)
    while position < len(data) and (block := data[position]) != 0x3B:
        position += 1
        if block == 0x21:
            label, start = data[position], position + 1
            position = _skip(data, start)
            if label == 0xF9 and data[start] >= 4:
                bits, delay, transparent = struct.unpack_from("<BHB", data, start + 1)
                control = (delay, bits >> 2 & 7, transparent if bits & 1 else None)
            elif label == 0xFF and data[start + 1 : start + 14] in LOOPS:
                (repeats,) = struct.unpack_from("<H", data, start + 14)
                plays = repeats and repeats + 1  # it plays once, and then the repeats
        elif block == 0x2C:
            left, top, wide, high, flags = struct.unpack_from("<4HB", data, position)
            start = position + 9 + _table_length(flags)
            own = data[position + 9 : start]
            position = _skip(data, start + 1)
            if not frames and (wide > width or high > height):
                width, height, left, top = wide, high, 0, 0
            if wide and high:
                place = (left, top, wide, high, bool(flags & 0x40), own or colors, start, position)
                frames.append(Frame(*place, *control))
            control = (0, 0, None)
        # Else a stray byte, as padding between blocks: it says nothing.
    if not frames:
        raise Refused("a GIF without a frame")
    return Gif((width, height), frames, plays)


def _table_length(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _skip(data: bytes, position: int) -> int:
    """The end of a chain of sub-blocks."""
    while length := data[position]:
        position += length + 1
    return position + 1


def _draw(data: bytes, frame: Frame) -> Patch:
    # Indices beyond the table are not drawn, and without a table they are greys, as in Pillow.
    table = np.zeros((256, 4), np.uint8)
    colors = np.frombuffer(frame.colors or GREYS, np.uint8).reshape(-1, 3)
    table[: len(colors), :3] = colors
    table[: len(colors), 3] = 255
    if frame.transparent is not None:
        table[frame.transparent] = 0
    indices = _decompress(data, frame)
    pixels = table.view(np.uint32)[..., 0].take(indices)[..., None]  # four bytes at once
    covers = (table[:, 3] > 0).take(indices)
    after = AFTER.get(frame.disposal, KEEP)
    return Patch(pixels.view(np.uint8), frame.left, frame.top, after, covers)


def _decompress(data: bytes, frame: Frame) -> Array:
    """The indices of a frame, as Pillow reads them from a file that has it alone."""
    screen = struct.pack("<HHBBB", frame.width, frame.height, 0xF7, 0, 0)
    place = struct.pack("<4HB", 0, 0, frame.width, frame.height, 0x40 * frame.interlaced)
    parts = [b"GIF89a", screen, GREYS, b",", place, data[frame.start : frame.stop], b";"]
    image = GifImagePlugin.GifImageFile(io.BytesIO(b"".join(parts)))
    return np.asarray(image)
