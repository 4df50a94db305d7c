"""A grid of candidate lists: for every cell of a box, each centroid that can be nearest in it.

The nearest of a cell's few candidates is the nearest of all centroids, exactly: a centroid is
left out only where another is nearer at every point of the cell. With z* the centroid nearest to
the centre of the cell, that is so for z if z* is nearer than z at the corner of the cell that
lies farthest in the direction z - z* (Kanungo et al. 2002, "An efficient k-means clustering
algorithm", section 2). Two allowances cover the rounding of float32: cells are a little larger
than points in them need, and the corner must be nearer by more than the distances may be off.

A list is groups of four candidates, see `_simd`, in ascending order and filled up with the last.
``cells`` has ``256 * group + groups - 1`` of the list in ``lists`` or, for the many lists of one,
``-1 - centroid``. `EVERYTHING` stands for the list of all centroids, which comes first.
"""

from typing import Any

import numpy as np

from colorquant_nn.kernels._compile import kernel, subroutine
from colorquant_nn.kernels._simd import (
    GROUP,
    GROUP_FLOATS,
    kept_of_group,
    nearest_of_group,
)
from colorquant_nn.kernels._threads import atomic_add, next_task

LENGTHS = 256  # more groups than a list has
EVERYTHING = LENGTHS - 1
COARSE = 4  # cells a side of the coarse grid, whose cells are the tasks
CHUNK = 1 << 10  # groups that a thread sets aside for itself at a time
CELL_ALLOWANCE = 1e-3  # of a cell's width; the cell of a point is off by less than 1e-4
# Squared distances are off by five roundings of 6e-8 on either side, relative to themselves; and
# in `_filter`, by less than 200 of them relative to the square of the largest coordinate.
DISTANCE_ALLOWANCE = np.float32(2e-6)
COORDINATE_ALLOWANCE = 1.2e-5
ONE_HALF = np.float32(0.5)


@subroutine()
def _pack(colors: Any, numbers: Any, count: Any, lists: Any, first: Any) -> None:
    """Write the candidates of these numbers as groups, from ``lists[first]`` on.

    Args:
        colors: (3, K), what to write of each.
        numbers: float32, of the candidates.
        count: how many numbers there are, at least 1; the last fills up the last group.
        lists: float32.
        first: where to begin.
    """
    for begin in range(0, count, GROUP):
        at = np.uint64(first + begin * GROUP)
        for lane in range(GROUP):
            number = numbers[min(begin + lane, count - 1)]
            k = np.uint32(number)
            lists[at] = colors[0, k]
            lists[at + np.uint64(GROUP)] = colors[1, k]
            lists[at + np.uint64(2 * GROUP)] = colors[2, k]
            lists[at + np.uint64(3 * GROUP)] = number
            at += np.uint64(1)


@subroutine()
def _filter(
    source: Any, count: Any, low: Any, high: Any, coordinate_allowance: Any, numbers: Any
) -> Any:
    """List the numbers of the candidates that can be nearest in a box, and tell how many."""
    groups = (count + GROUP - 1) // GROUP
    center_x = ONE_HALF * (low[0] + high[0])
    center_y = ONE_HALF * (low[1] + high[1])
    center_z = ONE_HALF * (low[2] + high[2])
    least, rival = np.float32(np.inf), np.uint64(0)
    for group in range(groups):
        first = np.uint64(group * GROUP_FLOATS)
        distance, lane = nearest_of_group(source, first, center_x, center_y, center_z)
        rival = first + np.uint64(lane) if distance < least else rival
        least = min(least, distance)
    x = source[rival]
    y = source[rival + np.uint64(GROUP)]
    z = source[rival + np.uint64(2 * GROUP)]
    far_x = abs(x - center_x) + ONE_HALF * (high[0] - low[0])
    far_y = abs(y - center_y) + ONE_HALF * (high[1] - low[1])
    far_z = abs(z - center_z) + ONE_HALF * (high[2] - low[2])
    allowance = DISTANCE_ALLOWANCE * (far_x * far_x + far_y * far_y + far_z * far_z)
    allowance += coordinate_allowance
    kept = 0
    for group in range(groups):
        first = np.uint64(group * GROUP_FLOATS)
        bits = kept_of_group(source, first, (x, y, z), low, high, allowance)
        for lane in range(min(GROUP, count - group * GROUP)):
            numbers[kept] = source[first + np.uint64(3 * GROUP + lane)]
            kept += bits >> lane & 1
    return kept


