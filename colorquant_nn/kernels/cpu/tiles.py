"""Points in tiles of 512, and what several operations do with a tile.

A tile is copied into scratch memory as one float32 row a channel, whatever the points' strides
and dtype; every later loop then runs over neighbours in memory and compiles to SIMD. All of it
stays in the first-level cache, so that the points are read once.

Letters as in the package. numba compiles a version for each type of argument: float32 and uint8
points, and 3 and 4 channels by way of ``Points.channels``, a tuple whose length is part of its
type.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn.kernels.cpu.runtime import lesser, subroutine

TILE = 512
LARGEST = np.float32(np.finfo(np.float32).max)
INFINITY = np.float32(np.inf)
ZERO = np.float32(0)
ONE = np.float32(1)
FLOATS = np.empty(0, np.float32)


class Points(NamedTuple):
    """The points (B, N, C) of some images, in place, and how to read them."""

    array: NDArray[Any]
    """float32 or uint8, the memory that they span."""
    strides: tuple[int, ...]
    """From image to image, point to point and channel to channel."""
    channels: tuple[int, ...]
    """The offset of each channel."""
    num_points: int
    """N."""
    divisor: np.float32 | None
    """Of bytes, which stand for ``value / 255``."""
    clamp: bool
    """Limit them to [0, 1]."""
    weights: NDArray[np.float32]
    """The memory of their weights; empty if all are 1."""
    weight_strides: tuple[int, ...]
    """From image to image and point to point."""


def points_of(points: Tensor, weights: Tensor | None = None, clamp: bool = False) -> Points:
    """Describe points (B, N, C), not empty, and weights (B, N) to a kernel."""
    is_bytes = points.dtype == torch.uint8
    if not is_bytes:
        points = points.to(torch.float32)
    return Points(
        flat(points),
        points.stride(),
        tuple(c * points.stride(2) for c in range(points.shape[2])),
        points.shape[1],
        np.float32(255) if is_bytes else None,
        clamp,
        FLOATS if weights is None else flat(weights.to(torch.float32)),
        (0, 0) if weights is None else weights.stride(),
    )


def flat(tensor: Tensor) -> NDArray[Any]:
    """The memory that a tensor spans, in place, as one row: strides then are plain offsets."""
    extent = sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return tensor.detach().as_strided((extent + 1,), (1,)).numpy()


def rows_of(colors: Tensor) -> NDArray[np.float32]:
    """(G, K, C) to a float32 array (G, C, K)."""
    return colors.detach().to(torch.float32).transpose(1, 2).contiguous().numpy()


@subroutine(inline="always")
def _copy_whole(source, offset, stride, channels, tile):
    """Copy 512 neighbours. Loops of a fixed length, over unsigned offsets, become SIMD."""
    first, step = np.uint64(offset), np.uint64(stride)
    if stride == len(channels) and channels[len(channels) - 1] == len(channels) - 1:
        for i in range(TILE):
            for c in range(len(channels)):
                tile[c, i] = source[first + np.uint64(len(channels) * i + c)]
        return
    for c in range(len(channels)):
        row, begin = tile[c], first + np.uint64(channels[c])
        if stride == 1:
            for i in range(TILE):
                row[i] = source[begin + np.uint64(i)]
        else:
            for i in range(TILE):
                row[i] = source[begin + np.uint64(i) * step]


@subroutine()
def _clean(divisor, clamp, row, weight):
    """Limit one channel, take the vote from points that were not finite; were there any?"""
    infected = False
    for i in range(TILE):
        infected |= not abs(row[i]) <= LARGEST
    if infected:
        for i in range(TILE):
            if not abs(row[i]) <= LARGEST:
                weight[i] = ZERO
            if row[i] != row[i]:
                row[i] = ZERO
    if divisor is not None:
        for i in range(TILE):
            row[i] /= divisor
    lower = ZERO if clamp else -LARGEST
    upper = ONE if clamp else LARGEST
    for i in range(TILE):
        value = row[i] if row[i] > lower else lower
        row[i] = value if value < upper else upper
    return infected


@subroutine(inline="always")
def _copy_part(points, image, first, count, tile, weight):
    """Copy ``count`` points from one of an image on, and their weights; zeros follow."""
    strides, weight_strides = points.strides, points.weight_strides
    for i in range(TILE):
        weight[i] = ONE if i < count else ZERO
        for c in range(len(points.channels)):
            tile[c, i] = ZERO
            if i < count:
                at = image * strides[0] + first * strides[1] + points.channels[c]
                tile[c, i] = points.array[at]
        if i < count and points.weights.size > 0:
            weight[i] = points.weights[image * weight_strides[0] + first * weight_strides[1]]
        first += 1
        if first == points.num_points:
            image, first = image + 1, 0


@subroutine(inline="always")
def _copy_weights(source, offset, stride, weight):
    first, step = np.uint64(offset), np.uint64(stride)
    for i in range(TILE):
        weight[i] = source[first + np.uint64(i) * step] if source.size > 0 else ONE


@subroutine()
def load_tile(points, start, count, tile, weight):
    """Fill a tile from point ``start``, counted over all images; are the weights unequal?

    A tile of fewer points is filled up with zeros, whose weights are 0.
    """
    strides, weight_strides = points.strides, points.weight_strides
    image = start // points.num_points
    first = start - image * points.num_points
    if count == TILE and first + TILE <= points.num_points:
        offset = image * strides[0] + first * strides[1]
        _copy_whole(points.array, offset, strides[1], points.channels, tile)
        offset = image * weight_strides[0] + first * weight_strides[1]
        _copy_weights(points.weights, offset, weight_strides[1], weight)
    else:
        _copy_part(points, image, first, count, tile, weight)
    unequal = points.weights.size > 0
    for c in range(len(points.channels)):
        unequal |= _clean(points.divisor, points.clamp, tile[c], weight)
    return unequal


@subroutine()
def nearest(tile, centroids, channels, best, index):
    """Nearest of all centroids, four in one go over the tile to spare traffic to the scratch."""
    num_clusters = centroids.shape[1]
    for i in range(TILE):
        best[i] = INFINITY
        index[i] = 0
    x, y, z, a = tile[0], tile[1], tile[2], tile[-1]
    k = 0
    while k < num_clusters:
        # The last four may repeat the last centroid, which changes nothing: only less is nearer.
        k0, k1 = k, lesser(k + 1, num_clusters - 1)
        k2, k3 = lesser(k + 2, num_clusters - 1), lesser(k + 3, num_clusters - 1)
        x0, y0, z0, a0 = centroids[0, k0], centroids[1, k0], centroids[2, k0], centroids[-1, k0]
        x1, y1, z1, a1 = centroids[0, k1], centroids[1, k1], centroids[2, k1], centroids[-1, k1]
        x2, y2, z2, a2 = centroids[0, k2], centroids[1, k2], centroids[2, k2], centroids[-1, k2]
        x3, y3, z3, a3 = centroids[0, k3], centroids[1, k3], centroids[2, k3], centroids[-1, k3]
        i0, i1, i2, i3 = np.int32(k0), np.int32(k1), np.int32(k2), np.int32(k3)
        for i in range(TILE):
            xi, yi, zi = x[i], y[i], z[i]
            least, winner = best[i], index[i]
            d0 = (xi - x0) * (xi - x0) + (yi - y0) * (yi - y0) + (zi - z0) * (zi - z0)
            d1 = (xi - x1) * (xi - x1) + (yi - y1) * (yi - y1) + (zi - z1) * (zi - z1)
            d2 = (xi - x2) * (xi - x2) + (yi - y2) * (yi - y2) + (zi - z2) * (zi - z2)
            d3 = (xi - x3) * (xi - x3) + (yi - y3) * (yi - y3) + (zi - z3) * (zi - z3)
            if len(channels) == 4:
                ai = a[i]
                d0 += (ai - a0) * (ai - a0)
                d1 += (ai - a1) * (ai - a1)
                d2 += (ai - a2) * (ai - a2)
                d3 += (ai - a3) * (ai - a3)
            winner = i0 if d0 < least else winner
            least = d0 if d0 < least else least
            winner = i1 if d1 < least else winner
            least = d1 if d1 < least else least
            winner = i2 if d2 < least else winner
            least = d2 if d2 < least else least
            winner = i3 if d3 < least else winner
            least = d3 if d3 < least else least
            best[i] = least
            index[i] = winner
        k += 4
