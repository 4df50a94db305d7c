"""What an image file holds: found in its headers, decoded a frame at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from colorquant_nn.image_files.decoding import Refused
from colorquant_nn.image_files.display import MAX_RESOLUTION

__all__ = [
    "MAX_PIXELS",
    "Contents",
    "Decoded",
    "Size",
    "check_sizes",
    "orientation_of",
    "resolution_of",
]

Array = NDArray[np.uint8]
Size = tuple[int, int]
Resolution = tuple[float, float]

MAX_PIXELS = 178_956_970  # of a frame: half a gigabyte
FRAMES = 8  # all frames of a file together: as many times that
MAX_SIDE = 1 << 26  # a row of RGBA in bits, 31 of them, is what Pillow can count
INCH = 2.54  # centimetres


class Decoded(NamedTuple):
    """A picture as its file has it, but in 8 bits."""

    image: Image.Image
    """In mode L, RGB, CMYK, LAB or YCbCr."""
    alpha: Array | None = None
    """(H, W), straight."""
    profile: bytes | None = None
    """ICC, of the image's colours."""
    orientation: int = 1
    """How it is to be turned, as EXIF counts."""
    deep: NDArray[np.uint16] | None = None
    """(H, W, 1) or (H, W, 3): the same colours in 16 bits, where the profile needs them."""


class Contents(NamedTuple):
    """What the headers of a file say, within bounds, and how its frames are decoded."""

    frames: Callable[[], Iterator[Decoded]]
    durations: list[float]
    """Milliseconds of each frame."""
    plays: int = 1
    resolution: Resolution | None = None
    """Dots per inch, across and down."""


def check_sizes(sizes: Sequence[Size], max_pixels: int) -> None:
    """Refuse pictures of too many pixels, before there is memory for them."""
    if max_pixels == MAX_PIXELS and Image.MAX_IMAGE_PIXELS is not None:
        max_pixels = min(max_pixels, 2 * Image.MAX_IMAGE_PIXELS)  # if a program has lowered it
    for width, height in set(sizes):
        if width < 1 or height < 1:
            raise Refused(f"expected at least one pixel, got {width} x {height}")
        if max(width, height) >= MAX_SIDE:
            raise Refused(f"expected sides below {MAX_SIDE} pixels, got {width} x {height}")
        if width * height > max_pixels:
            raise Refused(
                f"too large to be trusted: {width} x {height} pixels, more than {max_pixels}; "
                "max_pixels (--max-pixels) raises the bound"
            )
    pixels = sum(width * height for width, height in sizes)
    if pixels > FRAMES * max_pixels:
        raise Refused(
            f"too large to be trusted: {pixels} pixels in {len(sizes)} frames, more than "
            f"{FRAMES} x {max_pixels}; max_pixels (--max-pixels) raises the bound"
        )


def orientation_of(image: Image.Image) -> int:
    """How a picture is to be turned, as EXIF counts."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken metadata: the picture may be whole
        return 1
    return orientation if orientation in range(1, 9) else 1


def resolution_of(image: Image.Image) -> Resolution | None:
    """Dots per inch of a picture once it is turned; None for nothing and nonsense."""
    try:
        guessed = image.format in ("JPEG", "MPO") and not image.info.get("jfif_unit")
        found = (not guessed and image.info.get("dpi")) or _exif_resolution(image.getexif())
        across, down = (float(value) for value in found)
    except Exception:  # broken metadata: the picture may be whole
        return None
    if not all(1 < value < MAX_RESOLUTION for value in (across, down)):  # 1: no unit
        return None
    return (down, across) if orientation_of(image) > 4 else (across, down)


def _exif_resolution(exif: Image.Exif) -> list[float]:
    unit = {2: 1, 3: INCH}[exif.get(ExifTags.Base.ResolutionUnit, 2)]
    return [exif[tag] * unit for tag in (ExifTags.Base.XResolution, ExifTags.Base.YResolution)]
