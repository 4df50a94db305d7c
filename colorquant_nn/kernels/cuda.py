"""`assign` and `cluster` on CUDA, in one Triton kernel.

A program takes tiles of points, keeps them in registers, runs over all centroids, writes what it
found, and adds to sums of its own, which are added in order at the end: no atomics, and the same
result each time. Nothing of size N x K exists, and no tensor core rounds the distances.

Letters as in the package; C and D (of the palette) are known to the compiler.
"""

# mypy: disable-error-code="no-untyped-def"

import contextlib

import torch
import triton
import triton.language as tl
from torch import Tensor

from colorquant_nn.kernels import reference

TILE = 512  # points: four a thread
CLUSTERS = 8  # whose sums are taken together
MAX_PROGRAMS = 512  # a group; a number that no device decides, since it decides about rounding
MAX_SUMS = 1 << 24  # float64 of all programs: 128 MiB
WARPS = 4


@triton.jit
def _channel(points, offset, mask, is_bytes: tl.constexpr, clamp: tl.constexpr):
    """One channel as clean float32, and whether it was finite."""
    largest = 3.4028234663852886e38
    value = tl.load(points + offset, mask=mask, other=0).to(tl.float32)
    if is_bytes:
        value = tl.div_rn(value, 255.0)
    finite = tl.abs(value) <= largest
    value = tl.where(value == value, value, 0.0)
    if clamp:
        value = tl.minimum(tl.maximum(value, 0.0), 1.0)
    else:
        value = tl.minimum(tl.maximum(value, -largest), largest)
    return value, finite


@triton.jit
def _add(sums, offset, stride, mask, mine, value):
    """Add the values of the points of each of a few clusters to one column of their sums."""
    total = tl.sum(tl.where(mine, value[None, :], 0.0), axis=1)
    target = sums + offset * stride
    tl.store(target, tl.load(target, mask=mask) + total.to(tl.float64), mask=mask)


