"""Compiled CPU kernel of `assign` and `cluster`: it runs over tiles of 512 points.

A tile is copied into scratch memory as one float32 row a channel, whatever the points' strides
and dtype; every later loop then runs over neighbours in memory and compiles to SIMD. All of it
stays in the first-level cache, so that the points are read and the results written once.

Letters as in the package. G groups share nothing: the points of a group are those of its images
in order, cut into blocks, which are the tasks of the threads. A block has moments of its own,
whose sum in order of the blocks does not depend on the threads.

numba compiles a version for each type of argument: float32 and uint8 points, and 3 and 4 channels
by way of ``channels``, a tuple whose length is part of its type.
"""

from typing import Any

import numpy as np

from colorquant_nn.kernels._compile import kernel, subroutine
from colorquant_nn.kernels._grid import EVERYTHING, LENGTHS
from colorquant_nn.kernels._simd import GROUP, GROUP_FLOATS, nearest_of_group
from colorquant_nn.kernels._threads import next_task

TILE = 512
LARGEST = np.float32(np.finfo(np.float32).max)
INFINITY = np.float32(np.inf)
ZERO = np.float32(0)
ONE = np.float32(1)


@subroutine()
def _copy_whole(source: Any, offset: Any, stride: Any, channels: Any, tile: Any) -> None:
    """Copy 512 neighbours. Loops of a fixed length, over unsigned offsets, become SIMD."""
    first, step = np.uint64(offset), np.uint64(stride)
    if stride == len(channels) and channels[len(channels) - 1] == len(channels) - 1:
        for i in range(TILE):
            for c in range(len(channels)):
                tile[c, i] = source[first + np.uint64(len(channels) * i + c)]
        return
    for c in range(len(channels)):
        row, begin = tile[c], first + np.uint64(channels[c])
        if stride == 1:
            for i in range(TILE):
                row[i] = source[begin + np.uint64(i)]
        else:
            for i in range(TILE):
                row[i] = source[begin + np.uint64(i) * step]


@subroutine()
def _clean(divisor: Any, clamp: Any, row: Any, weight: Any) -> Any:
    """Limit one channel, take the vote from points that were not finite; were there any?"""
    infected = False
    for i in range(TILE):
        infected |= not abs(row[i]) <= LARGEST
    if infected:
        for i in range(TILE):
            if not abs(row[i]) <= LARGEST:
                weight[i] = ZERO
            if row[i] != row[i]:
                row[i] = ZERO
    if divisor is not None:
        for i in range(TILE):
            row[i] /= divisor
    lower = ZERO if clamp else -LARGEST
    upper = ONE if clamp else LARGEST
    for i in range(TILE):
        value = row[i] if row[i] > lower else lower
        row[i] = value if value < upper else upper
    return infected


@subroutine()
def load_tile(
    points: Any,
    strides: Any,
    channels: Any,
    num_points: Any,
    start: Any,
    count: Any,
    divisor: Any,
    clamp: Any,
    weights: Any,
    weight_strides: Any,
    tile: Any,
    weight: Any,
) -> Any:
    """Fill a tile from point ``start``, counted over all images; are the votes unequal?

    A tile of fewer points is filled up with zeros, whose votes are 0.
    """
    image = start // num_points
    first = start - image * num_points
    for i in range(TILE):
        weight[i] = ONE
    if count == TILE and first + TILE <= num_points:
        offset = image * strides[0] + first * strides[1]
        _copy_whole(points, offset, strides[1], channels, tile)
        if weights.size > 0:
            begin = np.uint64(image * weight_strides[0] + first * weight_strides[1])
            step = np.uint64(weight_strides[1])
            for i in range(TILE):
                weight[i] = weights[begin + np.uint64(i) * step]
    else:
        for i in range(count):
            for c in range(len(channels)):
                tile[c, i] = points[image * strides[0] + first * strides[1] + channels[c]]
            if weights.size > 0:
                weight[i] = weights[image * weight_strides[0] + first * weight_strides[1]]
            first += 1
            if first == num_points:
                image, first = image + 1, 0
        for i in range(count, TILE):
            weight[i] = ZERO
            for c in range(len(channels)):
                tile[c, i] = ZERO
    unequal = weights.size > 0
    for c in range(len(channels)):
        unequal |= _clean(divisor, clamp, tile[c], weight)
    return unequal


@subroutine()
def nearest(tile: Any, centroids: Any, channels: Any, best: Any, index: Any) -> None:
    """Nearest of all centroids, four in one go over the tile to spare traffic to the scratch."""
    num_clusters = centroids.shape[1]
    for i in range(TILE):
        best[i] = INFINITY
        index[i] = 0
    x, y, z, a = tile[0], tile[1], tile[2], tile[-1]
    k = 0
    while k < num_clusters:
        # The last four may repeat the last centroid, which changes nothing: only less is nearer.
        k0, k1 = k, min(k + 1, num_clusters - 1)
        k2, k3 = min(k + 2, num_clusters - 1), min(k + 3, num_clusters - 1)
        x0, y0, z0, a0 = centroids[0, k0], centroids[1, k0], centroids[2, k0], centroids[-1, k0]
        x1, y1, z1, a1 = centroids[0, k1], centroids[1, k1], centroids[2, k1], centroids[-1, k1]
        x2, y2, z2, a2 = centroids[0, k2], centroids[1, k2], centroids[2, k2], centroids[-1, k2]
        x3, y3, z3, a3 = centroids[0, k3], centroids[1, k3], centroids[2, k3], centroids[-1, k3]
        i0, i1, i2, i3 = np.int32(k0), np.int32(k1), np.int32(k2), np.int32(k3)
        for i in range(TILE):
            xi, yi, zi = x[i], y[i], z[i]
            least, winner = best[i], index[i]
            d0 = (xi - x0) * (xi - x0) + (yi - y0) * (yi - y0) + (zi - z0) * (zi - z0)
            d1 = (xi - x1) * (xi - x1) + (yi - y1) * (yi - y1) + (zi - z1) * (zi - z1)
            d2 = (xi - x2) * (xi - x2) + (yi - y2) * (yi - y2) + (zi - z2) * (zi - z2)
            d3 = (xi - x3) * (xi - x3) + (yi - y3) * (yi - y3) + (zi - z3) * (zi - z3)
            if len(channels) == 4:
                ai = a[i]
                d0 += (ai - a0) * (ai - a0)
                d1 += (ai - a1) * (ai - a1)
                d2 += (ai - a2) * (ai - a2)
                d3 += (ai - a3) * (ai - a3)
            winner = i0 if d0 < least else winner
            least = d0 if d0 < least else least
            winner = i1 if d1 < least else winner
            least = d1 if d1 < least else least
            winner = i2 if d2 < least else winner
            least = d2 if d2 < least else least
            winner = i3 if d3 < least else winner
            least = d3 if d3 < least else least
            best[i] = least
            index[i] = winner
        k += 4


