"""`assign`, `cluster` and `lookup` on the CPU.

Letters as in the package: B images, N points, K centroids, C channels, G palettes (B or 1); D is
the width of a palette. Groups share nothing: the points of a group are those of its images in
order, cut into blocks, which are the tasks of the threads. A block has moments of its own, whose
sum in order of the blocks does not depend on the threads.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn.kernels import reference
from colorquant_nn.kernels.cpu.grid import build_grid, choose_levels, nearest_of_cell
from colorquant_nn.kernels.cpu.runtime import kernel, lesser, next_task, run, subroutine
from colorquant_nn.kernels.cpu.tiles import (
    FLOATS,
    TILE,
    flat,
    load_tile,
    nearest,
    points_of,
    rows_of,
)

# How points are cut into blocks decides how sums are rounded, so it looks at the shape only.
MIN_BLOCK = 16 * TILE
MAX_BLOCKS = 256
POINTS_PER_CLUSTER = 32  # in a block, or clearing and adding up its moments would show
LOOKUP_BLOCK = 1 << 13  # points of a task of `lookup`


def assign(points: Tensor, centroids: Tensor, clamp: bool) -> Tensor:
    """See `colorquant_nn.kernels.assign`."""
    if not _supported(points, centroids):
        return NotImplemented
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
        return NotImplemented
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
        if num_blocks == 1:
            partial = moments.numpy()
        else:
            partial = np.empty((groups * num_blocks, num_clusters, moments.shape[-1]))
    rows = rows_of(centroids)
    grid = None
    if groups == 1 and channels == 3:
        levels = choose_levels(images * num_points, num_clusters)
        grid = None if levels is None else build_grid(points, rows, clamp, levels)
    if palette is None or values is None:
        found = Found(indices.view(-1).numpy(), partial, FLOATS, (0, 0, 0))
    else:
        found = Found(indices.view(-1).numpy(), partial, flat(values), values.stride())
    run(
        _cluster_blocks,
        groups * num_blocks,
        images * num_points * (5 + 0.1 * num_clusters),
        points_of(points, weights, clamp),
        (group_size, block_size),
        rows,
        grid,
        np.empty((0, 0, 0), np.float32) if palette is None else rows_of(palette),
        found,
    )
    if moments is not None and num_blocks > 1:
        shape = (groups, num_blocks, num_clusters * partial.shape[-1])
        np.sum(partial.reshape(shape), axis=1, out=moments.view(groups, -1).numpy())


def lookup(palette: Tensor, indices: Tensor) -> Tensor:
    """See `colorquant_nn.kernels.lookup`."""
    if palette.dtype != torch.float32 or indices.dtype != torch.int64 or 0 in palette.shape:
        return NotImplemented
    if indices.numel() == 0:
        return NotImplemented
    images, num_points = indices.shape
    values = palette.new_empty(images, palette.shape[2], num_points)
    num_tasks = images * -(-num_points // LOOKUP_BLOCK)
    planes = palette.detach().transpose(1, 2).contiguous().numpy()
    run(
        _look_up_blocks, num_tasks, 1.5 * indices.numel(),
        planes, indices.stride(), flat(indices), values.numpy(),
    )  # fmt: skip
    return values.transpose(1, 2)


class Found(NamedTuple):
    """What `_cluster_blocks` fills in; empty arrays are left out."""

    indices: NDArray[np.int64]
    """(B N,)."""
    moments: NDArray[np.float64]
    """(G blocks, K, columns)."""
    values: NDArray[Any]
    """The memory of (B, N, D)."""
    value_strides: tuple[int, ...]


@kernel()
def _cluster_blocks(counter, num_tasks, points, group_and_block, centroids, grid, palette, found):
    """Take blocks of points until none are left.

    Args:
        counter: see `next_task`.
        num_tasks: the number of blocks.
        points: see `Points`.
        group_and_block: how many points a group has, and at most a block.
        centroids: (G, C, K).
        grid: of a single group, or None: few centroids do without, and without compiling it.
        palette: (G, D, K), or nothing.
        found: see `Found`.
    """
    group_size, block_size = group_and_block
    indices, moments = found.indices, found.moments
    summed, painted = moments.size > 0, palette.size > 0
    blocks_per_group = (group_size + block_size - 1) // block_size
    tile = np.empty((len(points.channels), TILE), np.float32)
    weight = np.empty(TILE, np.float32)
    best = np.empty(TILE, np.float32)
    index = np.empty(TILE, np.int32)
    open_points = np.empty(TILE + 1, np.int32)
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        group = task // blocks_per_group
        start = (task - group * blocks_per_group) * block_size
        stop = lesser(start + block_size, group_size)
        if summed:
            moments[task] = 0.0
        for begin in range(group * group_size + start, group * group_size + stop, TILE):
            count = lesser(TILE, group * group_size + stop - begin)
            unequal = load_tile(points, begin, count, tile, weight)
            if grid is not None:
                nearest_of_cell(tile, centroids.shape[2], grid, open_points, index)
            else:
                nearest(tile, centroids[group], points.channels, best, index)
            row = indices[begin : begin + count]
            for i in range(count):
                row[i] = index[i]
            if summed:
                _add_moments(
                    tile, count, centroids[group], points.channels, index, weight, unequal,
                    moments[task],
                )  # fmt: skip
            if painted:
                _store_values(palette[group], index, points.num_points, begin, count, found)


@subroutine()
def _add_moments(tile, count, centroids, channels, index, weight, unequal, moments):
    """Add the moments of the tile's points about their centroids to (K, columns)."""
    for i in range(count):
        k = np.uint32(index[i])
        vote = np.float64(weight[i]) if unequal else 1.0
        if vote > 0:
            x = np.float64(tile[0, i] - centroids[0, k])
            y = np.float64(tile[1, i] - centroids[1, k])
            z = np.float64(tile[2, i] - centroids[2, k])
            row = moments[k]
            row[0] += vote
            row[1] += vote * x
            row[2] += vote * y
            row[3] += vote * z
            if len(channels) == 3:
                row[4] += vote * x * x
                row[5] += vote * x * y
                row[6] += vote * x * z
                row[7] += vote * y * y
                row[8] += vote * y * z
                row[9] += vote * z * z
            else:
                a = np.float64(tile[-1, i] - centroids[-1, k])
                row[4] += vote * a
                row[5] += vote * x * x
                row[6] += vote * x * y
                row[7] += vote * x * z
                row[8] += vote * x * a
                row[9] += vote * y * y
                row[10] += vote * y * z
                row[11] += vote * y * a
                row[12] += vote * z * z
                row[13] += vote * z * a
                row[14] += vote * a * a


