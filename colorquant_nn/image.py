"""Palettes for pictures: find the best colours, and draw a picture in given ones.

Letters: H rows, W columns, K colours of a palette, M distinct colours of a picture, C channels (3,
or 4 with alpha).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.clustering import distortion
from colorquant_nn.functional.color import color_space
from colorquant_nn.functional.dither import DITHERS
from colorquant_nn.functional.histogram import (
    ColorHistogram,
    WeightedColors,
    count_colors,
    merge_colors,
    split_floats,
)
from colorquant_nn.functional.palette import (
    dark_to_light,
    mean_squared_error,
    paint,
    round_to_bytes,
)
from colorquant_nn.functional.points import (
    check_colors,
    check_image,
    check_images,
    check_kept,
    check_weights,
    first_hole,
    in_working_space,
    to_pixels,
)
from colorquant_nn.functional.premultiplied import from_working_space, to_working_space
from colorquant_nn.functional.search import EFFORTS, fit_centroids, smallest_count

__all__ = [
    "ColorHistogram",
    "QuantizedImage",
    "apply_palette",
    "fit_palette",
    "quantize_image",
    "smallest_palette",
    "within_cluster_sum_of_squares",
]

CHUNK = 1 << 20  # pixels that are converted to another space at a time


class QuantizedImage(NamedTuple):
    """A picture in the colours of a palette."""

    rgb: Tensor
    """(C, H, W) ``palette[indices]`` in the picture's dtype; uint8 is rounded."""
    indices: Tensor
    """(H, W) int64."""
    palette: Tensor
    """(K, C) float32 sRGB in [0, 1], alpha straight."""


