"""How much dither each pixel of a drawing needs, on the CPU.

Sums are `EXACT`, and bands of rows are looked at with all that their results depend on: neither
how many there are nor who does them changes anything.

Letters: H rows, W columns, N = H W pixels, K colours, C channels (3 or 4).
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np
import torch
from torch import Tensor

from colorquant_nn.kernels.cpu.runtime import EXACT, kernel, next_task, run, subroutine

BAND = 64  # rows that are looked at together
REACH = 4  # rows that a result depends on, either way: of two blurs
ONE, TWO, THREE, FOUR = (np.float32(value) for value in (1, 2, 3, 4))
NOTHING = np.float32(0)
TENT = np.float32(1 / 9)  # 1, 2, 3, 2, 1 add up to 9


def dither_amounts(
    points: Tensor, indices: Tensor, colors: Tensor, unseen: float, hidden: float, flat: list[float]
) -> Tensor:
    """See `colorquant_nn.kernels.dither_amounts`."""
    height, width, channels = points.shape
    amounts = torch.empty((height, width), dtype=torch.float32)
    if amounts.numel() == 0:
        return amounts
    pixels, drawn = points.contiguous().numpy(), indices.contiguous().numpy()
    parents = np.empty(height * width, np.int32 if height * width < 1 << 31 else np.int64)
    edge, wide = np.float32(flat[0] ** 2), np.float32(flat[1] ** 2)
    result = amounts.numpy()
    _measure_pieces(
        pixels.reshape(-1, channels), drawn.reshape(-1), edge, width, parents, result.reshape(-1)
    )
    run(
        _share_bands, -(-height // BAND), 30.0 * result.size, pixels, drawn, colors.numpy(),
        (np.float32(unseen), np.float32(hidden), wide), result,
    )  # fmt: skip
    return amounts


@subroutine(EXACT)
def _root(parents, place):
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = parents[place]
    return place


@subroutine(EXACT)
def _squared_distance(points, first, second):
    total = NOTHING
    for channel in range(points.shape[1]):
        total += (points[first, channel] - points[second, channel]) ** 2
    return total


@kernel(EXACT)
def _measure_pieces(points, indices, edge, width, parents, reaches):
    """The largest squared distance of a piece's points (N, C) from its first, for each of them.

    In a piece are neighbours of one index, but for those at an edge, which are further than the
    square root of ``edge`` from one of their neighbours. These have the least of what their
    neighbours have; what is alone has no bound.
    """
    smooth = np.ones(len(indices), np.bool_)
    for place in range(len(indices)):
        for other in (place - 1 if place % width > 0 else place, max(place - width, place % width)):
            if _squared_distance(points, place, other) > edge:
                smooth[place] = smooth[other] = False
    for place in range(len(indices)):
        root = place
        parents[place] = place
        if not smooth[place]:
            continue
        if place % width > 0 and smooth[place - 1] and indices[place] == indices[place - 1]:
            root = _root(parents, place - 1)
            parents[place] = root
        if place >= width and smooth[place - width] and indices[place] == indices[place - width]:
            above = _root(parents, place - width)
            parents[max(root, above)] = min(root, above)  # so a piece's first point is its root
    for place in range(len(indices)):
        reaches[place] = np.inf
        root = _root(parents, place)
        parents[place] = root
        if root != place:
            known = reaches[root] if reaches[root] < np.inf else NOTHING
            reaches[root] = max(known, _squared_distance(points, place, root))
    for place in range(len(indices)):  # roots come before what belongs to them
        reaches[place] = reaches[parents[place]]
    for place in range(len(indices)):
        if smooth[place]:
            continue
        if place % width > 0 and smooth[place - 1]:
            reaches[place] = min(reaches[place], reaches[place - 1])
        if place % width < width - 1 and smooth[place + 1]:
            reaches[place] = min(reaches[place], reaches[place + 1])
        if place >= width and smooth[place - width]:
            reaches[place] = min(reaches[place], reaches[place - width])
        if place < len(indices) - width and smooth[place + width]:
            reaches[place] = min(reaches[place], reaches[place + width])


@subroutine(EXACT)
def _blur(plane, other):
    """A tent of 5 x 5 over (rows, W), in place; beyond a border is what is at it."""
    height, width = plane.shape
    for row in range(height):
        above, top = plane[max(row - 1, 0)], plane[max(row - 2, 0)]
        below, bottom = plane[min(row + 1, height - 1)], plane[min(row + 2, height - 1)]
        here, out = plane[row], other[row]
        for column in range(width):
            out[column] = TENT * (
                (top[column] + bottom[column])
                + TWO * (above[column] + below[column])
                + THREE * here[column]
            )
    for row in range(height):
        here, out = other[row], plane[row]
        for column in range(2, width - 2):
            out[column] = TENT * (
                (here[column - 2] + here[column + 2])
                + TWO * (here[column - 1] + here[column + 1])
                + THREE * here[column]
            )
        for column in range(width):
            if 2 <= column < width - 2:
                continue
            out[column] = TENT * (
                (here[max(column - 2, 0)] + here[min(column + 2, width - 1)])
                + TWO * (here[max(column - 1, 0)] + here[min(column + 1, width - 1)])
                + THREE * here[column]
            )


@kernel(EXACT)
def _share_bands(counter, num_tasks, points, indices, colors, constants, amounts):
    """Turn the squared reaches of the pieces (H, W) into amounts, by bands of rows."""
    unseen, hidden, wide = constants
    height, width, channels = points.shape
    rows = min(BAND + 2 * REACH, height)
    planes = np.empty((4, rows, width), np.float32)
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        first = max(task * BAND - REACH, 0)
        last = min((task + 1) * BAND + REACH, height)
        error = planes[0, : last - first]
        seen = planes[1, : last - first]
        contrast = planes[2, : last - first]
        other = planes[3, : last - first]
        seen[:] = NOTHING
        contrast[:] = NOTHING
        for channel in range(channels):
            for row in range(first, last):
                for column in range(width):
                    here = points[row, column, channel]
                    error[row - first, column] = colors[indices[row, column], channel] - here
            _blur(error, other)
            for row in range(last - first):
                for column in range(width):
                    seen[row, column] += error[row, column] * error[row, column]
            for row in range(first, last):
                for column in range(width - 1):
                    step = points[row, column + 1, channel] - points[row, column, channel]
                    contrast[row - first, column] += step * step
                    contrast[row - first, column + 1] += step * step
            for row in range(first, last - 1):
                for column in range(width):
                    step = points[row + 1, column, channel] - points[row, column, channel]
                    contrast[row - first, column] += step * step
                    contrast[row - first + 1, column] += step * step
        _blur(seen, other)
        _blur(contrast, other)
        for row in range(task * BAND, min((task + 1) * BAND, height)):
            for column in range(width):
                error_there = np.sqrt(seen[row - first, column])
                hides = unseen + hidden * np.sqrt(contrast[row - first, column] / FOUR)
                share = error_there / (error_there + hides)
                amounts[row, column] = share * min(amounts[row, column] / wide, ONE)
