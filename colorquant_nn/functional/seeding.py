"""Where k-means begins: greedy k-means++, and a palette before there is data.

Letters: N points, K clusters, C channels, L candidates.
"""

import math

import torch
from torch import Tensor

from colorquant_nn import kernels

__all__ = ["kmeans_plus_plus", "num_candidates", "seed", "spread_colors"]


def kmeans_plus_plus(
    points: Tensor,
    num_clusters: int,
    weights: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Greedy k-means++: points far from those already chosen, by their share of the error.

    Every next point is drawn with a probability proportional to its weighted squared distance
    from the nearest chosen one; of ``2 + log K`` draws the one that lowers the error most stays.
    When all distinct points are chosen, the last rows repeat one of them.

    Args:
        points: (N, C) float.
        num_clusters: K, at least 1.
        weights: (N,), at least 0; all 1 without it. A point of weight 0 is never drawn.
        generator: on the CPU; without it, a fresh one of seed 0. The global one is not used.

    Returns:
        (K, C) rows of ``points``.

    References:
        Arthur and Vassilvitskii 2007, "k-means++: the advantages of careful seeding"; the greedy
        draws are those of section 7 there.

    Examples:
        >>> from colorquant_nn.functional.seeding import kmeans_plus_plus
        >>> import torch
        >>> points = torch.tensor([[0.0], [0.1], [5.0]])
        >>> kmeans_plus_plus(points, 2).sort(dim=0).values.round().flatten().tolist()
        [0.0, 5.0]
    """
    # Drawn on the CPU, so that every device seeds alike.
    generator = torch.Generator("cpu").manual_seed(0) if generator is None else generator
    candidates = num_candidates(num_clusters)
    uniforms = torch.rand(num_clusters, candidates, generator=generator, device="cpu")
    weights = points.new_ones(points.shape[0]) if weights is None else weights.to(points.dtype)
    start = points.new_zeros(num_clusters, points.shape[1])
    return kernels.seed(points, weights, start, 0, uniforms.to(points.device))


def num_candidates(num_clusters: int) -> int:
    """How many points are drawn for each seed, of which the best stays."""
    return 2 + int(math.log(num_clusters))


def seed(points: Tensor, weights: Tensor, start: Tensor, pinned: int, uniforms: Tensor) -> Tensor:
    """The plain form of `colorquant_nn.kernels.seed`, for one set of points or for several.

    Args:
        points: (..., N, C).
        weights: (..., N), at least 0.
        start: (..., K, C), whose first rows are taken as they are.
        pinned: how many of them.
        uniforms: (K, L) numbers in [0, 1), the same for every set.

    Returns:
        (..., K, C); zeros where all weights are 0.
    """
    if points.shape[-2] == 0:  # as with a point without weight
        points, weights = torch.zeros_like(start[..., :1, :]), torch.zeros_like(start[..., :1, 0])
    chosen: list[Tensor] = []
    nearest = torch.ones_like(weights)  # every voter is as likely to be the first
    for k in range(start.shape[-2]):
        share = weights * nearest
        if k < pinned:
            color = start[..., k, :]
        else:
            picks = _draw(share, uniforms[k] if k else uniforms[0, :1])
            candidates = points.gather(-2, picks[..., None].expand(*picks.shape, points.shape[-1]))
            distances = _squared_distances(candidates, points)
            if k:
                distances = torch.minimum(distances, nearest[..., None, :])
            errors = (distances * weights[..., None, :]).sum(-1, dtype=torch.float64)
            best = errors.argmin(-1)[..., None, None].expand(*start.shape[:-2], 1, start.shape[-1])
            color = candidates.gather(-2, best).squeeze(-2)
            some = share.sum(-1, keepdim=True) > 0
            # No colour is left that has not been chosen: the first is repeated.
            color = torch.where(some, color, chosen[0] if k else torch.zeros_like(color))
        chosen.append(color)
        distance = _squared_distances(color[..., None, :], points).squeeze(-2)
        nearest = torch.minimum(nearest, distance) if k else distance
    return torch.stack(chosen, -2)


def spread_colors(num_colors: int) -> Tensor:
    """Colours spread evenly over the RGB cube: the same ones every time, no two alike.

    Args:
        num_colors: K, at least 1.

    Returns:
        (K, 3) float32 sRGB in (0, 1).

    References:
        Roberts 2018, "The unreasonable effectiveness of quasirandom sequences": multiples, modulo
        1, of the powers of 1 / g, where g is the root of g^4 = g + 1.

    Examples:
        >>> from colorquant_nn.functional.seeding import spread_colors
        >>> spread_colors(8).shape
        torch.Size([8, 3])
    """
    steps = torch.tensor(
        [1.2207440846057596**-power for power in (1, 2, 3)], dtype=torch.float64, device="cpu"
    )
    ordinal = torch.arange(1, num_colors + 1, dtype=torch.float64, device="cpu")[:, None]
    return ((0.5 + ordinal * steps) % 1).to(torch.float32)


def _draw(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Indices (..., L) of points, drawn with a probability proportional to ``weights`` (..., N)."""
    cumulative = weights.to(torch.float64).cumsum(-1)
    targets = uniforms.to(torch.float64) * cumulative[..., -1:]
    index = torch.searchsorted(cumulative, targets, right=True)
    # Rounding may carry a draw past the end: then it is the last point that has a weight.
    last = (cumulative < cumulative[..., -1:]).sum(-1, keepdim=True)
    return torch.minimum(index, last.clamp(max=weights.shape[-1] - 1))


def _squared_distances(centers: Tensor, points: Tensor) -> Tensor:
    """(..., L, N) squared distances from differences, channel by channel."""
    total = (centers[..., :1] - points[..., None, :, 0]).square_()
    for channel in range(1, points.shape[-1]):
        total += (centers[..., channel : channel + 1] - points[..., None, :, channel]).square_()
    return total
