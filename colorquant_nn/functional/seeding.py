"""Where k-means begins: functions ``seeding(points, num_clusters, weights, generator)``.

Letters: N points, K clusters, C channels, L candidates.
"""

import math

import torch
from torch import Tensor

__all__ = ["kmeans_plus_plus", "random_points", "spread_colors"]


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
        >>> points = torch.tensor([[0.0], [0.1], [5.0]])
        >>> kmeans_plus_plus(points, 2).sort(dim=0).values.round().flatten().tolist()
        [0.0, 5.0]
    """
    uniform = _uniform(num_clusters, 2 + int(math.log(num_clusters)), points, generator)
    weights = points.new_ones(points.shape[0]) if weights is None else weights.to(points.dtype)
    chosen = [points[_draw(weights, uniform[0, :1])]]
    nearest = (points - chosen[0]).square().sum(-1)
    for step in range(1, num_clusters):
        left = weights * nearest
        candidates = points[_draw(left, uniform[step])]  # (L, C)
        candidates = torch.where(left.sum() > 0, candidates, chosen[0])
        distances = torch.minimum(_squared_distances(candidates, points), nearest)
        with torch.autocast(points.device.type, enabled=False):
            best = (distances @ weights).argmin()[None]
        chosen.append(candidates[best])
        nearest = distances[best].squeeze(0)
    return torch.cat(chosen)


def random_points(
    points: Tensor,
    num_clusters: int,
    weights: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Points drawn without replacement, with a probability proportional to their weight.

    Args:
        points: (N, C) float.
        num_clusters: K, at least 1; with fewer points than K, points repeat.
        weights: (N,), at least 0; all 1 without it. Points of weight 0 come last.
        generator: on the CPU; without it, a fresh one of seed 0. The global one is not used.

    Returns:
        (K, C) rows of ``points``.

    References:
        Forgy 1965; the draw is that of Efraimidis and Spirakis 2006, "Weighted random sampling
        with a reservoir": the K largest of ``log(u) / w``.

    Examples:
        >>> random_points(torch.eye(3), 3).sum(dim=0).tolist()
        [1.0, 1.0, 1.0]
    """
    weights = points.new_ones(points.shape[0]) if weights is None else weights
    keys = _uniform(points.shape[0], 1, points, generator).squeeze(-1).log() / weights
    order = keys.argsort(descending=True)
    return points[order[torch.arange(num_clusters, device=points.device) % points.shape[0]]]


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
        >>> spread_colors(8).shape
        torch.Size([8, 3])
    """
    steps = torch.tensor([1.2207440846057596**-power for power in (1, 2, 3)], dtype=torch.float64)
    ordinal = torch.arange(1, num_colors + 1, dtype=torch.float64)[:, None]
    return ((0.5 + ordinal * steps) % 1).to(torch.float32)


def _uniform(rows: int, columns: int, points: Tensor, generator: torch.Generator | None) -> Tensor:
    # Drawn on the CPU, so that every device seeds alike.
    generator = torch.Generator("cpu").manual_seed(0) if generator is None else generator
    draws = torch.rand(rows, columns, generator=generator, dtype=torch.float64, device="cpu")
    return draws.to(points.device, points.dtype, non_blocking=True)


def _draw(weights: Tensor, uniform: Tensor) -> Tensor:
    """Indices (L,) of points, drawn with a probability proportional to ``weights`` (N,)."""
    cumulative = weights.cumsum(0)
    index = torch.searchsorted(cumulative, uniform * cumulative[-1], right=True)
    # Rounding may carry a draw past the end: then it is the last point that has a weight.
    last = (cumulative < cumulative[-1]).sum().clamp(max=weights.shape[0] - 1)
    return torch.minimum(index, last)


def _squared_distances(centers: Tensor, points: Tensor) -> Tensor:
    """(L, N) squared distances from differences, channel by channel: no (L, N, C) tensor."""
    total = (centers[:, :1] - points[:, 0]).square_()
    for channel in range(1, points.shape[-1]):
        total += (centers[:, channel : channel + 1] - points[:, channel]).square_()
    return total
