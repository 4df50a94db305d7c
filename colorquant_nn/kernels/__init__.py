"""The one hot operation: every point to its nearest centroid, with what k-means learns from it.

And what goes with it: k-means of many small images, the colours of indices, and the histogram of
colours. Custom ops, one node each under ``torch.compile``, with an implementation per device:
``cpu`` (numba), ``cuda`` (Triton) and ``reference`` (plain torch: any device and dtype, the
oracle of the tests). Memory is O(points + clusters); an N x K matrix never exists.

Letters: B images, N points, K centroids, C channels; G is B (each image has centroids of its
own) or 1 (all share them).

Points are float16, bfloat16, float32, float64 or uint8 (which stands for ``value / 255``), with
any strides: an image batch is read in place through ``x.flatten(2).transpose(1, 2)``. Distances
are float32 differences (float64 for float64 points), ties go to the lowest index. With ``clamp``
the points are limited to [0, 1] first, NaN to 0. A point with a non-finite channel is assigned,
by its value after ``clamp`` (without: with NaN as 0), but never votes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from colorquant_nn.kernels import reference, traced
from colorquant_nn.kernels.define import define

__all__ = [
    "Clustered",
    "FittedImages",
    "Moments",
    "assign",
    "cluster",
    "histogram",
    "kmeans_per_image",
    "lookup",
    "unpack_moments",
]


class Clustered(NamedTuple):
    """What `cluster` returns."""

    indices: Tensor
    """(B, N) int64, the nearest centroid of each point."""
    moments: Tensor
    """(G, K, 1 + C + C (C + 1) / 2) float64, one row a cluster: see `unpack_moments`."""
    values: Tensor
    """(B, N, D) rows of ``palette`` in the points' dtype (float32 for uint8); (0,) without one."""


class Moments(NamedTuple):
    """Moments of the points of each cluster about its centroid, in float64."""

    counts: Tensor
    """(G, K) the weight of the points, ``sum w``."""
    offsets: Tensor
    """(G, K, C) ``sum w (x - c)``."""
    upper: Tensor
    """(G, K, C (C + 1) / 2) the upper triangle of ``scatter``, row by row."""

    @property
    def scatter(self) -> Tensor:
        """(G, K, C, C) ``sum w (x - c) (x - c)^T``."""
        channels = self.offsets.shape[-1]
        rows, columns = torch.triu_indices(channels, channels, device=self.upper.device)
        scatter = self.upper.new_zeros(*self.upper.shape[:-1], channels, channels)
        scatter[..., rows, columns] = self.upper
        scatter[..., columns, rows] = self.upper
        return scatter

    @property
    def distortions(self) -> Tensor:
        """(G, K) ``sum w |x - c|^2``, the trace of ``scatter``."""
        column, total = 0, self.upper[..., 0]
        for length in range(self.offsets.shape[-1], 1, -1):
            column += length
            total = total + self.upper[..., column]
        return total


class FittedImages(NamedTuple):
    """What `kmeans_per_image` returns."""

    centroids: Tensor
    """(B, K, C) float32."""
    indices: Tensor
    """(B, N) int64, the assignment that the centroids are the means of."""
    counts: Tensor
    """(B, K) float32, how many points each centroid is the mean of."""


def assign(points: Tensor, centroids: Tensor, clamp: bool = False) -> Tensor:
    """Index of the nearest centroid of each point.

    Args:
        points: (B, N, C).
        centroids: (G, K, C).
        clamp: limit the points to [0, 1].

    Returns:
        (B, N) int64.
    """
    if traced.exporting():
        return traced.assign(points, centroids, clamp)
    return torch.ops.colorquant_nn.assign(points, centroids, clamp)


