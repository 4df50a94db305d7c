"""k-means of each image on the CPU: many images side by side, or one on all threads.

An image is read once, into tiles of 512 points (see `_tiles`), and stays there, in the cache if it
is small. Whether a thread takes whole images or the threads share one depends on the shape
only, and both round in the same way: sums are taken by block, and added in order of the blocks.

Letters as in the package; T tiles. As in `_tiles`, the length of ``channels`` is C.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from colorquant_nn.kernels import reference
from colorquant_nn.kernels._compile import kernel, subroutine
from colorquant_nn.kernels._plus_plus import (
    BLOCK,
    best_of,
    choose_block,
    draw_candidates,
    measure_block,
    start_distances,
    total_of,
)
from colorquant_nn.kernels._threads import next_task, run
from colorquant_nn.kernels._tiles import INFINITY, ONE, TILE, load_tile, nearest
from colorquant_nn.kernels.cpu import FLOATS, flat

SHARED_FROM = 1 << 15  # points of an image that is worth the threads' meeting at every step
ENOUGH_IMAGES = 8  # or so many that each thread has its own


@subroutine()
def _add(part: Any, sums: Any) -> None:
    for i in range(sums.shape[0]):
        for j in range(sums.shape[1]):
            sums[i, j] += part[i, j]


@subroutine()
def _assign_block(
    block: Any,
    tiles: Any,
    channels: Any,
    vote: Any,
    centroids: Any,
    best: Any,
    index: Any,
    moments: Any,
) -> None:
    """Assign a block's points, and sum up (K, 1 + C): their number and offsets."""
    moments[:] = 0.0
    for t in range(block * BLOCK, min((block + 1) * BLOCK, len(tiles))):
        tile = tiles[t]
        nearest(tile, centroids, channels, best, index[t])
        for i in range(TILE):
            if vote[t, i] > 0:
                k = np.uint32(index[t, i])
                row = moments[k]
                row[0] += 1.0
                row[1] += np.float64(tile[0, i] - centroids[0, k])
                row[2] += np.float64(tile[1, i] - centroids[1, k])
                row[3] += np.float64(tile[2, i] - centroids[2, k])
                if len(channels) == 4:
                    row[-1] += np.float64(tile[-1, i] - centroids[-1, k])


@subroutine()
def _repeat_first(centroids: Any, start: Any) -> None:
    """Fill the columns from ``start`` on with the first, if there is one."""
    for k in range(max(start, 1), centroids.shape[1]):
        for c in range(centroids.shape[0]):
            centroids[c, k] = centroids[c, 0]


@kernel()
def _move(moments: Any, centroids: Any, counts: Any) -> None:
    """Put each centroid that has points on their mean."""
    for k in range(len(counts)):
        counts[k] = moments[k, 0]
        if moments[k, 0] > 0:
            for c in range(len(centroids)):
                offset = moments[k, 1 + c] / moments[k, 0]
                centroids[c, k] = np.float32(np.float64(centroids[c, k]) + offset)


@subroutine()
def _load(
    points: Any,
    strides: Any,
    channels: Any,
    num_points: Any,
    divisor: Any,
    clamp: Any,
    votes: Any,
    vote_strides: Any,
    image: Any,
    t: Any,
    tile: Any,
    vote: Any,
) -> None:
    """Fill tile ``t`` of an image, and its votes."""
    load_tile(
        points, strides, channels, num_points, image * num_points + t * TILE,
        min(TILE, num_points - t * TILE), divisor, clamp, votes, vote_strides, tile, vote,
    )  # fmt: skip


@kernel()
def _load_tiles(
    counter: Any,
    num_tasks: Any,
    points: Any,
    strides: Any,
    channels: Any,
    num_points: Any,
    divisor: Any,
    clamp: Any,
    votes: Any,
    vote_strides: Any,
    image: Any,
    tiles: Any,
    vote: Any,
) -> None:
    while True:
        t = next_task(counter)
        if t >= num_tasks:
            break
        _load(
            points, strides, channels, num_points, divisor, clamp, votes, vote_strides, image, t,
            tiles[t], vote[t],
        )  # fmt: skip


