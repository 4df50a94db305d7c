"""Image files as bytes: reading ends in 8-bit sRGB, what is written loses nothing.

Arrays are as in Pillow: pictures (H, W, 3) or (H, W, 4) uint8 with straight alpha, indices (H, W)
uint8, colours (K, 3) or (K, 4) uint8. A ``name`` is what errors and warnings blame.
"""

from colorquant_nn.image_files.contents import MAX_PIXELS
from colorquant_nn.image_files.decoding import PICTURES, is_format
from colorquant_nn.image_files.display import MAX_RESOLUTION, Display, FormatError, fit_display
from colorquant_nn.image_files.own_palettes import own_palette
from colorquant_nn.image_files.reading import ImageFile
from colorquant_nn.image_files.writing import FORMATS, encode

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "MAX_RESOLUTION",
    "PICTURES",
    "Display",
    "FormatError",
    "ImageFile",
    "encode",
    "fit_display",
    "is_format",
    "own_palette",
]