def cluster(
    points: Tensor,
    centroids: Tensor,
    palette: Tensor | None = None,
    weights: Tensor | None = None,
    clamp: bool = False,
) -> Clustered:
    """`assign`, the moments of each cluster and the quantized points, in one pass.

    Args:
        points: (B, N, C).
        centroids: (G, K, C).
        palette: (G, K, D), the rows written out as ``values``; none are written without it.
        weights: (B, N) float32, at least 0; all 1 without it.
        clamp: limit the points to [0, 1].

    Raises:
        ValueError: for weights or a palette of another shape.
    """
    if weights is not None and weights.shape != points.shape[:2]:
        raise ValueError(f"expected weights {tuple(points.shape[:2])}, got {tuple(weights.shape)}")
    if palette is not None and palette.shape[:2] != centroids.shape[:2]:
        raise ValueError(
            f"expected a palette {(*centroids.shape[:2], 'D')}, got {tuple(palette.shape)}"
        )
    return Clustered(*torch.ops.colorquant_nn.cluster(points, centroids, palette, weights, clamp))


def kmeans_per_image(
    points: Tensor,
    num_clusters: int,
    num_iters: int,
    uniforms: Tensor,
    votes: Tensor | None = None,
    clamp: bool = False,
) -> FittedImages:
    """Fit centroids of its own to each image: k-means++, then Lloyd steps.

    The first centroid is a point drawn at random; each further one is, of several points drawn by
    their squared distance to the centroids so far, the one that lowers the sum of these distances
    most (Arthur and Vassilvitskii 2007). The last step moves the centroids: each with a count
    above 0 is the mean of the points that the returned indices give it. The rows beyond an image's
    distinct colours repeat its first centroid, with count 0; an image without a voter has zeros.

    Args:
        points: (B, N, C).
        num_clusters: K.
        num_iters: Lloyd steps, at least 1.
        uniforms: (K, candidates) float32 in [0, 1), the random numbers, the same for every image.
        votes: (B, N) bool, which finite points are learnt from; all without it.
        clamp: limit the points to [0, 1].

    Raises:
        ValueError: for fewer than one step, or random numbers of another shape.
    """
    if uniforms.dim() != 2 or uniforms.shape[0] != num_clusters or uniforms.shape[1] < 1:
        raise ValueError(
            f"expected uniforms ({num_clusters}, candidates), got {tuple(uniforms.shape)}"
        )
    if num_iters < 1:
        raise ValueError(f"expected num_iters of at least 1, got {num_iters}")
    return FittedImages(
        *torch.ops.colorquant_nn.kmeans_per_image(
            points, num_clusters, num_iters, uniforms, votes, clamp
        )
    )


def lookup(palette: Tensor, indices: Tensor) -> Tensor:
    """Look up the colours of each image's indices.

    Args:
        palette: (B, K, D).
        indices: (B, N) int64, from 0 to K - 1, which is not checked.

    Returns:
        (B, N, D), channel by channel in memory, as images are.

    Raises:
        ValueError: for different numbers of images.
    """
    if palette.shape[0] != indices.shape[0]:
        raise ValueError(
            f"expected a palette for each of {indices.shape[0]} images, got {palette.shape[0]}"
        )
    return torch.ops.colorquant_nn.lookup(palette, indices)


def histogram(points: Tensor, bits: int, weights: Tensor | None = None) -> Tensor:
    """Count the points in each cell of a grid over the colour cube, and sum them up.

    The points are limited to [0, 1]. On the CPU the sums are made of integers, so that neither
    the order of the points nor the number of threads changes them.

    Args:
        points: (B, N, 3).
        bits: the grid has ``2**bits`` cells a side.
        weights: (B, N) float32, at least 0; all 1 without it.

    Returns:
        (2**bits ** 3, 4) float64: the weight in the cell, the sums of red, green and blue. Blue
        varies fastest over the cells.
    """
    return torch.ops.colorquant_nn.histogram(points, bits, weights)


def unpack_moments(moments: Tensor) -> Moments:
    """Name the columns of `Clustered.moments`: count, C offsets, upper triangle of scatter."""
    channels = {3: 1, 6: 2, 10: 3, 15: 4}.get(moments.shape[-1])
    if channels is None:
        channels = round(((9 + 8 * (moments.shape[-1] - 1)) ** 0.5 - 3) / 2)
    first = 1 + channels
    return Moments(moments[..., 0], moments[..., 1:first], moments[..., first:])


