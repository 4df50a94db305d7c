"""Pictures that Pillow has decoded, in whatever mode: to 8 bits, colours and alpha apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from colorquant_nn.image_files.contents import Decoded, orientation_of
from colorquant_nn.image_files.decoding import Refused

__all__ = ["split", "to_8_bits"]

Array = NDArray[np.uint8]


def split(image: Image.Image, top: float | None = None, inverted: bool = False) -> Decoded:
    """Bring a picture to 8 bits, and its colours and alpha apart.

    Args:
        image: a picture in any mode of Pillow.
        top: the largest value of one with more than 8 bits; what its mode holds unless said.
        inverted: whether 0 is white there.

    Returns:
        its parts.

    Raises:
        ValueError: values are beyond ``top``.
    """
    image.load()
    profile, orientation = image.info.get("icc_profile"), orientation_of(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Decoded(_scaled(image, top, inverted), None, profile, orientation)
    alpha = None
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        with_alpha = image if image.mode in ("LA", "RGBA") else image.convert("RGBA")
        alpha = np.asarray(with_alpha.getchannel("A"))
        image = with_alpha.convert("L" if image.mode in ("LA", "L", "1") else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "CMYK", "LAB", "YCbCr"):
        image = image.convert("RGB")
    return Decoded(image, alpha, profile, orientation)


def to_8_bits(values: NDArray[np.uint16]) -> Array:
    """Round samples of 16 bits to 8.

    Args:
        values: of any shape.

    Returns:
        the nearest of 8 bits.
    """
    return ((values.astype(np.uint32) * 255 + 32895) >> 16).astype(np.uint8)


def _scaled(image: Image.Image, top: float | None, inverted: bool) -> Image.Image:
    values = np.asarray(image)
    top = top or (1.0 if image.mode == "F" else 65535.0)
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= top:  # not so either where one is NaN
        raise Refused(
            f"expected values from 0 to {top:g} in an image of mode {image.mode}, "
            f"got {low:g} to {high:g}"
        )
    scaled = np.round(values * np.float64(255 / top)).astype(np.uint8)
    return Image.fromarray(255 - scaled if inverted else scaled)
