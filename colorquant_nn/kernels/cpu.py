"""`assign` and `cluster` on the CPU: memory and choices here, loops in `_tiles` and `_grid`.

Letters as in the package: B images, N points, K centroids, C channels, G palettes (B or 1).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from colorquant_nn.kernels import reference
from colorquant_nn.kernels._grid import (
    CHUNK,
    COARSE,
    COORDINATE_ALLOWANCE,
    EVERYTHING,
    build,
)
from colorquant_nn.kernels._simd import GROUP, GROUP_FLOATS
from colorquant_nn.kernels._threads import run
from colorquant_nn.kernels._tiles import TILE, cluster_blocks

# How points are cut into blocks decides how sums are rounded, so it looks at the shape only.
MIN_BLOCK = 16 * TILE
MAX_BLOCKS = 256
POINTS_PER_CLUSTER = 32  # in a block, or clearing and adding up its moments would show

FLOATS = np.empty(0, np.float32)
NO_GRID = (FLOATS, FLOATS, np.empty(0, np.int32), FLOATS)
# Nanoseconds of one thread: for a point, for each centroid besides, to build, for each centroid.
# Measured on uniform colours and on photographs, of which these are about the mean.
BRUTE_COSTS = (1.0, 0.085)
GRID_COSTS = (
    (2, 5.5, 0.016, 0.3e6, 1.5e3),
    (3, 5.5, 0.006, 1.2e6, 2.5e3),
    (4, 7.0, 0.002, 10e6, 6e3),
)
SAMPLE = 1 << 12  # points, about, whose bounds are those of the grid
GROUPS_PER_CELL = 2.0  # room for candidates, on average
GROUPS_PER_CENTROID = 16
MOST_CLUSTERS = 1 << 18  # or the number of a group might not fit into its cell


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
    indices, moments, values = reference.allocate(points, centroids, palette)
    if points.dtype == torch.float32 or palette is None or not points.is_floating_point():
        _run(points, centroids, palette, weights, clamp, indices, moments, values)
    else:
        exact = torch.empty_like(values, dtype=torch.float32)
        rounded = palette.to(values.dtype)
        _run(points, centroids, rounded, weights, clamp, indices, moments, exact)
        values.copy_(exact)
    return indices, moments, values


def _supported(points: Tensor, centroids: Tensor) -> bool:
    return points.dtype != torch.float64 and points.shape[-1] in (3, 4) and centroids.numel() > 0


def _run(
    points: Tensor,
    centroids: Tensor,
    palette: Tensor | None,
    weights: Tensor | None,
    clamp: bool,
    indices: Tensor,
    moments: Tensor | None,
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
        if moments is not None:
            moments.zero_()
        return
    partial = np.empty((0, 0, 0))
    if moments is not None:
        columns = moments.shape[-1]
        if num_blocks == 1:
            partial = moments.numpy()
        else:
            partial = np.empty((groups * num_blocks, num_clusters, columns))
    rows = _rows(centroids)
    grid = None
    if groups == 1 and channels == 3:
        levels = choose_levels(images * num_points, num_clusters)
        grid = None if levels is None else build_grid(points, rows, clamp, levels)
    run(
        cluster_blocks,
        groups * num_blocks,
        images * num_points * (5 + 0.1 * num_clusters),
        flat(points),
        points.stride(),
        tuple(c * points.stride(2) for c in range(channels)),
        num_points,
        group_size,
        block_size,
        np.float32(255) if points.dtype == torch.uint8 else None,
        clamp,
        rows,
        *(grid or NO_GRID),
        FLOATS if weights is None else flat(weights.to(torch.float32)),
        (0, 0) if weights is None else weights.stride(),
        np.empty((0, 0, 0), np.float32) if palette is None else _rows(palette),
        indices.view(-1).numpy(),
        partial,
        FLOATS if palette is None or values is None else flat(values),
        (0, 0, 0) if palette is None or values is None else values.stride(),
    )
    if moments is not None and num_blocks > 1:
        shape = (groups, num_blocks, num_clusters * partial.shape[-1])
        np.sum(partial.reshape(shape), axis=1, out=moments.view(groups, -1).numpy())


def choose_levels(num_points: int, num_clusters: int) -> int | None:
    """How fine a grid pays, or None where brute force is faster; by times that were measured."""
    best, least = None, num_points * (BRUTE_COSTS[0] + BRUTE_COSTS[1] * num_clusters)
    if num_clusters > MOST_CLUSTERS:
        return None
    for levels, point, point_and_centroid, cells, centroid in GRID_COSTS:
        cost = num_points * (point + point_and_centroid * num_clusters)
        cost += cells + centroid * num_clusters
        if cost < least:
            best, least = levels, cost
    return best


def build_grid(points: Tensor, centroids: Any, clamp: bool, levels: int) -> tuple[Any, ...] | None:
    """Origin, cells per unit, cells and lists of a `_grid`; None without finite bounds."""
    if clamp or points.dtype == torch.uint8:
        low, high = np.zeros(3), np.ones(3)
    else:
        sample = points[:, :: 1 + points.shape[0] * points.shape[1] // SAMPLE].detach()
        rows = sample.permute(2, 0, 1).reshape(3, -1).contiguous().numpy()
        if not np.abs(rows).max() < 1e15:  # or a NaN
            rows = rows[:, (np.abs(rows) < 1e15).all(0)]
            if rows.size == 0:
                return None
        low, high = rows.min(1).astype(np.float64), rows.max(1).astype(np.float64)
    if not np.abs(centroids).max() < 1e15:
        return None
    num_clusters = centroids.shape[-1]
    side = COARSE << levels
    extent = np.maximum(high - low, 1e-30)
    moved = (centroids[0] - low[:, None]).astype(np.float32)
    largest = max(np.abs(moved).max(), extent.max())
    cells = np.empty(side**3 + 1, np.int32)
    cells[-1] = EVERYTHING  # for points outside of the box
    all_groups = -(-num_clusters // GROUP)
    groups = all_groups + CHUNK * torch.get_num_threads() + int(GROUPS_PER_CELL * cells.size)
    groups += GROUPS_PER_CENTROID * num_clusters
    lists = np.empty(groups * GROUP_FLOATS, np.float32)
    everything = np.minimum(np.arange(all_groups * GROUP), num_clusters - 1)
    first = np.concatenate([centroids[0][:, everything], everything[None]]).astype(np.float32)
    first = first.reshape(4, all_groups, GROUP).transpose(1, 0, 2)
    lists[: first.size] = first.ravel()
    run(
        build, COARSE**3, 50 * cells.size + 1000 * num_clusters,
        centroids[0], moved, extent, np.float32(COORDINATE_ALLOWANCE * largest**2 + 1e-37),
        levels, np.array([all_groups]), cells, lists,
    )  # fmt: skip
    return low.astype(np.float32), (side / extent).astype(np.float32), cells, lists


def flat(tensor: Tensor) -> Any:
    """The memory that a tensor spans, in place, as one row: strides then are plain offsets."""
    extent = sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return tensor.detach().as_strided((extent + 1,), (1,)).numpy()


def _rows(colors: Tensor) -> Any:
    """(G, K, C) to a float32 array (G, C, K)."""
    return colors.detach().to(torch.float32).transpose(1, 2).contiguous().numpy()
