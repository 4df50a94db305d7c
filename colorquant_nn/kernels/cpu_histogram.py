"""The colour histogram on the CPU.

Every thread adds integers to a table of its own: bytes as they are, floats as multiples of a
power of two so small that nothing is lost which float64 could hold. Integers add up to the same
sums in any order.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from colorquant_nn.kernels import reference
from colorquant_nn.kernels._compile import kernel
from colorquant_nn.kernels._threads import next_task, run
from colorquant_nn.kernels._tiles import TILE, load_tile
from colorquant_nn.kernels.cpu import FLOATS, flat

BLOCK = 32 * TILE  # points of a task
ROWS = 4096  # of the table, of a task


@kernel()
def _count_blocks(
    counter: Any,
    num_tasks: Any,
    points: Any,
    strides: Any,
    channels: Any,
    num_points: Any,
    total: Any,
    divisor: Any,
    weights: Any,
    weight_strides: Any,
    side: Any,
    count_scale: Any,
    sum_scale: Any,
    table_counter: Any,
    tables: Any,
) -> None:
    """Add blocks of points to the next free table until none are left."""
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
        for begin in range(task * BLOCK, min(total, (task + 1) * BLOCK), TILE):
            count = min(TILE, total - begin)
            unequal = load_tile(
                points, strides, channels, num_points, begin, count, divisor, True,
                weights, weight_strides, tile, weight,
            )  # fmt: skip
            for i in range(count):
                red = min(np.int32(tile[0, i] * sides), last)
                green = min(np.int32(tile[1, i] * sides), last)
                blue = min(np.int32(tile[2, i] * sides), last)
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
def _finish(
    counter: Any, num_tasks: Any, tables: Any, result: Any, count_scale: Any, sum_scale: Any
) -> None:
    """Add up the tables, and turn integers into floats in the memory of the first."""
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        for row in range(task * ROWS, min((task + 1) * ROWS, tables.shape[1])):
            for column in range(4):
                total = tables[0, row, column]
                for t in range(1, len(tables)):
                    total += tables[t, row, column]
                if total != 0:  # integer 0 and float 0 are the same bits
                    scale = count_scale if column == 0 else sum_scale
                    result[row, column] = np.float64(total) / scale


def histogram(points: Tensor, bits: int, weights: Tensor | None) -> Tensor:
    """See `colorquant_nn.kernels.histogram`."""
    images, num_points, channels = points.shape
    if points.dtype == torch.float64 or channels != 3:
        return reference.histogram(points, bits, weights)
    side = 1 << bits
    total = images * num_points
    if total == 0:
        return points.new_zeros((side**3, 4), dtype=torch.float64)
    is_bytes = points.dtype == torch.uint8
    if not is_bytes:
        points = points.to(torch.float32)
    if is_bytes and weights is None:
        count_scale, sum_scale = 1.0, 255.0
    else:  # the largest power of two for which no sum can leave int64
        heaviest = 1.0 if weights is None else max(float(weights.max()), 1e-30)
        count_scale = sum_scale = 2.0 ** (61 - int(np.ceil(np.log2(total * heaviest))))
    num_tasks = -(-total // BLOCK)
    # Clearing and merging a table costs about as much as counting three points a row.
    max_tables = 1 + total // (3 * side**3)
    tables = np.zeros((min(max_tables, torch.get_num_threads(), num_tasks), side**3, 4), np.int64)
    run(
        _count_blocks,
        num_tasks,
        2.0 * total,
        flat(points),
        points.stride(),
        tuple(c * points.stride(2) for c in range(channels)),
        num_points,
        total,
        np.float32(255) if is_bytes else None,
        FLOATS if weights is None else flat(weights.to(torch.float32)),
        (0, 0) if weights is None else weights.stride(),
        side,
        count_scale,
        sum_scale,
        np.zeros(1, np.int64),
        tables,
        max_threads=len(tables),
    )
    result = tables[0].view(np.float64)
    run(
        _finish, -(-(side**3) // ROWS), 3.0 * side**3 * len(tables),
        tables, result, count_scale, sum_scale,
    )  # fmt: skip
    return torch.from_numpy(result)
