"""Moving the least useful centroids to where the error is, which Lloyd's algorithm cannot do.

Letters: K centroids, C channels; F is the width of the kernel's moments.
"""

import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.kernels import REVIVE_MARGIN, SPLIT_GAIN, TINY, most_moves

__all__ = ["relocate", "revive"]

POWER_STEPS = 12


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
        The new centroids and counts, see `colorquant_nn.kernels.relocate`.
    """
    dead = counts < dead_below * counts.mean()
    if dead.device.type == "cpu" and not dead.any():
        return centroids, counts  # what the moves would come to; elsewhere asking would wait
    most = torch.full((), most_moves(len(centroids)), device=centroids.device)
    return kernels.relocate(centroids, counts, moments, dead, most, REVIVE_MARGIN)


def relocate(
    centroids: Tensor,
    counts: Tensor,
    moments: Tensor,
    movable: Tensor,
    limit: Tensor,
    margin: float,
    blur: Tensor | None,
    pinned: int,
) -> tuple[Tensor, Tensor]:
    """The plain form of `colorquant_nn.kernels.relocate`, whose arguments it has.

    It branches on no value of a tensor, so that no device is waited for.
    """
    size = len(centroids)
    if size == 1:
        return centroids.clone(), counts.clone()
    exact, batch = moments.dtype, moments[:, 0]
    running = counts.to(exact)
    scaled = running * (batch.sum() / running.sum().clamp_min(TINY))
    variance, axis = _longest_axis(moments)
    # A cluster counts by the smaller of its shares: one odd batch is no reason to move.
    gain = SPLIT_GAIN * torch.minimum(scaled, batch) * variance
    cost, neighbour = _cheapest_merges(centroids.to(exact), scaled)
    cost = cost.masked_fill(~movable, torch.inf)
    if blur is not None:
        cost, gain = cost * blur[0], gain * blur[1]

    center, offsets = centroids.to(exact), (SPLIT_GAIN * variance).sqrt()[:, None] * axis
    position, number = center, running
    fixed = torch.arange(size, device=centroids.device) < pinned
    gone, kept = torch.zeros_like(fixed), torch.zeros_like(fixed)
    going, moves = torch.ones_like(fixed[0]), torch.zeros_like(limit)
    for _ in range(min(size, 2 * most_moves(size))):
        source = cost.argmin(keepdim=True)  # (1,), as all that follows
        price, target = cost[source], neighbour[source]
        cost = cost.index_fill(0, source, torch.inf)  # its turn is over
        free = ~kept[source] & ~gone[target]
        split = gain.index_fill(0, source, -torch.inf).argmax(keepdim=True)
        going = going & price.isfinite() & (moves < limit)
        done = going & free & (gain[split] > margin * price)
        going = going & (done | ~free)  # the first pair that does not pay is the last
        moves = moves + done

        gain = torch.where(done, gain.index_fill(0, torch.cat([source, split]), -torch.inf), gain)
        gone = gone | gone.index_fill(0, source, True) & done
        kept = kept | kept.index_fill(0, torch.cat([target, split]), True) & done
        pull = scaled[source] / (scaled[source] + scaled[target]).clamp_min(TINY)
        pull = torch.where(fixed[target], 0, pull)[:, None] * (center[source] - center[target])
        offset = offsets[split]
        moved = position.index_add(0, target, pull)
        moved = moved.index_copy(0, source, moved[split] + offset)
        moved = moved.index_add(0, split, torch.where(fixed[split], 0, -offset))
        position = torch.where(done, moved, position)
        half = running[split] / 2
        given = torch.cat([running[source], -half, half - running[source]])
        shared = number.index_add(0, torch.cat([target, split, source]), given)
        number = torch.where(done, shared, number)
    return position.to(centroids.dtype), number.to(counts.dtype)


def _cheapest_merges(centroids: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Ward's cost (K,) of merging each centroid into the one where that is least, and which."""
    distances = (centroids[:, None] - centroids).square().sum(-1)  # (K, K)
    share = counts[:, None] * counts / (counts[:, None] + counts).clamp_min(TINY)
    itself = torch.eye(len(counts), dtype=torch.bool, device=counts.device)
    merging = (share * distances).masked_fill(itself, torch.inf)
    neighbour = merging.argmin(1)
    return merging.gather(1, neighbour[:, None]).squeeze(1), neighbour


def _longest_axis(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Variance (K,) along, and direction (K, C) of, the longest axis: a power iteration.

    `torch.linalg.eigh` would wait for a GPU.
    """
    named = kernels.unpack_moments(moments)
    weight = named.counts.clamp_min(TINY)[:, None, None]
    mixed = named.offsets[:, :, None] * named.offsets[:, None] / weight
    covariance = (named.scatter - mixed) / weight
    longest = covariance.diagonal(dim1=-2, dim2=-1).argmax(-1)
    axis = covariance.gather(1, longest[:, None, None].expand(-1, 1, covariance.shape[-1]))[:, 0]
    for _ in range(POWER_STEPS):
        product = (covariance @ axis[..., None]).squeeze(-1)
        length = (product.square().sum(-1) + TINY).sqrt()
        axis = product / length[:, None]
    return (length.square() - TINY).clamp_min(0).sqrt(), axis
