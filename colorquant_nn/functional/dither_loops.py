"""The loops of `dither` over pixels, compiled by numba: each pixel depends on those before it.

Letters: H rows, W columns, K centroids, C channels (3 or 4). Centroids have four channels here,
a missing one is 0. Everything is `EXACT` float32 in a fixed order, so a slow loop in numpy gives
the same bits. Colours are kept in scalars: numba then holds them in registers.
"""

from typing import Any, NamedTuple

import numpy as np

from colorquant_nn.kernels._compile import EXACT, kernel, subroutine

CACHE_SIZE = 1 << 14  # colours whose mixtures are remembered: some hundred kilobytes
NOTHING = np.float32(0)


class Grid(NamedTuple):
    """For each cell of a box, the centroids that are nearest to some point of it."""

    origin: Any
    """(4,) float32, the lowest corner."""
    scale: Any
    """(4,) float32, cells per unit."""
    last: Any
    """(4,) float32, the index of the last cell along each channel."""
    strides: Any
    """(4,) int64, from the cell's four indices to its number."""
    starts: Any
    """(cells + 1,) int32, where a cell's candidates begin."""
    candidates: Any
    """int32, each cell's in ascending order."""


@subroutine(EXACT)
def _distance(first: Any, second: Any, third: Any, fourth: Any, centroids: Any, index: int) -> Any:
    first -= centroids[index, 0]
    second -= centroids[index, 1]
    third -= centroids[index, 2]
    fourth -= centroids[index, 3]
    return first * first + second * second + third * third + fourth * fourth


@kernel(EXACT)
def refine(centroids: Any, grid: Any, parent: Any) -> int:
    """Fill the lists of a grid from one with half as many cells along each refined channel.

    A centroid is a candidate if it is nearer to the cell's middle than the nearest one plus the
    cell's diagonal. ``grid.candidates`` has room for all; returns how many there are.
    """
    middle = np.zeros(4, np.float32)
    distances = np.empty(len(centroids), np.float32)
    diagonal = np.float32(0)
    for channel in range(4):
        if grid.last[channel] > 0:
            diagonal += (1 / grid.scale[channel]) ** 2
    # A point and the middle are at most half a diagonal apart; the factor covers rounding, a
    # candidate too many does no harm.
    diagonal = np.sqrt(diagonal) * np.float32(1.001)
    total = 0
    for cell in range(len(grid.starts) - 1):
        parent_cell = 0
        for channel in range(4):
            step = cell // grid.strides[channel] % (int(grid.last[channel]) + 1)
            parent_cell += step // 2 * parent.strides[channel]
            if grid.last[channel] > 0:
                offset = (step + np.float32(0.5)) / grid.scale[channel]
                middle[channel] = grid.origin[channel] + offset
        start = parent.starts[parent_cell]
        stop = parent.starts[parent_cell + 1]
        smallest = np.float32(np.inf)
        for place in range(start, stop):
            index = parent.candidates[place]
            distance = _distance(middle[0], middle[1], middle[2], middle[3], centroids, index)
            distances[place - start] = distance
            smallest = min(smallest, distance)
        bound = (np.sqrt(smallest) + diagonal) ** 2 * np.float32(1.001)
        grid.starts[cell] = total
        for place in range(start, stop):
            if distances[place - start] <= bound:
                grid.candidates[total] = parent.candidates[place]
                total += 1
    grid.starts[len(grid.starts) - 1] = total
    return total


@subroutine(EXACT)
def _step(value: Any, grid: Any, channel: int) -> int:
    step = (value - grid.origin[channel]) * grid.scale[channel]
    return int(min(max(step, NOTHING), grid.last[channel]))


@subroutine(EXACT)
def nearest(first: Any, second: Any, third: Any, fourth: Any, centroids: Any, grid: Any) -> int:
    """Index of the nearest centroid, exact for points within the grid; the lowest of equals."""
    cell = (
        _step(first, grid, 0) * grid.strides[0]
        + _step(second, grid, 1) * grid.strides[1]
        + _step(third, grid, 2) * grid.strides[2]
    )
    if grid.last[3] > 0:
        cell += _step(fourth, grid, 3) * grid.strides[3]
    best = grid.candidates[grid.starts[cell]]
    best_distance = _distance(first, second, third, fourth, centroids, best)
    for place in range(grid.starts[cell] + 1, grid.starts[cell + 1]):
        index = grid.candidates[place]
        distance = _distance(first, second, third, fourth, centroids, index)
        if distance < best_distance:
            best = index
            best_distance = distance
    return best


