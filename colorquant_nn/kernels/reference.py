"""The operations in plain torch: any device and dtype, slow but obvious.

And what all implementations share: results before there is anything in them, the layout of the
moments, how odd points are read, and the constants of relocation.

Letters as in the package: B images, N points, K centroids, C channels, G palettes (B or 1).
"""

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 22  # of the (B, chunk, K) distances: 16 MiB in float32
CENTROIDS_AT_ONCE = 16  # where an exported program goes through them

# The mean of half a normal distribution lies sqrt(2 / pi) standard deviations from the middle, so
# halving a cluster along its longest axis saves 2 / pi of the variance along it.
SPLIT_GAIN = 2 / torch.pi
# How many times the cost of a merge a split has to gain: in a search, whose rounds are kept only
# if they help, and where one move for the worse would stay.
SEARCH_MARGIN = 0.5
REVIVE_MARGIN = 2.0
# Standard deviation of the logarithm of the random factors of a search. On photographs at K = 16,
# 64, 256: with 0 it tries the same moves again and again, with more than 0.5 it tries bad ones.
CHANCE = 0.2
TINY = 1e-30


def assign(points: Tensor, centroids: Tensor, clamp: bool) -> Tensor:
    """See `colorquant_nn.kernels.assign`."""
    indices = points.new_empty(points.shape[:2], dtype=torch.int64)
    for part in _chunks(points, centroids):
        indices[:, part] = _nearest(sanitize(points[:, part], clamp), centroids)
    return indices


def assign_for_export(points: Tensor, centroids: Tensor, clamp: bool) -> Tensor:
    """`assign` as plain nodes, for torch.export and ONNX, which know no custom ops.

    There is no loop over points, whose number stays dynamic; centroids are taken a few at a time,
    so that no N x K tensor exists.
    """
    points = sanitize(points, clamp)[:, :, None]  # (B, N, 1, C)
    index = torch.zeros_like(points[:, :, 0, 0], dtype=torch.int64)
    least = torch.full_like(points[:, :, 0, 0], torch.inf)
    for start in range(0, centroids.shape[1], CENTROIDS_AT_ONCE):
        some = centroids[:, None, start : start + CENTROIDS_AT_ONCE]  # (G, 1, some, C)
        squares = [(points[..., c] - some[..., c]) ** 2 for c in range(points.shape[-1])]
        distance = sum(squares[1:], squares[0])
        nearest = distance.argmin(-1)
        near = distance.amin(-1)
        closer = near < least  # of equal ones, the first stays
        index = torch.where(closer, nearest + start, index)
        least = torch.where(closer, near, least)
    return index


