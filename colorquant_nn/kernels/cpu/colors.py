"""Counting colours on the CPU: the distinct ones, and those in each cell of a grid.

A colour's code interleaves the bits of its three bytes (Morton order): neighbours in code are
neighbours in the cube, and the upper 18 bits number the cells of a grid of 64 cells a side. Codes
are counted in two passes over the pixels, so that there is a table for the occupied cells only. A
cell may be marked by two threads at once, with the same mark. Floats are rounded to bytes for
their code; the means are those of the floats.

For the histogram every thread adds integers to a table of its own: bytes as they are, floats as
multiples of a power of two so small that nothing is lost which float64 could hold. Integers add up
to the same sums in any order.

Letters: B images, N points, M distinct codes.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np
import torch
from torch import Tensor

from colorquant_nn.kernels.cpu.runtime import kernel, lesser, next_task, run, subroutine
from colorquant_nn.kernels.cpu.tiles import LARGEST, ONE, TILE, ZERO, load_tile, points_of
from colorquant_nn.kernels.reference import spread_bits

CELLS = 1 << 18
HALF = np.float32(0.5)
LEVELS = np.float32(255)
BLOCK = 1 << 16  # points of a task
HISTOGRAM_BLOCK = 32 * TILE
ROWS = 4096  # of the histogram, of a task
SPREAD = spread_bits(3).numpy().astype(np.int32)


def histogram(points: Tensor, bits: int, weights: Tensor | None) -> Tensor:
    """See `colorquant_nn.kernels.histogram`."""
    images, num_points, channels = points.shape
    if points.dtype == torch.float64 or channels != 3:
        return NotImplemented
    side = 1 << bits
    total = images * num_points
    if total == 0:
        return points.new_zeros((side**3, 4), dtype=torch.float64)
    is_bytes = points.dtype == torch.uint8
    if is_bytes and weights is None:
        scales = (1.0, 255.0)
    else:  # the largest power of two for which no sum can leave int64
        heaviest = 1.0 if weights is None else max(float(weights.max()), 1e-30)
        scales = (2.0 ** (61 - int(np.ceil(np.log2(total * heaviest)))),) * 2
    num_tasks = -(-total // HISTOGRAM_BLOCK)
    # Clearing and merging a table costs about as much as counting three points a row.
    max_tables = 1 + total // (3 * side**3)
    tables = np.zeros((min(max_tables, torch.get_num_threads(), num_tasks), side**3, 4), np.int64)
    run(
        _fill_tables, num_tasks, 2.0 * total,
        points_of(points, weights, clamp=True), total, side, scales, np.zeros(1, np.int64), tables,
        max_threads=len(tables),
    )  # fmt: skip
    result = tables[0].view(np.float64)
    run(_finish, -(-(side**3) // ROWS), 3.0 * side**3 * len(tables), tables, result, scales)
    return torch.from_numpy(result)


def distinct_colors(points: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """See `colorquant_nn.kernels.distinct_colors`."""
    images, num_points, _ = points.shape
    if points.numel() == 0:
        nothing = points.new_zeros(0, dtype=torch.int64)
        return nothing, nothing.new_zeros(0, 3, dtype=torch.float32), nothing.double()
    source = points_of(points, None if weights is None else weights.contiguous())
    cells = np.zeros(CELLS, np.int32)
    pixel_codes = np.empty(images * num_points, np.int32)
    run(
        _encode, -(-pixel_codes.size // BLOCK), 2.0 * pixel_codes.size,
        source, cells, pixel_codes,
    )  # fmt: skip
    occupied = np.flatnonzero(cells)
    cells[:] = -1
    cells[occupied] = np.arange(occupied.size)
    table = np.zeros((occupied.size, 64))
    _count(pixel_codes, source.weights, cells, table)
    num_codes = int(np.count_nonzero(table))
    codes, counts = np.empty(num_codes, np.int64), np.empty(num_codes)
    means = np.empty((num_codes, 3), np.float32)
    _list_codes(cells, table, codes, means, counts)
    if source.divisor is None:
        bases = np.full((num_codes, 3), -1, np.float32)
        offsets = np.zeros((num_codes, 3))
        _average(source, cells, pixel_codes, table, counts, bases, offsets)
        means = (bases + offsets).astype(np.float32)
    return torch.from_numpy(codes), torch.from_numpy(means), torch.from_numpy(counts)


@kernel()
def _fill_tables(counter, num_tasks, points, total, side, scales, table_counter, tables):
    """Add blocks of points to the next free table until none are left."""
    count_scale, sum_scale = scales
    table = tables[next_task(table_counter)]
    tile = np.empty((3, TILE), np.float32)
    weight = np.empty(TILE, np.float32)
    cell = np.empty(TILE, np.int32)
    sides = np.float32(side)
    last = np.int32(side - 1)
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        stop = lesser(total, (task + 1) * HISTOGRAM_BLOCK)
        for begin in range(task * HISTOGRAM_BLOCK, stop, TILE):
            count = lesser(TILE, stop - begin)
            unequal = load_tile(points, begin, count, tile, weight)
            for i in range(count):
                red = lesser(np.int32(tile[0, i] * sides), last)
                green = lesser(np.int32(tile[1, i] * sides), last)
                blue = lesser(np.int32(tile[2, i] * sides), last)
                cell[i] = (red * np.int32(side) + green) * np.int32(side) + blue
            for i in range(count):
                vote = np.float64(weight[i]) if unequal else 1.0
                if vote > 0:
                    factor = vote * sum_scale
                    row = table[np.uint32(cell[i])]
                    row[0] += np.int64(vote * count_scale + 0.5)
                    row[1] += np.int64(factor * np.float64(tile[0, i]) + 0.5)
                    row[2] += np.int64(factor * np.float64(tile[1, i]) + 0.5)
                    row[3] += np.int64(factor * np.float64(tile[2, i]) + 0.5)


@kernel()
def _finish(counter, num_tasks, tables, result, scales):
    """Add up the tables, and turn integers into floats in the memory of the first."""
    count_scale, sum_scale = scales
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        for row in range(task * ROWS, lesser((task + 1) * ROWS, tables.shape[1])):
            for column in range(4):
                total = tables[0, row, column]
                for t in range(1, len(tables)):
                    total += tables[t, row, column]
                if total != 0:  # integer 0 and float 0 are the same bits
                    scale = count_scale if column == 0 else sum_scale
                    result[row, column] = np.float64(total) / scale


@subroutine()
def _limit(value):
    """To [0, 1], NaN to 0; what numba's min and max do with NaN depends on its place."""
    value = value if value > ZERO else ZERO
    return value if value < ONE else ONE


