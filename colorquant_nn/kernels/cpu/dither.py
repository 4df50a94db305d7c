"""Dithers on the CPU: colours mix in linear light, and the nearest is looked up in a space.

Letters: H rows, W columns, K centroids, C channels (3 or 4). Colours have four channels here, a
missing alpha is 1. Everything is `EXACT` float32 in a fixed order, so a slow loop in numpy gives
nearly the same bits. Colours are kept in scalars: numba then holds them in registers.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn.kernels.cpu.runtime import EXACT, kernel, next_task, run, subroutine
from colorquant_nn.kernels.cpu.tiles import flat

CACHE_SIZE = 1 << 14  # colours whose mixtures are remembered: a megabyte
MOST_COMPARED = 2048  # colours whose gaps are measured
FEW = 8  # colours: the inks of a panel are fewer, palettes of photographs have more
STRETCH = 3  # extents of the palette that an error may be long
SAMPLED = 4  # every so many rows and columns are looked at to place a grid
PICKS = 8  # colours that are tried for a mixture; 16 take longer and look alike
SWEEPS = 3  # over the pairs of a mixture, to make its mean exact
# Share of the error that a mixture carries on. With less than all of it, it prefers near colours.
SHARE = np.float32(0.7)
LUMINANCE = (0.2126, 0.7152, 0.0722, 0.0)
LUMINANCE_WEIGHT = 1000.0
SMALLEST_ALPHA = np.float32(1 / 256)  # by which a colour is divided
NOTHING = np.float32(0)
ONE = np.float32(1)
RED, GREEN, BLUE = (np.float32(x) for x in LUMINANCE[:3])
# Of the curves, see `colorquant_nn.functional.color`.
LINEAR_BELOW, LINEAR_SLOPE = np.float32(0.0031308), np.float32(12.92)
SLOPE, OFFSET = np.float32(1.055), np.float32(0.055)
LAB_BELOW, LAB_SLOPE = np.float32((6 / 29) ** 3), np.float32(1 / (3 * (6 / 29) ** 2))
LAB_OFFSET = np.float32(4 / 29)
THIRD, START = np.float32(1 / 3), np.float32(0x2A5119F2)  # of the bits of a cube root
TINY = np.float32(1e-36)  # roots of less are 0


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
    """(cells + 2,) int32, where a cell's candidates begin."""
    candidates: NDArray[np.int32]
    """int32, each cell's in ascending order; the last cell, with all, is outside of the box."""


class Space(NamedTuple):
    """Where the nearest centroid is looked up: a matrix, a curve of each channel, a matrix."""

    curve: int
    """A value of `CURVES`."""
    before: tuple[np.float32, ...]
    """Nine, row by row, from linear light."""
    after: tuple[np.float32, ...]
    """Nine."""
    lightness: np.float32
    """Of white: the scale of alpha."""


CURVES = {"none": 0, "srgb_encode": 1, "cube_root": 2, "lab_curve": 3}


class Axes(NamedTuple):
    """Directions of a palette in light, the first that of its luminance; errors are cut along each.

    What no mixture of the palette makes up for would pile up: the hue of a picture in greys. Cut on
    its own, it takes no luminance with it.
    """

    across: tuple[np.float32, ...]
    """Sixteen, row by row, from light to lengths along the axes."""
    back: tuple[np.float32, ...]
    """The inverse."""
    limits: tuple[np.float32, ...]
    """Four, the longest that an error may be along each."""


class Colors(NamedTuple):
    """The centroids and how they are found."""

    light: NDArray[np.float32]
    """(K, 4) float32, premultiplied linear light and alpha."""
    coordinates: NDArray[np.float32]
    """(K, 4) float32, the same in the space."""
    space: Space
    grid: Grid
    """Of all of them."""
    opaque_grid: Grid
    """Of those with the largest alpha."""
    axes: Axes
    """Along which errors are cut."""
    opaque_axes: Axes
    """Those of opaque pixels."""


