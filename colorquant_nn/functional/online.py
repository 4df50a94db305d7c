"""Learning a palette from a stream of batches: warm-up on a histogram, then the update rule.

A step of learning is two calls around the assignment of the batch, `warm_up` and `learn`; each
acts in its own phase and leaves the state alone in the other. Or it is deferred: `observe` gathers
batches, and `commit` learns from them as from one. All change the state in place, and all but
`commit` are custom ops, opaque to ``torch.compile``. The phase is the number of steps so far, an
int64 scalar that stays on the CPU: reading it waits for no device.

With a process group, a step sums the histograms, or the moments, over the ranks: one all-reduce
of a fixed shape, after which every rank learns the same.

Letters: B images, N points, K centroids; F is the width of the kernel's moments.
"""

import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.clustering import lloyd, update
from colorquant_nn.functional.color import color_space
from colorquant_nn.functional.relocation import breathe, revive
from colorquant_nn.functional.seeding import kmeans_plus_plus

__all__ = ["HISTOGRAM_BITS", "WARM_UP_BATCHES", "commit", "learn", "observe", "warm_up"]

WARM_UP_BATCHES = 32
HISTOGRAM_BITS = 6


def warm_up(
    points: Tensor,
    centroids: Tensor,
    counts: Tensor,
    histogram: Tensor,
    batches: Tensor,
    decay: float,
    space: str,
) -> None:
    """Fit the centroids to the histogram of the first batches, which decays as the counts do.

    The first batch seeds by k-means++; every batch adds a few steps of Lloyd's algorithm and a
    round of relocations, the last one more of both.

    Args:
        points: (B, N, 3) sRGB.
        centroids: (K, 3) in the space.
        counts: (K,).
        histogram: (8 ** `HISTOGRAM_BITS`, 4), count and sums of sRGB of each cell.
        batches: int64 scalar on the CPU, how many batches were learnt from.
        decay: from 0 to 1.
        space: a name of `colorquant_nn.functional.color.SPACES`.
    """
    kernels.call("warm_up", points, centroids, counts, histogram, batches, decay, space)


def learn(
    moments: Tensor,
    centroids: Tensor,
    counts: Tensor,
    batches: Tensor,
    decay: float,
    dead_below: float,
) -> None:
    """After the warm-up, move the centroids by the update rule and revive the dead ones.

    Args:
        moments: (K, F) of the batch about these centroids.
        centroids: (K, 3).
        counts: (K,).
        batches: int64 scalar on the CPU, how many batches were learnt from; counted up.
        decay: from 0 to 1.
        dead_below: a fraction of the mean count.
    """
    kernels.call("learn", moments, centroids, counts, batches, decay, dead_below)


def observe(
    points: Tensor,
    moments: Tensor,
    pending_histogram: Tensor,
    pending_moments: Tensor,
    batches: Tensor,
) -> None:
    """Add a batch to what the next `commit` learns from; a recomputed forward adds nothing.

    Args:
        points: (B, N, 3) sRGB.
        moments: (K, F) of the batch about the centroids.
        pending_histogram: (8 ** `HISTOGRAM_BITS`, 4), what was observed in the warm-up.
        pending_moments: (K, F), what was observed after it.
        batches: int64 scalar on the CPU, how many commits there were.
    """
    kernels.call("observe", points, moments, pending_histogram, pending_moments, batches)


def _warm_up(
    points: Tensor,
    centroids: Tensor,
    counts: Tensor,
    histogram: Tensor,
    batches: Tensor,
    decay: float,
    space: str,
) -> None:
    if int(batches) < WARM_UP_BATCHES:
        _refuse_recomputation()
        batch = kernels.histogram(points, HISTOGRAM_BITS)
        _fit_histogram(batch, centroids, counts, histogram, int(batches), decay, space)


def _learn(
    moments: Tensor,
    centroids: Tensor,
    counts: Tensor,
    batches: Tensor,
    decay: float,
    dead_below: float,
) -> None:
    if int(batches) >= WARM_UP_BATCHES:
        _refuse_recomputation()
        _apply_rule(moments.clone(), centroids, counts, decay, dead_below)
    batches.add_(1)


