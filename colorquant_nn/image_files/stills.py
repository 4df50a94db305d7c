"""Pictures that are read as Pillow has them: one to a file, or AVIF."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from colorquant_nn.image_files.contents import Contents, Decoded, Size, check_sizes, resolution_of
from colorquant_nn.image_files.decoding import is_format, open_image
from colorquant_nn.image_files.pixels import split

__all__ = ["scan_still"]

# Alpha that is 0 everywhere says nothing in these formats: programs fill the fourth byte so.
UNSURE = ("BMP", "DIB", "TGA")


def scan_still(data: bytes, max_pixels: int) -> Contents:
    """Read the header of a picture. Further pictures of a file are previews or layers: no frames.

    Args:
        data: the content of the file.
        max_pixels: of the picture.

    Returns:
        what it holds; of AVIF, all frames.

    Raises:
        ValueError: nothing can read it, or there are too many pixels.
    """
    if is_format(data, "ICO"):  # Pillow decodes one at once
        check_sizes(list(_icon_sizes(data)), max_pixels)
    image = open_image(data)
    count = getattr(image, "n_frames", 1) if image.format == "AVIF" else 1
    check_sizes([image.size] * count, max_pixels)
    resolution = resolution_of(image)

    def frames() -> Iterator[Decoded]:
        image = open_image(data)
        for number in range(count):
            if number:
                image.seek(number)
            decoded = split(image)
            if image.format in UNSURE and decoded.alpha is not None and not decoded.alpha.any():
                decoded = decoded._replace(alpha=None)
            yield decoded

    durations = [0.0]
    if count > 1:  # which Pillow says of frames that are decoded
        durations = []
        for number in range(count):
            image.seek(number)
            image.load()
            durations.append(float(image.info["duration"]))
    return Contents(frames, durations, 1, resolution)


def _icon_sizes(data: bytes) -> Iterator[Size]:
    """The sizes of the pictures in an ICO, as they themselves have them."""
    (count,) = struct.unpack_from("<H", data, 4)
    for place in range(6, 6 + 16 * count, 16):
        (start,) = struct.unpack_from("<I", data, place + 12)
        if data[start : start + 4] == b"\x89PNG":
            yield struct.unpack_from(">II", data, start + 16)
        else:  # a bitmap over its mask
            width, height = struct.unpack_from("<Ii", data, start + 4)
            yield width, abs(height) // 2
