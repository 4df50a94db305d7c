"""Moving the least useful centroids to where the error is, which Lloyd's algorithm cannot do.

Nothing here branches on the values of a GPU's tensor, so that it is never waited for.
Letters: N points, K centroids, C channels, M moves; F is the width of the kernel's moments.
"""

import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.clustering import distortion, lloyd

__all__ = ["breathe", "relocate", "revive"]

# The mean of half a normal distribution lies sqrt(2 / pi) standard deviations from the middle, so
# halving a cluster along its longest axis saves 2 / pi of the variance along it.
SPLIT_GAIN = 2 / torch.pi
# Standard deviation of the logarithm of the random factors of `breathe`. On photographs at K = 16,
# 64, 256: with 0 it tries the same moves again and again, with more than 0.5 it tries bad ones.
CHANCE = 0.2
TINY = 1e-30


def revive(
    centroids: Tensor, counts: Tensor, moments: Tensor, dead_below: float
) -> tuple[Tensor, Tensor]:
    """Give dead centroids a new life where the error is largest, if that lowers the error.

    A centroid is dead when its running count is below ``dead_below`` times the mean count. A rare
    but distinct colour stays: to lose it would cost more than another split gains.

    Args:
        centroids: (K, C) after the update.
        counts: (K,) running counts after the update.
        moments: (K, F) of the batch that they were updated with.
        dead_below: a fraction of the mean count; 0 never revives.

    Returns:
        The new centroids and counts, see `relocate`.
    """
    dead = counts < dead_below * counts.mean()
    if dead.device.type == "cpu" and not dead.any():
        return centroids, counts  # what the moves would come to; elsewhere asking would wait
    most = max(1, centroids.shape[0] // 8)
    return relocate(centroids, counts, moments, dead, most, margin=2.0)


def breathe(
    points: Tensor, centroids: Tensor, weights: Tensor | None, rounds: int, steps: int = 5
) -> Tensor:
    """Escape local minima of k-means: relocate some centroids, run Lloyd, keep what is better.

    Args:
        points: (N, C).
        centroids: (K, C).
        weights: (N,), at least 0; all 1 if None.
        rounds: how often. Chance has a say in the moves, so that a round does not repeat the last;
            one that does not help halves the number of moves of the next, down to one.
        steps: of Lloyd's algorithm in each round.

    Returns:
        (K, C) centroids, never worse than before.

    References:
        In the spirit of Fritzke 2020, "The breathing k-means algorithm".
    """
    num_clusters, device = centroids.shape[0], points.device
    weighted = None if weights is None else weights[None]

    def moments_about(centroids: Tensor) -> Tensor:
        return kernels.cluster(points[None], centroids[None], weights=weighted).moments[0]

    most = max(1, num_clusters // 8)
    # Drawn on the CPU, so that every device does the same.
    generator = torch.Generator("cpu").manual_seed(0)
    draws = torch.randn(rounds, 2, num_clusters, generator=generator, device="cpu")
    blurs = (CHANCE * draws).exp_().to(device, non_blocking=True)
    limit = torch.full((), most, device=device)
    everyone = torch.ones(num_clusters, dtype=torch.bool, device=device)
    moments = moments_about(centroids)
    for blur in blurs:
        counts = moments[:, 0].to(centroids.dtype)
        trial, _ = relocate(centroids, counts, moments, everyone, most, 0.5, limit, blur)
        trial = lloyd(points, trial, weights, steps)
        trial_moments = moments_about(trial)
        better = distortion(trial_moments) < distortion(moments)
        centroids = torch.where(better, trial, centroids)
        moments = torch.where(better, trial_moments, moments)
        limit = torch.where(better, limit, (limit // 2).clamp_min(1))
    return centroids


def relocate(
    centroids: Tensor,
    counts: Tensor,
    moments: Tensor,
    movable: Tensor,
    most: int,
    margin: float,
    limit: Tensor | None = None,
    blur: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Merge the centroids whose loss costs least, and halve the clusters where that gains most.

    Merging j into its neighbour l costs ``n_j n_l / (n_j + n_l) |c_j - c_l|^2``. Halving a cluster
    across its longest axis, of variance v, gains ``2 / pi n v``. The cheapest merge goes with the
    largest gain, and so on; a pair is done only if the gain exceeds ``margin`` times the cost.
    The neighbour takes the count of the merged centroid, the halves share that of the cluster.

    Args:
        centroids: (K, C).
        counts: (K,).
        moments: (K, F) of points about these or very near centroids.
        movable: (K,) bool, which centroids may be merged away.
        most: M, the most moves, an upper bound of ``limit``.
        margin: how many times the cost the gain has to be.
        limit: a scalar tensor, the most moves; ``most`` without it.
        blur: (2, K) factors of the costs and of the gains, all 1 without it.

    Returns:
        The new centroids and counts; those that no move touches are the same bit for bit.

    References:
        The cost of a merge is that of Ward 1963, "Hierarchical grouping to optimize an objective
        function".
    """
    num_clusters = centroids.shape[0]
    if num_clusters == 1:
        return centroids, counts
    position, number = centroids.to(moments.dtype), counts.to(moments.dtype)
    share = number / number.sum().clamp_min(TINY)
    variance, axis = _longest_axis(moments)
    batch_share = moments[:, 0] / moments[:, 0].sum().clamp_min(TINY)
    # A cluster counts by the smaller of its shares: one odd batch is no reason to move.
    gain = SPLIT_GAIN * torch.minimum(share, batch_share) * variance

    distances = (position[:, None] - position).square().sum(-1)  # (K, K)
    merged_share = share[:, None] * share / (share[:, None] + share).clamp_min(TINY)
    itself = torch.eye(num_clusters, dtype=torch.bool, device=centroids.device)
    merging = (merged_share * distances).masked_fill(itself, torch.inf)
    neighbour = merging.argmin(1)
    cost = merging.gather(1, neighbour[:, None]).squeeze(1).masked_fill(~movable, torch.inf)

    if blur is not None:
        cost, gain = cost * blur[0], gain * blur[1]
    cheapest, source = cost.topk(most, largest=False)  # (M,)
    # Of two that would merge into one another, only the cheaper moves.
    rank = torch.arange(most, device=source.device)
    into_moved = ((neighbour[source][:, None] == source) & (rank[:, None] > rank)).any(1)
    cheapest = cheapest.masked_fill(into_moved, torch.inf)
    cheapest, order = cheapest.sort()
    source = source[order]
    target = neighbour[source]
    possible = cheapest.isfinite().to(number.dtype)
    gone = torch.zeros_like(number).index_add_(0, source, possible) > 0
    gain, split = gain.masked_fill(gone, -1).topk(most)
    done = gain > margin * cheapest  # false for an infinite cost
    if limit is not None:
        done &= torch.arange(most, device=limit.device) < limit

    # Differences, so that whatever is not done adds zero.
    moving = torch.where(done, number[source], 0)
    offset = axis[split] * (SPLIT_GAIN * variance[split]).sqrt()[:, None]
    half = torch.where(done, number[split] / 2, 0)
    pull = moving / (number[target] + moving).clamp_min(TINY)
    change = torch.zeros_like(position)
    change.index_add_(0, target, pull[:, None] * (position[source] - position[target]))
    change.index_add_(0, split, torch.where(done[:, None], -offset, 0))
    landing = position[split] + offset - position[source]
    change.index_add_(0, source, torch.where(done[:, None], landing, 0))
    shift = torch.zeros_like(number)
    shift.index_add_(0, target, moving).index_add_(0, split, -half)
    shift.index_add_(0, source, half - moving)
    return (position + change).to(centroids.dtype), (number + shift).to(counts.dtype)


def _longest_axis(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Variance (K,) along, and direction (K, C) of, the longest axis of each cluster."""
    named = kernels.unpack_moments(moments)
    count = named.counts.clamp_min(TINY)
    mean = named.offsets / count[:, None]
    covariance = named.scatter / count[:, None, None] - mean[:, :, None] * mean[:, None]
    # Squaring six times is 64 steps of the power iteration; torch.linalg.eigh waits for a GPU.
    power = covariance / _trace(covariance)
    for _ in range(6):
        power = power @ power
        power = power / _trace(power)
    column = power.diagonal(dim1=-2, dim2=-1).argmax(-1)
    axis = power.gather(-1, column[:, None, None].expand(-1, power.shape[-1], 1)).squeeze(-1)
    axis = axis / axis.norm(dim=-1, keepdim=True).clamp_min(TINY)
    variance = (axis[:, None] @ covariance @ axis[..., None]).flatten().clamp_min(0)
    return variance, axis


def _trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(TINY)[:, None, None]