def fit_palette(
    images: Tensor | ColorHistogram | Iterable[Tensor],
    num_colors: int,
    *,
    space: str = "rgb",
    effort: str = "balanced",
    weights: Tensor | None = None,
    keep: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """Find the palette with the smallest mean squared error: k-means over the colours.

    The pixels of an image or a batch are all counted, by their 8-bit colours. An iterable is read
    once and in bounded memory: with more than 262144 distinct colours, neighbours merge. The same
    arguments give the same palette; the global random numbers are not used.

    Args:
        images: (C, H, W) or (B, C, H, W) sRGB, float in [0, 1] or uint8; an iterable of these, of
            any sizes; or a `ColorHistogram`. With alpha (C = 4), distances are between
            premultiplied colours, and fully transparent pixels do not vote; if there are any, one
            colour of several is transparent.
        num_colors: K, at least 1.
        space: where distances are taken: "rgb", "linear", "lab" or "oklab".
        effort: "fast", "balanced" or "best".
        weights: importance of each pixel of an image or a batch, (H, W) or (B, H, W), at least 0.
        keep: (J, 3) or (J, C) colours that the palette contains exactly, float in [0, 1] or uint8.
        seed: of what is left to chance.

    Returns:
        (K, C) float32 sRGB in [0, 1], dark to light; fewer rows for fewer distinct
        colours.

    Raises:
        ValueError: for a wrong shape, range or name, or if no pixel has a vote.
        TypeError: for something else than tensors, or a wrong dtype.

    References:
        Lloyd 1982; Arthur and Vassilvitskii 2007 (k-means++); Fritzke 2020 (breathing k-means).

    Examples:
        >>> image = torch.tensor([[[0.0, 0.2, 1.0]]]).expand(3, 1, 3)
        >>> fit_palette(image, 2)
        tensor([[0.1000, 0.1000, 0.1000],
                [1.0000, 1.0000, 1.0000]])
        >>> fit_palette(image, 2, keep=torch.zeros(1, 3))[0]
        tensor([0., 0., 0.])
    """
    if weights is not None and not isinstance(images, Tensor):
        raise ValueError("expected weights only with an image or a batch")
    if isinstance(images, ColorHistogram):
        counted, hole, device = images.colors(), None, torch.device("cpu")
    elif isinstance(images, Tensor):
        counted, hole, device = (
            _count(images, weights, num_colors),
            first_hole(images),
            images.device,
        )
    else:
        counted, hole, device = _count_stream(images)
    palette = _fit(counted, hole, num_colors, space, effort, keep, seed)
    return palette.to(device)


def smallest_palette(
    image: Tensor,
    min_psnr: float,
    *,
    space: str = "rgb",
    effort: str = "balanced",
    seed: int = 0,
) -> Tensor:
    """Find the palette of fewest colours that reaches a peak signal-to-noise ratio.

    PSNR is that of `apply_palette` without dither, ``10 log10(1 / MSE)`` over all channels in
    sRGB. It falls nearly on a line over log K, along which a handful of fits close in on K.

    Args:
        image: (C, H, W) sRGB, float in [0, 1] or uint8.
        min_psnr: in dB.
        space: see `fit_palette`.
        effort: see `fit_palette`.
        seed: see `fit_palette`.

    Returns:
        (K, C) float32 sRGB, dark to light: K colours reach ``min_psnr``, the fit of K - 1 does not.

    Raises:
        ValueError: for a wrong shape or name, or a ``min_psnr`` that is not a number.

    Examples:
        >>> image = torch.linspace(0, 1, 256).expand(3, 1, 256)
        >>> [len(smallest_palette(image, psnr)) for psnr in (10, 20, 30)]
        [1, 3, 10]
    """
    check_image(image)
    if math.isnan(min_psnr):
        raise ValueError(f"expected min_psnr in dB, got {min_psnr}")
    counted, hole = _count(image, None, 0), first_hole(image)
    most = len(counted.codes) + (hole is not None)
    if most == 0:
        raise ValueError("expected an image with at least one finite pixel")
    fits: dict[int, tuple[float, Tensor]] = {}

    def psnr(num_colors: int) -> float:
        if num_colors not in fits:
            palette = _fit(counted, hole, num_colors, space, effort, None, seed)
            if image.dtype == torch.uint8:
                palette = round_to_bytes(palette)
            error = mean_squared_error(counted, palette, space)
            fits[num_colors] = (-10 * math.log10(error) if error > 0 else math.inf, palette)
        return fits[num_colors][0]

    count = smallest_count(psnr, min_psnr, most)
    psnr(count)
    return fits[count][1].to(image.device)


def apply_palette(
    image: Tensor,
    palette: Tensor,
    *,
    space: str = "rgb",
    dither: str = "none",
    strength: float = 1.0,
) -> QuantizedImage:
    """Draw an image in the colours of a palette.

    Args:
        image: (C, H, W) sRGB, float in [0, 1] or uint8. Without alpha, it counts as opaque to a
            palette with alpha; and a palette without alpha as opaque to an image with it.
        palette: (K, 3) or (K, 4) sRGB, float in [0, 1] or uint8.
        space: where distances are taken: "rgb", "linear", "lab" or "oklab".
        dither: "none", "ordered", "floyd-steinberg" or "atkinson".
        strength: of the dither, 0 to 1.

    Returns:
        The image, its indices and the palette, with alpha if one of the arguments has it.

    Raises:
        ValueError: for a wrong shape, range or name.
        TypeError: for something else than tensors, or a wrong dtype.

    Examples:
        >>> image = torch.rand(3, 8, 8)
        >>> result = apply_palette(image, torch.tensor([[0.0, 0, 0], [1, 1, 1]]))
        >>> result.rgb.unique(), result.indices.shape
        (tensor([0., 1.]), torch.Size([8, 8]))
    """
    check_image(image)
    color_space(space)
    palette = check_colors(palette).to(image.device)
    if dither not in DITHERS:
        raise ValueError(f"expected a dither of {', '.join(DITHERS)}, got {dither!r}")
    if not 0 <= strength <= 1:
        raise ValueError(f"expected a strength from 0 to 1, got {strength}")
    image = image.detach()
    channels = max(image.shape[0], palette.shape[1])
    if palette.shape[1] < channels:
        palette = torch.cat([palette, palette.new_ones(len(palette), 1)], dim=1)
    centroids = to_working_space(palette, space)
    height, width = image.shape[1:]
    pixels = image.flatten(1).T  # (N, C)
    if dither == "none" or height * width == 0:
        indices = torch.empty(height * width, dtype=torch.int64, device=image.device)
        plain = space == "rgb" and channels == 3  # the kernel reads such pixels in place
        size = height * width if plain else CHUNK
        for start in range(0, height * width, max(1, size)):
            part = pixels[start : start + size]
            points = part if plain else in_working_space(part, channels, space)
            indices[start : start + size] = kernels.assign(
                points[None], centroids[None], clamp=plain
            )[0]
        indices = indices.view(height, width)
    else:
        points = in_working_space(pixels, channels, space).view(height, width, channels)
        indices = DITHERS[dither](points, centroids, strength)
    return QuantizedImage(paint(palette, indices, image.dtype), indices, palette)


def quantize_image(
    image: Tensor,
    num_colors: int,
    *,
    space: str = "rgb",
    dither: str = "none",
    strength: float = 1.0,
    effort: str = "balanced",
    seed: int = 0,
) -> QuantizedImage:
    """Fit a palette to an image and draw the image in it.

    An image of at most ``num_colors`` distinct colours comes back as it was. The palette of a
    uint8 image is rounded to bytes first.

    Args:
        image: (C, H, W) sRGB, float in [0, 1] or uint8.
        num_colors: K, at least 1.
        space: see `fit_palette`.
        dither: see `apply_palette`.
        strength: see `apply_palette`.
        effort: see `fit_palette`.
        seed: see `fit_palette`.

    Examples:
        >>> image = torch.randint(256, (3, 16, 16), dtype=torch.uint8)
        >>> result = quantize_image(image, 8)
        >>> result.rgb.dtype, result.palette.shape, int(result.indices.max())
        (torch.uint8, torch.Size([8, 3]), 7)
    """
    check_image(image)
    palette = fit_palette(image, num_colors, space=space, effort=effort, seed=seed)
    if image.dtype == torch.uint8:
        palette = round_to_bytes(palette)
    return apply_palette(image, palette, space=space, dither=dither, strength=strength)


def within_cluster_sum_of_squares(image: Tensor, palette: Tensor, *, space: str = "rgb") -> Tensor:
    """Sum the squared distances of the pixels from their nearest colours: what k-means minimises.

    Args:
        image: (C, H, W) or (B, C, H, W) sRGB, float in [0, 1] or uint8; pixels that are not finite,
            or fully transparent, do not count.
        palette: (K, C) sRGB, float in [0, 1] or uint8.
        space: where distances are taken, in whose units the result is, squared.

    Returns:
        A float64 scalar.

    Raises:
        ValueError: for a wrong shape, range or name.
        TypeError: for something else than tensors, or a wrong dtype.

    Examples:
        >>> image = torch.tensor([0.0, 0.5, 1.0]).expand(3, 1, 3)
        >>> within_cluster_sum_of_squares(image, torch.tensor([[0.0, 0, 0], [1, 1, 1]]))
        tensor(0.7500, dtype=torch.float64)
    """
    check_images(image)
    color_space(space)
    palette = check_colors(palette).to(image.device)
    channels = image.shape[-3]
    if palette.shape[1] != channels:
        raise ValueError(f"expected a palette (K, {channels}), got {tuple(palette.shape)}")
    centroids = to_working_space(palette, space)[None]
    total = torch.zeros((), dtype=torch.float64, device=image.device)
    for pixels in to_pixels(image.detach()):
        for start in range(0, len(pixels), CHUNK):
            part = pixels[start : start + CHUNK]
            votes = torch.isfinite(part).all(1)
            if channels == 4:
                votes &= part[:, 3] > 0
            points = in_working_space(part, channels, space)
            clustered = kernels.cluster(points[None], centroids, weights=votes[None].float())
            total += distortion(clustered.moments[0])
    return total


def _fit(
    counted: WeightedColors,
    hole: Tensor | None,
    num_colors: int,
    space: str,
    effort: str,
    keep: Tensor | None,
    seed: int,
) -> Tensor:
    """`fit_palette` of counted colours; ``hole`` is the colour (C,) of the transparent pixels."""
    color_space(space)
    if effort not in EFFORTS:
        raise ValueError(f"expected an effort of {', '.join(EFFORTS)}, got {effort!r}")
    if isinstance(num_colors, bool) or not isinstance(num_colors, int) or num_colors < 1:
        raise ValueError(f"expected num_colors of at least 1, got {num_colors}")
    channels = counted.colors.shape[1]
    kept = check_kept(keep, channels, num_colors)
    if hole is not None and (len(kept) + 1 < num_colors or len(counted.codes) == 0):
        kept = torch.cat([kept, hole[None]])
    if len(counted.codes) == 0 and len(kept) == 0:
        raise ValueError("expected an image with at least one pixel that has a vote")
    if len(counted.codes) + len(kept) <= 2 * num_colors:
        rows = torch.cat([kept, counted.colors]).unique(dim=0)
        if len(rows) <= num_colors:
            return dark_to_light(rows)
    points = to_working_space(counted.colors, space)
    centroids = fit_centroids(
        points,
        counted.weights,
        counted.codes,
        num_colors,
        to_working_space(kept, space),
        EFFORTS[effort],
        seed,
    )
    return dark_to_light(torch.cat([kept, from_working_space(centroids[len(kept) :], space)]))


def _count(images: Tensor, weights: Tensor | None, num_colors: int) -> WeightedColors:
    """The distinct colours of an image or a batch; exact ones if they may all fit."""
    check_images(images)
    points = to_pixels(images)
    weights = None if weights is None else check_weights(weights, images)
    counted = count_colors(points, weights)
    if images.dtype == torch.uint8 or len(counted.codes) > num_colors:
        return counted
    return split_floats(points, weights, counted)


def _count_stream(
    images: Iterable[Tensor],
) -> tuple[WeightedColors, Tensor | None, torch.device]:
    """The colours of several images, the first transparent one, and the first device."""
    holes: list[Tensor] = []
    devices: list[torch.device] = []
    channels: set[int] = set()

    def parts() -> Iterable[WeightedColors]:
        for image in images:
            check_images(image)
            channels.add(image.shape[-3])
            if len(channels) > 1:
                raise ValueError("expected images that all have alpha, or none, got both")
            devices.append(image.device)
            hole = None if holes else first_hole(image)
            if hole is not None:
                holes.append(hole)
            yield count_colors(to_pixels(image))

    counted = merge_colors(parts())
    return counted, holes[0] if holes else None, devices[0]