@kernel()
def _fit_images(
    counter: Any,
    num_tasks: Any,
    points: Any,
    strides: Any,
    channels: Any,
    num_points: Any,
    divisor: Any,
    clamp: Any,
    votes: Any,
    vote_strides: Any,
    num_iters: Any,
    uniforms: Any,
    centroids: Any,
    indices: Any,
    counts: Any,
) -> None:
    """Fit whole images, one after the other, until none are left."""
    num_clusters, num_candidates = uniforms.shape
    num_tiles = (num_points + TILE - 1) // TILE
    num_blocks = (num_tiles + BLOCK - 1) // BLOCK
    tiles = np.empty((num_tiles, len(channels), TILE), np.float32)
    vote = np.empty((num_tiles, TILE), np.float32)
    distance = np.empty((num_tiles, TILE), np.float32)
    index = np.empty((num_tiles, TILE), np.int32)
    sums = np.empty(num_tiles)
    best_distance = np.empty(TILE, np.float32)
    potentials = np.empty((num_blocks, num_candidates))
    candidates = np.empty((num_candidates, len(channels)), np.float32)
    part = np.empty((num_clusters, 1 + len(channels)))
    moments = np.empty((num_clusters, 1 + len(channels)))
    while True:
        image = next_task(counter)
        if image >= num_tasks:
            break
        found = centroids[image]
        for t in range(num_tiles):
            _load(
                points, strides, channels, num_points, divisor, clamp, votes, vote_strides,
                image, t, tiles[t], vote[t],
            )  # fmt: skip
        start_distances(vote, distance, sums, ONE)
        for k in range(num_clusters):
            if total_of(sums) <= 0:  # no colour is left
                _repeat_first(found, k)
                break
            if k == 0:
                draw_candidates(tiles, distance, sums, uniforms[0, :1], candidates[:1])
                start_distances(vote, distance, sums, INFINITY)
                best = 0
            else:
                draw_candidates(tiles, distance, sums, uniforms[k], candidates)
                for b in range(num_blocks):
                    measure_block(b, tiles, channels, distance, candidates, potentials)
                best = best_of(potentials)
            for c in range(len(channels)):
                found[c, k] = candidates[best, c]
            for b in range(num_blocks):
                choose_block(b, tiles, channels, distance, candidates[best], sums)
        for _ in range(num_iters):
            moments[:] = 0.0
            for b in range(num_blocks):
                _assign_block(b, tiles, channels, vote, found, best_distance, index, part)
                _add(part, moments)
            _move(moments, found, counts[image])
        row = indices[image]
        for t in range(num_tiles):
            place = row[t * TILE : (t + 1) * TILE]
            for i in range(place.size):
                place[i] = index[t, i]


@kernel()
def _measure_blocks(
    counter: Any,
    num_tasks: Any,
    tiles: Any,
    channels: Any,
    distance: Any,
    candidates: Any,
    out: Any,
) -> None:
    while True:
        block = next_task(counter)
        if block >= num_tasks:
            break
        measure_block(block, tiles, channels, distance, candidates, out)


@kernel()
def _choose_blocks(
    counter: Any,
    num_tasks: Any,
    tiles: Any,
    channels: Any,
    distance: Any,
    color: Any,
    sums: Any,
) -> None:
    while True:
        block = next_task(counter)
        if block >= num_tasks:
            break
        choose_block(block, tiles, channels, distance, color, sums)