@subroutine()
def _box(x: Any, y: Any, z: Any, extent: Any, width: Any, margin: Any) -> Any:
    """Corners of a cell, given as shares of the extent, with a margin around it."""
    return (
        (
            np.float32(extent[0] * (x * width - margin)),
            np.float32(extent[1] * (y * width - margin)),
            np.float32(extent[2] * (z * width - margin)),
        ),
        (
            np.float32(extent[0] * ((x + 1) * width + margin)),
            np.float32(extent[1] * ((y + 1) * width + margin)),
            np.float32(extent[2] * ((z + 1) * width + margin)),
        ),
    )


@kernel()
def build(
    counter: Any,
    num_tasks: Any,
    centroids: Any,
    moved: Any,
    extent: Any,
    coordinate_allowance: Any,
    levels: Any,
    used: Any,
    cells: Any,
    lists: Any,
) -> None:
    """Fill the cells below one coarse cell after another, each level from the lists above it.

    Args:
        counter: see `next_task`.
        num_tasks: the number of coarse cells.
        centroids: (3, K) float32.
        moved: (3, K) float32, the same less the low corner of the box.
        extent: (3,) float64, of the box, above 0.
        coordinate_allowance: float32, for the rounding of coordinates in `_filter`.
        levels: how often a side of a coarse cell is halved.
        used: (1,) int64, groups of ``lists`` that are taken, at first by the list of everything.
        cells: (side ** 3 + 1,) int32, with side ``COARSE << levels``; z varies fastest.
        lists: float32, groups of candidates.
    """
    num_clusters = centroids.shape[1]
    side = COARSE << levels
    width = 1.0 / (COARSE << np.arange(levels + 1))
    margin = CELL_ALLOWANCE / side
    numbers = np.arange(num_clusters + 1).astype(np.float32)
    sources = np.empty((levels + 1, (num_clusters + GROUP) * GROUP), np.float32)
    counts = np.empty(levels + 1, np.int64)
    node = np.empty(levels + 1, np.int64)
    _pack(moved, numbers, num_clusters, sources[0], 0)
    counts[0] = num_clusters
    count = 1
    position, end = 0, 0
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        node[:] = -1
        for leaf in range(1 << (3 * levels)):
            # The bits of a leaf's number say which half it is in on each axis, level by level.
            x, y, z = task // (COARSE * COARSE), task // COARSE % COARSE, task % COARSE
            for level in range(levels + 1):
                below = 3 * (levels - level)
                if level > 0:
                    octant = leaf >> below
                    x, y, z = (
                        2 * x + (octant >> 2 & 1),
                        2 * y + (octant >> 1 & 1),
                        2 * z + (octant & 1),
                    )
                if node[level] == leaf >> below:
                    continue
                node[level] = leaf >> below
                count = counts[level]
                if count == 1:
                    numbers[0] = sources[level, 3 * GROUP]
                else:
                    low, high = _box(x, y, z, extent, width[level], margin)
                    count = _filter(sources[level], count, low, high, coordinate_allowance, numbers)
                if level < levels:
                    counts[level + 1] = count
                    _pack(moved, numbers, count, sources[level + 1], 0)
            cell = (x * side + y) * side + z
            if count == 1:
                cells[cell] = -1 - np.int32(numbers[0])
                continue
            groups = (count + GROUP - 1) // GROUP
            if position + groups > end:
                position = atomic_add(used, CHUNK + groups)
                end = position + CHUNK + groups
            if end * GROUP_FLOATS > lists.size or groups >= LENGTHS:  # slow, but right
                cells[cell] = EVERYTHING
                continue
            cells[cell] = position * LENGTHS + groups - 1
            _pack(centroids, numbers, count, lists, position * GROUP_FLOATS)
            position += groups
