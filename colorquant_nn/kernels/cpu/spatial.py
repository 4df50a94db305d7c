"""Dots that look like a picture from afar, on the CPU: what `functional.spatial` is made of.

Letters: H rows, W columns, K colours, R how far two pixels see each other; four axes, the last one
0 where there is no alpha. The coupling of two pixels is ``blur[dy] * blur[dx]`` on each axis.

A sweep goes through tiles in four phases, those of a chessboard of two by two. Tiles of one phase
are further apart than a change reaches, so what each does does not depend on when the others do
it. Sums of the palette step are made in fixed bands, combined in order.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn.kernels.cpu.runtime import FUSED, kernel, next_task, run

TILE = 64  # a multiple of BLOCK, more than twice the reach
BLOCK = 8  # pixels a side that are looked at again, or not, together
BAND = 64  # rows that are blurred together
PARTS = 8  # sums of the palette step; each has the size of the K x K matrices
LANES = 8  # colours that are compared at a time
FAR = np.float32(1e15)  # where there is no colour; its square is finite


def sweep_dots(
    points: Tensor,
    weights: Tensor,
    kinds: Tensor,
    colors: Tensor,
    blur: Tensor,
    indices: Tensor,
    response: Tensor,
    stale: Tensor,
) -> Tensor:
    """See `colorquant_nn.kernels.sweep_dots`."""
    height, width = indices.shape
    down, across = -(-height // TILE), -(-width // TILE)
    palettes = _in_lanes(colors.numpy())
    now, changes = stale.numpy().copy(), np.zeros(down * across, np.int64)
    stale.zero_()
    rows = blur.numpy()
    coupling = (rows[:, None] * rows).reshape(len(rows), -1)
    for phase in range(4):
        corner = phase // 2, phase % 2
        tiles = np.array([-(-(down - corner[0]) // 2), -(-(across - corner[1]) // 2)])
        run(
            _sweep_tiles, int(tiles.prod()), 100.0 * TILE**2 * int(tiles.prod()),
            (*corner, int(tiles[1])),
            (points.numpy(), weights.numpy(), kinds.numpy()),
            palettes, colors.numpy(), coupling,
            (indices.numpy(), response.flatten(1).numpy(), now, stale.numpy(), changes),
        )  # fmt: skip
    return torch.tensor(int(changes.sum()))


def blur_errors(
    points: Tensor, weights: Tensor, colors: Tensor, blur: Tensor, indices: Tensor
) -> Tensor:
    """See `colorquant_nn.kernels.blur_errors`."""
    height, width = indices.shape
    reach = len(blur) - 1
    response = torch.empty((height + reach, width + reach, 4))
    run(
        _blur_bands, -(-len(response) // BAND), 100.0 * indices.numel(),
        points.numpy(), weights.numpy(), colors.numpy(), blur.numpy(), indices.numpy(),
        response.numpy(),
    )  # fmt: skip
    return response


def couple_colors(
    weights: Tensor, blur: Tensor, indices: Tensor, response: Tensor, num_colors: int
) -> tuple[Tensor, Tensor]:
    """See `colorquant_nn.kernels.couple_colors`."""
    matrices = np.zeros((PARTS, num_colors, num_colors, 4))
    gradients = np.zeros((PARTS, num_colors, 4))
    rows, height = blur.numpy(), len(indices)
    # Many pixels tell the matrix as well by some of their rows; the gradient, by which it is known
    # when the palette is best, needs all.
    skip = min(4, 1 + (indices.numel() >> 17))
    run(
        _couple_bands, PARTS, 100.0 * indices.numel(),
        weights.numpy(), indices.numpy(), response.numpy(), rows[:, None] * rows, skip,
        (matrices, gradients),
    )  # fmt: skip
    matrix = matrices.sum(0)
    matrix += matrix.transpose(1, 0, 2)
    matrix *= height / len(range(0, height, skip))
    return torch.from_numpy(matrix), torch.from_numpy(gradients.sum(0))


def move_colors(
    matrix: Tensor, gradient: Tensor, colors: Tensor, axes: Tensor, movable: Tensor, rounds: int
) -> Tensor:
    """See `colorquant_nn.kernels.move_colors`."""
    moved = colors.to(torch.float64, copy=True)
    _move(
        matrix.numpy(), gradient.clone().numpy(), moved.numpy(), axes.numpy(), movable.numpy(),
        rounds,
    )  # fmt: skip
    return moved


def _in_lanes(colors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(2, 4, multiple of LANES): all, and those of the largest last axis; others are far."""
    palettes = np.full((2, 4, -(-len(colors) // LANES) * LANES), FAR)
    palettes[0, :, : len(colors)] = colors.T
    opaque = np.flatnonzero(colors[:, 3] == colors[:, 3].max())
    palettes[1][:, opaque] = colors[opaque].T
    return palettes


@kernel(FUSED)
def _sweep_tiles(counter, num_tasks, phase, target, palettes, colors, coupling, dots):
    points, weights, kinds = target
    indices, response, now, stale, changes = dots
    height, width = indices.shape
    reach = len(coupling) // 2
    size = coupling.shape[1]
    across = -(-width // TILE)
    distances = np.empty(palettes.shape[2], np.float32)
    order = distances.view(np.int32)  # of floats that are not negative: the same order
    added = np.empty(size, np.float32)
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        tile_row = 2 * (task // phase[2]) + phase[0]
        tile_column = 2 * (task % phase[2]) + phase[1]
        bottom = min(height, (tile_row + 1) * TILE)
        right = min(width, (tile_column + 1) * TILE)
        count = 0
        for row in range(tile_row * TILE, bottom):
            for left in range(tile_column * TILE, right, BLOCK):
                if now[row // BLOCK, left // BLOCK] == 0:
                    continue
                for column in range(left, min(right, left + BLOCK)):
                    kind = kinds[row, column]
                    if kind == 0:
                        continue
                    old = indices[row, column]
                    weight = weights[row, column]
                    start = points[row, column] if old < 0 else colors[old]
                    pull = np.float32(1) / weight
                    place = 4 * (column + reach)
                    first = start[0] - response[row + reach, place] * pull
                    second = start[1] - response[row + reach, place + 1] * pull
                    third = start[2] - response[row + reach, place + 2] * pull
                    fourth = start[3] - response[row + reach, place + 3] * pull
                    palette = palettes[kind - 1]
                    for block in range(0, len(distances), LANES):
                        for lane in range(LANES):
                            a = palette[0, block + lane] - first
                            b = palette[1, block + lane] - second
                            c = palette[2, block + lane] - third
                            d = palette[3, block + lane] - fourth
                            distances[block + lane] = a * a + b * b + c * c + d * d
                    least = order[0]
                    for index in range(len(order)):
                        least = min(least, order[index])
                    if old >= 0 and order[old] == least:
                        continue
                    new = 0
                    while order[new] != least:
                        new += 1
                    count += 1
                    indices[row, column] = new
                    first = weight * (colors[new, 0] - start[0])
                    second = weight * (colors[new, 1] - start[1])
                    third = weight * (colors[new, 2] - start[2])
                    fourth = weight * (colors[new, 3] - start[3])
                    for step in range(0, size, 4):
                        added[step] = first
                        added[step + 1] = second
                        added[step + 2] = third
                        added[step + 3] = fourth
                    for step in range(len(coupling)):
                        line = response[row + step, 4 * column : 4 * column + size]
                        factors = coupling[step]
                        for part in range(size):
                            line[part] += factors[part] * added[part]
                    lowest = min(height - 1, row + reach) // BLOCK
                    furthest = min(width - 1, column + reach) // BLOCK
                    for y in range(max(0, row - reach) // BLOCK, lowest + 1):
                        for x in range(max(0, column - reach) // BLOCK, furthest + 1):
                            stale[y, x] = 1
        changes[tile_row * across + tile_column] = count


@kernel(FUSED)
def _blur_bands(counter, num_tasks, points, weights, colors, blur, indices, response):
    height, width = indices.shape
    size = len(blur)
    line = np.zeros((width + 2 * size - 2, 4), np.float32)  # errors, and zeros beside them
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        top = task * BAND
        bottom = min(len(response), top + BAND)
        response[top:bottom] = 0
        for row in range(max(0, top - size + 1), min(height, bottom)):
            for column in range(width):
                weight = weights[row, column]
                index = indices[row, column]
                for axis in range(4):
                    error = np.float32(0)
                    if weight > 0 and index >= 0:
                        error = weight * (colors[index, axis] - points[row, column, axis])
                    line[column + size - 1, axis] = error
            blurred = np.zeros((response.shape[1], 4), np.float32)
            for step in range(size):
                for column in range(len(blurred)):
                    for axis in range(4):
                        blurred[column, axis] += blur[step, axis] * line[column + step, axis]
            for step in range(max(0, top - row), min(size, bottom - row)):
                for column in range(len(blurred)):
                    for axis in range(4):
                        response[row + step, column, axis] += (
                            blur[step, axis] * blurred[column, axis]
                        )


@kernel(FUSED)
def _couple_bands(counter, num_tasks, weights, indices, response, coupling, skip, sums):
    matrices, gradients = sums
    height, width = indices.shape
    reach = len(coupling) // 2
    band = -(-height // num_tasks)
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        matrix = matrices[task]
        gradient = gradients[task]
        for row in range(task * band, min(height, (task + 1) * band)):
            for column in range(width):
                weight = weights[row, column]
                if weight == 0:
                    continue
                index = indices[row, column]
                for axis in range(4):
                    gradient[index, axis] += weight * response[row + reach, column + reach, axis]
                if row % skip > 0:
                    continue
                for axis in range(4):
                    # Half, for the transpose is added.
                    matrix[index, index, axis] += np.float32(0.5) * weight * weight
                # Each pair of pixels once.
                for above in range(max(0, row - reach), row + 1):
                    first = max(0, column - reach)
                    last = column if above == row else min(width, column + reach + 1)
                    for beside in range(first, last):
                        factor = weight * weights[above, beside]
                        entry = matrix[index, indices[above, beside]]
                        couplings = coupling[above - row + reach, beside - column + reach]
                        for axis in range(4):
                            entry[axis] += factor * couplings[axis]


@kernel(FUSED)
def _move(matrix, gradient, colors, axes, movable, rounds):
    """Coordinate descent within bounds; ``gradient`` follows."""
    change = np.empty(4)
    for _ in range(rounds):
        largest = 0.0
        for index in range(len(colors)):
            for channel in range(4):
                if movable[index] <= channel // 3:
                    continue
                slope = 0.0
                curvature = 0.0
                for axis in range(4):
                    slope += axes[axis, channel] * gradient[index, axis]
                    curvature += axes[axis, channel] ** 2 * matrix[index, index, axis]
                if curvature <= 0:
                    continue
                if channel < 3:
                    low, high = 0.0, colors[index, 3]
                else:
                    low = max(colors[index, 0], colors[index, 1], colors[index, 2])
                    high = 1.0
                value = min(max(colors[index, channel] - slope / curvature, low), high)
                step = value - colors[index, channel]
                if step == 0:
                    continue
                colors[index, channel] = value
                largest = max(largest, abs(step))
                for axis in range(4):
                    change[axis] = axes[axis, channel] * step
                for other in range(len(colors)):
                    for axis in range(4):
                        gradient[other, axis] += matrix[other, index, axis] * change[axis]
        if largest < 1e-6:
            break