def cluster(
    points: Tensor,
    centroids: Tensor,
    palette: Tensor | None,
    weights: Tensor | None,
    clamp: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `colorquant_nn.kernels.cluster`."""
    indices, moments, values = allocate(points, centroids, palette)
    moments.zero_()
    groups, num_clusters, channels = centroids.shape
    rows, columns = torch.triu_indices(channels, channels, device=points.device)
    group = torch.arange(groups, device=points.device)[:, None]  # broadcasts to (B, chunk)
    for part in _chunks(points, centroids):
        clean = sanitize(points[:, part], clamp)
        nearest = _nearest(clean, centroids)
        indices[:, part] = nearest
        if palette is not None:
            values[:, part] = palette[group, nearest].to(values.dtype)
        vote = torch.isfinite(points[:, part]).all(-1).to(moments.dtype)
        if weights is not None:
            vote *= weights[:, part]
        offset = (clean - centroids[group, nearest]).to(moments.dtype)
        offset = torch.where(vote[..., None] > 0, offset, 0)  # 0 * inf is NaN
        ones = offset.new_ones(*offset.shape[:2], 1)
        powers = torch.cat([ones, offset, offset[..., rows] * offset[..., columns]], dim=-1)
        slot = (group * num_clusters + nearest).flatten()
        moments.view(groups * num_clusters, moments.shape[-1]).index_add_(
            0, slot, (vote[..., None] * powers).flatten(0, 1)
        )
    return indices, moments, values


def lookup(palette: Tensor, indices: Tensor) -> Tensor:
    """See `colorquant_nn.kernels.lookup`."""
    planes = palette.transpose(1, 2).contiguous()  # gathering rows would take four times as long
    chosen = indices[:, None].expand(-1, palette.shape[2], -1)
    return planes.gather(2, chosen).transpose(1, 2)


def histogram(points: Tensor, weights: Tensor | None, cells: Tensor, unit: float) -> None:
    """See `colorquant_nn.kernels.add_to_histogram`."""
    side = side_of(cells)
    clean = sanitize(points, True).flatten(0, 1)
    vote = torch.isfinite(points).all(-1).flatten().to(torch.float64)
    if weights is not None:
        vote = vote * weights.flatten()
    red, green, blue = (clean * side).to(torch.int64).clamp(max=side - 1).unbind(-1)
    if points.dtype == torch.uint8:  # whole numbers have exact sums
        colors = points.to(torch.float64).flatten(0, 1) * (unit / 255)
    else:
        colors = clean.to(torch.float64) * unit
    columns = [torch.ones_like(colors[:, :1]), colors, colors.square().sum(1, keepdim=True)]
    moments = vote[:, None] * torch.cat(columns, 1)[:, : cells.shape[1]]
    cells.index_add_(0, (red * side + green) * side + blue, moments)


def side_of(cells: Tensor) -> int:
    """Of a grid over the cube, with so many cells."""
    return round(len(cells) ** (1 / 3))


def exporting() -> bool:
    """Whether the call is being traced by torch.export or torch.onnx."""
    if hasattr(torch.compiler, "is_exporting"):
        return torch.compiler.is_exporting()
    return torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()


def num_moments(channels: int) -> int:
    """How many moments a cluster has: its count, C offsets, and the upper triangle of scatter.

    Args:
        channels: C.

    Examples:
        >>> from colorquant_nn.kernels.reference import num_moments
        >>> num_moments(3)
        10
    """
    return 1 + channels + channels * (channels + 1) // 2


def trace_columns(channels: int) -> list[int]:
    """Which of the moments are the diagonal of the scatter.

    Args:
        channels: C.

    Examples:
        >>> from colorquant_nn.kernels.reference import trace_columns
        >>> trace_columns(3)
        [4, 7, 9]
    """
    return [num_moments(channels) - rest * (rest + 1) // 2 for rest in range(channels, 0, -1)]


def most_moves(num_clusters: int) -> int:
    """More centroids are not relocated at once.

    Args:
        num_clusters: K.

    Examples:
        >>> from colorquant_nn.kernels.reference import most_moves
        >>> most_moves(16)
        2
    """
    return max(1, num_clusters // 8)


def spread_bits(channels: int) -> Tensor:
    """The bits of a byte at their places in a Morton code, for each channel; red is uppermost.

    Args:
        channels: C, of the colours; 3 and 4 are used.

    Returns:
        (C, 256) int64, whose bitwise or over the channels of a colour is its code.

    Examples:
        >>> from colorquant_nn.kernels.reference import spread_bits
        >>> spread_bits(3)[:, 3]
        tensor([36, 18,  9])
    """
    values = torch.arange(256, device="cpu")
    table = torch.zeros(channels, 256, dtype=torch.int64, device="cpu")
    for channel in range(channels):
        for bit in range(8):
            place = channels * bit + channels - 1 - channel
            table[channel] |= (values >> bit & 1) << place
    return table


def allocate_kmeans(points: Tensor, num_clusters: int) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs of `kmeans_per_image` before there is anything in them."""
    images, num_points, channels = points.shape
    return (
        points.new_zeros((images, num_clusters, channels), dtype=torch.float32),
        points.new_empty((images, num_points), dtype=torch.int64),
        points.new_zeros((images, num_clusters), dtype=torch.float32),
    )


def allocate(
    points: Tensor, centroids: Tensor, palette: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Empty outputs of `cluster`; ``values`` is laid out in memory as ``points`` are."""
    channels = points.shape[-1]
    indices = points.new_empty(points.shape[:2], dtype=torch.int64)
    shape = (*centroids.shape[:2], num_moments(channels))
    moments = points.new_empty(shape, dtype=exact_dtype(points))
    dtype = points.dtype if points.is_floating_point() else torch.float32
    if palette is None:
        values = points.new_empty((0,), dtype=dtype)
    elif palette.shape[-1] == channels:
        values = torch.empty_like(points, dtype=dtype)
    else:
        values = points.new_empty((*points.shape[:2], palette.shape[-1]), dtype=dtype)
    return indices, moments, values


def exact_dtype(tensor: Tensor) -> torch.dtype:
    """What sums of a tensor are kept in: float64, but on MPS, which has none."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def sanitize(points: Tensor, clamp: bool) -> Tensor:
    """Points as finite float32 or float64; uint8 divided by 255; clamped to [0, 1] if asked."""
    if not points.is_floating_point():
        return points.to(torch.float32) / 255
    points = points.to(torch.promote_types(points.dtype, torch.float32)).nan_to_num()
    return points.clamp(0, 1) if clamp else points


def finite(points: Tensor) -> Tensor:
    """Which points (..., C) have finite channels only: (...) bool.

    What is not finite, less itself, is not a number; this takes a third of the time of `isfinite`.
    """
    return (points - points).sum(-1) == 0


def _nearest(points: Tensor, centroids: Tensor) -> Tensor:
    distances = (points[..., None, 0] - centroids[:, None, :, 0]).square_()
    for channel in range(1, points.shape[-1]):
        distances += (points[..., None, channel] - centroids[:, None, :, channel]).square_()
    return distances.argmin(-1)  # argmin of torch returns the first of equal values


def _chunks(points: Tensor, centroids: Tensor) -> list[slice]:
    size = max(1, CHUNK_ELEMENTS // max(1, points.shape[0] * centroids.shape[1]))
    return [slice(start, start + size) for start in range(0, points.shape[1], size)]
