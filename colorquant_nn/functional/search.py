"""From weighted colours to their best palette: search on few, finish on all.

Letters: M colours, K centroids, C channels (3 or 4), J pinned centroids, R starts.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from colorquant_nn import kernels

__all__ = ["EFFORTS", "Effort", "fit_centroids", "smallest_count"]


class Effort(NamedTuple):
    """How thoroughly to search; the numbers were chosen on the Kodak photographs."""

    bits: int
    """Of the grid whose cell means the search runs on, at least."""
    cells: int
    """For each centroid, at least; with fewer, the search runs on a finer grid."""
    starts: int
    """Independent ones, of which the best is kept; for few centroids more, up to eight."""
    candidates: int
    """More draws than this are not made for each seed of k-means++."""
    steps: int
    """Lloyd steps after the seeding."""
    rounds: int
    """Of relocation and Lloyd, in each start."""
    steps_a_round: int
    """Lloyd steps in a round."""
    last_rounds: int
    """Rounds on all colours."""
    last_steps: int
    """Lloyd steps on all colours."""


EFFORTS = {
    "fast": Effort(5, 8, 1, 3, 8, 6, 3, 0, 3),
    "balanced": Effort(6, 8, 1, 5, 10, 16, 4, 0, 4),
    "best": Effort(5, 32, 4, 8, 10, 40, 4, 1, 8),
}


def fit_centroids(
    points: Tensor,
    weights: Tensor,
    codes: Tensor,
    num_clusters: int,
    pinned: Tensor,
    effort: Effort,
    seed: int,
) -> Tensor:
    """Search for the centroids with the smallest sum of weighted squared distances.

    Args:
        points: (M, C) float32 in the working space, more than K distinct ones.
        weights: (M,) above 0.
        codes: (M,) int64, ascending: their places on a curve, see `colorquant_nn.kernels`.
        num_clusters: K.
        pinned: (J, C), the first centroids, which do not move.
        effort: one of `EFFORTS`.
        seed: of all that is left to chance.

    Returns:
        (K, C) float32.
    """
    if len(pinned) == num_clusters:
        return pinned
    generator = torch.Generator("cpu").manual_seed(seed)
    # A power of two, which changes no digit: the search counts in float32, but weights may be any.
    weights = weights * 2.0 ** -math.frexp(float(weights.max()))[1]
    bits = effort.bits
    cells = _pool(points, weights, codes, bits)
    while bits < 8 and len(cells[0]) < effort.cells * num_clusters:
        bits += 1
        cells = _pool(points, weights, codes, bits)
    candidates = min(effort.candidates, 2 + int(math.log(num_clusters)))
    # With few centroids local minima are further apart, and a start is cheap.
    starts = max(effort.starts, min(8, effort.starts * 64 // num_clusters))
    start = points.new_zeros(starts, num_clusters, points.shape[1])
    start[:, : len(pinned)] = pinned
    draw = partial(torch.rand, generator=generator, device="cpu", dtype=torch.float32)
    draw_normal = partial(torch.randn, generator=generator, device="cpu", dtype=torch.float32)
    found = kernels.search(
        *cells,
        start,
        len(pinned),
        draw(starts, num_clusters, candidates),
        (kernels.CHANCE * draw_normal(starts, effort.rounds, 2, num_clusters)).exp_(),
        effort.steps,
        effort.steps_a_round,
    )
    if bits == 8:
        return found
    return kernels.search(
        points,
        weights,
        found[None],
        len(pinned),
        draw(1, num_clusters, 0),
        (kernels.CHANCE * draw_normal(1, effort.last_rounds, 2, num_clusters)).exp_(),
        effort.last_steps,
        effort.steps_a_round,
    )


def _pool(points: Tensor, weights: Tensor, codes: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Means and weights of the cells of a coarser grid, in the order of the codes."""
    shift = points.shape[1] * (8 - bits)
    if shift == 0:
        return points, weights
    cells = codes.numpy() >> shift
    first = np.flatnonzero(np.diff(cells, prepend=-1))
    total = np.add.reduceat(weights.numpy(), first)
    sums = np.add.reduceat(points.numpy() * weights.numpy()[:, None], first, axis=0)
    means = (sums / total[:, None]).astype(np.float32)
    return torch.from_numpy(means), torch.from_numpy(total)


def smallest_count(psnr: Callable[[int], float], min_psnr: float, most: int) -> int:
    """Find the smallest K whose PSNR is at least ``min_psnr``, with few calls.

    Args:
        psnr: of a number of colours, in dB; about linear in log K.
        min_psnr: in dB.
        most: a number of colours that is known to reach it.

    Returns:
        K from 1 to ``most``; that of K - 1 does not reach it.

    Examples:
        >>> smallest_count(lambda count: 10 * math.log10(count), 20.0, most=1000)
        100
    """
    low, high = 0, most
    low_psnr, high_psnr = -math.inf, math.inf
    guess, halve = min(16, most), False
    while high - low > 1:
        guess = min(max(guess, low + 1), high - 1)
        width = math.log(high / max(low, 0.5))
        reached = psnr(guess)
        if reached >= min_psnr:
            high, high_psnr = guess, reached
        else:
            low, low_psnr = guess, reached
        if low == 0:
            guess = high // 4
        elif math.isinf(high_psnr):
            # MSE falls about as K to the power of -2/3: 20 dB for each factor of 1000.
            guess = round(low * 10 ** min((min_psnr - low_psnr) / 6.7, 2)) + 1
        else:
            halve = not halve and math.log(high / low) > width / 2  # one end may be stuck
            share = 0.5 if halve else (min_psnr - low_psnr) / max(high_psnr - low_psnr, 1e-9)
            guess = round(low * (high / low) ** share)
    return high
