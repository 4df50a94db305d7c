"""Opacity: what is opaque stays opaque, and what is clear stays clear.

A hole in a solid colour, or a speck beside it, is seen at once, however small its squared error. So
opaque points take opaque centroids, and clear points clear ones, as far as there are any; soft
points, between the two, take whichever is nearest.

Letters: N points, K centroids, all with four channels: premultiplied colours, and alpha on the
scale of the space's lightness.
"""

from __future__ import annotations

import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.color import color_space, to_working_space
from colorquant_nn.functional.points import in_working_space
from colorquant_nn.names import Space

__all__ = [
    "CLEAR",
    "OPAQUE",
    "SOFT",
    "allowed",
    "assign",
    "keep_opaque",
    "nearest_colors",
    "opacity",
    "round_opacity",
]

CLEAR, SOFT, OPAQUE = 0, 1, 2
ROUNDS_TO_OPAQUE = 254.5 / 255  # as a byte
STEPS = 4  # of Lloyd's algorithm, once it is known which centroids are opaque


def opacity(points: Tensor, opaque: float = 1.0) -> Tensor:
    """Tell clear, soft and opaque points apart.

    Args:
        points: (..., 4).
        opaque: the last channel of what is opaque: the lightness of the space.

    Returns:
        (...) uint8: `CLEAR`, `SOFT`, or, for what rounds to an opaque byte, `OPAQUE`.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.opacity import opacity
        >>> opacity(torch.tensor([[0.0, 0, 0, 0], [0.5, 0, 0, 0.5], [0, 0, 0, 1]]))
        tensor([0, 1, 2], dtype=torch.uint8)
    """
    alpha = points[..., 3]
    return (alpha > 0).to(torch.uint8) + (alpha >= opaque * ROUNDS_TO_OPAQUE)


def round_opacity(points: Tensor, opaque: float = 1.0) -> Tensor:
    """Make fully opaque what rounds to it, so that opaque points differ in colour alone.

    Args:
        points: (..., 4).
        opaque: see `opacity`.

    Returns:
        (..., 4).

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.opacity import round_opacity
        >>> round_opacity(torch.tensor([0.0, 0.0, 0.0, 0.999]))
        tensor([0., 0., 0., 1.])
    """
    alpha = points[..., 3:]
    is_opaque = opacity(points, opaque)[..., None] == OPAQUE
    return torch.cat([points[..., :3], torch.where(is_opaque, opaque, alpha)], dim=-1)


def assign(points: Tensor, centroids: Tensor, opaque: float = 1.0) -> Tensor:
    """Find the nearest centroid of each point among those of its opacity.

    Args:
        points: (N, 4) float; or (N, 3), which is opaque.
        centroids: (K, 4), or (K, 3).
        opaque: see `opacity`.

    Returns:
        (N,) int64. A clear point gets a clear centroid if there is one; an opaque point an opaque
        one, else one that is not clear; a soft point any.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.opacity import assign
        >>> centroids = torch.tensor([[0.9, 0.9, 0.9, 0.9], [0.0, 0.0, 0.0, 1.0]])
        >>> assign(torch.tensor([[0.8, 0.8, 0.8, 0.8], [0.8, 0.8, 0.8, 1.0]]), centroids)
        tensor([0, 1])
    """
    if points.shape[1] == 3:
        return kernels.assign(points[None], centroids[None])[0]
    theirs, its = opacity(centroids, opaque), opacity(points, opaque)
    centroids = round_opacity(centroids, opaque)
    indices = kernels.assign(points[None], centroids[None])[0]
    for kind, able in enumerate(allowed(theirs)):
        rows = able.nonzero().squeeze(1)
        if len(rows) < len(centroids):
            places = ((its == kind) & ~able[indices]).nonzero().squeeze(1)
            part = points[places][None]
            indices[places] = rows[kernels.assign(part, centroids[None, rows])[0]]
    return indices


def allowed(kinds: Tensor) -> Tensor:
    """Tell which centroids points of each opacity take.

    Args:
        kinds: (K,) uint8, the centroids' `opacity`.

    Returns:
        (3, K) bool, for `CLEAR`, `SOFT` and `OPAQUE` points, each with at least one centroid.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.opacity import allowed
        >>> allowed(torch.tensor([0, 1, 2])).int()
        tensor([[1, 0, 0],
                [1, 1, 1],
                [0, 0, 1]], dtype=torch.int32)
    """
    clear, solid = kinds == CLEAR, kinds == OPAQUE
    every = torch.ones_like(clear)
    seen = every if bool(clear.all()) else ~clear
    return torch.stack(
        [clear if bool(clear.any()) else every, every, solid if bool(solid.any()) else seen]
    )