def diffuse(
    points: Tensor,
    kinds: Tensor | None,
    centroids: Tensor,
    stages: list[str],
    matrices: list[float],
    targets: Tensor,
    kept: Tensor | None,
    amounts: Tensor | None,
) -> Tensor:
    """See `colorquant_nn.kernels.diffuse`."""
    indices = torch.empty(points.shape[:2], dtype=torch.int64)
    if indices.numel() == 0:
        return indices
    colors = _prepare(points, kinds, centroids, stages, matrices)
    kept = torch.empty((0, 0), dtype=torch.int64) if kept is None else kept.contiguous()
    amounts = torch.empty((0, 0)) if amounts is None else amounts.contiguous()
    _diffuse(
        _in_place(points), _as_array(kinds), colors,
        (targets[:, :2].long().numpy(), targets[:, 2].contiguous().numpy()),
        (kept.numpy(), amounts.numpy()), indices.numpy(),
    )  # fmt: skip
    return indices


def mix(
    points: Tensor,
    kinds: Tensor | None,
    centroids: Tensor,
    stages: list[str],
    matrices: list[float],
    thresholds: Tensor,
    strength: float,
) -> Tensor:
    """See `colorquant_nn.kernels.mix`."""
    indices = torch.empty(points.shape[:2], dtype=torch.int64)
    if indices.numel() == 0:
        return indices
    colors = _prepare(points, kinds, centroids, stages, matrices)
    # Each band has a memory of mixtures of its own, so there are no more of them than threads.
    band = -(-len(points) // torch.get_num_threads())
    run(
        _mix_bands, -(-len(points) // band), 1000.0 * indices.numel(),
        _in_place(points), _as_array(kinds), colors, thresholds.numpy(),
        (np.float32(strength), band), indices.numpy(),
    )  # fmt: skip
    return indices


def _in_place(points: Tensor) -> tuple[NDArray[np.float32], tuple[int, ...], int]:
    """Their memory, strides and number of channels: of one type, whatever the order of the axes."""
    return flat(points), points.stride(), points.shape[2]


def _as_array(kinds: Tensor | None) -> NDArray[np.uint8]:
    """Empty without kinds: None is a type of its own to numba, and all is compiled once more."""
    return np.empty((0, 0), np.uint8) if kinds is None else kinds.contiguous().numpy()


def _prepare(
    points: Tensor,
    kinds: Tensor | None,
    centroids: Tensor,
    stages: list[str],
    matrices: list[float],
) -> Colors:
    """Centroids in light and in the space, and the grids of all and of the opaque ones."""
    space = _space(stages, matrices)
    light = _with_alpha(centroids)
    coordinates = _convert(light, space)
    some = _convert(_with_alpha(points[::SAMPLED, ::SAMPLED].flatten(0, 1)), space)
    everything = np.arange(len(light), dtype=np.int32)
    opaque = np.flatnonzero(light[:, 3] == light[:, 3].max()).astype(np.int32)
    is_perceptual = space.curve in (CURVES["cube_root"], CURVES["lab_curve"])
    axes, opaque_axes = (_axes(part, is_perceptual) for part in (light, light[opaque]))
    # Where they do not differ, the last channel tells nothing. What no pixel asks for is not built.
    if len(opaque) == len(light) or (kinds is not None and not bool((kinds == 1).any())):
        grid = opaque_grid = _build_grid(some, coordinates, opaque, 3)
    else:
        grid = opaque_grid = _build_grid(some, coordinates, everything, 4)
        if kinds is not None and bool((kinds == 2).any()):
            opaque_grid = _build_grid(some, coordinates, opaque, 3)
    return Colors(light, coordinates, space, grid, opaque_grid, axes, opaque_axes)


def _space(stages: list[str], matrices: list[float]) -> Space:
    """The space that a chain of stages leads to."""
    curves = [stage for stage in stages if stage != "matrix"]
    numbers = tuple(np.float32(x) for x in matrices or 18 * [0.0])
    space = Space(CURVES[curves[0] if curves else "none"], numbers[:9], numbers[9:], ONE)
    return space._replace(lightness=_convert(np.ones((1, 4), np.float32), space)[0, 0])


def _with_alpha(colors: Tensor) -> NDArray[np.float32]:
    four = np.ones((len(colors), 4), np.float32)
    four[:, : colors.shape[1]] = colors.numpy()
    return four


def _axes(light: NDArray[np.float32], is_perceptual: bool) -> Axes:
    """The principal axes of colours (K, 4) where luminance counts far more than all else."""
    luminance = np.array(LUMINANCE)
    root = np.linalg.cholesky(np.eye(4) + LUMINANCE_WEIGHT * np.outer(luminance, luminance))
    scaled = (light - light.mean(0, dtype=np.float64)) @ root
    axes = np.linalg.eigh(scaled.T @ scaled)[1][:, ::-1]
    across = axes.T @ root.T
    back = np.linalg.inv(across)
    longest, mean = _gaps(light)
    # Of photographs in palettes of their own, the longest gap for hues costs 0.5 to 1.5 dB, and is
    # no better to the eye. Few inks need it, and more than their extent: what they can mix turned
    # yellow or red with less. In rgb, hues that are so far off would outweigh lightness.
    is_few = len(light) < FEW and is_perceptual
    hue = longest if is_few else mean
    gaps = np.array([longest, hue, hue, hue]) / np.linalg.norm(back, axis=0)
    limits = np.minimum((STRETCH if is_few else 1) * np.ptp(scaled @ axes, 0), gaps)
    return Axes(*(tuple(x.astype(np.float32).ravel()) for x in (across, back, limits)))


def _gaps(colors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The longest and the mean edge of the minimum spanning tree: the gaps between neighbours.

    Of many colours it looks at one in each cell of a grid, for the time grows with their square.

    References:
        Prim 1957, "Shortest connection networks and some generalizations".
    """
    low, size = colors.min(0), max(np.ptp(colors, 0).max(), 1e-30)
    bits = 8
    while len(colors) > MOST_COMPARED:
        cells = ((colors - low) * ((1 << bits) / size)).astype(np.int64)
        colors = colors[np.sort(np.unique(cells, axis=0, return_index=True)[1])]
        bits -= 1
    edges = np.zeros(max(len(colors) - 1, 1), np.float32)
    _span(colors, edges)
    return np.array([edges.max(), edges.mean()], np.float32)


def _build_grid(
    points: NDArray[np.float32],
    colors: NDArray[np.float32],
    some: NDArray[np.int32],
    channels: int,
) -> Grid:
    """Candidate lists over a box, by halving its cells, about where points with errors will be."""
    both = np.concatenate([points, colors[some]])[:, :channels]
    margin = _gaps(colors[some])[0]
    low, high = both.min(0) - margin, both.max(0) + margin
    doublings = 4 if channels == 4 else 5 + (len(points) * SAMPLED**2 > 1 << 20)
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
    return grid._replace(
        starts=np.append(grid.starts, np.int32(len(grid.candidates) + len(some))),
        candidates=np.concatenate([grid.candidates, some]),
    )


@kernel(EXACT)
def _span(colors, edges):
    """Prim's algorithm from the first colour of (K, 4), into the lengths (K - 1,)."""
    count = len(colors)
    distances = np.full(count, np.float32(np.inf))
    outside = np.ones(count, np.bool_)
    added = 0
    for edge in range(count - 1):
        outside[added] = False
        nearest_one = added
        smallest = np.float32(np.inf)
        for other in range(count):
            if outside[other]:
                distance = _distance(
                    colors[added, 0],
                    colors[added, 1],
                    colors[added, 2],
                    colors[added, 3],
                    colors,
                    other,
                )
                distances[other] = min(distances[other], distance)
                if distances[other] < smallest:
                    smallest = distances[other]
                    nearest_one = other
        added = nearest_one
        edges[edge] = np.sqrt(smallest)


@subroutine(EXACT)
def _cube_root(x):
    """Cube root of x >= 0 by Halley's method, from about a third of its logarithm, its bits."""
    x = np.float32(x)
    y = np.int32(np.float32(x.view(np.int32)) * THIRD + START).view(np.float32)
    cube = y * y * y
    y *= (cube + x + x) / (cube + cube + x)
    cube = y * y * y
    y *= (cube + x + x) / (cube + cube + x)
    return y if x >= TINY else NOTHING


@subroutine(EXACT)
def _bend(x, curve):
    """The curve of a channel, odd: below 0 it mirrors what is above.

    So do those of `colorquant_nn.functional.color` but that of Lab, whose tangent, eight times as
    steep as the rest, makes hues of less light than none outweigh all lightness.
    """
    size = abs(x)
    if curve == 1:
        if size > LINEAR_BELOW:
            size = SLOPE * _cube_root(size * np.sqrt(np.sqrt(size))) - OFFSET
        else:
            size *= LINEAR_SLOPE
    elif curve == 2:
        size = _cube_root(size)
    elif size > LAB_BELOW:
        size = _cube_root(size) - LAB_OFFSET
    else:
        size *= LAB_SLOPE
    return size if x >= 0 else -size


@subroutine(EXACT, inline="always")
def _to_space(first, second, third, alpha, space):
    """Premultiplied light in the space, where it is premultiplied, too."""
    if space.curve == 0:
        return first, second, third
    if alpha != ONE:
        alpha = max(alpha, SMALLEST_ALPHA)
        first /= alpha
        second /= alpha
        third /= alpha
    if space.curve != 1:
        first, second, third = _times(first, second, third, space.before)
    first, second, third = (
        _bend(first, space.curve),
        _bend(second, space.curve),
        _bend(third, space.curve),
    )
    if space.curve != 1:
        first, second, third = _times(first, second, third, space.after)
    if alpha != ONE:
        first *= alpha
        second *= alpha
        third *= alpha
    return first, second, third


@subroutine(EXACT)
def _times(first, second, third, matrix):
    return (
        first * matrix[0] + second * matrix[1] + third * matrix[2],
        first * matrix[3] + second * matrix[4] + third * matrix[5],
        first * matrix[6] + second * matrix[7] + third * matrix[8],
    )


@kernel(EXACT)
def _convert(light, space):
    """Colours (N, 4) of light in the space."""
    converted = np.empty_like(light)
    for i in range(len(light)):
        alpha = light[i, 3]
        converted[i, 0], converted[i, 1], converted[i, 2] = _to_space(
            light[i, 0], light[i, 1], light[i, 2], alpha, space
        )
        converted[i, 3] = alpha * space.lightness
    return converted


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


@subroutine(EXACT, inline="always")
def _cut(first, second, third, fourth, axes):
    """An error without what is too long of it."""
    m, b, limits = axes
    p = m[0] * first + m[1] * second + m[2] * third + m[3] * fourth
    q = m[4] * first + m[5] * second + m[6] * third + m[7] * fourth
    r = m[8] * first + m[9] * second + m[10] * third + m[11] * fourth
    s = m[12] * first + m[13] * second + m[14] * third + m[15] * fourth
    # What is too long: nothing, most often.
    p -= min(max(p, -limits[0]), limits[0])
    q -= min(max(q, -limits[1]), limits[1])
    r -= min(max(r, -limits[2]), limits[2])
    s -= min(max(s, -limits[3]), limits[3])
    if p != 0 or q != 0 or r != 0 or s != 0:
        first -= b[0] * p + b[1] * q + b[2] * r + b[3] * s
        second -= b[4] * p + b[5] * q + b[6] * r + b[7] * s
        third -= b[8] * p + b[9] * q + b[10] * r + b[11] * s
        fourth -= b[12] * p + b[13] * q + b[14] * r + b[15] * s
    return first, second, third, fourth


@subroutine(EXACT, inline="always")
def _find(first, second, third, alpha, space, coordinates, grid):
    """Index of the centroid that is nearest in the space to a colour of light; lowest of equals."""
    first, second, third = _to_space(first, second, third, alpha, space)
    return nearest(first, second, third, alpha * space.lightness, coordinates, grid)


@subroutine(EXACT, inline="always")
def nearest(first, second, third, fourth, centroids, grid):
    """Index of the nearest centroid; the lowest of equals."""
    a = (first - grid.origin[0]) * grid.scale[0]
    b = (second - grid.origin[1]) * grid.scale[1]
    c = (third - grid.origin[2]) * grid.scale[2]
    d = (fourth - grid.origin[3]) * grid.scale[3]
    cell = len(grid.starts) - 2  # outside
    if (
        min(min(a, b), min(c, d)) >= 0
        and a <= grid.last[0] + 1
        and b <= grid.last[1] + 1
        and c <= grid.last[2] + 1
        and d <= grid.last[3] + 1
    ):
        cell = (
            int(min(a, grid.last[0])) * grid.strides[0]
            + int(min(b, grid.last[1])) * grid.strides[1]
            + int(min(c, grid.last[2])) * grid.strides[2]
            + int(min(d, grid.last[3])) * grid.strides[3]
        )
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
def _diffuse(points, kinds, colors, targets, maps, indices):
    """Error diffusion over (H, W, C) points in serpentine order, into ``indices`` (H, W)."""
    memory, strides, channels = points
    down, across, deep = np.uint64(strides[0]), np.uint64(strides[1]), np.uint64(strides[2])
    light, coordinates, space, grid, opaque_grid, axes, opaque_axes = colors
    steps, shares = targets
    kept, amounts = maps  # empty: not given
    height, width = indices.shape
    margin = 2  # the longest step
    errors = np.zeros((3, width + 2 * margin, 4), np.float32)  # this row and the next two
    for row in range(height):
        here = row % 3
        direction = 1 if row % 2 == 0 else -1
        column = 0 if row % 2 == 0 else width - 1
        for _ in range(width):
            kind = kinds[row, column] if len(kinds) > 0 else 1
            if kind == 0:
                indices[row, column] = 0
                column += direction
                continue
            beside = column + margin
            amount = amounts[row, column] if len(amounts) > 0 else ONE
            place = np.uint64(row) * down + np.uint64(column) * across
            first = memory[place] + errors[here, beside, 0] * amount
            second = memory[place + deep] + errors[here, beside, 1] * amount
            third = memory[place + deep + deep] + errors[here, beside, 2] * amount
            fourth = ONE
            if channels == 4 and kind != 2:
                fourth = memory[place + deep + deep + deep] + errors[here, beside, 3] * amount
            its_grid = opaque_grid if kind == 2 else grid
            index = _find(first, second, third, fourth, space, coordinates, its_grid)
            if len(kept) > 0 and kept[row, column] >= 0:
                index = kept[row, column]
            indices[row, column] = index
            first -= light[index, 0]
            second -= light[index, 1]
            third -= light[index, 2]
            fourth -= light[index, 3]
            its_axes = opaque_axes if kind == 2 else axes
            first, second, third, fourth = _cut(first, second, third, fourth, its_axes)
            first *= amount
            second *= amount
            third *= amount
            fourth *= amount
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


@subroutine(EXACT)
def _list(color, strength, colors, lists):
    """Fill a mixture of a colour with centroids in ascending order, and where each one's ends.

    Which centroids: each pick is the nearest to the colour and what the ones before it left over.
    While that stays the same, what is left over doubles, so that however small it is, another
    comes. How much of each: shifts between pairs make the mean of the light exact, or, if they
    cannot, its luminance.
    """
    light, coordinates, space, grid, axes = colors
    mixture, bounds, weights = lists
    a, b, c, d = color[0], color[1], color[2], color[3]
    p = q = r = s = NOTHING  # what is left over
    length = 0
    step = ONE
    before = -1
    for _ in range(PICKS):
        index = _find(a + p, b + q, c + r, d + s, space, coordinates, grid)
        if length == 0:  # how far to go from the nearest
            a = light[index, 0] + (a - light[index, 0]) * strength
            b = light[index, 1] + (b - light[index, 1]) * strength
            c = light[index, 2] + (c - light[index, 2]) * strength
            d = light[index, 3] + (d - light[index, 3]) * strength
        step = step + step if index == before else ONE
        before = index
        place = 0
        while place < length and mixture[place] < index:
            place += 1
        if place == length or mixture[place] != index:
            for other in range(length, place, -1):
                mixture[other] = mixture[other - 1]
                weights[other] = weights[other - 1]
            mixture[place] = index
            weights[place] = NOTHING
            length += 1
        weights[place] += step
        p += (a - light[index, 0]) * (SHARE * step)
        q += (b - light[index, 1]) * (SHARE * step)
        r += (c - light[index, 2]) * (SHARE * step)
        s += (d - light[index, 3]) * (SHARE * step)
        p, q, r, s = _cut(p, q, r, s, axes)
        if p == 0 and q == 0 and r == 0 and s == 0:
            break
    total = NOTHING
    for place in range(length):
        total += weights[place]
    for place in range(length):
        weights[place] /= total
        a -= weights[place] * light[mixture[place], 0]
        b -= weights[place] * light[mixture[place], 1]
        c -= weights[place] * light[mixture[place], 2]
        d -= weights[place] * light[mixture[place], 3]
    for sweep in range(SWEEPS + 1):
        for place in range(1, length):
            for other in range(place):
                one, two = mixture[place], mixture[other]
                p = light[one, 0] - light[two, 0]
                q = light[one, 1] - light[two, 1]
                r = light[one, 2] - light[two, 2]
                s = light[one, 3] - light[two, 3]
                shift = p * a + q * b + r * c + s * d
                squared = p * p + q * q + r * r + s * s
                if sweep == SWEEPS:
                    shift = RED * a + GREEN * b + BLUE * c
                    squared = RED * p + GREEN * q + BLUE * r
                if squared > 0:
                    shift = min(max(shift / squared, -weights[place]), weights[other])
                    weights[place] += shift
                    weights[other] -= shift
                    a -= shift * p
                    b -= shift * q
                    c -= shift * r
                    d -= shift * s
    total = NOTHING
    for place in range(length):
        total += weights[place]
        bounds[place] = total
    bounds[length - 1] = np.float32(2)  # above every threshold


@kernel(EXACT)
def _mix_bands(counter, num_tasks, points, kinds, colors, thresholds, rules, indices):
    """Ordered dither of (H, W, C) points, into ``indices`` (H, W), by bands of rows."""
    memory, strides, channels = points
    down, across, deep = np.uint64(strides[0]), np.uint64(strides[1]), np.uint64(strides[2])
    strength, band = rules
    light, coordinates, space, grid, opaque_grid, axes, opaque_axes = colors
    height, width = indices.shape
    keys = np.full((CACHE_SIZE, 4), np.nan, np.float32)  # NaN equals nothing: empty
    mixtures = np.empty((CACHE_SIZE, PICKS), np.int32)
    bounds = np.empty((CACHE_SIZE, PICKS), np.float32)
    weights = np.empty(PICKS, np.float32)
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        for row in range(task * band, min((task + 1) * band, height)):
            for column in range(width):
                kind = kinds[row, column] if len(kinds) > 0 else 1
                if kind == 0:
                    indices[row, column] = 0
                    continue
                place = np.uint64(row) * down + np.uint64(column) * across
                first = memory[place]
                second = memory[place + deep]
                third = memory[place + deep + deep]
                fourth = memory[place + deep + deep + deep] if channels == 4 else ONE
                slot = _slot(first, second, third, fourth)
                key = keys[slot]
                mixture = mixtures[slot]
                ends = bounds[slot]
                if not (
                    key[0] == first and key[1] == second and key[2] == third and key[3] == fourth
                ):
                    key[0] = first
                    key[1] = second
                    key[2] = third
                    key[3] = fourth
                    lists = (mixture, ends, weights)
                    if kind == 2:
                        its = (light, coordinates, space, opaque_grid, opaque_axes)
                        _list(key, strength, its, lists)
                    else:
                        _list(key, strength, (light, coordinates, space, grid, axes), lists)
                threshold = thresholds[row % thresholds.shape[0], column % thresholds.shape[1]]
                chosen = 0
                while ends[chosen] <= threshold:
                    chosen += 1
                indices[row, column] = mixture[chosen]


@subroutine(EXACT)
def _slot(first, second, third, fourth):
    # Colours of 8-bit images are far apart on this scale; any spread of slots would do.
    whole = np.int64(first * 65536) * 73856093
    whole ^= np.int64(second * 65536) * 19349663
    whole ^= np.int64(third * 65536) * 83492791
    whole ^= np.int64(fourth * 65536) * 49979687
    return (whole >> 7) & (CACHE_SIZE - 1)
