"""Dithers on the CPU: each pixel depends on those before it.

Letters: H rows, W columns, K centroids, C channels (3 or 4). Centroids have four channels here,
a missing one is 0. Everything is `EXACT` float32 in a fixed order, so a slow loop in numpy gives
the same bits. Colours are kept in scalars: numba then holds them in registers.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn.kernels.cpu.runtime import EXACT, kernel, next_task, run, subroutine

CACHE_SIZE = 1 << 14  # colours whose mixtures are remembered: some hundred kilobytes
NOTHING = np.float32(0)
ONE = np.float32(1)


class Grid(NamedTuple):
    """For each cell of a box, the centroids that are nearest to some point of it.

    That of `colorquant_nn.kernels.cpu.grid` has three channels. Without a grid, a picture of
    512 x 768 with alpha takes 217 ms for 256 colours, with this one 66.
    """

    origin: NDArray[np.float32]
    """(4,) float32, the lowest corner."""
    scale: NDArray[np.float32]
    """(4,) float32, cells per unit."""
    last: NDArray[np.float32]
    """(4,) float32, the index of the last cell along each channel."""
    strides: NDArray[np.int64]
    """(4,) int64, from the cell's four indices to its number."""
    starts: NDArray[np.int32]
    """(cells + 1,) int32, where a cell's candidates begin."""
    candidates: NDArray[np.int32]
    """int32, each cell's in ascending order."""


class Rules(NamedTuple):
    """What is passed on."""

    strength: np.float32
    """Share of the error."""
    limit: np.float32
    """Longer errors are cut to this."""
    opaque_limit: np.float32
    """Those of opaque pixels to this."""


def diffuse(
    points: Tensor,
    kinds: Tensor | None,
    centroids: Tensor,
    targets: Tensor,
    limits: list[float],
    kept: Tensor | None,
    amounts: Tensor | None,
) -> Tensor:
    """See `colorquant_nn.kernels.diffuse`."""
    indices = torch.empty(points.shape[:2], dtype=torch.int64)
    colors, rules = _prepare(points, kinds, centroids, 1.0, limits)
    kept = torch.empty((0, 0), dtype=torch.int64) if kept is None else kept.contiguous()
    amounts = torch.empty((0, 0)) if amounts is None else amounts.contiguous()
    _diffuse(
        points.numpy(), _as_array(kinds), colors,
        (targets[:, :2].long().numpy(), targets[:, 2].contiguous().numpy()), rules,
        (kept.numpy(), amounts.numpy()), indices.numpy(),
    )  # fmt: skip
    return indices


