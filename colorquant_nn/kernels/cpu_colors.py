"""The distinct colours of images on the CPU, in the order of a curve that fills the cube.

A colour's code interleaves the bits of its three bytes (Morton order): neighbours in code are
neighbours in the cube, and the upper 18 bits number the cells of a grid of 64 cells a side. Codes
are counted in two passes over the pixels, so that there is a table for the occupied cells only.

A cell may be marked by two threads at once, with the same mark. Floats are rounded to bytes for
their code; the means are those of the floats.

Letters: B images, N points, M distinct codes.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from colorquant_nn.kernels._compile import kernel, subroutine
from colorquant_nn.kernels._threads import next_task, run
from colorquant_nn.kernels.cpu import FLOATS, flat

CELLS = 1 << 18
LARGEST = np.float32(np.finfo(np.float32).max)
ZERO = np.float32(0)
ONE = np.float32(1)
HALF = np.float32(0.5)
BLOCK = 1 << 16


def spread_bits(channels: int) -> Any:
    """(channels, 256) int64: the bits of a byte, at their places in a code; red is uppermost."""
    values = np.arange(256, dtype=np.int64)
    table = np.zeros((channels, 256), np.int64)
    for channel in range(channels):
        for bit in range(8):
            place = channels * bit + channels - 1 - channel
            table[channel] |= (values >> bit & 1) << place
    return table


SPREAD = spread_bits(3).astype(np.int32)


@subroutine()
def _limit(value: Any) -> Any:
    """To [0, 1], NaN to 0; what numba's min and max do with NaN depends on its place."""
    value = value if value > ZERO else ZERO
    return value if value < ONE else ONE


@kernel()
def _encode(
    counter: Any,
    num_tasks: Any,
    points: Any,
    strides: Any,
    num_points: Any,
    levels: Any,
    weights: Any,
    cells: Any,
    codes: Any,
) -> None:
    """Write the code of each pixel, -1 without a vote, and mark its cell; by blocks.

    ``levels`` is None for bytes, and 255 for floats: what is not finite there has no vote.
    """
    red, green, blue = SPREAD[0], SPREAD[1], SPREAD[2]
    step, second, third = np.uint64(strides[1]), np.uint64(strides[2]), np.uint64(2 * strides[2])
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        start = task * BLOCK
        image = start // num_points
        row = start - image * num_points
        first = np.uint64(image * strides[0] + row * strides[1])
        for place in range(start, min(start + BLOCK, codes.size)):
            x, y, z = points[first], points[first + second], points[first + third]
            if levels is None:
                vote = True
                code = red[np.uint8(x)] | green[np.uint8(y)] | blue[np.uint8(z)]
            else:
                vote = (abs(x) <= LARGEST) & (abs(y) <= LARGEST) & (abs(z) <= LARGEST)
                x, y, z = _limit(x), _limit(y), _limit(z)
                code = red[np.uint8(x * levels + HALF)] | green[np.uint8(y * levels + HALF)]
                code |= blue[np.uint8(z * levels + HALF)]
            if weights.size > 0:
                vote &= weights[place] > 0
            codes[place] = code if vote else np.int32(-1)
            if vote:
                cells[np.uint32(code >> 6)] = 1
            first += step
            row += 1
            if row == num_points:
                image, row = image + 1, 0
                first = np.uint64(image * strides[0])


@kernel()
def _count(codes: Any, weights: Any, cells: Any, table: Any) -> None:
    """Add up the votes of each code in the table of its cell's number."""
    for i in range(codes.size):
        code = codes[i]
        if code >= 0:
            vote = 1.0 if weights.size == 0 else np.float64(weights[i])
            table[np.uint32(cells[np.uint32(code >> 6)]), np.uint32(code & 63)] += vote


@kernel()
def _list_codes(cells: Any, table: Any, codes: Any, colors: Any, counts: Any) -> None:
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
def _average(
    points: Any,
    strides: Any,
    num_points: Any,
    weights: Any,
    cells: Any,
    codes: Any,
    table: Any,
    counts: Any,
    bases: Any,
    offsets: Any,
) -> None:
    """Means of floats as offsets from the first of each code, so that equal ones stay exact."""
    for i in range(codes.size):
        code = codes[i]
        if code < 0:
            continue
        image = i // num_points
        first = image * strides[0] + (i - image * num_points) * strides[1]
        vote = 1.0 if weights.size == 0 else np.float64(weights[i])
        place = np.uint32(table[np.uint32(cells[np.uint32(code >> 6)]), np.uint32(code & 63)])
        for c in range(3):
            value = _limit(points[first + c * strides[2]])
            if bases[place, c] < ZERO:
                bases[place, c] = value
            step = np.float64(value) - np.float64(bases[place, c])
            if step != 0:
                offsets[place, c] += vote * step / counts[place]


def distinct_colors(points: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """List the distinct 8-bit colours.

    Args:
        points: (B, N, 3) uint8, which stands for ``value / 255``, or float.
        weights: (B, N), at least 0; all 1 without it. Colours without weight are not listed.

    Returns:
        Ascending codes (M,) int64, means (M, 3) float32 in [0, 1] and weights (M,) float64.
    """
    if points.numel() == 0:
        nothing = points.new_zeros(0, dtype=torch.int64)
        return nothing, nothing.new_zeros(0, 3, dtype=torch.float32), nothing.double()
    if points.dtype not in (torch.uint8, torch.float32):
        points = points.to(torch.float32)
    votes = FLOATS if weights is None else weights.to(torch.float32).contiguous().view(-1).numpy()
    is_bytes = points.dtype == torch.uint8
    source = (flat(points), points.stride(), points.shape[1])
    cells = np.zeros(CELLS, np.int32)
    pixel_codes = np.empty(points.shape[0] * points.shape[1], np.int32)
    run(
        _encode, -(-pixel_codes.size // BLOCK), 2.0 * pixel_codes.size,
        *source, None if is_bytes else np.float32(255), votes, cells, pixel_codes,
    )  # fmt: skip
    occupied = np.flatnonzero(cells)
    cells[:] = -1
    cells[occupied] = np.arange(occupied.size)
    table = np.zeros((occupied.size, 64))
    _count(pixel_codes, votes, cells, table)
    num_codes = int(np.count_nonzero(table))
    codes, counts = np.empty(num_codes, np.int64), np.empty(num_codes)
    means = np.empty((num_codes, 3), np.float32)
    _list_codes(cells, table, codes, means, counts)
    if not is_bytes:
        bases = np.full((num_codes, 3), -1, np.float32)
        offsets = np.zeros((num_codes, 3))
        _average(*source, votes, cells, pixel_codes, table, counts, bases, offsets)
        means = (bases + offsets).astype(np.float32)
    return torch.from_numpy(codes), torch.from_numpy(means), torch.from_numpy(counts)
