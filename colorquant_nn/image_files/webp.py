"""WebP: the chunks of a file. The frames are libwebp's, which draws them as browsers do.

References:
    https://developers.google.com/speed/webp/docs/riff_container
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from PIL import Image

from colorquant_nn.image_files.contents import Contents, Decoded, check_sizes, resolution_of
from colorquant_nn.image_files.decoding import open_image
from colorquant_nn.image_files.pixels import split

__all__ = ["scan_webp"]


def scan_webp(data: bytes, max_pixels: int) -> Contents:
    """Read the chunks of a WebP.

    Args:
        data: the content of the file.
        max_pixels: of a frame.

    Returns:
        what it holds.

    Raises:
        ValueError: there are too many pixels.
    """
    size, plays, animated = (0, 0), 1, False
    durations: list[float] = []
    details = Image.new("1", (1, 1))  # as Pillow would say them, without its decoder
    for kind, start, stop in _chunks(data):
        if kind == b"VP8X":
            animated = bool(data[start] & 2)
            size = _three(data, start + 4) + 1, _three(data, start + 7) + 1
        elif kind == b"VP8 " and size == (0, 0):
            width, height = struct.unpack_from("<2H", data, start + 6)
            size = width & 0x3FFF, height & 0x3FFF
        elif kind == b"VP8L" and size == (0, 0):
            (bits,) = struct.unpack_from("<I", data, start + 1)
            size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif kind == b"ANIM" and animated:
            (plays,) = struct.unpack_from("<H", data, start + 4)
        elif kind == b"ANMF" and animated:
            durations.append(float(_three(data, start + 12)))
        elif kind == b"EXIF":
            details.info["exif"] = data[start:stop]
    durations = durations or [0.0]
    check_sizes([size] * len(durations), max_pixels)

    def frames() -> Iterator[Decoded]:
        image = open_image(data)
        for number in range(len(durations)):
            image.seek(number)
            yield split(image)

    return Contents(frames, durations, plays, resolution_of(details))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    place = 12
    while place + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, place)
        yield kind, place + 8, place + 8 + length
        place += 8 + length + length % 2


def _three(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 3], "little")