@subroutine()
def _nearest_of_cell(
    tile: Any,
    num_clusters: Any,
    origin: Any,
    scale: Any,
    cells: Any,
    lists: Any,
    open_points: Any,
    index: Any,
) -> None:
    """Nearest of the candidates of each point's cell; see `_grid`."""
    side = np.int32(round((cells.size - 1) ** (1 / 3)))
    end, last, outside = np.float32(side), np.float32(side - 1), np.int32(cells.size - 1)
    x0, y0, z0 = origin[0], origin[1], origin[2]
    x1, y1, z1 = scale[0], scale[1], scale[2]
    for i in range(TILE):
        x, y, z = (tile[0, i] - x0) * x1, (tile[1, i] - y0) * y1, (tile[2, i] - z0) * z1
        beyond = min(min(x, y), z) < ZERO or max(max(x, y), z) > end
        x, y, z = min(max(x, ZERO), last), min(max(y, ZERO), last), min(max(z, ZERO), last)
        cell = (np.int32(x) * side + np.int32(y)) * side + np.int32(z)
        index[i] = outside if beyond else cell
    waiting = np.uint64(0)
    for i in range(TILE):  # most cells have one candidate: no distance, and no branch to guess
        index[i] = -1 - cells[np.uint32(index[i])]
        open_points[waiting] = i
        waiting += np.uint64(np.uint32(index[i]) >> np.uint32(31))  # its sign
    for j in range(np.int64(waiting)):
        i = np.uint32(open_points[j])
        list_of_cell = np.uint32(-1 - index[i])
        group = np.uint64(list_of_cell // np.uint32(LENGTHS))
        further = np.int64(list_of_cell % np.uint32(LENGTHS))
        if further == EVERYTHING:
            group, further = np.uint64(0), (num_clusters - 1) // GROUP
        x, y, z = tile[0, i], tile[1, i], tile[2, i]
        first = group * np.uint64(GROUP_FLOATS)
        least, lane = nearest_of_group(lists, first, x, y, z)
        winner = first + np.uint64(lane)
        for _ in range(further):
            first += np.uint64(GROUP_FLOATS)
            distance, lane = nearest_of_group(lists, first, x, y, z)
            winner = first + np.uint64(lane) if distance < least else winner
            least = distance if distance < least else least
        index[i] = np.int32(lists[winner + np.uint64(3 * GROUP)])


@subroutine()
def _add_moments(
    tile: Any,
    count: Any,
    centroids: Any,
    channels: Any,
    index: Any,
    weight: Any,
    unequal: Any,
    moments: Any,
) -> None:
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
def _store_values(
    palette: Any, index: Any, num_points: Any, start: Any, count: Any, strides: Any, values: Any
) -> None:
    """Write the palette rows of the tile to points ``start`` onwards, counted over all images."""
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
def cluster_blocks(
    counter: Any,
    num_tasks: Any,
    points: Any,
    strides: Any,
    channels: Any,
    num_points: Any,
    group_size: Any,
    block_size: Any,
    divisor: Any,
    clamp: Any,
    centroids: Any,
    origin: Any,
    scale: Any,
    cells: Any,
    lists: Any,
    weights: Any,
    weight_strides: Any,
    palette: Any,
    indices: Any,
    moments: Any,
    values: Any,
    value_strides: Any,
) -> None:
    """Take blocks of points until none are left; see `cpu` for the arguments."""
    blocks_per_group = (group_size + block_size - 1) // block_size
    tile = np.empty((len(channels), TILE), np.float32)
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
        stop = min(start + block_size, group_size)
        if moments.size > 0:
            moments[task] = 0.0
        for begin in range(group * group_size + start, group * group_size + stop, TILE):
            count = min(TILE, group * group_size + stop - begin)
            unequal = load_tile(
                points, strides, channels, num_points, begin, count, divisor, clamp,
                weights, weight_strides, tile, weight,
            )  # fmt: skip
            if cells.size > 0:
                _nearest_of_cell(
                    tile, centroids.shape[2], origin, scale, cells, lists, open_points, index
                )
            else:
                nearest(tile, centroids[group], channels, best, index)
            found = indices[begin : begin + count]
            for i in range(count):
                found[i] = index[i]
            if moments.size > 0:
                _add_moments(
                    tile, count, centroids[group], channels, index, weight, unequal,
                    moments[task],
                )  # fmt: skip
            if palette.size > 0:
                _store_values(
                    palette[group], index, num_points, begin, count, value_strides, values
                )
