"""The distinct colours of images on the CPU, in the order of a curve that fills the cube.

A colour's code interleaves the bits of its three bytes (Morton order): neighbours in code are
neighbours in the cube, and the upper 18 bits number the cells of a grid of 64 cells a side. Codes
are counted in two passes over the pixels, so that there is a table for the occupied cells only.

Floats are rounded to bytes for their code; the means are those of the floats.

Letters: B images, N points, M distinct codes.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from colorquant_nn.kernels._threads import compiled
from colorquant_nn.kernels.cpu import FLOATS, flat

CELLS = 1 << 18
LARGEST = np.float32(np.finfo(np.float32).max)
ZERO = np.float32(0)
HALF = np.float32(0.5)


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


@compiled
def _byte(value: Any, scale: Any) -> Any:
    scaled = np.float32(value) * scale
    scaled = scaled if scaled > ZERO else ZERO
    scaled = scaled if scaled < np.float32(255) else np.float32(255)
    return np.uint8(scaled + HALF)


@compiled
def _code(points: Any, first: Any, strides: Any, scale: Any, spread: Any) -> Any:
    """The code of a pixel, or -1 if it is not finite."""
    red, green, blue = points[first], points[first + strides[2]], points[first + 2 * strides[2]]
    if not abs(np.float32(red) + np.float32(green) + np.float32(blue)) <= LARGEST:
        return np.int32(-1)
    upper = spread[0, _byte(red, scale)] | spread[1, _byte(green, scale)]
    return np.int32(upper | spread[2, _byte(blue, scale)])


@compiled
def _mark(
    points: Any, strides: Any, shape: Any, scale: Any, spread: Any, weights: Any, cells: Any
) -> None:
    """Mark the cells that are occupied by a pixel with a vote."""
    for image in range(shape[0]):
        for i in range(shape[1]):
            code = _code(points, image * strides[0] + i * strides[1], strides, scale, spread)
            if code >= 0 and (weights.size == 0 or weights[image * shape[1] + i] > 0):
                cells[np.uint32(code >> 6)] = 1


@compiled
def _count(
    points: Any,
    strides: Any,
    shape: Any,
    scale: Any,
    spread: Any,
    weights: Any,
    cells: Any,
    table: Any,
) -> None:
    """Add up the votes of each code in the table of its cell's number."""
    for image in range(shape[0]):
        for i in range(shape[1]):
            code = _code(points, image * strides[0] + i * strides[1], strides, scale, spread)
            if code >= 0:
                vote = 1.0 if weights.size == 0 else np.float64(weights[image * shape[1] + i])
                if vote > 0:
                    table[np.uint32(cells[np.uint32(code >> 6)]), code & 63] += vote


@compiled
def _number(cells: Any) -> int:
    """Give the marked cells numbers, in order; the others -1."""
    count = 0
    for cell in range(cells.size):
        if cells[cell] > 0:
            cells[cell] = count
            count += 1
        else:
            cells[cell] = -1
    return count


@compiled
def _list_codes(cells: Any, table: Any, codes: Any, counts: Any) -> int:
    """List the codes with a vote, in order, and put the place of each into the table."""
    place = 0
    for cell in range(cells.size):
        if cells[cell] >= 0:
            row = table[cells[cell]]
            for rest in range(64):
                if row[rest] > 0:
                    codes[place] = cell << 6 | rest
                    counts[place] = row[rest]
                    row[rest] = place
                    place += 1
    return place


@compiled
def _average(
    points: Any,
    strides: Any,
    shape: Any,
    scale: Any,
    spread: Any,
    weights: Any,
    cells: Any,
    table: Any,
    counts: Any,
    bases: Any,
    offsets: Any,
) -> None:
    """Means of floats as offsets from the first of each code, so that equal ones stay exact."""
    for image in range(shape[0]):
        for i in range(shape[1]):
            first = image * strides[0] + i * strides[1]
            code = _code(points, first, strides, scale, spread)
            if code < 0:
                continue
            vote = 1.0 if weights.size == 0 else np.float64(weights[image * shape[1] + i])
            if not vote > 0:
                continue
            place = np.uint32(table[np.uint32(cells[np.uint32(code >> 6)]), code & 63])
            for c in range(3):
                value = np.float32(points[first + c * strides[2]])
                value = min(max(value, ZERO), np.float32(1))
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
    if points.dtype not in (torch.uint8, torch.float32):
        points = points.to(torch.float32)
    votes = FLOATS if weights is None else weights.to(torch.float32).contiguous().view(-1).numpy()
    is_bytes = points.dtype == torch.uint8
    cells = np.zeros(CELLS, np.int32)
    if points.numel() == 0:
        empty = torch.zeros(0)
        return empty.long(), empty.new_zeros(0, 3), empty.double()
    shape = (points.shape[0], points.shape[1])
    scale = np.float32(1 if is_bytes else 255)
    source = (flat(points), points.stride(), shape, scale, SPREAD, votes, cells)
    _mark(*source)
    table = np.zeros((_number(cells), 64))
    _count(*source, table)
    num_codes = int(np.count_nonzero(table))
    codes, counts = np.empty(num_codes, np.int64), np.empty(num_codes)
    _list_codes(cells, table, codes, counts)
    if is_bytes:
        means = code_bytes(codes, 3).astype(np.float32) / np.float32(255)
    else:
        bases = np.full((num_codes, 3), -1, np.float32)
        offsets = np.zeros((num_codes, 3))
        _average(*source, table, counts, bases, offsets)
        means = (bases + offsets).astype(np.float32)
    return torch.from_numpy(codes), torch.from_numpy(means), torch.from_numpy(counts)


def code_bytes(codes: Any, channels: int) -> Any:
    """The bytes (M, channels) uint8 that codes (M,) are made of."""
    result = np.zeros((codes.size, channels), np.uint8)
    for channel in range(channels):
        for bit in range(8):
            place = channels * bit + channels - 1 - channel
            result[:, channel] |= ((codes >> place & 1) << bit).astype(np.uint8)
    return result
