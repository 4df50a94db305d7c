"""k-means of each image on the CPU: many images side by side, or one on all threads.

An image is read once, into tiles of 512 points, and stays there, in the cache if it is small. What
is done with all of its tiles is done by blocks of them, and sums are added in order of the blocks.
Whether a thread takes whole images or the threads share the blocks of one depends on the shape
only: `_fitter` makes the same function of both, compiled for the one and called from Python for the
other, and both round in the same way.

Distances are rounded as in the reference, so that k-means++ draws the same colours. Letters as in
the package; T tiles.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn.kernels import reference
from colorquant_nn.kernels.cpu.runtime import (
    EXACT,
    REORDERED,
    kernel,
    next_task,
    run,
    subroutine,
)
from colorquant_nn.kernels.cpu.tiles import (
    INFINITY,
    ONE,
    TILE,
    ZERO,
    load_tile,
    nearest,
    points_of,
)

BLOCK = 16  # tiles whose sums are taken together
RUN = 64  # points that a draw passes over at once
# Points of an image that is worth the threads' meeting at every step: one of 1024 x 1024 takes
# 71 ms so on two cores, and 108 as a whole.
SHARED_FROM = 1 << 15
ENOUGH_IMAGES = 8  # or so many that each thread has its own


class Image(NamedTuple):
    """The tiles of an image and what is known about their points."""

    tiles: NDArray[np.float32]
    """(T, C, 512)."""
    weight: NDArray[np.float32]
    """(T, 512), 0 for those that do not vote."""
    distance: NDArray[np.float32]
    """(T, 512), squared, to the nearest centroid so far, times the weight."""
    nearest: NDArray[np.int32]
    """(T, 512), the nearest centroid."""
    sums: NDArray[np.float64]
    """(T,), of the distances."""
    candidates: NDArray[np.float32]
    """(candidates, C), colours, one of which is to be a centroid; the first one is the best."""
    potentials: NDArray[np.float64]
    """(blocks, candidates), the sum of the distances with each of them."""
    moments: NDArray[np.float64]
    """(blocks, K, 1 + C), count and offsets."""
    scale: NDArray[np.float32] | None
    """The weights, where they are not only 0 and 1; without them the code to scale is left out."""


def kmeans_per_image(
    points: Tensor,
    num_clusters: int,
    num_iters: int,
    uniforms: Tensor,
    weights: Tensor | None,
    clamp: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `colorquant_nn.kernels.kmeans_per_image`."""
    images, num_points, channels = points.shape
    if channels not in (3, 4):
        return NotImplemented
    centroids, indices, counts = reference.allocate_kmeans(points, num_clusters)
    if indices.numel() == 0 or num_clusters == 0:
        return centroids, indices.zero_(), counts
    if points.dtype == torch.uint8:  # no layer asks for it: not worth compiling for
        points = points.to(torch.float32) / 255
    source = points_of(points, weights, clamp)
    weighted = None if weights is None or weights.dtype == torch.bool else True
    found = np.zeros((images, channels, num_clusters), np.float32)
    draws = uniforms.detach().to(torch.float32).contiguous().numpy()
    if num_points < SHARED_FROM or images >= ENOUGH_IMAGES:
        work = num_points * num_clusters * (draws.shape[1] + 0.3 * num_iters)
        run(
            _fit_images, images, images * work, source, weighted, num_iters, draws,
            (found, indices.numpy(), counts.numpy()),
        )  # fmt: skip
    else:
        image = _allocate(num_points, channels, num_clusters, draws.shape[1], weighted)
        for i in range(images):
            _fit_shared(image, source, i, draws, num_iters, found[i], counts[i].numpy())
            indices[i] = torch.from_numpy(image.nearest).view(-1)[:num_points]
    centroids.copy_(torch.from_numpy(found).transpose(1, 2))
    return centroids, indices, counts


def _fitter(load, measure, choose, assign):
    """Make the function that fits an image, of those that do something with all its blocks."""

    def fit(image, points, number, uniforms, num_iters, centroids, counts):
        tiles, weight, distance, index, sums, candidates, potentials, moments, scale = image
        num_blocks, channels = len(moments), points.channels
        load(num_blocks, points, number, tiles, weight)
        start_distances(weight, distance, sums, ONE)
        for k in range(len(uniforms)):
            if total_of(sums) <= 0:  # no colour is left
                repeat_first(centroids, k)
                break
            draws = uniforms[k] if k > 0 else uniforms[0, :1]
            draw_candidates(tiles, distance, sums, draws, candidates)
            if k == 0:
                start_distances(weight, distance, sums, INFINITY)
            else:
                measure(num_blocks, tiles, channels, scale, distance, candidates, potentials)
            choose_best(candidates, potentials, centroids, k)
            choose(num_blocks, tiles, channels, scale, distance, candidates, sums)
        for _ in range(num_iters):
            assign(num_blocks, tiles, channels, (weight, scale), centroids, index, moments)
            move(moments, centroids, counts)

    return fit