def _observe(
    points: Tensor,
    moments: Tensor,
    pending_histogram: Tensor,
    pending_moments: Tensor,
    batches: Tensor,
) -> None:
    if _recomputing():
        return  # this batch was observed in the forward that is being repeated
    if int(batches) < WARM_UP_BATCHES:
        pending_histogram.add_(kernels.histogram(points, HISTOGRAM_BITS))
    else:
        pending_moments.add_(moments)


def commit(
    pending_histogram: Tensor,
    pending_moments: Tensor,
    centroids: Tensor,
    counts: Tensor,
    histogram: Tensor,
    batches: Tensor,
    decay: float,
    dead_below: float,
    space: str,
) -> None:
    """Learn from all that was observed since the last commit as from one batch.

    Args:
        pending_histogram: as ``histogram``; emptied.
        pending_moments: (K, F); emptied.
        centroids: (K, 3), and so on: as for `warm_up` and `learn`.
        counts: (K,).
        histogram: (8 ** `HISTOGRAM_BITS`, 4).
        batches: int64 scalar on the CPU; counted up.
        decay: from 0 to 1.
        dead_below: a fraction of the mean count.
        space: a name of `colorquant_nn.functional.color.SPACES`.
    """
    if int(batches) < WARM_UP_BATCHES:
        batch = pending_histogram.clone()
        _fit_histogram(batch, centroids, counts, histogram, int(batches), decay, space)
    else:
        _apply_rule(pending_moments.clone(), centroids, counts, decay, dead_below)
    pending_histogram.zero_()
    pending_moments.zero_()
    batches.add_(1)


def _fit_histogram(
    batch: Tensor,
    centroids: Tensor,
    counts: Tensor,
    histogram: Tensor,
    step: int,
    decay: float,
    space: str,
) -> None:
    last = step == WARM_UP_BATCHES - 1
    histogram.mul_(decay).add_(_all_reduce(batch))
    cells = histogram
    if cells.device.type == "cpu":
        cells = cells[cells[:, 0] > 0]  # a shape that depends on data: elsewhere it would wait
    weights = cells[:, 0].contiguous()
    means = cells[:, 1:] / torch.where(weights > 0, weights, 1)[:, None]
    colors = color_space(space).from_rgb(means)
    fitted = centroids if step else _seed(colors, weights, centroids)
    fitted = lloyd(colors, fitted, weights, steps=20 if last else 3)
    fitted = breathe(colors, fitted, weights, rounds=20 if last else 2)
    moments = kernels.cluster(colors[None], fitted[None], weights=weights[None]).moments[0]
    _assign_state(centroids, counts, update(fitted, counts, moments, decay=0.0))
    if last:
        histogram.zero_()


def _apply_rule(
    moments: Tensor, centroids: Tensor, counts: Tensor, decay: float, dead_below: float
) -> None:
    moments = _all_reduce(moments)
    state = update(centroids, counts, moments, decay)
    if dead_below > 0:
        state = revive(*state, moments, dead_below)
    _assign_state(centroids, counts, state)


def _recomputing() -> bool:
    """Whether this forward runs inside a backward, as that of activation checkpointing does."""
    return torch._C._current_graph_task_id() != -1


def _refuse_recomputation() -> None:
    if _recomputing():
        raise RuntimeError(
            "a palette that learns in every forward cannot be under activation checkpointing, "
            "which repeats the forward; make the layer with deferred=True and call commit() after "
            "each optimizer step"
        )


def _assign_state(centroids: Tensor, counts: Tensor, state: tuple[Tensor, Tensor]) -> None:
    centroids.copy_(state[0])
    counts.copy_(state[1])


def _seed(colors: Tensor, weights: Tensor, spread: Tensor) -> Tensor:
    """K-means++; where distinct colours run out, the well-spread centroids stay."""
    if colors.shape[0] == 0:
        return spread
    seeds = kmeans_plus_plus(colors, spread.shape[0], weights)
    repeated = (seeds[:, None] == seeds).all(-1).tril(-1).any(1, keepdim=True)
    return torch.where(repeated | (weights.sum() == 0), spread, seeds)


def _all_reduce(tensor: Tensor) -> Tensor:
    """The sum over all ranks, in place; on a single process, nothing happens."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(tensor)
    return tensor
