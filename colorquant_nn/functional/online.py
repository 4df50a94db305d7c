"""Learning a palette from a stream of batches: warm-up on a histogram, then the update rule.

A step of learning is two calls around the assignment of the batch, `warm_up` and `learn`; each
acts in its own phase and leaves the state alone in the other. Both change it in place, and are
custom ops, opaque to ``torch.compile``. The phase is the number of batches seen, an int64 scalar
that stays on the CPU: reading it waits for no device.

With a process group, `warm_up` sums the histograms over the ranks and `learn` the statistics: a
training forward has one all-reduce of a fixed shape, and every rank learns the same.

Letters: B images, N points, K centroids; F is the width of the kernel's statistics.
"""

import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.clustering import lloyd, update
from colorquant_nn.functional.color import color_space
from colorquant_nn.functional.relocation import breathe, revive
from colorquant_nn.functional.seeding import kmeans_plus_plus

__all__ = ["HISTOGRAM_BITS", "WARM_UP_BATCHES", "learn", "warm_up"]

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
    torch.ops.colorquant_nn.warm_up(points, centroids, counts, histogram, batches, decay, space)


def learn(
    statistics: Tensor,
    centroids: Tensor,
    counts: Tensor,
    batches: Tensor,
    decay: float,
    dead_below: float,
) -> None:
    """After the warm-up, move the centroids by the update rule and revive the dead ones.

    Args:
        statistics: (K, F) of the batch about these centroids.
        centroids: (K, 3).
        counts: (K,).
        batches: int64 scalar on the CPU, how many batches were learnt from; counted up.
        decay: from 0 to 1.
        dead_below: a fraction of the mean count.
    """
    torch.ops.colorquant_nn.learn(statistics, centroids, counts, batches, decay, dead_below)


def _warm_up(
    points: Tensor,
    centroids: Tensor,
    counts: Tensor,
    histogram: Tensor,
    batches: Tensor,
    decay: float,
    space: str,
) -> None:
    step = int(batches)
    if step >= WARM_UP_BATCHES:
        return
    last = step == WARM_UP_BATCHES - 1
    histogram.mul_(decay).add_(_all_reduce(kernels.histogram(points, HISTOGRAM_BITS)))
    cells = histogram
    if cells.device.type == "cpu":
        cells = cells[cells[:, 0] > 0]  # a shape that depends on data: elsewhere it would wait
    weights = cells[:, 0].contiguous()
    means = cells[:, 1:] / torch.where(weights > 0, weights, 1)[:, None]
    colors = color_space(space).from_rgb(means)
    fitted = centroids if step else _seed(colors, weights, centroids)
    fitted = lloyd(colors, fitted, weights, steps=20 if last else 3)
    fitted = breathe(colors, fitted, weights, rounds=20 if last else 2)
    statistics = kernels.cluster(colors[None], fitted[None], weights=weights[None]).statistics[0]
    _assign_state(centroids, counts, update(fitted, counts, statistics, decay=0.0))
    if last:
        histogram.zero_()


def _learn(
    statistics: Tensor,
    centroids: Tensor,
    counts: Tensor,
    batches: Tensor,
    decay: float,
    dead_below: float,
) -> None:
    step = int(batches)
    batches.add_(1)
    if step < WARM_UP_BATCHES:
        return
    statistics = _all_reduce(statistics.clone())
    state = update(centroids, counts, statistics, decay)
    if dead_below > 0:
        state = revive(*state, statistics, dead_below)
    _assign_state(centroids, counts, state)


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


_library = torch.library.Library("colorquant_nn", "FRAGMENT")


def _define(schema: str, function: object) -> None:
    name = _library.define(schema)
    _library.impl(name, function, "CompositeExplicitAutograd")
    _library.impl(name, torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake(f"colorquant_nn::{name}", lambda *_: None, lib=_library)


_define(
    "warm_up(Tensor points, Tensor(a!) centroids, Tensor(b!) counts, Tensor(c!) histogram, "
    "Tensor batches, float decay, str space) -> ()",
    _warm_up,
)
_define(
    "learn(Tensor statistics, Tensor(a!) centroids, Tensor(b!) counts, Tensor(c!) batches, "
    "float decay, float dead_below) -> ()",
    _learn,
)
