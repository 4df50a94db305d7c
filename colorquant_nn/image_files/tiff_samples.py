"""Samples of TIFF pages that Pillow cuts or mixes up: 16 bits, planes, palettes of 8 bits."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImagePalette
from PIL.TiffImagePlugin import TiffImageFile

from colorquant_nn.image_files.decoding import Refused
from colorquant_nn.image_files.pixels import to_8_bits

__all__ = ["load_samples", "mend_palette"]

PLANAR, COLOR_MAP = 284, 320  # tags
PLANES = {"R": 0, "G": 1, "B": 2, "A": 3, "a": 3, "C": 0, "M": 1, "Y": 2, "K": 3}


def mend_palette(image: Image.Image) -> None:
    """Let the palette of a page be in 8 bits if it is stored so, as some programs do.

    Args:
        image: a page of a TIFF, which is changed if it is such a one.
    """
    tags = getattr(image, "tag_v2", {})
    if image.mode in ("P", "PA") and max(tags[COLOR_MAP]) < 256:
        image.palette = ImagePalette.raw("RGB;L", bytes(tags[COLOR_MAP]))


def load_samples(
    image: TiffImageFile, bits: int, again: Callable[[], TiffImageFile]
) -> NDArray[np.uint16] | None:
    """Load samples of 16 bits rounded to 8, as PNG's are, and not multiplied by alpha.

    Pillow keeps their upper byte, divides that by alpha, and takes planes of them for planes of 8
    bits. It does well by other pages, and by planes that are compressed.

    Args:
        image: a page, not loaded. Its pixels are set if they are such ones.
        bits: of a sample.
        again: opens another such page.

    Returns:
        the colours of RGB in 16 bits (H, W, 3); None where there are none, or they have a plane
        of their own each and are compressed.

    Raises:
        ValueError: for grey and alpha in planes, which Pillow mixes up.
    """
    mode, layouts = image.mode, _layouts(image)
    in_planes = image.tag_v2.get(PLANAR) == 2
    if mode == "LA" and in_planes:
        raise Refused("grey and alpha in planes of their own cannot be read; interleave them")
    compressed = image.tile[0][0] == "libtiff"
    mixed_up = bits == 16 or "a" in layouts
    if not mixed_up or mode not in ("RGB", "RGBA", "CMYK") or (in_planes and compressed):
        return None
    upper = _load(image, bits, swapped=False).astype(np.uint16)
    lower = _load(again(), bits, swapped=True).astype(np.uint16)
    values = upper * np.uint16(256) + lower
    if any("a" in layout for layout in layouts):
        alpha = np.maximum(values[..., 3:], 1).astype(np.float64)
        straight = np.round(values[..., :3] * (65535 / alpha)).clip(max=65535)
        values[..., :3] = straight.astype(np.uint16)
    channels = 3 if mode == "RGB" else 4  # the fourth of RGB is no alpha
    pixels = np.ascontiguousarray(to_8_bits(values)[..., :channels])
    image._mode = mode
    image.im = Image.frombytes(mode, image.size, pixels.data).im
    return None if mode == "CMYK" else values[..., :3]


def _load(image: TiffImageFile, bits: int, swapped: bool) -> NDArray[np.uint8]:
    """One byte of each sample: the upper, or swapped the lower one; of 8 bits the only one."""
    layouts = _layouts(image)
    planes = [PLANES[layout] for layout in layouts if layout in PLANES]
    three = max(planes) == 2 if planes else layouts[0].startswith("RGB;")
    image._mode = "RGB" if three else "RGBA"
    of_file = image.tile[0][0] != "libtiff"  # which gives the bytes as this machine has them
    little = image.tag_v2.prefix == b"II" if of_file else sys.byteorder == "little"
    end = "" if bits == 8 else ";16L" if little != swapped else ";16B"
    for place, layout in enumerate(layouts):
        bands = "RGBA"[PLANES[layout]] if layout in PLANES else image.mode
        tile = image.tile[place]
        image.tile[place] = tile._replace(args=(bands + end, *tile.args[1:]))  # type: ignore[index]
    image.load()
    return np.asarray(image)


def _layouts(image: TiffImageFile) -> list[str]:
    """How Pillow would take the samples of each tile, in its own words."""
    return [tile.args[0] for tile in image.tile]  # type: ignore[index, misc]