@kernel()
def _assign_blocks(
    counter: Any,
    num_tasks: Any,
    tiles: Any,
    channels: Any,
    vote: Any,
    centroids: Any,
    index: Any,
    moments: Any,
) -> None:
    best = np.empty(TILE, np.float32)
    while True:
        block = next_task(counter)
        if block >= num_tasks:
            break
        _assign_block(block, tiles, channels, vote, centroids, best, index, moments[block])


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
        return reference.kmeans_per_image(points, num_clusters, num_iters, uniforms, votes, clamp)
    centroids, indices, counts = reference.allocate_kmeans(points, num_clusters)
    if indices.numel() == 0 or num_clusters == 0:
        return centroids, indices.zero_(), counts
    is_bytes = points.dtype == torch.uint8
    if not is_bytes:
        points = points.to(torch.float32)
    source = (
        flat(points),
        points.stride(),
        tuple(c * points.stride(2) for c in range(channels)),
        num_points,
        np.float32(255) if is_bytes else None,
        clamp,
        FLOATS if votes is None else flat(votes.to(torch.float32)),
        (0, 0) if votes is None else votes.stride(),
    )
    found = np.zeros((images, channels, num_clusters), np.float32)
    draws = uniforms.detach().to(torch.float32).contiguous().numpy()
    if num_points < SHARED_FROM or images >= ENOUGH_IMAGES:
        work = num_points * num_clusters * (draws.shape[1] + 0.3 * num_iters)
        run(
            _fit_images, images, images * work, *source, num_iters, draws,
            found, indices.numpy(), counts.numpy(),
        )  # fmt: skip
    else:
        for image in range(images):
            _fit_shared(
                source, image, num_iters, draws,
                found[image], indices[image].numpy(), counts[image].numpy(),
            )  # fmt: skip
    centroids.copy_(torch.from_numpy(found).transpose(1, 2))
    return centroids, indices, counts


def _fit_shared(
    source: tuple[Any, ...],
    image: int,
    num_iters: int,
    draws: Any,
    found: Any,
    indices: Any,
    counts: Any,
) -> None:
    """`_fit_images` for one image, with the blocks of each step shared among the threads."""
    num_points = len(indices)
    num_clusters, num_candidates = draws.shape
    channels = (0,) * len(found)
    num_tiles = -(-num_points // TILE)
    num_blocks = -(-num_tiles // BLOCK)
    tiles = np.empty((num_tiles, len(found), TILE), np.float32)
    vote = np.empty((num_tiles, TILE), np.float32)
    run(_load_tiles, num_tiles, 1.0 * num_points, *source, image, tiles, vote)
    distance = np.empty((num_tiles, TILE), np.float32)
    index = np.empty((num_tiles, TILE), np.int32)
    sums = np.empty(num_tiles)
    potentials = np.empty((num_blocks, num_candidates))
    candidates = np.empty((num_candidates, len(channels)), np.float32)
    moments = np.empty((num_blocks, num_clusters, 1 + len(channels)))
    start_distances(vote, distance, sums, ONE)
    for k in range(num_clusters):
        if total_of(sums) <= 0:  # no colour is left
            found[:, k:] = found[:, :1]
            break
        best = 0
        if k == 0:
            draw_candidates(tiles, distance, sums, draws[0, :1], candidates[:1])
            start_distances(vote, distance, sums, INFINITY)
        else:
            draw_candidates(tiles, distance, sums, draws[k], candidates)
            run(
                _measure_blocks, num_blocks, 0.6 * num_points * num_candidates,
                tiles, channels, distance, candidates, potentials,
            )  # fmt: skip
            best = best_of(potentials)
        color = candidates[best]
        found[:, k] = color
        run(
            _choose_blocks, num_blocks, 0.6 * num_points,
            tiles, channels, distance, color, sums,
        )  # fmt: skip
    for _ in range(num_iters):
        run(
            _assign_blocks, num_blocks, num_points * (2 + 0.15 * num_clusters),
            tiles, channels, vote, found, index, moments,
        )  # fmt: skip
        for part in moments[1:]:
            moments[0] += part
        _move(moments[0], found, counts)
    indices[:] = index.reshape(-1)[:num_points]
