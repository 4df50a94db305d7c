"""Palettes as images: an indexed one gives its own palette, any other its colours as swatches."""

import math

import numpy as np

from colorquant_nn import image_files
from colorquant_nn.palette_files.colors import Colors

__all__ = ["is_image", "read_swatches", "write_swatches"]

MAX_SWATCHES = 4096  # an image with more colours is a picture, not a palette
SWATCH_SIZE = 32  # pixels
COMMON = ("PNG", "GIF", "JPEG", "WEBP", "TIFF", "BMP")


def is_image(data: bytes) -> bool:
    """Tell by the first bytes whether a file is an image of a common kind.

    Args:
        data: the content of the file.

    Returns:
        whether it is.
    """
    is_text = data[:2] == b"BM" and data[6:10] != bytes(4)
    return not is_text and any(image_files.is_format(data, format) for format in COMMON)


def read_swatches(data: bytes, name: str) -> Colors:
    """Read the palette of an indexed image, or the colours of another in reading order.

    Args:
        data: the content of the file.
        name: of the file, for messages.

    Returns:
        (K, 3) or (K, 4) uint8.

    Raises:
        ValueError: it is no image, or has too many colours.
    """
    colors = image_files.own_palette(data, name)
    if colors is not None:
        return colors
    pixels = next(iter(image_files.ImageFile(data, name)))
    pixels = pixels.reshape(-1, pixels.shape[-1])
    codes = pixels @ 256 ** np.arange(pixels.shape[1], dtype=np.uint32)  # numbers sort fast
    first = np.unique(codes, return_index=True)[1]
    if len(first) > MAX_SWATCHES:
        raise ValueError(
            f"{name}: expected an image of at most {MAX_SWATCHES} swatches, "
            f"got {len(first)} distinct colours"
        )
    return pixels[np.sort(first)]


def write_swatches(colors: Colors, name: str) -> bytes:
    """Write a PNG of squares, indexed for up to 256 colours.

    Args:
        colors: (K, 3) or (K, 4) uint8.
        name: of the file, for messages.

    Returns:
        the content of the file.

    Raises:
        ValueError: there are too many.
    """
    distinct = len(np.unique(colors, axis=0)) == len(colors)
    if len(colors) > MAX_SWATCHES or (len(colors) > 256 and not distinct):
        raise ValueError(
            f"{name}: an image holds 256 swatches, or {MAX_SWATCHES} distinct ones, "
            f"got {len(colors)}; use .gpl or .hex"
        )
    columns = len(colors) if len(colors) <= 16 else math.ceil(math.sqrt(len(colors)))
    rows = math.ceil(len(colors) / columns)
    indices = np.arange(rows * columns).clip(max=len(colors) - 1).reshape(rows, columns)
    indices = indices.repeat(SWATCH_SIZE, 0).repeat(SWATCH_SIZE, 1)
    if len(colors) > 256:
        return image_files.encode([colors[indices]], ".png")
    return image_files.encode([indices.astype(np.uint8)], ".png", colors=colors)