def nearest_colors(pixels: Tensor, palette: Tensor, space: Space) -> Tensor:
    """Find the nearest colour of each pixel, as `assign` does.

    Args:
        pixels: (N, C) sRGB with straight alpha, float in [0, 1] or uint8.
        palette: (K, C) sRGB float in [0, 1].
        space: where distances are taken.

    Returns:
        (N,) int64.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.opacity import nearest_colors
        >>> greys = torch.tensor([[0.0] * 3, [1.0] * 3])
        >>> nearest_colors(torch.full((1, 3), 0.6), greys, "linear")
        tensor([0])
    """
    points = in_working_space(pixels, pixels.shape[1], space)
    return assign(points, to_working_space(palette, space), color_space(space).lightness)


def keep_opaque(
    points: Tensor, weights: Tensor, centroids: Tensor, pinned: int, opaque: float = 1.0
) -> Tensor:
    """Make centroids opaque where that costs least, and take Lloyd steps by `assign`.

    Means of opaque points and of soft ones are nearly opaque, and there k-means leaves them: solid
    colours would shine through. Those most of whose weight is opaque become opaque; so do those
    whose opaque points would cost more elsewhere. Where there are at least two centroids that are
    not clear, one of them is opaque.

    Args:
        points: (N, 4) float32, on the CPU; none is clear.
        weights: (N,) float64 above 0.
        centroids: (K, 4), the result of k-means.
        pinned: how many of the first do not move.
        opaque: see `opacity`.

    Returns:
        (K, 4); the same where all points are opaque, or none is.

    References:
        Lloyd 1982, "Least squares quantization in PCM".

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.opacity import keep_opaque
        >>> points = torch.tensor([[1.0, 1, 1, 1], [0.5, 0.5, 0.5, 0.5]])
        >>> mean = torch.full((1, 4), 0.9)
        >>> keep_opaque(points, torch.tensor([4.0, 1.0], dtype=torch.float64), mean, 0)
        tensor([[0.9000, 0.9000, 0.9000, 1.0000]])
    """
    solid = opacity(points, opaque) == OPAQUE
    if bool(solid.all()) or not bool(solid.any()):
        return centroids
    nearest = kernels.assign(points[None], centroids[None])[0]
    centroids = centroids.clone()
    centroids[_opaque_ones(points, weights, centroids, nearest, pinned, opaque), 3] = opaque
    for _ in range(STEPS):
        nearest = assign(points, centroids, opaque)
        total = _sum_by(nearest, weights, len(centroids))
        means = torch.stack(
            [_sum_by(nearest, weights * x, len(centroids)) / total for x in points.T], dim=1
        )
        if bool((opacity(centroids, opaque) == OPAQUE).any()):
            has_solid = _sum_by(nearest[solid], weights[solid], len(centroids)) > 0
            means[has_solid | (opacity(means, opaque) == OPAQUE), 3] = opaque
        moves = total > 0
        moves[:pinned] = False
        centroids[moves] = means[moves].to(centroids.dtype)
    return centroids


def _opaque_ones(
    points: Tensor,
    weights: Tensor,
    centroids: Tensor,
    nearest: Tensor,
    pinned: int,
    opaque: float,
) -> Tensor:
    """Which centroids (K,) are opaque from now on, those that are included."""
    count = len(centroids)
    kinds, solid = opacity(centroids, opaque), opacity(points, opaque) == OPAQUE
    total = _sum_by(nearest, weights, count)
    of_solid = _sum_by(nearest[solid], weights[solid], count)
    alpha = _sum_by(nearest, weights * points[:, 3], count) / total.clamp_min(1e-300)
    price = total * (opaque - alpha).square()
    able = of_solid > 0
    able[:pinned] = False
    chosen = (kinds == OPAQUE) | (able & (2 * of_solid >= total))
    if not bool(chosen.any()):
        if int((kinds != CLEAR).sum()) < 2 or not bool(able.any()):
            return chosen
        chosen[torch.where(able, price, torch.inf).argmin()] = True
    moving = solid & ~chosen[nearest]
    if bool(moving.any()):
        own, part = nearest[moving], points[moving]
        target = centroids[chosen]
        other = kernels.assign(part[None, :, :3].contiguous(), target[None, :, :3])[0]
        there = (part - target[other])[:, :3].double().square().sum(1)
        here = (part - centroids[own]).double().square().sum(1)
        chosen |= able & (price <= _sum_by(own, weights[moving] * (there - here), count))
    return chosen


def _sum_by(indices: Tensor, values: Tensor, count: int) -> Tensor:
    """The sums (K,) float64 of the values of each index, in order."""
    return torch.bincount(indices, values.to(torch.float64), count)
