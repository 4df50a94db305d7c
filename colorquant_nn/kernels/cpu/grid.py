"""A grid of candidate lists: for every cell of a box, each centroid that can be nearest in it.

The nearest of a cell's few candidates is the nearest of all centroids, exactly: a centroid is
left out only where another is nearer at every point of the cell. With z* the centroid nearest to
the centre of the cell, that is so for z if z* is nearer than z at the corner of the cell that
lies farthest in the direction z - z* (Kanungo et al. 2002, "An efficient k-means clustering
algorithm", section 2). Two allowances cover the rounding of float32: cells are a little larger
than points in them need, and the corner must be nearer by more than the distances may be off.

A list is groups of four candidates, in ascending order and filled up with the last. A group is 16
neighbouring floats: four x, four y, four z, and the four numbers of the centroids. The functions
on groups are made of LLVM's vector operations, which every processor has, as SIMD instructions
where there are any: numba's own loops do not turn into them. A megapixel of noise takes 11 ms so
for 256 centroids and 16 for 1024, 15 and 22 in plain loops (one thread).
"""

# mypy: disable-error-code="no-untyped-def"

from typing import Any, NamedTuple

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn.kernels.cpu.runtime import (
    atomic_add,
    greater,
    kernel,
    lesser,
    next_task,
    run,
    subroutine,
)
from colorquant_nn.kernels.cpu.tiles import TILE, ZERO

__all__ = ["Grid", "build_grid", "choose_levels", "nearest_of_cell"]

GROUP = 4
GROUP_FLOATS = 4 * GROUP
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


class Grid(NamedTuple):
    """Lists of candidates over a box, whose cells are numbered with z fastest."""

    origin: NDArray[np.float32]
    """(3,), the lowest corner."""
    scale: NDArray[np.float32]
    """(3,), cells per unit."""
    cells: NDArray[np.int32]
    """``256 * group + groups - 1`` of the list in ``lists`` or, for the many lists of one,
    ``-1 - centroid``; the last is for points outside of the box. `EVERYTHING` stands for the list
    of all centroids, which comes first."""
    lists: NDArray[np.float32]
    """Groups of candidates."""


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


def build_grid(
    points: Tensor, centroids: NDArray[np.float32], clamp: bool, levels: int
) -> Grid | None:
    """Lists of the centroids (1, 3, K) where points (B, N, 3) are; None without finite bounds."""
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
    grid = Grid(low.astype(np.float32), (side / extent).astype(np.float32), cells, lists)
    run(
        _build, COARSE**3, 50 * cells.size + 1000 * num_clusters,
        centroids[0], moved, extent, np.float32(COORDINATE_ALLOWANCE * largest**2 + 1e-37),
        np.array([all_groups]), grid,
    )  # fmt: skip
    return grid


@subroutine()
def _side(cells):
    """Cells a side."""
    return round((cells.size - 1) ** (1 / 3))


@subroutine()
def nearest_of_cell(tile, num_clusters, grid, open_points, index):
    """Nearest of the candidates of the cell of each of a tile's points."""
    origin, scale, cells, lists = grid.origin, grid.scale, grid.cells, grid.lists
    side = np.int32(_side(cells))
    end, last, outside = np.float32(side), np.float32(side - 1), np.int32(cells.size - 1)
    x0, y0, z0 = origin[0], origin[1], origin[2]
    x1, y1, z1 = scale[0], scale[1], scale[2]
    for i in range(TILE):
        x, y, z = (tile[0, i] - x0) * x1, (tile[1, i] - y0) * y1, (tile[2, i] - z0) * z1
        beyond = lesser(lesser(x, y), z) < ZERO or greater(greater(x, y), z) > end
        x, y, z = greater(x, ZERO), greater(y, ZERO), greater(z, ZERO)
        x, y, z = lesser(x, last), lesser(y, last), lesser(z, last)
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
def _pack(colors, numbers, count, lists, first):
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
            number = numbers[lesser(begin + lane, count - 1)]
            k = np.uint32(number)
            lists[at] = colors[0, k]
            lists[at + np.uint64(GROUP)] = colors[1, k]
            lists[at + np.uint64(2 * GROUP)] = colors[2, k]
            lists[at + np.uint64(3 * GROUP)] = number
            at += np.uint64(1)


@subroutine()
def _filter(source, count, low, high, coordinate_allowance, numbers):
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
        least = lesser(least, distance)
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
        for lane in range(lesser(GROUP, count - group * GROUP)):
            numbers[kept] = source[first + np.uint64(3 * GROUP + lane)]
            kept += bits >> lane & 1
    return kept