@kernel(EXACT)
def diffuse(
    points: Any,
    centroids: Any,
    grid: Any,
    steps_ahead: Any,
    steps_down: Any,
    shares: Any,
    strength: Any,
    limit: Any,
    indices: Any,
) -> None:
    """Error diffusion over (H, W, C) points in serpentine order, into ``indices`` (H, W).

    ``shares[i]`` of a pixel's error, times ``strength``, goes ``steps_ahead[i]`` pixels on in
    the direction of travel and ``steps_down[i]`` rows down. Errors longer than ``limit`` are
    cut to it.
    """
    height, width, channels = points.shape
    margin = 2  # the longest step
    errors = np.zeros((3, width + 2 * margin, 4), np.float32)  # this row and the next two
    for row in range(height):
        here = row % 3
        direction = 1 if row % 2 == 0 else -1
        column = 0 if row % 2 == 0 else width - 1
        for _ in range(width):
            beside = column + margin
            first = points[row, column, 0] + errors[here, beside, 0]
            second = points[row, column, 1] + errors[here, beside, 1]
            third = points[row, column, 2] + errors[here, beside, 2]
            fourth = NOTHING
            if channels == 4:
                fourth = points[row, column, 3] + errors[here, beside, 3]
            index = nearest(first, second, third, fourth, centroids, grid)
            indices[row, column] = index
            first -= centroids[index, 0]
            second -= centroids[index, 1]
            third -= centroids[index, 2]
            fourth -= centroids[index, 3]
            squared = first * first + second * second + third * third + fourth * fourth
            factor = strength
            if squared > limit * limit:
                factor = strength * (limit / np.sqrt(squared))
            first *= factor
            second *= factor
            third *= factor
            fourth *= factor
            for target in range(len(shares)):
                below = (here + steps_down[target]) % 3
                beside = column + margin + direction * steps_ahead[target]
                share = shares[target]
                errors[below, beside, 0] += first * share
                errors[below, beside, 1] += second * share
                errors[below, beside, 2] += third * share
                errors[below, beside, 3] += fourth * share
            column += direction
        errors[here] = 0


@kernel(EXACT)
def mix(
    points: Any,
    centroids: Any,
    grid: Any,
    thresholds: Any,
    levels: int,
    order: Any,
    ranks: Any,
    strength: Any,
    limit: Any,
    indices: Any,
) -> None:
    """Ordered dither of (H, W, C) points, into ``indices`` (H, W).

    Each pixel lists ``levels`` centroids whose mean comes near its colour: each is the nearest
    to the colour plus ``strength`` of what the ones before it left over (at most ``limit``). The
    list, sorted by ``ranks``, is read at the threshold, 0 to ``levels`` - 1, of the pixel's place
    in the tiled matrix. ``order`` is the inverse of ``ranks``.
    """
    height, width, channels = points.shape
    keys = np.full((CACHE_SIZE, 4), np.nan, np.float32)  # NaN equals nothing: empty
    lists = np.empty((CACHE_SIZE, levels), np.int32)
    for row in range(height):
        for column in range(width):
            first = points[row, column, 0]
            second = points[row, column, 1]
            third = points[row, column, 2]
            fourth = points[row, column, 3] if channels == 4 else NOTHING
            slot = _slot(first, second, third, fourth)
            key = keys[slot]
            mixture = lists[slot]
            if not (key[0] == first and key[1] == second and key[2] == third and key[3] == fourth):
                key[0] = first
                key[1] = second
                key[2] = third
                key[3] = fourth
                error_first = error_second = error_third = error_fourth = NOTHING
                for length in range(levels):
                    index = nearest(
                        first + error_first,
                        second + error_second,
                        third + error_third,
                        fourth + error_fourth,
                        centroids,
                        grid,
                    )
                    rank = ranks[index]
                    place = length
                    while place > 0 and mixture[place - 1] > rank:
                        mixture[place] = mixture[place - 1]
                        place -= 1
                    mixture[place] = rank
                    error_first += (first - centroids[index, 0]) * strength
                    error_second += (second - centroids[index, 1]) * strength
                    error_third += (third - centroids[index, 2]) * strength
                    error_fourth += (fourth - centroids[index, 3]) * strength
                    squared = (
                        error_first * error_first
                        + error_second * error_second
                        + error_third * error_third
                        + error_fourth * error_fourth
                    )
                    if squared > limit * limit:
                        factor = limit / np.sqrt(squared)
                        error_first *= factor
                        error_second *= factor
                        error_third *= factor
                        error_fourth *= factor
            threshold = thresholds[row % thresholds.shape[0], column % thresholds.shape[1]]
            indices[row, column] = order[mixture[threshold]]


@subroutine(EXACT)
def _slot(first: Any, second: Any, third: Any, fourth: Any) -> int:
    # Colours of 8-bit images are far apart on this scale; any spread of slots would do.
    whole = np.int64(first * 65536) * 73856093
    whole ^= np.int64(second * 65536) * 19349663
    whole ^= np.int64(third * 65536) * 83492791
    whole ^= np.int64(fourth * 65536) * 49979687
    return (whole >> 7) & (CACHE_SIZE - 1)
