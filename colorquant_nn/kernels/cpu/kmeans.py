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
# SHARED_MS ms so on two cores, and ALONE_MS ms as a whole.
SHARED_FROM = 1 << 15
ENOUGH_IMAGES = 8  # or so many that each thread has its own
LOAD, MEASURE, CHOOSE, ASSIGN = range(4)


class Image(NamedTuple):
    """The tiles of an image and what is known about their points."""

    tiles: NDArray[np.float32]
    """(T, C, 512)."""
    weight: NDArray[np.float32]
    """(T, 512), 0 for those that do not vote."""
    distance: NDArray[np.float32]
    """(T, 512), squared, to the nearest centroid so far."""
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


def kmeans_per_image(
    points: Tensor,
    num_clusters: int,
    num_iters: int,
    uniforms: Tensor,
    votes: Tensor | None,
    clamp: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `colorquant_nn.kernels.kmeans_per_image`."""
    images, num_points, channels = points.shape
    if channels not in (3, 4):
        return NotImplemented
    centroids, indices, counts = reference.allocate_kmeans(points, num_clusters)
    if indices.numel() == 0 or num_clusters == 0:
        return centroids, indices.zero_(), counts
    source = points_of(points, votes, clamp)
    found = np.zeros((images, channels, num_clusters), np.float32)
    draws = uniforms.detach().to(torch.float32).contiguous().numpy()
    if num_points < SHARED_FROM or images >= ENOUGH_IMAGES:
        work = num_points * num_clusters * (draws.shape[1] + 0.3 * num_iters)
        run(
            _fit_images, images, images * work, source, num_iters, draws,
            found, indices.numpy(), counts.numpy(),
        )  # fmt: skip
    else:
        image = _allocate(num_points, channels, num_clusters, draws.shape[1])
        for i in range(images):
            _fit_shared(image, source, i, draws, num_iters, found[i], counts[i].numpy())
            indices[i] = torch.from_numpy(image.nearest).view(-1)[:num_points]
    centroids.copy_(torch.from_numpy(found).transpose(1, 2))
    return centroids, indices, counts


def _share_blocks(stage, image, points, number, centroids):
    """Do something with each block of an image, on all threads."""
    num_clusters, num_points = centroids.shape[1], points.num_points
    cost = (1.0, 0.6 * len(image.candidates), 0.6, 2 + 0.15 * num_clusters)[stage]
    run(
        _take_blocks, len(image.moments), cost * num_points,
        stage, image, points, number, centroids,
    )  # fmt: skip


@subroutine()
def _all_blocks(stage, image, points, number, centroids):
    """The same on this thread."""
    for block in range(len(image.moments)):
        _do_block(block, stage, image, points, number, centroids)


@kernel()
def _take_blocks(counter, num_tasks, stage, image, points, number, centroids):
    while True:
        block = next_task(counter)
        if block >= num_tasks:
            break
        _do_block(block, stage, image, points, number, centroids)


def _fitter(for_blocks):
    """Make the function that fits an image; ``for_blocks`` does something with all its blocks."""

    def fit(image, points, number, uniforms, num_iters, centroids, counts):
        for_blocks(LOAD, image, points, number, centroids)
        start_distances(image.weight, image.distance, image.sums, ONE)
        for k in range(len(uniforms)):
            if total_of(image.sums) <= 0:  # no colour is left
                repeat_first(centroids, k)
                break
            if k == 0:
                draw_candidates(image, uniforms[0, :1])
                start_distances(image.weight, image.distance, image.sums, INFINITY)
            else:
                draw_candidates(image, uniforms[k])
                for_blocks(MEASURE, image, points, number, centroids)
            choose_best(image, centroids, k)
            for_blocks(CHOOSE, image, points, number, centroids)
        for _ in range(num_iters):
            for_blocks(ASSIGN, image, points, number, centroids)
            move(image.moments, centroids, counts)

    return fit


_fit_shared = _fitter(_share_blocks)
_fit_alone = subroutine()(_fitter(_all_blocks))


@kernel()
def _fit_images(counter, num_tasks, points, num_iters, uniforms, centroids, indices, counts):
    """Fit whole images, one after the other, until none are left."""
    image = _compiled_allocate(
        points.num_points, len(points.channels), uniforms.shape[0], uniforms.shape[1]
    )
    while True:
        number = next_task(counter)
        if number >= num_tasks:
            break
        _fit_alone(image, points, number, uniforms, num_iters, centroids[number], counts[number])
        row = indices[number]
        for t in range(len(image.nearest)):
            place = row[t * TILE : (t + 1) * TILE]
            for i in range(place.size):
                place[i] = image.nearest[t, i]


def _allocate(num_points, channels, num_clusters, num_candidates):
    num_tiles = (num_points + TILE - 1) // TILE
    num_blocks = (num_tiles + BLOCK - 1) // BLOCK
    return Image(
        np.empty((num_tiles, channels, TILE), np.float32),
        np.empty((num_tiles, TILE), np.float32),
        np.empty((num_tiles, TILE), np.float32),
        np.empty((num_tiles, TILE), np.int32),
        np.empty(num_tiles),
        np.empty((num_candidates, channels), np.float32),
        np.empty((num_blocks, num_candidates)),
        np.empty((num_blocks, num_clusters, 1 + channels)),
    )


_compiled_allocate = subroutine()(_allocate)


@subroutine()
def _do_block(block, stage, image, points, number, centroids):
    tiles, distance = image.tiles, image.distance
    first, stop = block * BLOCK, min((block + 1) * BLOCK, len(tiles))
    if stage == LOAD:
        for t in range(first, stop):
            start, count = t * TILE, min(TILE, points.num_points - t * TILE)
            begin = number * points.num_points + start
            load_tile(points, begin, count, tiles[t], image.weight[t])
    elif stage == MEASURE:
        for c in range(len(image.candidates)):
            total = 0.0
            for t in range(first, stop):
                total += _potential(tiles[t], points.channels, image.candidates[c], distance[t])
            image.potentials[block, c] = total
    elif stage == CHOOSE:
        for t in range(first, stop):
            image.sums[t] = _lower(tiles[t], points.channels, image.candidates[0], distance[t])
    else:
        _assign_block(block, image, points.channels, centroids)


@subroutine()
def _assign_block(block, image, channels, centroids):
    """Assign a block's points, and sum up (K, 1 + C): their number and offsets."""
    moments = image.moments[block]
    moments[:] = 0.0
    best = np.empty(TILE, np.float32)
    for t in range(block * BLOCK, min((block + 1) * BLOCK, len(image.tiles))):
        tile, index = image.tiles[t], image.nearest[t]
        nearest(tile, centroids, channels, best, index)
        for i in range(TILE):
            if image.weight[t, i] > 0:
                k = np.uint32(index[i])
                row = moments[k]
                row[0] += 1.0
                row[1] += np.float64(tile[0, i] - centroids[0, k])
                row[2] += np.float64(tile[1, i] - centroids[1, k])
                row[3] += np.float64(tile[2, i] - centroids[2, k])
                if len(channels) == 4:
                    row[-1] += np.float64(tile[-1, i] - centroids[-1, k])


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
def _nearer(tile, i, channels, x, y, z, a, distance):
    """The lesser of two squared distances, the new one rounded as in the reference."""
    dx, dy, dz, da = tile[0, i] - x, tile[1, i] - y, tile[2, i] - z, tile[-1, i] - a
    near = dx * dx + dy * dy + dz * dz
    if len(channels) == 4:
        near = near + da * da
    return near if near < distance else distance


@subroutine(REORDERED)
def _potential(tile, channels, color, distance):
    """Sum of the squared distances if the colour became a centroid."""
    x, y, z, a = color[0], color[1], color[2], color[-1]
    total = 0.0
    for i in range(TILE):
        total += np.float64(_nearer(tile, i, channels, x, y, z, a, distance[i]))
    return total


@subroutine(REORDERED)
def _lower(tile, channels, color, distance):
    """Lower the squared distances to those from a new colour, and sum them up."""
    x, y, z, a = color[0], color[1], color[2], color[-1]
    total = 0.0
    for i in range(TILE):
        distance[i] = _nearer(tile, i, channels, x, y, z, a, distance[i])
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
def draw_candidates(image, draws):
    """Put a colour for each draw into the image's candidates."""
    for c in range(len(draws)):
        point = _pick(image.sums, image.distance, np.float64(draws[c]))
        for channel in range(image.tiles.shape[1]):
            image.candidates[c, channel] = image.tiles[point // TILE, channel, point % TILE]


@kernel()
def choose_best(image, centroids, k):
    """Make the candidate with the least sum of distances, the first of equals, centroid k > 0.

    Centroid 0 is the first candidate. What was chosen is the first candidate then.
    """
    best, least = 0, np.inf
    for c in range(image.potentials.shape[1] if k > 0 else 0):
        potential = total_of(image.potentials[:, c])
        if potential < least:
            best, least = c, potential
    for c in range(len(centroids)):
        centroids[c, k] = image.candidates[0, c] = image.candidates[best, c]


@kernel()
def start_distances(vote, distance, sums, far):
    """The same distance for all voters: 1 makes a first pick, infinity lets it be lowered."""
    for t in range(len(vote)):
        sums[t] = 0.0
        for i in range(TILE):
            distance[t, i] = far if vote[t, i] > 0 else ZERO
            sums[t] += distance[t, i]