@triton.jit
def cluster_tiles(
    points,
    centroids,
    palette,
    weights,
    indices,
    sums,
    values,
    num_points,
    group_size,
    num_clusters,
    num_tiles,
    point_image,
    point_stride,
    point_channel,
    weight_image,
    weight_stride,
    value_image,
    value_stride,
    value_channel,
    channels: tl.constexpr,
    colors: tl.constexpr,
    is_bytes: tl.constexpr,
    clamp: tl.constexpr,
    weighted: tl.constexpr,
    summed: tl.constexpr,
    tile: tl.constexpr,
    clusters: tl.constexpr,
):
    """Every ``num_programs(0)``-th tile of group ``program_id(1)``.

    ``sums`` is (G, programs, K, columns) float64 and zero; ``colors`` is D, or 0 without palette.
    """
    program = tl.program_id(0)
    group = tl.program_id(1).to(tl.int64)
    columns: tl.constexpr = 1 + channels + channels * (channels + 1) // 2
    centroids += group * num_clusters * channels
    palette += group * num_clusters * colors
    sums += (group * tl.num_programs(0) + program) * num_clusters * columns
    for number in range(program, num_tiles, tl.num_programs(0)):
        at = (tl.zeros((tile,), tl.int64) + number) * tile + tl.arange(0, tile)
        inside = at < group_size
        image = group * (group_size // num_points) + at // num_points
        row = at % num_points
        offset = image * point_image + row * point_stride
        x, vote = _channel(points, offset, inside, is_bytes, clamp)
        y, finite = _channel(points, offset + point_channel, inside, is_bytes, clamp)
        vote &= finite
        z, finite = _channel(points, offset + 2 * point_channel, inside, is_bytes, clamp)
        vote &= finite
        a = z
        if channels == 4:
            a, finite = _channel(points, offset + 3 * point_channel, inside, is_bytes, clamp)
            vote &= finite

        best = tl.full((tile,), float("inf"), tl.float32)
        index = tl.zeros((tile,), tl.int32)
        for k in range(num_clusters):
            color = centroids + k * channels
            dx = x - tl.load(color)
            dy = y - tl.load(color + 1)
            dz = z - tl.load(color + 2)
            distance = dx * dx + dy * dy + dz * dz
            if channels == 4:
                da = a - tl.load(color + 3)
                distance += da * da
            nearer = distance < best
            best = tl.where(nearer, distance, best)
            index = tl.where(nearer, k, index)
        tl.store(indices + group * group_size + at, index.to(tl.int64), mask=inside)

        if colors > 0:
            target = values + image * value_image + row * value_stride
            for d in tl.static_range(colors):
                value = tl.load(palette + index * colors + d)
                tl.store(target + d * value_channel, value, mask=inside)

        if summed:
            vote &= inside
            weight = tl.where(vote, 1.0, 0.0)
            if weighted:
                source = weights + image * weight_image + row * weight_stride
                given = tl.load(source, mask=inside, other=0.0).to(tl.float32)
                weight = tl.where(vote & (given > 0), given, 0.0)
            vote = weight > 0
            nearest = centroids + index * channels
            # 0 * infinity is not a number, so those without a vote are replaced, not multiplied.
            x = tl.where(vote, x - tl.load(nearest), 0.0)
            y = tl.where(vote, y - tl.load(nearest + 1), 0.0)
            z = tl.where(vote, z - tl.load(nearest + 2), 0.0)
            wx, wy, wz = weight * x, weight * y, weight * z
            if channels == 4:
                a = tl.where(vote, a - tl.load(nearest + 3), 0.0)
            for first in range(0, num_clusters, clusters):
                slot = first + tl.arange(0, clusters)
                known = slot < num_clusters
                mine = index[None, :] == slot[:, None]
                _add(sums, slot, columns, known, mine, weight)
                _add(sums + 1, slot, columns, known, mine, wx)
                _add(sums + 2, slot, columns, known, mine, wy)
                _add(sums + 3, slot, columns, known, mine, wz)
                if channels == 3:
                    _add(sums + 4, slot, columns, known, mine, wx * x)
                    _add(sums + 5, slot, columns, known, mine, wx * y)
                    _add(sums + 6, slot, columns, known, mine, wx * z)
                    _add(sums + 7, slot, columns, known, mine, wy * y)
                    _add(sums + 8, slot, columns, known, mine, wy * z)
                    _add(sums + 9, slot, columns, known, mine, wz * z)
                else:
                    _add(sums + 4, slot, columns, known, mine, weight * a)
                    _add(sums + 5, slot, columns, known, mine, wx * x)
                    _add(sums + 6, slot, columns, known, mine, wx * y)
                    _add(sums + 7, slot, columns, known, mine, wx * z)
                    _add(sums + 8, slot, columns, known, mine, wx * a)
                    _add(sums + 9, slot, columns, known, mine, wy * y)
                    _add(sums + 10, slot, columns, known, mine, wy * z)
                    _add(sums + 11, slot, columns, known, mine, wy * a)
                    _add(sums + 12, slot, columns, known, mine, wz * z)
                    _add(sums + 13, slot, columns, known, mine, wz * a)
                    _add(sums + 14, slot, columns, known, mine, weight * a * a)


def assign(points: Tensor, centroids: Tensor, clamp: bool) -> Tensor:
    """See `colorquant_nn.kernels.assign`."""
    if not _supported(points, centroids):
        return NotImplemented
    indices = points.new_empty(points.shape[:2], dtype=torch.int64)
    _launch(points, centroids, None, None, clamp, indices, None, None)
    return indices


def cluster(
    points: Tensor,
    centroids: Tensor,
    palette: Tensor | None,
    weights: Tensor | None,
    clamp: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `colorquant_nn.kernels.cluster`."""
    if not _supported(points, centroids):
        return NotImplemented
    indices, moments, values = reference.allocate(points, centroids, palette)
    _launch(points, centroids, palette, weights, clamp, indices, moments, values)
    return indices, moments, values


def _supported(points: Tensor, centroids: Tensor) -> bool:
    return points.dtype != torch.float64 and points.shape[-1] in (3, 4) and centroids.numel() > 0


def _launch(
    points: Tensor,
    centroids: Tensor,
    palette: Tensor | None,
    weights: Tensor | None,
    clamp: bool,
    indices: Tensor,
    moments: Tensor | None,
    values: Tensor | None,
) -> None:
    """Fill the outputs that are given."""
    images, num_points, channels = points.shape
    groups, num_clusters, _ = centroids.shape
    group_size = images * num_points // groups
    if group_size == 0:
        if moments is not None:
            moments.zero_()
        return
    num_tiles = -(-group_size // TILE)
    columns = reference.num_moments(channels)
    affordable = max(1, MAX_SUMS // (groups * num_clusters * columns))
    programs = min(num_tiles, MAX_PROGRAMS, affordable)
    centroids = centroids.to(torch.float32).contiguous()
    sums = None
    if moments is not None:
        sums = moments.new_zeros((groups, programs, num_clusters, columns))
    if palette is None or values is None:
        palette = values = None
    else:
        palette = palette.to(values.dtype).contiguous()
    weight_strides = (0, 0) if weights is None else weights.stride()
    value_strides = (0, 0, 0) if values is None else values.stride()
    # Triton takes no None for a pointer that is only read in another version of the kernel.
    with torch.cuda.device(points.device) if points.is_cuda else contextlib.nullcontext():
        cluster_tiles[(programs, groups)](
            points,
            centroids,
            centroids if palette is None else palette,
            centroids if weights is None else weights,
            indices,
            centroids if sums is None else sums,
            centroids if values is None else values,
            num_points,
            group_size,
            num_clusters,
            num_tiles,
            *points.stride(),
            *weight_strides,
            *value_strides,
            channels=channels,
            colors=0 if palette is None else palette.shape[-1],
            is_bytes=points.dtype == torch.uint8,
            clamp=clamp,
            weighted=weights is not None,
            summed=moments is not None,
            tile=TILE,
            clusters=CLUSTERS,
            num_warps=WARPS,
        )
    if moments is not None and sums is not None:
        torch.sum(sums, 1, out=moments)