def mix(
    points: Tensor,
    kinds: Tensor | None,
    centroids: Tensor,
    thresholds: Tensor,
    order: Tensor,
    levels: int,
    strength: float,
    limits: list[float],
) -> Tensor:
    """See `colorquant_nn.kernels.mix`."""
    indices = torch.empty(points.shape[:2], dtype=torch.int64)
    colors, rules = _prepare(points, kinds, centroids, strength, limits)
    # Bands start at whole matrices, so how many there are changes nothing. Each has a memory of
    # mixtures of its own, so there are no more of them than threads.
    band = -(-len(points) // (len(thresholds) * torch.get_num_threads())) * len(thresholds)
    run(
        _mix_bands, -(-len(points) // band), 100.0 * levels * indices.numel(),
        points.numpy(), _as_array(kinds), colors,
        (thresholds.numpy(), order.numpy(), order.argsort().numpy(), levels, band), rules,
        indices.numpy(),
    )  # fmt: skip
    return indices


def _as_array(kinds: Tensor | None) -> NDArray[np.uint8] | None:
    """None is a type of its own to numba: what asks for kinds is not compiled then."""
    return None if kinds is None else kinds.contiguous().numpy()


def _prepare(
    points: Tensor, kinds: Tensor | None, centroids: Tensor, strength: float, limits: list[float]
) -> tuple[tuple[NDArray[np.float32], Grid, Grid], Rules]:
    """Centroids in four channels, the grids of all and of the opaque ones; the rules."""
    colors = np.zeros((len(centroids), 4), np.float32)
    colors[:, : centroids.shape[1]] = centroids.to(torch.float32).numpy()
    rules = Rules(np.float32(strength), np.float32(limits[0]), np.float32(limits[1]))
    opaque = np.flatnonzero(colors[:, 3] == colors[:, 3].max()).astype(np.int32)
    longest = max(rules.limit, rules.opaque_limit)
    # Where they do not differ, the last channel tells nothing. What no pixel asks for is not built.
    if len(opaque) == len(colors) or (kinds is not None and not bool((kinds == 1).any())):
        grid = _build_grid(points, colors, opaque, 3, longest)
        return (colors, grid, grid), rules
    everything = np.arange(len(colors), dtype=np.int32)
    grid = opaque_grid = _build_grid(points, colors, everything, 4, longest)
    if kinds is not None and bool((kinds == 2).any()):
        opaque_grid = _build_grid(points, colors, opaque, 3, longest)
    return (colors, grid, opaque_grid), rules


def _build_grid(
    points: Tensor,
    colors: NDArray[np.float32],
    some: NDArray[np.int32],
    channels: int,
    limit: np.float32,
) -> Grid:
    """Candidate lists over a box, by halving its cells, for points with errors up to ``limit``."""
    points = points[..., :channels]
    low = np.minimum(points.amin((0, 1)).numpy(), colors[:, :channels].min(0)) - limit
    high = np.maximum(points.amax((0, 1)).numpy(), colors[:, :channels].max(0)) + limit
    doublings = 4 if channels == 4 else 5 + (points.shape[0] * points.shape[1] > 1 << 20)
    origin = colors[some[0]].copy()  # what the channels that are not divided have in common
    origin[:channels] = low
    scale = np.zeros(4, np.float32)
    one_cell = np.array([0, len(some)], np.int32)
    nowhere = np.zeros(4, np.int64)
    grid = Grid(origin, scale, np.zeros(4, np.float32), nowhere, one_cell, some)
    for doubling in range(1, doublings + 1):
        cells = 1 << doubling
        last = np.zeros(4, np.float32)
        last[:channels] = cells - 1
        scale = np.zeros(4, np.float32)
        scale[:channels] = cells / np.maximum(high - low, np.float32(1e-6))
        strides = np.ones(4, np.int64)
        strides[:channels] = cells ** np.arange(channels - 1, -1, -1)
        starts = np.empty(cells**channels + 1, np.int32)
        # Each list goes to the 2^C cells that its cell is divided into, at most whole.
        room = np.empty(len(grid.candidates) << channels, np.int32)
        finer = Grid(origin, scale, last, strides, starts, room)
        total = _refine(colors, finer, grid)
        grid = finer._replace(candidates=room[:total].copy())
    return grid


@subroutine(EXACT)
def _distance(first, second, third, fourth, centroids, index):
    first -= centroids[index, 0]
    second -= centroids[index, 1]
    third -= centroids[index, 2]
    fourth -= centroids[index, 3]
    return first * first + second * second + third * third + fourth * fourth


@kernel(EXACT)
def _refine(centroids, grid, parent):
    """Fill the lists of a grid from one with half as many cells along each refined channel.

    A centroid is a candidate if it is nearer to the cell's middle than the nearest one plus the
    cell's diagonal. ``grid.candidates`` has room for all; returns how many there are.
    """
    middle = grid.origin.copy()
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
def _step(value, grid, channel):
    step = (value - grid.origin[channel]) * grid.scale[channel]
    return int(min(max(step, NOTHING), grid.last[channel]))


@subroutine(EXACT)
def nearest(first, second, third, fourth, centroids, grid):
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
def _diffuse(points, kinds, colors, targets, rules, maps, indices):
    """Error diffusion over (H, W, C) points in serpentine order, into ``indices`` (H, W)."""
    centroids, grid, opaque_grid = colors
    steps, shares = targets
    kept, amounts = maps  # empty: not given
    height, width, channels = points.shape
    margin = 2  # the longest step
    errors = np.zeros((3, width + 2 * margin, 4), np.float32)  # this row and the next two
    for row in range(height):
        here = row % 3
        direction = 1 if row % 2 == 0 else -1
        column = 0 if row % 2 == 0 else width - 1
        for _ in range(width):
            kind = 1 if kinds is None else kinds[row, column]
            if kind == 0:
                indices[row, column] = 0
                column += direction
                continue
            beside = column + margin
            amount = amounts[row, column] if len(amounts) > 0 else ONE
            first = points[row, column, 0] + errors[here, beside, 0] * amount
            second = points[row, column, 1] + errors[here, beside, 1] * amount
            third = points[row, column, 2] + errors[here, beside, 2] * amount
            fourth = NOTHING
            if kind == 2:
                fourth = points[row, column, 3]
                index = nearest(first, second, third, fourth, centroids, opaque_grid)
            else:
                if channels == 4:
                    fourth = points[row, column, 3] + errors[here, beside, 3] * amount
                index = nearest(first, second, third, fourth, centroids, grid)
            if len(kept) > 0 and kept[row, column] >= 0:
                index = kept[row, column]
            indices[row, column] = index
            first -= centroids[index, 0]
            second -= centroids[index, 1]
            third -= centroids[index, 2]
            fourth -= centroids[index, 3]
            squared = first * first + second * second + third * third + fourth * fourth
            limit = rules.opaque_limit if kind == 2 else rules.limit
            factor = rules.strength * amount
            if squared > limit * limit:
                factor *= limit / np.sqrt(squared)
            first *= factor
            second *= factor
            third *= factor
            fourth *= factor
            for target in range(len(shares)):
                below = (here + steps[target, 1]) % 3
                beside = column + margin + direction * steps[target, 0]
                share = shares[target]
                errors[below, beside, 0] += first * share
                errors[below, beside, 1] += second * share
                errors[below, beside, 2] += third * share
                errors[below, beside, 3] += fourth * share
            column += direction
        errors[here] = 0


@subroutine(EXACT, inline="always")
def _list(color, centroids, grid, ranks, strength, limit, mixture):
    """Fill a mixture of a colour with the ranks of its centroids, in ascending order."""
    first, second, third, fourth = color
    error_first = error_second = error_third = error_fourth = NOTHING
    for length in range(len(mixture)):
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


@kernel(EXACT)
def _mix_bands(counter, num_tasks, points, kinds, colors, matrix, rules, indices):
    """Ordered dither of (H, W, C) points, into ``indices`` (H, W), by bands of rows."""
    thresholds, order, ranks, levels, band = matrix
    centroids, grid, opaque_grid = colors
    height, width, channels = points.shape
    keys = np.full((CACHE_SIZE, 4), np.nan, np.float32)  # NaN equals nothing: empty
    lists = np.empty((CACHE_SIZE, levels), np.int32)
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        for row in range(task * band, min((task + 1) * band, height)):
            for column in range(width):
                kind = 1 if kinds is None else kinds[row, column]
                if kind == 0:
                    indices[row, column] = 0
                    continue
                first = points[row, column, 0]
                second = points[row, column, 1]
                third = points[row, column, 2]
                fourth = points[row, column, 3] if channels == 4 else NOTHING
                slot = _slot(first, second, third, fourth)
                key = keys[slot]
                mixture = lists[slot]
                if not (
                    key[0] == first and key[1] == second and key[2] == third and key[3] == fourth
                ):
                    key[0] = first
                    key[1] = second
                    key[2] = third
                    key[3] = fourth
                    color = (first, second, third, fourth)
                    if kind == 2:
                        limit = rules.opaque_limit
                        _list(color, centroids, opaque_grid, ranks, rules.strength, limit, mixture)
                    else:
                        _list(color, centroids, grid, ranks, rules.strength, rules.limit, mixture)
                threshold = thresholds[row % thresholds.shape[0], column % thresholds.shape[1]]
                indices[row, column] = order[mixture[threshold]]


@subroutine(EXACT)
def _slot(first, second, third, fourth):
    # Colours of 8-bit images are far apart on this scale; any spread of slots would do.
    whole = np.int64(first * 65536) * 73856093
    whole ^= np.int64(second * 65536) * 19349663
    whole ^= np.int64(third * 65536) * 83492791
    whole ^= np.int64(fourth * 65536) * 49979687
    return (whole >> 7) & (CACHE_SIZE - 1)
