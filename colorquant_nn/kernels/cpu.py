"""The hot operation on the CPU: checks and memory here, loops in compiled kernels beside it.

Letters as in the package: B images, N points, K centroids, C channels, G palettes (B or 1).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from colorquant_nn.kernels import reference
from colorquant_nn.kernels._threads import run
from colorquant_nn.kernels._tiles import TILE, cluster_blocks

# How points are cut into blocks decides how sums are rounded, so it looks at the shape only.
MIN_BLOCK = 16 * TILE
MAX_BLOCKS = 256
POINTS_PER_CLUSTER = 32  # in a block, or clearing and adding up its statistics would show

FLOATS = np.empty(0, np.float32)


def assign(points: Tensor, centroids: Tensor, clamp: bool) -> Tensor:
    """See `colorquant_nn.kernels.assign`."""
    if not _supported(points, centroids):
        return reference.assign(points, centroids, clamp)
    indices = points.new_empty(points.shape[:2], dtype=torch.int64)
    _run(points, centroids, None, None, clamp, indices, None, None)
    return indices


def cluster(
    points: Tensor,
    centroids: Tensor,
    palette: Tensor | None,
    weights: Tensor | None,
    clamp: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `colorquant_nn.kernels.cluster`."""
    if not _supported(points, centroids):
        return reference.cluster(points, centroids, palette, weights, clamp)
    indices, statistics, values = reference.allocate(points, centroids, palette)
    if points.dtype == torch.float32 or palette is None or not points.is_floating_point():
        _run(points, centroids, palette, weights, clamp, indices, statistics, values)
    else:
        exact = torch.empty_like(values, dtype=torch.float32)
        rounded = palette.to(values.dtype)
        _run(points, centroids, rounded, weights, clamp, indices, statistics, exact)
        values.copy_(exact)
    return indices, statistics, values


def _supported(points: Tensor, centroids: Tensor) -> bool:
    return points.dtype != torch.float64 and points.shape[-1] in (3, 4) and centroids.numel() > 0


def _run(
    points: Tensor,
    centroids: Tensor,
    palette: Tensor | None,
    weights: Tensor | None,
    clamp: bool,
    indices: Tensor,
    statistics: Tensor | None,
    values: Tensor | None,
) -> None:
    """Fill the outputs that are given."""
    images, num_points, channels = points.shape
    groups, num_clusters, _ = centroids.shape
    if points.dtype != torch.uint8:
        points = points.to(torch.float32)
    group_size = images * num_points // groups
    block_size = max(MIN_BLOCK, POINTS_PER_CLUSTER * num_clusters, group_size // MAX_BLOCKS)
    block_size = -(-block_size // TILE) * TILE
    num_blocks = -(-group_size // block_size)
    if group_size == 0:
        if statistics is not None:
            statistics.zero_()
        return
    partial = np.empty((0, 0, 0))
    if statistics is not None:
        columns = statistics.shape[-1]
        if num_blocks == 1:
            partial = statistics.numpy()
        else:
            partial = np.empty((groups * num_blocks, num_clusters, columns))
    run(
        cluster_blocks,
        groups * num_blocks,
        images * num_points * (5 + 0.15 * num_clusters),
        flat(points),
        points.stride(),
        tuple(c * points.stride(2) for c in range(channels)),
        num_points,
        group_size,
        block_size,
        np.float32(255 if points.dtype == torch.uint8 else 1),
        clamp,
        _rows(centroids),
        FLOATS if weights is None else flat(weights.to(torch.float32)),
        (0, 0) if weights is None else weights.stride(),
        np.empty((0, 0, 0), np.float32) if palette is None else _rows(palette),
        indices.view(-1).numpy(),
        partial,
        FLOATS if palette is None or values is None else flat(values),
        (0, 0, 0) if palette is None or values is None else values.stride(),
    )
    if statistics is not None and num_blocks > 1:
        shape = (groups, num_blocks, num_clusters * partial.shape[-1])
        np.sum(partial.reshape(shape), axis=1, out=statistics.view(groups, -1).numpy())


def flat(tensor: Tensor) -> Any:
    """The memory that a tensor spans, in place, as one row: strides then are plain offsets."""
    extent = sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return tensor.detach().as_strided((extent + 1,), (1,)).numpy()


def _rows(colors: Tensor) -> Any:
    """(G, K, C) to a float32 array (G, C, K)."""
    return colors.detach().to(torch.float32).transpose(1, 2).contiguous().numpy()