@subroutine()
def _box(x, y, z, extent, width, margin):
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
def _build(counter, num_tasks, centroids, moved, extent, allowance, used, grid):
    """Fill the cells below one coarse cell after another, each level from the lists above it.

    Args:
        counter: see `next_task`.
        num_tasks: the number of coarse cells.
        centroids: (3, K) float32.
        moved: (3, K) float32, the same less the low corner of the box.
        extent: (3,) float64, of the box, above 0.
        allowance: float32, for the rounding of coordinates in `_filter`.
        used: (1,) int64, groups of the lists that are taken, at first by the list of everything.
        grid: whose cells and lists are filled.
    """
    cells, lists = grid.cells, grid.lists
    num_clusters = centroids.shape[1]
    side = _side(cells)
    levels = 0
    while COARSE << levels < side:
        levels += 1
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
                    count = _filter(sources[level], count, low, high, allowance, numbers)
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


_VECTOR = ir.VectorType(ir.FloatType(), GROUP)
_LANES = ir.VectorType(ir.IntType(32), GROUP)
_FUSED = ("contract",)


def _splat(builder, scalar):
    zero = ir.Constant(ir.IntType(32), 0)
    vector = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, zero)
    return builder.shuffle_vector(vector, vector, ir.Constant(_LANES, [0] * GROUP))


def _axes(context, builder, kind, groups, first):
    """The vectors of x, y and z of the group that begins at ``groups[first]``."""
    start = builder.gep(context.make_array(kind)(context, builder, groups).data, [first])
    places = [builder.gep(start, [ir.Constant(ir.IntType(64), axis * GROUP)]) for axis in range(3)]
    vectors = [builder.bitcast(place, _VECTOR.as_pointer()) for place in places]
    return [builder.load(vector, align=4) for vector in vectors]


def _bits(builder, mask):
    return builder.zext(builder.bitcast(mask, ir.IntType(GROUP)), ir.IntType(64))


def _nearest_of_group(typing_context, groups, first, x, y, z):
    """``(groups, first, x, y, z) -> (least squared distance, its lane)``; nothing may be NaN."""

    def generate(context, builder, signature, arguments):
        vectors = _axes(context, builder, signature.args[0], *arguments[:2])
        total = None
        for vector, coordinate in zip(vectors, arguments[2:], strict=True):
            step = builder.fsub(_splat(builder, coordinate), vector)
            square = builder.fmul(step, step, flags=_FUSED)
            total = square if total is None else builder.fadd(total, square, flags=_FUSED)
        minimum = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.FloatType(), (_VECTOR,)),
            f"llvm.vector.reduce.fmin.v{GROUP}f32",
        )
        least = builder.call(minimum, [total], fastmath=("nnan",))
        bits = _bits(builder, builder.fcmp_ordered("==", total, _splat(builder, least)))
        lane = builder.cttz(bits, ir.Constant(ir.IntType(1), 1))
        return context.make_tuple(builder, signature.return_type, (least, lane))

    result = types.Tuple((types.float32, types.int64))
    return result(groups, types.uint64, *[types.float32] * 3), generate


def _kept_of_group(typing_context, groups, first, rival, low, high, allowance):
    """``(groups, first, rival, low, high, allowance) -> bits`` of the candidates to keep.

    The rival and the corners of the box are tuples. A candidate goes if, at the corner of the box
    that lies farthest in its direction from the rival, the rival is nearer by the allowance.
    """

    def generate(context, builder, signature, arguments):
        vectors = _axes(context, builder, signature.args[0], *arguments[:2])
        farther = None
        for axis, vector in enumerate(vectors):
            at, below, above = (
                _splat(builder, builder.extract_value(point, axis)) for point in arguments[2:5]
            )
            corner = builder.select(builder.fcmp_ordered(">", vector, at), above, below)
            # Squared distance of the corner to the candidate, less that to the rival.
            apart = builder.fsub(vector, at)
            both = builder.fadd(builder.fsub(vector, corner), builder.fsub(at, corner))
            term = builder.fmul(apart, both, flags=_FUSED)
            farther = term if farther is None else builder.fadd(farther, term, flags=_FUSED)
        return _bits(builder, builder.fcmp_ordered("<=", farther, _splat(builder, arguments[5])))

    point = types.UniTuple(types.float32, 3)
    return types.int64(groups, types.uint64, point, point, point, types.float32), generate


nearest_of_group: Any = intrinsic(_nearest_of_group)
kept_of_group: Any = intrinsic(_kept_of_group)
