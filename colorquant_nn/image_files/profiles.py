"""Colour profiles: what they do to colours decides, not what they are called."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

from colorquant_nn.image_files.decoding import Refused

__all__ = ["to_srgb"]

Transform = Callable[[Image.Image], Image.Image]

SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}
STEPS = 6  # of each channel, for the colours that a profile is judged by
TOLERANCE = 1  # of 255: what the rounding of a profile of sRGB itself may come to


def to_srgb(profile: bytes, mode: str) -> Transform | None:
    """Find what brings the colours of a profile to sRGB.

    Args:
        profile: ICC.
        mode: L, RGB, CMYK or LAB: of the pictures that it is for.

    Returns:
        a function of such pictures that gives them in RGB; None where the profile changes no
        colour, so that pictures may stay what they are.

    Raises:
        ValueError: the profile is broken, or is one of other pictures.
    """
    if not profile:
        raise Refused("it cannot be read, or says what is not known here")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        given = "RGB" if (mode, space) == ("L", "RGB") else mode  # greys are colours, too
        if SPACES.get(given) != space:
            raise Refused(f"it is one of {space} and not of {mode}")
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            given,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode in ("L", "RGB"):
            samples = _samples(mode)
            moved = np.asarray(ImageCms.applyTransform(samples.convert(given), transform))
            difference = moved.astype(int) - np.asarray(samples.convert("RGB"))
            if abs(difference).max() <= TOLERANCE:
                return None
    except (ImageCms.PyCMSError, OSError, TypeError) as error:
        raise Refused(str(error)) from error

    def apply(image: Image.Image) -> Image.Image:
        converted = ImageCms.applyTransform(image.convert(given), transform)
        assert converted is not None
        return converted

    return apply


def _samples(mode: str) -> Image.Image:
    """All greys; for colours a cube of them, too."""
    greys = np.arange(256, dtype=np.uint8)[None]
    if mode == "L":
        return Image.fromarray(greys)
    steps = np.linspace(0, 255, STEPS).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    return Image.fromarray(np.hstack([np.dstack([greys] * 3), cube]))