def _assign_fake(points: Tensor, centroids: Tensor, clamp: bool) -> Tensor:
    return points.new_empty(points.shape[:2], dtype=torch.int64)


def _assign_cpu(points: Tensor, centroids: Tensor, clamp: bool) -> Tensor:
    from colorquant_nn.kernels import cpu  # here, because it imports numba

    return cpu.assign(points, centroids, clamp)


def _assign_cuda(points: Tensor, centroids: Tensor, clamp: bool) -> Tensor:
    try:
        from colorquant_nn.kernels import cuda
    except ImportError:  # a build of PyTorch without Triton
        return reference.assign(points, centroids, clamp)
    return cuda.assign(points, centroids, clamp)


def _cluster_fake(
    points: Tensor,
    centroids: Tensor,
    palette: Tensor | None,
    weights: Tensor | None,
    clamp: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return reference.allocate(points, centroids, palette)


def _cluster_cpu(
    points: Tensor,
    centroids: Tensor,
    palette: Tensor | None,
    weights: Tensor | None,
    clamp: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    from colorquant_nn.kernels import cpu

    return cpu.cluster(points, centroids, palette, weights, clamp)


def _cluster_cuda(
    points: Tensor,
    centroids: Tensor,
    palette: Tensor | None,
    weights: Tensor | None,
    clamp: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    try:
        from colorquant_nn.kernels import cuda
    except ImportError:
        return reference.cluster(points, centroids, palette, weights, clamp)
    return cuda.cluster(points, centroids, palette, weights, clamp)


define(
    "assign(Tensor points, Tensor centroids, bool clamp) -> Tensor",
    reference.assign,
    _assign_fake,
    CPU=_assign_cpu,
    CUDA=_assign_cuda,
)
define(
    "cluster(Tensor points, Tensor centroids, Tensor? palette, Tensor? weights, bool clamp)"
    " -> (Tensor, Tensor, Tensor)",
    reference.cluster,
    _cluster_fake,
    CPU=_cluster_cpu,
    CUDA=_cluster_cuda,
)


def _kmeans_per_image_fake(
    points: Tensor,
    num_clusters: int,
    num_iters: int,
    uniforms: Tensor,
    votes: Tensor | None,
    clamp: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return reference.allocate_kmeans(points, num_clusters)


def _kmeans_per_image_cpu(
    points: Tensor,
    num_clusters: int,
    num_iters: int,
    uniforms: Tensor,
    votes: Tensor | None,
    clamp: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    from colorquant_nn.kernels import cpu_kmeans

    return cpu_kmeans.kmeans_per_image(points, num_clusters, num_iters, uniforms, votes, clamp)


def _lookup_fake(palette: Tensor, indices: Tensor) -> Tensor:
    images, num_points = indices.shape
    return palette.new_empty((images, palette.shape[2], num_points)).transpose(1, 2)


def _lookup_cpu(palette: Tensor, indices: Tensor) -> Tensor:
    from colorquant_nn.kernels import cpu_lookup

    return cpu_lookup.lookup(palette, indices)


def _histogram_fake(points: Tensor, bits: int, weights: Tensor | None) -> Tensor:
    return points.new_empty(((1 << bits) ** 3, 4), dtype=torch.float64)


def _histogram_cpu(points: Tensor, bits: int, weights: Tensor | None) -> Tensor:
    from colorquant_nn.kernels import cpu_histogram

    return cpu_histogram.histogram(points, bits, weights)


define(
    "kmeans_per_image(Tensor points, SymInt num_clusters, int num_iters, Tensor uniforms, "
    "Tensor? votes, bool clamp) -> (Tensor, Tensor, Tensor)",
    reference.kmeans_per_image,
    _kmeans_per_image_fake,
    CPU=_kmeans_per_image_cpu,
)
define(
    "histogram(Tensor points, int bits, Tensor? weights) -> Tensor",
    reference.histogram,
    _histogram_fake,
    CPU=_histogram_cpu,
)
define(
    "lookup(Tensor palette, Tensor indices) -> Tensor",
    reference.lookup,
    _lookup_fake,
    CPU=_lookup_cpu,
)
