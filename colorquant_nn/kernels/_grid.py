"""A grid of candidate lists: for every cell of a box, each centroid that can be nearest in it.

The nearest of a cell's few candidates is the nearest of all centroids, exactly: a centroid is
left out only where another is nearer at every point of the cell. With z* the centroid nearest to
the centre of the cell, that is so for z if z* is nearer than z at the corner of the cell that
lies farthest in the direction z - z* (Kanungo et al. 2002, "An efficient k-means clustering
algorithm", section 2). Two allowances cover the rounding of float32: cells are a little larger
than points in them need, and the corner must be nearer by more than the distances may be off.

A list at a position of ``candidates`` is the number of groups of four, then the centroids in
ascending order, filled up with the last. ``cells`` has that position or, for the many lists of
one, ``-1 - centroid``.
"""

from typing import Any

import numpy as np

from colorquant_nn.kernels._threads import atomic_add, compiled, next_task

GROUP = 4  # candidates whose distances are taken together, for fewer branches to guess
COARSE = 4  # cells a side of the coarse grid, whose cells are the tasks
RUN = 1 << 16  # points whose bounds are a task
CHUNK = 1 << 14  # list entries that a thread sets aside for itself at a time
CELL_ALLOWANCE = 1e-3  # of a cell's width; the cell of a point is off by less than 1e-4
DISTANCE_ALLOWANCE = 2e-6  # relative; five roundings of 6e-8 on either side


@compiled
def find_bounds(
    counter: Any,
    num_tasks: Any,
    points: Any,
    strides: Any,
    num_points: Any,
    lows: Any,
    highs: Any,
) -> None:
    """Least and greatest value of each channel, of one run of points after another.

    Args:
        counter: see `next_task`.
        num_tasks: the number of images times that of the runs in one.
        points: the memory of (B, N, 3).
        strides: of the three dimensions.
        num_points: N.
        lows: (tasks, 3) float32.
        highs: (tasks, 3) float32.
    """
    runs = (num_points + RUN - 1) // RUN
    s0, s1, s2 = np.uint64(strides[0]), np.uint64(strides[1]), np.uint64(strides[2])
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        first = task % runs * RUN
        offset = np.uint64(task // runs) * s0 + np.uint64(first) * s1
        low_x = low_y = low_z = np.float32(np.inf)
        high_x = high_y = high_z = np.float32(-np.inf)
        for _ in range(min(RUN, num_points - first)):
            x, y, z = points[offset], points[offset + s2], points[offset + s2 + s2]
            offset += s1
            x = x if x == x else np.float32(0)  # what a point that is not a number is taken for
            y = y if y == y else np.float32(0)
            z = z if z == z else np.float32(0)
            low_x, high_x = min(low_x, x), max(high_x, x)
            low_y, high_y = min(low_y, y), max(high_y, y)
            low_z, high_z = min(low_z, z), max(high_z, z)
        lows[task, 0], lows[task, 1], lows[task, 2] = low_x, low_y, low_z
        highs[task, 0], highs[task, 1], highs[task, 2] = high_x, high_y, high_z


@compiled
def _filter(source: Any, count: Any, low: Any, width: Any, target: Any) -> Any:
    """Copy the candidates that can be nearest in a box; rows are x, y, z and the number."""
    center_x = low[0] + 0.5 * width[0]
    center_y = low[1] + 0.5 * width[1]
    center_z = low[2] + 0.5 * width[2]
    nearest, least = 0, np.inf
    for j in range(count):
        dx, dy, dz = source[0, j] - center_x, source[1, j] - center_y, source[2, j] - center_z
        distance = dx * dx + dy * dy + dz * dz
        if distance < least:
            nearest, least = j, distance
    x, y, z = source[0, nearest], source[1, nearest], source[2, nearest]
    far_x = abs(x - center_x) + 0.5 * width[0]
    far_y = abs(y - center_y) + 0.5 * width[1]
    far_z = abs(z - center_z) + 0.5 * width[2]
    allowance = DISTANCE_ALLOWANCE * (far_x * far_x + far_y * far_y + far_z * far_z) + 1e-37
    high_x, high_y, high_z = low[0] + width[0], low[1] + width[1], low[2] + width[2]
    kept = 0
    for j in range(count):
        xj, yj, zj = source[0, j], source[1, j], source[2, j]
        corner_x = high_x if xj > x else low[0]
        corner_y = high_y if yj > y else low[1]
        corner_z = high_z if zj > z else low[2]
        # Squared distance of the corner to candidate j, less that to the nearest one.
        farther = (
            (xj - x) * (xj + x - 2 * corner_x)
            + (yj - y) * (yj + y - 2 * corner_y)
            + (zj - z) * (zj + z - 2 * corner_z)
        )
        target[0, kept], target[1, kept], target[2, kept] = xj, yj, zj
        target[3, kept] = source[3, j]
        kept += 1 if farther <= allowance else 0
    return kept


@compiled
def build(
    counter: Any,
    num_tasks: Any,
    centroids: Any,
    origin: Any,
    extent: Any,
    levels: Any,
    used: Any,
    cells: Any,
    candidates: Any,
) -> None:
    """Fill the cells below one coarse cell after another, each level from the lists above it.

    Args:
        counter: see `next_task`.
        num_tasks: the number of coarse cells.
        centroids: (3, K).
        origin: (3,) float64, the low corner of the box.
        extent: (3,) float64, above 0.
        levels: how often a side of a coarse cell is halved.
        used: (1,) int64, entries of ``candidates`` that are taken; starts at K + 1, after the
            list of all centroids.
        cells: (side ** 3,) int32, with side ``COARSE << levels``; z varies fastest.
        candidates: int32.
    """
    num_clusters = centroids.shape[1]
    side = COARSE << levels
    lists = np.empty((levels + 2, 4, num_clusters + 1))
    counts = np.empty(levels + 2, np.int64)
    node = np.empty(levels + 2, np.int64)
    counts[0] = num_clusters
    for k in range(num_clusters):
        for c in range(3):
            lists[0, c, k] = centroids[c, k]
        lists[0, 3, k] = k
    low, width = np.empty(3), np.empty(3)
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
                if node[level] != leaf >> below:
                    node[level] = leaf >> below
                    for c in range(3):
                        step = extent[c] / (COARSE << level)
                        at = x if c == 0 else (y if c == 1 else z)
                        allowance = CELL_ALLOWANCE * extent[c] / side
                        low[c] = origin[c] + at * step - allowance
                        width[c] = step + 2 * allowance
                    counts[level + 1] = _filter(
                        lists[level], counts[level], low, width, lists[level + 1]
                    )
            cell = (x * side + y) * side + z
            count = counts[levels + 1]
            if count == 1:
                cells[cell] = -1 - np.int32(lists[levels + 1, 3, 0])
                continue
            if position + count + GROUP > end:
                position = atomic_add(used, CHUNK + num_clusters + GROUP)
                end = position + CHUNK + num_clusters + GROUP
            if end > candidates.size:  # no room: all centroids, which is slow but right
                cells[cell] = 0
                continue
            cells[cell] = position
            groups = (count + GROUP - 1) // GROUP
            candidates[position] = groups
            for j in range(groups * GROUP):
                candidates[position + 1 + j] = np.int32(lists[levels + 1, 3, min(j, count - 1)])
            position += groups * GROUP + 1