@kernel()
def _fit_images(counter, num_tasks, points, weighted, num_iters, uniforms, results):
    """Fit whole images, one after the other, until none are left."""
    centroids, indices, counts = results
    image = _compiled_allocate(
        points.num_points, len(points.channels), uniforms.shape[0], uniforms.shape[1], weighted
    )
    index = image.nearest
    while True:
        number = next_task(counter)
        if number >= num_tasks:
            break
        _fit_alone(image, points, number, uniforms, num_iters, centroids[number], counts[number])
        row = indices[number]
        for t in range(len(index)):
            place = row[t * TILE : (t + 1) * TILE]
            for i in range(place.size):
                place[i] = index[t, i]


def _allocate(num_points, channels, num_clusters, num_candidates, weighted):
    num_tiles = (num_points + TILE - 1) // TILE
    num_blocks = (num_tiles + BLOCK - 1) // BLOCK
    weight = np.empty((num_tiles, TILE), np.float32)
    return Image(
        np.empty((num_tiles, channels, TILE), np.float32),
        weight,
        np.empty((num_tiles, TILE), np.float32),
        np.empty((num_tiles, TILE), np.int32),
        np.empty(num_tiles),
        np.empty((num_candidates, channels), np.float32),
        np.empty((num_blocks, num_candidates)),
        np.empty((num_blocks, num_clusters, 1 + channels)),
        None if weighted is None else weight,
    )


_compiled_allocate = subroutine()(_allocate)


@subroutine()
def _load(block, points, number, tiles, weight):
    """Fill the tiles of a block, and their weights."""
    for t in range(block * BLOCK, min((block + 1) * BLOCK, len(tiles))):
        count = min(TILE, points.num_points - t * TILE)
        load_tile(points, number * points.num_points + t * TILE, count, tiles[t], weight[t])


@subroutine()
def _measure(block, tiles, channels, scale, distance, candidates, potentials):
    """Sum of the distances in a block if each of the candidates became a centroid."""
    for c in range(len(candidates)):
        potentials[block, c] = 0.0
        for t in range(block * BLOCK, min((block + 1) * BLOCK, len(tiles))):
            potentials[block, c] += _potential(
                tiles[t], channels, _row(scale, t), candidates[c], distance[t]
            )


@subroutine()
def _choose(block, tiles, channels, scale, distance, candidates, sums):
    """Bring the distances of a block up to date with a new centroid, the first candidate."""
    for t in range(block * BLOCK, min((block + 1) * BLOCK, len(tiles))):
        sums[t] = _lower(tiles[t], channels, _row(scale, t), candidates[0], distance[t])


@subroutine()
def _assign(block, tiles, channels, votes, centroids, index, moments):
    """Assign a block's points, and sum up (K, 1 + C): their weights and offsets."""
    weight, scale = votes
    best = np.empty(TILE, np.float32)
    moments[block] = 0.0
    for t in range(block * BLOCK, min((block + 1) * BLOCK, len(tiles))):
        nearest(tiles[t], centroids, channels, best, index[t])
        _add_offsets(
            tiles[t], centroids, channels, index[t], weight[t], _row(scale, t), moments[block]
        )


@subroutine()
def _row(scale, t):
    return None if scale is None else scale[t]


@subroutine()
def _add_offsets(tile, centroids, channels, index, weight, scale, moments):
    for i in range(TILE):
        if weight[i] > 0:
            k = np.uint32(index[i])
            row = moments[k]
            vote = 1.0 if scale is None else np.float64(scale[i])
            row[0] += vote
            row[1] += vote * np.float64(tile[0, i] - centroids[0, k])
            row[2] += vote * np.float64(tile[1, i] - centroids[1, k])
            row[3] += vote * np.float64(tile[2, i] - centroids[2, k])
            if len(channels) == 4:
                row[-1] += vote * np.float64(tile[-1, i] - centroids[-1, k])


def _one_by_one(do_block):
    """Make a compiled function that does something with every block, on the thread it is on."""

    def do_blocks(num_blocks, *arguments):
        for block in range(num_blocks):
            do_block(block, *arguments)

    return subroutine()(do_blocks)


def _shared(do_blocks, nanoseconds):
    """Make a function that shares the blocks of a kernel among the threads."""

    def share(num_blocks, *arguments):
        run(do_blocks, num_blocks, nanoseconds * num_blocks * BLOCK * TILE, *arguments)

    return share


@kernel()
def _load_blocks(counter, num_tasks, points, number, tiles, weight):
    block = next_task(counter)
    while block < num_tasks:
        _load(block, points, number, tiles, weight)
        block = next_task(counter)


@kernel()
def _measure_blocks(counter, num_tasks, tiles, channels, scale, distance, candidates, potentials):
    block = next_task(counter)
    while block < num_tasks:
        _measure(block, tiles, channels, scale, distance, candidates, potentials)
        block = next_task(counter)


@kernel()
def _choose_blocks(counter, num_tasks, tiles, channels, scale, distance, candidates, sums):
    block = next_task(counter)
    while block < num_tasks:
        _choose(block, tiles, channels, scale, distance, candidates, sums)
        block = next_task(counter)