@subroutine()
def _code(divisor, x, y, z):
    """The code of a colour; -1 of a float that is not finite."""
    red, green, blue = SPREAD[0], SPREAD[1], SPREAD[2]
    if divisor is not None:
        return red[np.uint8(x)] | green[np.uint8(y)] | blue[np.uint8(z)]
    finite = (abs(x) <= LARGEST) & (abs(y) <= LARGEST) & (abs(z) <= LARGEST)
    x, y, z = _limit(x), _limit(y), _limit(z)
    code = red[np.uint8(x * LEVELS + HALF)] | green[np.uint8(y * LEVELS + HALF)]
    code |= blue[np.uint8(z * LEVELS + HALF)]
    return code if finite else np.int32(-1)


@kernel()
def _encode(counter, num_tasks, points, cells, codes):
    """Write the code of each pixel, -1 without a vote, and mark its cell; by blocks."""
    array, weights, strides = points.array, points.weights, points.strides
    step, second, third = np.uint64(strides[1]), np.uint64(strides[2]), np.uint64(2 * strides[2])
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        start = task * BLOCK
        image = start // points.num_points
        row = start - image * points.num_points
        first = np.uint64(image * strides[0] + row * strides[1])
        for place in range(start, lesser(start + BLOCK, codes.size)):
            x, y, z = array[first], array[first + second], array[first + third]
            code = _code(points.divisor, x, y, z)
            if weights.size > 0 and not weights[place] > 0:
                code = np.int32(-1)
            codes[place] = code
            if code >= 0:
                cells[np.uint32(code >> 6)] = 1
            first += step
            row += 1
            if row == points.num_points:
                image, row = image + 1, 0
                first = np.uint64(image * strides[0])


@kernel()
def _count(codes, weights, cells, table):
    """Add up the votes of each code in the table of its cell's number."""
    for i in range(codes.size):
        code = codes[i]
        if code >= 0:
            vote = 1.0 if weights.size == 0 else np.float64(weights[i])
            table[np.uint32(cells[np.uint32(code >> 6)]), np.uint32(code & 63)] += vote


@kernel()
def _list_codes(cells, table, codes, colors, counts):
    """List the codes with a vote, in order, and put the place of each into the table."""
    place = 0
    for cell in range(cells.size):
        if cells[cell] >= 0:
            row = table[cells[cell]]
            for rest in range(64):
                if row[rest] > 0:
                    code = cell << 6 | rest
                    codes[place] = code
                    counts[place] = row[rest]
                    row[rest] = place
                    for c in range(3):
                        byte = 0
                        for bit in range(8):
                            byte |= (code >> (3 * bit + 2 - c) & 1) << bit
                        colors[place, c] = np.float32(byte) / np.float32(255)
                    place += 1


@kernel()
def _average(points, cells, codes, table, counts, bases, offsets):
    """Means of floats as offsets from the first of each code, so that equal ones stay exact."""
    array, weights, strides = points.array, points.weights, points.strides
    for i in range(codes.size):
        code = codes[i]
        if code < 0:
            continue
        image = i // points.num_points
        first = image * strides[0] + (i - image * points.num_points) * strides[1]
        vote = 1.0 if weights.size == 0 else np.float64(weights[i])
        place = np.uint32(table[np.uint32(cells[np.uint32(code >> 6)]), np.uint32(code & 63)])
        for c in range(3):
            value = _limit(array[first + c * strides[2]])
            if bases[place, c] < ZERO:
                bases[place, c] = value
            step = np.float64(value) - np.float64(bases[place, c])
            if step != 0:
                offsets[place, c] += vote * step / counts[place]
