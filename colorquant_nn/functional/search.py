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
    """See `colorquant_nn.kernels.search`; it branches on no value of a tensor.

    References:
        The rounds are in the spirit of Fritzke 2020, "The breathing k-means algorithm".
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
