"""K-means: the one update rule, and the classic algorithm.

Letters: N points, K clusters, C channels; F is the width of the kernel's moments.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.seeding import kmeans_plus_plus, seed

__all__ = ["KMeans", "distortion", "kmeans", "kmeans_per_image", "lloyd", "moments_of", "update"]

Seeding = Callable[[Tensor, int, Tensor | None, torch.Generator | None], Tensor]


def update(
    centroids: Tensor, counts: Tensor, moments: Tensor, decay: float
) -> tuple[Tensor, Tensor]:
    """Move centroids towards the means of a batch: the one rule of every palette update.

    With the batch's counts m and sums s, ``n' = decay n + m`` and ``c' = c + (s - m c) / n'``;
    a centroid that no point was assigned to stays as it is, bit for bit. ``decay = 0`` is a step
    of Lloyd's algorithm, ``decay = 1`` is minibatch k-means, between them is an exponential
    moving average that is not drawn to the origin.

    Args:
        centroids: (K, C).
        counts: (K,) running counts n, in points.
        moments: (K, F) of the batch about these centroids, see `colorquant_nn.kernels.cluster`.
        decay: from 0 to 1.

    Returns:
        The new centroids (K, C) and counts (K,), in the dtypes of the old.

    References:
        Lloyd 1982, "Least squares quantization in PCM"; Sculley 2010, "Web-scale k-means
        clustering", algorithm 1; van den Oord et al. 2017, "Neural discrete representation
        learning", appendix A.1.

    Examples:
        >>> import torch
        >>> from colorquant_nn import kernels
        >>> from colorquant_nn.functional.clustering import update
        >>> points = torch.tensor([[[0.0], [2.0]]])
        >>> centroids, counts = torch.zeros(1, 1), torch.zeros(1)
        >>> moments = kernels.cluster(points, centroids[None]).moments[0]
        >>> update(centroids, counts, moments, decay=1.0)
        (tensor([[1.]]), tensor([2.]))
    """
    batch = kernels.unpack_moments(moments)
    new_counts = decay * counts.to(moments.dtype) + batch.counts
    seen = (batch.counts > 0)[..., None]
    step = batch.offsets / torch.where(seen, new_counts[..., None], 1)
    moved = (centroids + step).to(centroids.dtype)
    return torch.where(seen, moved, centroids), new_counts.to(counts.dtype)


def distortion(moments: Tensor) -> Tensor:
    """Weighted squared distance of the points from their centroids, summed over the clusters.

    Args:
        moments: (K, F), see `moments_of`.

    Returns:
        () float64.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.clustering import distortion, moments_of
        >>> distortion(moments_of(torch.tensor([[0.0], [3.0]]), torch.ones(1, 1), None))
        tensor(5., dtype=torch.float64)
    """
    return kernels.unpack_moments(moments).distortions.sum()


def lloyd(
    points: Tensor, centroids: Tensor, weights: Tensor | None, steps: int, pinned: int = 0
) -> Tensor:
    """Take a fixed number of steps of Lloyd's algorithm; a centroid without points stays.

    Args:
        points: (N, C).
        centroids: (K, C).
        weights: (N,), at least 0; all 1 if None.
        steps: at least 0.
        pinned: how many centroids, the first, stay where they are.

    Returns:
        (K, C) centroids.

    References:
        Lloyd 1982, "Least squares quantization in PCM".

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.clustering import lloyd
        >>> points = torch.tensor([[0.0], [1.0], [9.0]])
        >>> lloyd(points, torch.tensor([[0.0], [8.0]]), None, steps=2)
        tensor([[0.5000],
                [9.0000]])
    """
    counts = centroids.new_zeros(centroids.shape[0])
    for _ in range(steps):
        moved, _ = update(centroids, counts, moments_of(points, centroids, weights), 0.0)
        centroids = torch.cat([centroids[:pinned], moved[pinned:]]) if pinned else moved
    return centroids


class KMeans(NamedTuple):
    """What `kmeans` returns.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.clustering import kmeans
        >>> kmeans(torch.tensor([[0.0], [4.0]]), 2).indices.sort().values
        tensor([0, 1])
    """

    centroids: Tensor
    """(K, C)."""
    indices: Tensor
    """(N,) int64, the nearest of these centroids for each point."""
    objective: Tensor
    """(iterations + 1,) float64, the within-cluster sum of squares before each update, and last."""
    converged: bool
    """Whether no centroid moved further than ``tol`` in the last update."""


def kmeans(
    points: Tensor,
    num_clusters: int,
    weights: Tensor | None = None,
    seeding: Seeding | Tensor = kmeans_plus_plus,
    max_iters: int = 300,
    tol: float = 1e-4,
    generator: torch.Generator | None = None,
) -> KMeans:
    """Cluster points by the classic algorithm: initialise, assign, update to the means, repeat.

    It stops when no centroid moves further than ``tol`` (Euclidean distance, in the points' own
    units), or after ``max_iters`` updates. The objective never increases, up to rounding.

    Args:
        points: (N, C) float.
        num_clusters: K, from 1 to N.
        weights: (N,), at least 0; all 1 without it.
        seeding: a function of `colorquant_nn.functional.seeding`, or the (K, C) centroids
            to start from.
        max_iters: the most updates.
        tol: at least 0.
        generator: for ``seeding``; without it, a fresh one of seed 0. The global one is not used.

    Returns:
        Centroids, indices, objective and whether it converged, see `KMeans`.

    Raises:
        ValueError: for points or weights of another shape or range, or K out of range.

    References:
        Lloyd 1982, "Least squares quantization in PCM".

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.clustering import kmeans
        >>> points = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
        >>> result = kmeans(points, 2)
        >>> result.centroids.sort(dim=0).values.flatten().tolist(), result.converged
        ([0.5, 10.5], True)
        >>> result.objective[-1].item()
        1.0
    """
    if points.dim() != 2 or not points.is_floating_point():
        raise ValueError(
            f"points must be a float tensor (N, C), got {points.dtype} {tuple(points.shape)}"
        )
    if not 1 <= num_clusters <= points.shape[0]:
        raise ValueError(
            f"num_clusters must be from 1 to the number of points, {points.shape[0]}, "
            f"got {num_clusters}"
        )
    if weights is not None and weights.shape != points.shape[:1]:
        raise ValueError(f"weights must be (N,) = ({points.shape[0]},), got {tuple(weights.shape)}")
    points = points.detach()
    if not bool(points.isfinite().all()):
        raise ValueError("points must be finite; leave out those that are not")
    if weights is not None and not bool((weights >= 0).all()):
        raise ValueError(f"weights must be at least 0, got {weights.min().item():g}")
    if isinstance(seeding, Tensor):
        if seeding.shape != (num_clusters, points.shape[1]):
            raise ValueError(
                f"the start must be (K, C) = {(num_clusters, points.shape[1])}, "
                f"got {tuple(seeding.shape)}"
            )
        centroids = seeding.detach().to(points)
    else:
        centroids = seeding(points, num_clusters, weights, generator)
    counts = centroids.new_zeros(num_clusters)
    moments = moments_of(points, centroids, weights)
    objective, converged = [distortion(moments)], False
    for _ in range(max_iters):
        moved, counts = update(centroids, counts, moments, 0.0)
        moments = moments_of(points, moved, weights)
        converged = bool((moved - centroids).norm(dim=1).max() <= tol)
        centroids = moved
        objective.append(distortion(moments))
        if converged:
            break
    indices = kernels.assign(points[None], centroids[None])[0]
    return KMeans(centroids, indices, torch.stack(objective), converged)


def moments_of(points: Tensor, centroids: Tensor, weights: Tensor | None) -> Tensor:
    """Sum up points about their nearest centroids.

    Args:
        points: (N, C).
        centroids: (K, C).
        weights: (N,), at least 0; all 1 if None.

    Returns:
        (K, F), which `colorquant_nn.kernels.unpack_moments` reads.

    Examples:
        >>> import torch
        >>> from colorquant_nn import kernels
        >>> from colorquant_nn.functional.clustering import moments_of
        >>> moments = moments_of(torch.tensor([[0.0], [3.0]]), torch.ones(1, 1), None)
        >>> kernels.unpack_moments(moments).counts
        tensor([2.], dtype=torch.float64)
    """
    weights = None if weights is None else weights[None]
    return kernels.cluster(points[None], centroids[None], weights=weights).moments[0]


def kmeans_per_image(
    points: Tensor,
    num_clusters: int,
    num_iters: int,
    uniforms: Tensor,
    weights: Tensor | None,
    clamp: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The plain form of `colorquant_nn.kernels.kmeans_per_image`.

    Args:
        points: (B, N, C); those that are not finite do not count.
        num_clusters: K.
        num_iters: steps of Lloyd's algorithm, at least 0.
        uniforms: (K, L) numbers in [0, 1), for the seeds.
        weights: (B, N), at least 0; all 1 if None.
        clamp: whether points are limited to [0, 1].

    Returns:
        Centroids (B, K, C), indices (B, N) and counts (B, K).

    References:
        Lloyd 1982, "Least squares quantization in PCM".

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.clustering import kmeans_per_image
        >>> points, uniforms = torch.tensor([[[0.0], [1.0]]]), torch.rand(2, 1)
        >>> kmeans_per_image(points, 2, 1, uniforms, None, True)[0].sort(dim=1).values.flatten()
        tensor([0., 1.])
    """
    images, num_points, channels = points.shape
    counts = points.new_zeros((images, num_clusters), dtype=torch.float32)
    centroids = counts[..., None].repeat(1, 1, channels)
    if num_points == 0:
        return centroids, points.new_zeros((images, 0), dtype=torch.int64), counts
    votes = kernels.finite(points).to(torch.float32)
    weights = votes if weights is None else votes * weights
    points = kernels.sanitize(points, clamp).to(torch.float32)
    centroids = seed(points, weights, centroids, 0, uniforms)
    for _ in range(num_iters):
        indices, moments, _ = kernels.cluster(points, centroids, weights=weights)
        centroids, counts = update(centroids, counts, moments, 0.0)
    return centroids, indices, counts
