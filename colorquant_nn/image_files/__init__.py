"""Image files as bytes: reading ends in 8-bit sRGB, what is written loses nothing.

Arrays are as in Pillow: pictures (H, W, 3) or (H, W, 4) uint8 with straight alpha, indices (H, W)
uint8, colours (K, 3) or (K, 4) uint8. A ``name`` is what errors and warnings blame.
"""

from colorquant_nn.image_files.display import Display, FormatError, fit_display
from colorquant_nn.image_files.reading import MAX_PIXELS, ImageFile, own_palette
from colorquant_nn.image_files.writing import FORMATS, encode

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "Display",
    "FormatError",
    "ImageFile",
    "encode",
    "fit_display",
    "own_palette",
]
