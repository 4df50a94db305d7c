"""Colour profiles: what they do to colours decides, not what they are called."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from colorquant_nn.image_files.decoding import Refused

__all__ = ["to_srgb", "transform_deep"]

Transform = Callable[[Image.Image], Image.Image]

SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}
STEPS = 6  # of each channel, for the colours that a profile is judged by
STEEP = 2  # of 255: from one grey to the next
ROWS = 64  # of a picture in 16 bits at a time
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


def transform_deep(
    transform: Transform, image: Image.Image, values: NDArray[np.uint16]
) -> Image.Image:
    """Bring colours in 16 bits to sRGB, as shares of the colours in 8 bits around each.

    Rounded to 8 bits before, the darkest linear light would be 0 or 13 of 255. Where no step of
    8 bits is as large as that, rounding before does no harm and takes an eighth of the time.

    Args:
        transform: what `to_srgb` returns, of mode L or RGB.
        image: the colours in 8 bits, in that mode.
        values: (H, W, 1) or (H, W, 3).

    Returns:
        a picture in mode RGB.
    """
    greys = np.asarray(transform(Image.fromarray(np.arange(256, dtype=np.uint8)[None])))
    if np.diff(greys.astype(int), axis=1).max() <= STEEP:
        return transform(image)
    bands = []
    for start in range(0, len(values), ROWS):
        lower, rest = np.divmod(values[start : start + ROWS], 257)
        share = rest / np.float32(257)
        total = np.float32(0)
        for corner in product((0, 1), repeat=values.shape[-1]):
            nodes = np.minimum(lower + np.array(corner, np.uint16), 255).astype(np.uint8)
            weight = np.where(corner, share, 1 - share).prod(axis=-1, keepdims=True)
            node = Image.fromarray(nodes[..., 0] if nodes.shape[-1] == 1 else nodes)
            total = total + weight * np.asarray(transform(node))
        bands.append(np.round(total).astype(np.uint8))
    return Image.fromarray(np.concatenate(bands))


def _samples(mode: str) -> Image.Image:
    """All greys; for colours a cube of them, too."""
    greys = np.arange(256, dtype=np.uint8)[None]
    if mode == "L":
        return Image.fromarray(greys)
    steps = np.linspace(0, 255, STEPS).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    return Image.fromarray(np.hstack([np.dstack([greys] * 3), cube]))