@subroutine()
def _store_values(palette, index, num_points, start, count, found):
    """Write the palette rows of the tile to points ``start`` onwards, counted over all images."""
    values, strides = found.values, found.value_strides
    image = start // num_points
    first = start - image * num_points
    if count == TILE and first + TILE <= num_points:
        step = np.uint64(strides[1])
        for d in range(palette.shape[0]):
            row = palette[d]
            offset = np.uint64(image * strides[0] + first * strides[1] + d * strides[2])
            if strides[1] == 1:
                for i in range(TILE):
                    values[offset + np.uint64(i)] = row[np.uint32(index[i])]
            else:
                for i in range(TILE):
                    values[offset + np.uint64(i) * step] = row[np.uint32(index[i])]
        return
    for i in range(count):
        offset = image * strides[0] + first * strides[1]
        for d in range(palette.shape[0]):
            values[offset + d * strides[2]] = palette[d, np.uint32(index[i])]
        first += 1
        if first == num_points:
            image, first = image + 1, 0


@kernel()
def _look_up_blocks(counter, num_tasks, planes, strides, indices, values):
    """Write (B, D, N) values from (B, D, K) planes and indices of any strides."""
    images, width, _ = values.shape
    blocks = num_tasks // images
    step, last = np.uint64(strides[1]), np.uint64(planes.shape[2] - 1)
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        image = task // blocks
        start = (task - image * blocks) * LOOKUP_BLOCK
        first = np.uint64(image * strides[0] + start * strides[1])
        for d in range(width):
            row = planes[image, d]
            target = values[image, d, start : start + LOOKUP_BLOCK]
            for i in range(target.size):
                target[i] = row[lesser(np.uint64(indices[first + np.uint64(i) * step]), last)]
