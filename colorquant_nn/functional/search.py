"""The plain form of `colorquant_nn.kernels.search`: seeding, Lloyd's algorithm, relocations.

Letters: N points, K centroids, C channels, J pinned centroids, R starts, L candidates.
"""

import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.clustering import distortion, lloyd, moments_of
from colorquant_nn.kernels import SEARCH_MARGIN, most_moves

__all__ = ["search"]


def search(
    points: Tensor,
    weights: Tensor,
    start: Tensor,
    pinned: int,
    uniforms: Tensor,
    blurs: Tensor,
    steps: int,
    steps_a_round: int,
) -> Tensor:
    """The plain form of `colorquant_nn.kernels.search`; it branches on no value of a tensor.

    Args:
        points: (N, C).
        weights: (N,), at least 0.
        start: (R, K, C); only the first ``pinned`` rows matter where seeds are drawn.
        pinned: J, how many centroids stay where they are.
        uniforms: (R, K, L) numbers in [0, 1), for the seeds; with L = 0 none are drawn.
        blurs: (R, rounds, 2, K) factors about 1, for the relocations.
        steps: of Lloyd's algorithm after the seeding.
        steps_a_round: after each relocation.

    Returns:
        (K, C), those of the start with the smallest distortion.

    References:
        Fritzke 2020, "The breathing k-means algorithm", after whose spirit the rounds are.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.search import search
        >>> points, start = torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([[[0.0], [1.0]]])
        >>> uniforms, blurs = torch.rand(1, 2, 0), torch.ones(1, 0, 2, 2)
        >>> search(points, torch.ones(3), start, 0, uniforms, blurs, 3, 1)
        tensor([[0.5000],
                [9.0000]])
    """
    found, errors = [], []
    movable = torch.arange(start.shape[1], device=points.device) >= pinned
    for centroids, draws, rounds in zip(start, uniforms, blurs, strict=True):
        if draws.shape[1] > 0:
            centroids = kernels.seed(points, weights, centroids, pinned, draws)
        centroids = lloyd(points, centroids, weights, steps, pinned)
        moments = moments_of(points, centroids, weights)
        limit = torch.full((), most_moves(len(centroids)), device=points.device)
        for blur in rounds:
            trial, _ = kernels.relocate(
                centroids, moments[:, 0], moments, movable, limit, SEARCH_MARGIN, blur, pinned
            )
            moved = (trial != centroids).any()
            trial = lloyd(points, trial, weights, steps_a_round, pinned)
            trial_moments = moments_of(points, trial, weights)
            better = moved & (distortion(trial_moments) < distortion(moments))
            centroids = torch.where(better, trial, centroids)
            moments = torch.where(better, trial_moments, moments)
            limit = torch.where(better | ~moved, limit, (limit // 2).clamp_min(1))
        found.append(centroids)
        errors.append(distortion(moments))
    return torch.stack(found)[torch.stack(errors).argmin()]