@kernel()
def _assign_blocks(counter, num_tasks, tiles, channels, votes, centroids, index, moments):
    block = next_task(counter)
    while block < num_tasks:
        _assign(block, tiles, channels, votes, centroids, index, moments)
        block = next_task(counter)


# With the nanoseconds of a point, at least; an image that is shared has many.
_fit_shared = _fitter(
    _shared(_load_blocks, 1.0),
    _shared(_measure_blocks, 0.6),
    _shared(_choose_blocks, 0.6),
    _shared(_assign_blocks, 2.0),
)
_fit_alone = subroutine()(_fitter(*map(_one_by_one, (_load, _measure, _choose, _assign))))


@kernel()
def repeat_first(centroids, start):
    """Fill the columns from ``start`` on with the first, if there is one."""
    for k in range(max(start, 1), centroids.shape[1]):
        for c in range(centroids.shape[0]):
            centroids[c, k] = centroids[c, 0]


@kernel()
def move(moments, centroids, counts):
    """Put each centroid that has points on their mean."""
    total = moments[0]
    for b in range(1, len(moments)):
        for k in range(total.shape[0]):
            for column in range(total.shape[1]):
                total[k, column] += moments[b, k, column]
    for k in range(len(counts)):
        counts[k] = total[k, 0]
        if total[k, 0] > 0:
            for c in range(len(centroids)):
                offset = total[k, 1 + c] / total[k, 0]
                centroids[c, k] = np.float32(np.float64(centroids[c, k]) + offset)


@subroutine(EXACT)
def _nearer(tile, i, channels, color, scale, distance):
    """The lesser of two weighted squared distances, the new one rounded as in the reference."""
    x, y, z, a = color
    dx, dy, dz, da = tile[0, i] - x, tile[1, i] - y, tile[2, i] - z, tile[-1, i] - a
    near = dx * dx + dy * dy + dz * dz
    if len(channels) == 4:
        near = near + da * da
    if scale is not None:
        near = near * scale[i]
    return near if near < distance else distance


@subroutine(REORDERED)
def _potential(tile, channels, scale, color, distance):
    """Sum of the distances if the colour became a centroid."""
    values = color[0], color[1], color[2], color[-1]
    total = 0.0
    for i in range(TILE):
        total += np.float64(_nearer(tile, i, channels, values, scale, distance[i]))
    return total


@subroutine(REORDERED)
def _lower(tile, channels, scale, color, distance):
    """Lower the distances to those from a new colour, and sum them up."""
    values = color[0], color[1], color[2], color[-1]
    total = 0.0
    for i in range(TILE):
        distance[i] = _nearer(tile, i, channels, values, scale, distance[i])
        total += np.float64(distance[i])
    return total


@subroutine(REORDERED)
def _sum(row):
    total = 0.0
    for i in range(row.size):
        total += np.float64(row[i])
    return total


@kernel()
def total_of(sums):
    """The sum, in order."""
    total = 0.0
    for value in sums:
        total += value
    return total


@subroutine()
def _pick(sums, distance, draw):
    """The point at which the running sum of the distances passes ``draw`` of the whole."""
    target = draw * total_of(sums)
    before = 0.0
    t = 0
    while t < sums.size - 1 and before + sums[t] <= target:
        before += sums[t]
        t += 1
    start = 0
    while start < TILE - RUN:
        run_sum = _sum(distance[t, start : start + RUN])
        if before + run_sum > target:
            break
        before += run_sum
        start += RUN
    point = t * TILE + start
    for i in range(start, TILE):
        if distance[t, i] > 0:
            point = t * TILE + i
            before += distance[t, i]
            if before > target:
                break
    while point > 0 and not distance[point // TILE, point % TILE] > 0:
        point -= 1  # never a colour that has been chosen, however sums are rounded
    return point


@kernel()
def draw_candidates(tiles, distance, sums, draws, candidates):
    """Put the colour of each draw into the candidates."""
    for c in range(len(draws)):
        point = _pick(sums, distance, np.float64(draws[c]))
        for channel in range(tiles.shape[1]):
            candidates[c, channel] = tiles[point // TILE, channel, point % TILE]


@kernel()
def choose_best(candidates, potentials, centroids, k):
    """Make the candidate with the least sum of distances, the first of equals, centroid k > 0.

    Centroid 0 is the first candidate. What was chosen is the first candidate then.
    """
    best, least = 0, np.inf
    for c in range(potentials.shape[1] if k > 0 else 0):
        potential = total_of(potentials[:, c])
        if potential < least:
            best, least = c, potential
    for c in range(len(centroids)):
        centroids[c, k] = candidates[0, c] = candidates[best, c]


@kernel()
def start_distances(weight, distance, sums, far):
    """The same distance for all, by weight: 1 makes a first pick, infinity lets it be lowered."""
    for t in range(len(weight)):
        sums[t] = 0.0
        for i in range(TILE):
            distance[t, i] = far * weight[t, i] if weight[t, i] > 0 else ZERO
            sums[t] += distance[t, i]
