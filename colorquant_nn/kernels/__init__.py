"""What the package computes on a device: operations, one wrapper for each.

`assign` is the hot one: every point to its nearest centroid, and `cluster` with it what k-means
learns from that. Each operation is a custom op, one node under ``torch.compile``, with an
implementation per device (``cpu``: numba, ``cuda``: Triton) or in plain torch, as the table in
`colorquant_nn.kernels.ops` says. Memory is O(points + clusters); an N x K matrix never exists.

Letters: B images, N points, K centroids, C channels; G is B (each image has centroids of its
own) or 1 (all share them).

Points are float16, bfloat16, float32, float64 or uint8 (which stands for ``value / 255``), with
any strides: an image batch is read in place through ``x.flatten(2).transpose(1, 2)``. Distances
are float32 differences (float64 for float64 points), ties go to the lowest index. With ``clamp``
the points are limited to [0, 1] first, NaN to 0. A point with a non-finite channel is assigned,
by its value after ``clamp`` (without: with NaN as 0), but never votes.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from colorquant_nn.kernels.ops import call
from colorquant_nn.kernels.reference import (
    CHANCE,
    REVIVE_MARGIN,
    SEARCH_MARGIN,
    SPLIT_GAIN,
    TINY,
    assign_for_export,
    exact_dtype,
    exporting,
    finite,
    most_moves,
    num_moments,
    sanitize,
    spread_bits,
    trace_columns,
)

__all__ = [
    "CHANCE",
    "REVIVE_MARGIN",
    "SEARCH_MARGIN",
    "SPLIT_GAIN",
    "TINY",
    "Clustered",
    "DeflateCosts",
    "DistinctColors",
    "Dots",
    "FittedImages",
    "Moments",
    "Target",
    "add_to_histogram",
    "assign",
    "blur_channels",
    "blur_errors",
    "call",
    "choose_indices",
    "cluster",
    "compare_channels",
    "convert_color",
    "couple_colors",
    "diffuse",
    "distinct_colors",
    "dither_amounts",
    "exact_dtype",
    "exporting",
    "finite",
    "histogram",
    "kmeans_per_image",
    "lookup",
    "mix",
    "most_moves",
    "move_colors",
    "num_moments",
    "relocate",
    "run_tasks",
    "sanitize",
    "search",
    "seed",
    "spread_bits",
    "sweep_dots",
    "unpack_moments",
]


class Clustered(NamedTuple):
    """What `cluster` returns."""

    indices: Tensor
    """(B, N) int64, the nearest centroid of each point."""
    moments: Tensor
    """(G, K, 1 + C + C (C + 1) / 2) float64, one row a cluster: see `unpack_moments`."""
    values: Tensor
    """(B, N, D) rows of ``palette`` in the points' dtype (float32 for uint8); (0,) without one."""


class Moments(NamedTuple):
    """Moments of the points of each cluster about its centroid, in float64."""

    counts: Tensor
    """(G, K) the weight of the points, ``sum w``."""
    offsets: Tensor
    """(G, K, C) ``sum w (x - c)``."""
    upper: Tensor
    """(G, K, C (C + 1) / 2) the upper triangle of ``scatter``, row by row."""

    @property
    def scatter(self) -> Tensor:
        """(G, K, C, C) ``sum w (x - c) (x - c)^T``."""
        channels = self.offsets.shape[-1]
        rows, columns = torch.triu_indices(channels, channels, device=self.upper.device)
        scatter = self.upper.new_zeros(*self.upper.shape[:-1], channels, channels)
        scatter[..., rows, columns] = self.upper
        scatter[..., columns, rows] = self.upper
        return scatter

    @property
    def distortions(self) -> Tensor:
        """(G, K) ``sum w |x - c|^2``, the trace of ``scatter``."""
        channels = self.offsets.shape[-1]
        first, *others = (column - 1 - channels for column in trace_columns(channels))
        total = self.upper[..., first]
        for column in others:
            total = total + self.upper[..., column]
        return total


class FittedImages(NamedTuple):
    """What `kmeans_per_image` returns."""

    centroids: Tensor
    """(B, K, C) float32."""
    indices: Tensor
    """(B, N) int64, the assignment that the centroids are the means of."""
    counts: Tensor
    """(B, K) float32, the weight of the points that each centroid is the mean of."""


class DistinctColors(NamedTuple):
    """What `distinct_colors` returns."""

    codes: Tensor
    """(M,) int64, ascending: their places on a curve that fills the cube."""
    colors: Tensor
    """(M, 3) float32 in [0, 1]."""
    weights: Tensor
    """(M,) float64, of all the pixels of the colour."""


class Target(NamedTuple):
    """What dots are to look like, see `sweep_dots`."""

    points: Tensor
    """(H, W, 4) float32."""
    weights: Tensor
    """(H, W) float32, of each pixel's error; 0 takes part in nothing."""
    kinds: Tensor
    """(H, W) uint8: 0 keeps its index, 1 takes any colour, 2 one of those with the largest last
    channel."""


class DeflateCosts(NamedTuple):
    """What deflate's symbols cost, or how often they are used, in each of B bands of rows."""

    literals: Tensor
    """(B, K), of each colour."""
    lengths: Tensor
    """(B, 259), of a copy of 3 to 258 pixels."""
    distances: Tensor
    """(B, 30), of each code of a copy's distance, with its extra bits."""


class Dots(NamedTuple):
    """A picture's dots while they are looked for, see `sweep_dots`."""

    indices: Tensor
    """(H, W) int32; below 0 a pixel is as it should be, for it has not got a colour yet."""
    response: Tensor
    """(H + 2 R, W + 2 R, 4) float32, of `blur_errors`."""
    stale: Tensor
    """(H / 8, W / 8) uint8, rounded up: 0 where nothing changed since the last sweep."""


def assign(points: Tensor, centroids: Tensor, clamp: bool = False) -> Tensor:
    """Index of the nearest centroid of each point.

    Args:
        points: (B, N, C).
        centroids: (G, K, C).
        clamp: limit the points to [0, 1].

    Returns:
        (B, N) int64.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import assign
        >>> assign(torch.tensor([[[0.2], [0.9]]]), torch.tensor([[[0.0], [1.0]]]))
        tensor([[0, 1]])
    """
    if exporting():
        return assign_for_export(points, centroids, clamp)
    return call("assign", points, centroids, clamp)


def cluster(
    points: Tensor,
    centroids: Tensor,
    palette: Tensor | None = None,
    weights: Tensor | None = None,
    clamp: bool = False,
) -> Clustered:
    """`assign`, the moments of each cluster and the quantized points, in one pass.

    Args:
        points: (B, N, C).
        centroids: (G, K, C).
        palette: (G, K, D), the rows written out as ``values``; none are written without it.
        weights: (B, N) float32, at least 0; all 1 without it.
        clamp: limit the points to [0, 1].

    Returns:
        Indices, moments and values.

    Raises:
        ValueError: for weights or a palette of another shape.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import cluster
        >>> points = torch.tensor([[[0.25], [0.75]]])
        >>> cluster(points, torch.tensor([[[0.0], [1.0]]])).moments
        tensor([[[ 1.0000,  0.2500,  0.0625],
                 [ 1.0000, -0.2500,  0.0625]]], dtype=torch.float64)
    """
    if weights is not None and weights.shape != points.shape[:2]:
        raise ValueError(f"expected weights {tuple(points.shape[:2])}, got {tuple(weights.shape)}")
    if palette is not None and palette.shape[:2] != centroids.shape[:2]:
        raise ValueError(
            f"expected a palette {(*centroids.shape[:2], 'D')}, got {tuple(palette.shape)}"
        )
    return Clustered(*call("cluster", points, centroids, palette, weights, clamp))


def kmeans_per_image(
    points: Tensor,
    num_clusters: int,
    num_iters: int,
    uniforms: Tensor,
    weights: Tensor | None = None,
    clamp: bool = False,
) -> FittedImages:
    """Fit centroids of its own to each image: k-means++, then Lloyd steps.

    The first centroid is a point drawn by its weight; each further one is, of several points drawn
    by their weighted squared distance to the centroids so far, the one that lowers the sum of these
    distances most. The last step moves the centroids: each with a count above 0 is the weighted
    mean of the points that the returned indices give it. The rows beyond an image's distinct
    colours repeat its first centroid, with count 0; an image without a voter has zeros.

    Args:
        points: (B, N, C).
        num_clusters: K.
        num_iters: Lloyd steps, at least 1.
        uniforms: (K, candidates) float32 in [0, 1), the random numbers, the same for every image.
        weights: (B, N) float32, at least 0, or bool; all 1 without it.
        clamp: limit the points to [0, 1].

    Returns:
        Centroids, indices and counts.

    Raises:
        ValueError: for fewer than one step, or random numbers or weights of another shape.

    References:
        Arthur and Vassilvitskii 2007, "k-means++: the advantages of careful seeding".

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import kmeans_per_image
        >>> fitted = kmeans_per_image(torch.rand(2, 100, 3), 4, 3, torch.rand(4, 2))
        >>> fitted.counts.sum(1)
        tensor([100., 100.])
    """
    if uniforms.dim() != 2 or uniforms.shape[0] != num_clusters or uniforms.shape[1] < 1:
        raise ValueError(
            f"expected uniforms ({num_clusters}, candidates), got {tuple(uniforms.shape)}"
        )
    if weights is not None and weights.shape != points.shape[:2]:
        raise ValueError(f"expected weights {tuple(points.shape[:2])}, got {tuple(weights.shape)}")
    if num_iters < 1:
        raise ValueError(f"expected num_iters of at least 1, got {num_iters}")
    return FittedImages(
        *call("kmeans_per_image", points, num_clusters, num_iters, uniforms, weights, clamp)
    )


def lookup(palette: Tensor, indices: Tensor) -> Tensor:
    """Look up the colours of each image's indices.

    Args:
        palette: (B, K, D).
        indices: (B, N) int64, from 0 to K - 1, which is not checked.

    Returns:
        (B, N, D), channel by channel in memory, as images are.

    Raises:
        ValueError: for different numbers of images.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import lookup
        >>> lookup(torch.tensor([[[0.0], [1.0]]]), torch.tensor([[1, 0, 1]])).flatten()
        tensor([1., 0., 1.])
    """
    if palette.shape[0] != indices.shape[0]:
        raise ValueError(
            f"expected a palette for each of {indices.shape[0]} images, got {palette.shape[0]}"
        )
    return call("lookup", palette, indices)


def histogram(points: Tensor, bits: int, weights: Tensor | None = None) -> Tensor:
    """Count the points in each cell of a grid over the colour cube, and sum them up.

    Args:
        points: (B, N, 3).
        bits: the grid has ``2**bits`` cells a side.
        weights: (B, N) float32, at least 0; all 1 without it.

    Returns:
        (2**bits ** 3, 4) float64: the weight in the cell, the sums of red, green and blue. Blue
        varies fastest over the cells.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import histogram
        >>> histogram(torch.tensor([[[0.0, 0.0, 0.75], [0.0, 0.0, 1.0]]]), bits=1)[1].tolist()
        [2.0, 0.0, 0.0, 1.75]
    """
    cells = points.new_zeros((8**bits, 4), dtype=torch.float64)
    add_to_histogram(cells, points, weights, unit=1.0)
    return cells


def add_to_histogram(
    cells: Tensor, points: Tensor, weights: Tensor | None = None, unit: float = 255.0
) -> None:
    """Add points to a `histogram`, in place; few points cost little, however many cells there are.

    The points are limited to [0, 1]. The number of threads changes no sum, and with a unit of 255
    the order of bytes neither.

    Args:
        cells: (2**bits ** 3, 4) float64: the weight in the cell, the sums of red, green and blue;
            with (2**bits ** 3, 5) also the sum of the squares of all three.
        points: (B, N, 3).
        weights: (B, N) float32, at least 0; all 1 without it.
        unit: what the largest value of a point counts as.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import add_to_histogram
        >>> cells = torch.zeros(8, 5, dtype=torch.float64)
        >>> add_to_histogram(cells, torch.tensor([[[0, 0, 200], [0, 1, 255]]], dtype=torch.uint8))
        >>> cells[1].tolist()
        [2.0, 0.0, 1.0, 455.0, 105026.0]
    """
    call("histogram", points, weights, cells, unit)


def distinct_colors(points: Tensor, weights: Tensor | None = None) -> DistinctColors:
    """List the distinct 8-bit colours of images; of floats, the means of what rounds to each.

    It is done on the CPU: from another device the points go there, and the results come back.

    Args:
        points: (B, N, 3); limited to [0, 1].
        weights: (B, N), at least 0; all 1 without it. What has no weight is not listed, nor is
            what is not finite.

    Returns:
        Codes, colours and their weights.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import distinct_colors
        >>> points = torch.tensor([[[255, 0, 0], [0, 0, 0], [255, 0, 0]]], dtype=torch.uint8)
        >>> distinct_colors(points).weights
        tensor([1., 2.], dtype=torch.float64)
    """
    return DistinctColors(*call("distinct_colors", points, weights))


def seed(points: Tensor, weights: Tensor, start: Tensor, pinned: int, uniforms: Tensor) -> Tensor:
    """Choose centroids by greedy k-means++: far points, by their share of the error.

    The first is drawn by its weight; each further one is, of several points drawn by their
    weighted squared distance to the centroids so far, the one that lowers the sum of these
    distances most. When all distinct points are chosen, the first centroid is repeated.

    Args:
        points: (M, C) float; along a curve that fills space it is fastest.
        weights: (M,), at least 0.
        start: (K, C), whose first rows are centroids already.
        pinned: how many.
        uniforms: (K, draws) float32 in [0, 1), the random numbers; those of a pinned row are not
            used.

    Returns:
        (K, C): the pinned rows, then rows of ``points``; zeros where none has a weight.

    References:
        Arthur and Vassilvitskii 2007, "k-means++: the advantages of careful seeding", section 7.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import seed
        >>> points = torch.tensor([[0.0, 0, 0], [0, 0, 0.1], [5, 5, 5]])
        >>> seeds = seed(points, torch.ones(3), torch.zeros(2, 3), 1, torch.full((2, 1), 0.5))
        >>> seeds.tolist()
        [[0.0, 0.0, 0.0], [5.0, 5.0, 5.0]]
    """
    return call("seed", points, weights, start, pinned, uniforms)


def relocate(
    centroids: Tensor,
    counts: Tensor,
    moments: Tensor,
    movable: Tensor,
    limit: Tensor,
    margin: float,
    blur: Tensor | None = None,
    pinned: int = 0,
) -> tuple[Tensor, Tensor]:
    """Merge the centroids whose loss costs least, and halve the clusters where that gains most.

    Merging j into its neighbour l costs ``n_j n_l / (n_j + n_l) |c_j - c_l|^2``. Halving a cluster
    across its longest axis, of variance v, gains ``2 / pi n v``, where n is the smaller of its
    running count (on the scale of the batch) and its count in the batch. The cheapest merge goes
    with the largest gain, and so on, until the gain of a pair does not exceed ``margin`` times its
    cost. A centroid that another one has merged into, or whose cluster was halved, is not merged
    away after that, and none is merged into one that is gone. The neighbour takes the count of the
    merged centroid, the halves share that of the cluster.

    Args:
        centroids: (K, C).
        counts: (K,) running counts.
        moments: (K, F) of a batch about these or very near centroids.
        movable: (K,) bool, which centroids may be merged away.
        limit: int64 scalar, the most moves; never more than `most_moves` are made.
        margin: how many times the cost the gain has to be.
        blur: (2, K) factors of the costs and of the gains, all 1 without it.
        pinned: the first of the centroids stay where they are, even when others merge into them or
            their clusters are halved.

    Returns:
        The new centroids and counts; those that no move touches are the same bit for bit.

    References:
        The cost of a merge is that of Ward 1963, "Hierarchical grouping to optimize an objective
        function".

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import cluster, relocate
        >>> points = torch.tensor([[[0.0, 0, 0], [0, 0, 0.01], [1, 0, 0], [1, 1, 0]]])
        >>> centroids = torch.tensor([[0.0, 0, 0], [0, 0, 0.01], [1, 0.5, 0]])
        >>> moments = cluster(points, centroids[None]).moments[0]
        >>> everyone = torch.ones(3, dtype=torch.bool)
        >>> moved, counts = relocate(
        ...     centroids, moments[:, 0], moments, everyone, torch.tensor(1), margin=0.5
        ... )
        >>> counts
        tensor([1., 2., 1.], dtype=torch.float64)
    """
    return call("relocate", centroids, counts, moments, movable, limit, margin, blur, pinned)


def search(
    points: Tensor,
    weights: Tensor,
    start: Tensor,
    pinned: int,
    uniforms: Tensor,
    blurs: Tensor,
    steps: int,
    steps_a_round: int,
) -> Tensor:
    """Find good k-means centroids: the best of several searches.

    Each one seeds (see `seed`), takes Lloyd steps, and then goes round by round: relocate some
    centroids (see `relocate`), take Lloyd steps, keep the result if it is better. A round that
    does not help halves the number of moves of the next, down to one.

    Args:
        points: (M, C) float; along a curve that fills space it is fastest.
        weights: (M,), at least 0; rounded to float32.
        start: (R, K, C), where each search begins.
        pinned: how many of the centroids, the first, stay as they are.
        uniforms: (R, K, draws) float32 in [0, 1), of the seeding; with no draws there is none.
        blurs: (R, rounds, 2, K) random factors of the costs and gains.
        steps: of Lloyd's algorithm after the seeding.
        steps_a_round: of Lloyd's algorithm.

    Returns:
        (K, C).

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import search
        >>> points = torch.rand(500, 3)
        >>> uniforms, blurs = torch.rand(1, 8, 3), torch.ones(1, 4, 2, 8)
        >>> search(points, torch.ones(500), torch.zeros(1, 8, 3), 0, uniforms, blurs, 5, 3).shape
        torch.Size([8, 3])
    """
    return call("search", points, weights, start, pinned, uniforms, blurs, steps, steps_a_round)


def convert_color(colors: Tensor, stages: list[str], matrices: list[float]) -> Tensor:
    """Run a chain of curves and matrices on each colour.

    Args:
        colors: (..., 3) float32 or float64.
        stages: of each, the name of a curve, "srgb_decode", "srgb_encode", "cube_root", "cube",
            "lab_curve" or "lab_uncurve", or "matrix", which takes the next nine of ``matrices``.
        matrices: row by row.

    Returns:
        (..., 3), laid out in memory as ``colors`` is where that is dense. On the CPU float32
        colours are rounded once, and equal ones get equal bits wherever they lie.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import convert_color
        >>> convert_color(torch.tensor([0.5, 2.0, 3.0]), ["cube"], [])
        tensor([ 0.1250,  8.0000, 27.0000])
    """
    return call("convert_color", colors, stages, matrices)


def diffuse(
    points: Tensor,
    kinds: Tensor | None,
    centroids: Tensor,
    stages: list[str],
    matrices: list[float],
    targets: Tensor,
    kept: Tensor | None = None,
    amounts: Tensor | None = None,
) -> Tensor:
    """Error diffusion in serpentine order: each pixel passes its error on to later ones.

    Errors are of linear light; the nearest centroid is that in a space. An error is cut along each
    principal axis of the centroids that the pixel may take, the first of which is that of their
    luminance: to how far they extend, and to the longest gap between neighbours, of hue to the mean
    gap. It is done on the CPU: from another device the points go there, and the result comes back.

    Args:
        points: (H, W, 3) or (H, W, 4) float32, finite: linear light, premultiplied, and alpha.
        kinds: (H, W) uint8: 0 leaves a pixel out, with index 0, no error going to it or from it; 1
            takes any centroid; 2 one of those with the largest alpha, 1, which the pixel has, too.
            All 1 without it.
        centroids: (K, C) float32, as the points.
        stages: from light to the space, as for `convert_color`: at most one curve, "srgb_encode",
            "cube_root" or "lab_curve", the latter two between two matrices.
        matrices: row by row.
        targets: (S, 3) float32: how many pixels on in the direction of travel, at most 2 either
            way, how many rows down, at most 2, and the share of the error that goes there.
        kept: (H, W) int64: the index that a pixel keeps, whatever error comes to it, -1 where it is
            free; its error is passed on all the same. All are free without it.
        amounts: (H, W) float32 from 0 to 1, how much a pixel takes part: this share of the errors
            that come to it is added to it, and this share of its error is passed on; with 0 it is
            drawn without dither. All 1 without it.

    Returns:
        (H, W) int64.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import diffuse
        >>> centroids = torch.tensor([[0.0] * 3, [1.0] * 3])
        >>> points, ahead = torch.full((1, 5, 3), 0.6), torch.tensor([[1.0, 0.0, 1.0]])
        >>> diffuse(points, None, centroids, [], [], ahead)
        tensor([[1, 0, 1, 0, 1]])
    """
    return call("diffuse", points, kinds, centroids, stages, matrices, targets, kept, amounts)


def mix(
    points: Tensor,
    kinds: Tensor | None,
    centroids: Tensor,
    stages: list[str],
    matrices: list[float],
    thresholds: Tensor,
    strength: float,
) -> Tensor:
    """Ordered dither for any palette: a pixel depends on its colour and place alone.

    For each colour there is a mixture: centroids that are near in a space, and how much of each, so
    that the mean of their linear light is that of the colour, or, if they cannot reach that, at
    least its luminance. Laid out from 0 to 1 in the order of the centroids, it is read at the
    threshold of the pixel's place in the tiled matrix. It is done on the CPU: from another device
    the points go there, and the result comes back.

    Args:
        points: see `diffuse`.
        kinds: see `diffuse`.
        centroids: see `diffuse`.
        stages: see `diffuse`.
        matrices: see `diffuse`.
        thresholds: (S, S) float32, at least 0 and below 1.
        strength: how much of a colour's distance from the nearest centroid is made up for.

    Returns:
        (H, W) int64.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import mix
        >>> centroids = torch.tensor([[0.0] * 3, [1.0] * 3])
        >>> thresholds = torch.tensor([[0.25, 0.75], [0.75, 0.25]])
        >>> mix(torch.full((1, 4, 3), 0.4), None, centroids, [], [], thresholds, 1.0)
        tensor([[0, 1, 0, 1]])
    """
    return call("mix", points, kinds, centroids, stages, matrices, thresholds, strength)


def dither_amounts(
    points: Tensor,
    indices: Tensor,
    colors: Tensor,
    unseen: float,
    hidden: float,
    flat: list[float],
) -> Tensor:
    """The share of a drawing's error in what is seen around each pixel: of it, and what hides it.

    The error is that of the mean over 5 x 5 pixels; it is hidden by ``unseen`` and by the contrast
    of neighbours there, times ``hidden``. Flat areas have none: a piece is what neighbours of one
    index make, beside or above each other, without those at an edge, which have a neighbour
    further than ``flat[0]`` away; it is the less flat, by the square, the further its points are
    from the first one, up to ``flat[1]``. A point alone is not flat; one at an edge is as flat as
    the flattest beside it.

    It is done on the CPU: from another device the points go there, and the result comes back.

    Args:
        points: (H, W, 3) or (H, W, 4) float32, finite.
        indices: (H, W) int64.
        colors: (K, C) float32.
        unseen: a distance.
        hidden: a factor.
        flat: two distances.

    Returns:
        (H, W) float32 from 0 to 1.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import dither_amounts
        >>> ramp, indices = torch.arange(0, 0.5, 0.1).view(1, 5, 1), torch.zeros(1, 5).long()
        >>> dither_amounts(ramp.expand(1, 5, 3), indices, torch.zeros(1, 3), 0.1, 1.0, [0.2, 0.1])
        tensor([[0.4440, 0.5533, 0.6399, 0.6984, 0.7393]])
    """
    return call("dither_amounts", points, indices, colors, unseen, hidden, flat)


def blur_channels(channels: Tensor) -> Tensor:
    """What `compare_channels` needs of an original: blurred by a Gaussian of 1.5 pixels.

    It is cut off after 5 pixels; the upper and the lower edge reflect, and beside a picture all is
    0. It is done on the CPU: from another device the channels go there, and the result comes back.

    Args:
        channels: (C, H, W) float32.

    Returns:
        (2, C, H, W) the channels and their squares, blurred.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import blur_channels
        >>> blur_channels(torch.full((1, 3, 99), 0.5))[:, 0, 0, 50]
        tensor([0.5000, 0.2500])
    """
    return call("blur_channels", channels)


def compare_channels(channels: Tensor, others: Tensor, blurred: Tensor) -> Tensor:
    """Where a picture's channels differ from an original's: in structure, and in edges.

    The differences of a pixel are one minus its SSIM, whose term of luminance is ``1 - (m1 -
    m2)**2``; and by how much more, and by how much less, it stands out of the blurred picture
    around than the original's does. It is done on the CPU, as `blur_channels` is.

    Args:
        channels: (C, H, W) float32, of the picture.
        others: (C, H, W) float32, of the original.
        blurred: (2, C, H, W) `blur_channels` of the original.

    Returns:
        (C, 3, 2) float64: for structure, edges that came up, and edges that were lost, the sum
        over the pixels, and that of the fourth powers.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import blur_channels, compare_channels
        >>> others = torch.eye(8)[None]
        >>> bool(compare_channels(others, others, blur_channels(others)).any())
        False
        >>> compare_channels(0 * others, others, blur_channels(others))[0, :, 0].round()
        tensor([61.,  0.,  8.], dtype=torch.float64)
    """
    return call("compare_channels", channels, others, blurred)


def sweep_dots(target: Target, colors: Tensor, blur: Tensor, dots: Dots) -> Tensor:
    """Give each pixel the colour that makes the blurred errors least, the others as they are.

    One sweep of coordinate descent over ``sum_pq e_p c(p - q) e_q``, ``e = weight (color - point)``
    and ``c`` the coupling. For one pixel this is a nearest query: it takes the colour nearest to
    ``color - response / weight``; of equals the one it has, or the lowest index. The order is
    fixed. It is done on the CPU, in place.

    Args:
        target: what the dots are to look like.
        colors: (K, 4) float32, on the axes of the points.
        blur: (2 R + 1, 4) float32, 1 in its middle and symmetric: pixels (y, x) apart are coupled
            by ``blur[y] blur[x]`` on each axis. R is at most 16.
        dots: are changed.

    Returns:
        How many pixels changed, an int64 scalar.

    References:
        Analoui and Allebach 1992, "Model-based halftoning using direct binary search".

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import Dots, Target, sweep_dots
        >>> grey = Target(torch.full((1, 4, 4), 0.4), torch.ones(1, 4), torch.ones(1, 4).byte())
        >>> indices = torch.full((1, 4), -1, dtype=torch.int32)
        >>> dots = Dots(indices, torch.zeros(3, 6, 4), torch.ones(1, 1).byte())
        >>> colors, blur = torch.tensor([[0.0] * 4, [1.0] * 4]), torch.tensor([[0.4], [1.0], [0.4]])
        >>> sweep_dots(grey, colors, blur.repeat(1, 4), dots)
        tensor(4)
        >>> dots.indices
        tensor([[0, 1, 0, 1]], dtype=torch.int32)
    """
    return call("sweep_dots", *target, colors, blur, *dots)


def blur_errors(target: Target, colors: Tensor, blur: Tensor, indices: Tensor) -> Tensor:
    """The coupled errors ``sum_q c(p - q) e_q`` of every pixel, see `sweep_dots`.

    Args:
        target: what the dots are to look like.
        colors: (K, 4) float32.
        blur: (2 R + 1, 4) float32.
        indices: (H, W) int32; below 0 there is no error, as where the weight is 0.

    Returns:
        (H + 2 R, W + 2 R, 4) float32, R pixels beyond the edges.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import Target, blur_errors
        >>> grey = Target(torch.full((1, 2, 4), 0.5), torch.ones(1, 2), torch.ones(1, 2).byte())
        >>> indices = torch.zeros(1, 2, dtype=torch.int32)
        >>> blur_errors(grey, torch.ones(1, 4), torch.ones(1, 4), indices)[..., 0]
        tensor([[0.5000, 0.5000]])
    """
    return call("blur_errors", target.points, target.weights, colors, blur, indices)


def couple_colors(
    weights: Tensor, blur: Tensor, indices: Tensor, response: Tensor, num_colors: int
) -> tuple[Tensor, Tensor]:
    """The palette step as least squares: how colours meet in the blurred picture.

    With the pixels' colours fixed, ``sum_pq e_p c(p - q) e_q`` is a quadratic form of the K colours
    on each axis. Without coupling the matrix is diagonal, of weighted counts, and the step is to
    the weighted mean.

    Args:
        weights: (H, W) float32; where it is 0 a pixel does not count, else it has a colour.
        blur: (2 R + 1, 4) float32.
        indices: (H, W) int32.
        response: (H + 2 R, W + 2 R, 4) float32, of `blur_errors`.
        num_colors: K.

    Returns:
        (K, K, 4) and (K, 4) float64: the form's matrices, and half its gradient.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import couple_colors
        >>> indices = torch.tensor([[0, 1, 1]], dtype=torch.int32)
        >>> matrix, _ = couple_colors(
        ...     torch.ones(1, 3), torch.ones(1, 4), indices, torch.zeros(1, 3, 4), 2
        ... )
        >>> matrix[..., 0]
        tensor([[1., 0.],
                [0., 2.]], dtype=torch.float64)
    """
    return call("couple_colors", weights, blur, indices, response, num_colors)


def move_colors(
    matrix: Tensor, gradient: Tensor, colors: Tensor, axes: Tensor, movable: Tensor, rounds: int
) -> Tensor:
    """Lower a quadratic form of colours, within what can be shown: bounded least squares.

    Coordinate descent, in a fixed order; a colour that nothing depends on stays where it is, and so
    does one that is best there already.

    Args:
        matrix: (K, K, 4) float64, see `couple_colors`.
        gradient: (K, 4) float64.
        colors: (K, 4) linear light, premultiplied, and alpha.
        axes: (4, 4) float64, from such colours to the axes of the form.
        movable: (K,) uint8: 0 stays, 1 changes in colour, 2 in colour and alpha.
        rounds: at most, through all colours.

    Returns:
        (K, 4) float64 colours from 0 to their alpha, which is at most 1.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import move_colors
        >>> matrix, axes = torch.ones(1, 1, 4).double(), torch.eye(4).double()
        >>> gradient = torch.tensor([[-9.0, 0.1, 0.0, 0.0]]).double()
        >>> colors, movable = torch.tensor([[0.5, 0.5, 0.5, 1.0]]), torch.ones(1).byte()
        >>> move_colors(matrix, gradient, colors, axes, movable, 9)
        tensor([[1.0000, 0.4000, 0.5000, 1.0000]], dtype=torch.float64)
    """
    return call("move_colors", matrix, gradient, colors, axes, movable, rounds)


def choose_indices(
    points: Tensor,
    weights: Tensor,
    kinds: Tensor,
    colors: Tensor,
    allowed: Tensor,
    costs: DeflateCosts,
    diffusion: float,
) -> tuple[Tensor, DeflateCosts]:
    """Give each pixel a colour, by its error and by what deflate stores the indices in.

    Each row is a shortest path over literals and copies of earlier indices, exact or nearly so,
    within its band of ``ceil(H / B)`` rows. Of copies those are tried that come from near above,
    that repeat the pixels before, that a pixel above made, and that begin where the same colours
    were before. With costs of 0 each pixel takes the colour nearest to it.

    Args:
        points: (H, W, 4) float32.
        weights: (H, W) float32 above 0, of each pixel's squared error.
        kinds: (H, W) uint8 below J; pixels of kind 0 pass on no error.
        colors: (K, 4) float32.
        allowed: (J, K) bool: the colours that a pixel of each kind may have, at least one.
        costs: in units of the error, at least 0.
        diffusion: the share of a row's errors that is added to the row below: a quarter, a half and
            a quarter of each to the three pixels there.

    Returns:
        (H, W) int32 indices, and how often each symbol is used, int64.

    References:
        Deutsch 1996, RFC 1951, "DEFLATE compressed data format specification"; Forney 1973, "The
        Viterbi algorithm".

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import DeflateCosts, choose_indices
        >>> points = torch.tensor([0.0, 0.0, 0.0, 0.6, 0.0, 0.0]).view(1, 6, 1).expand(1, 6, 4)
        >>> pixels = points.contiguous(), torch.ones(1, 6), torch.zeros(1, 6, dtype=torch.uint8)
        >>> colors, allowed = torch.tensor([[0.0] * 4, [1.0] * 4]), torch.ones(1, 2).bool()
        >>> sizes = ((1, 2), (1, 259), (1, 30))
        >>> free, dear = (DeflateCosts(*(torch.full(s, c) for s in sizes)) for c in (0.0, 0.5))
        >>> choose_indices(*pixels, colors, allowed, free, 0.0)[0]
        tensor([[0, 0, 0, 1, 0, 0]], dtype=torch.int32)
        >>> choose_indices(*pixels, colors, allowed, dear, 0.0)[0]
        tensor([[0, 0, 0, 0, 0, 0]], dtype=torch.int32)
    """
    indices, counts = call(
        "choose_indices",
        *(points, weights, kinds, colors, allowed, torch.cat(costs, dim=1), 0.25 * diffusion),
    )
    return indices, DeflateCosts(*counts.split([part.shape[1] for part in costs], dim=1))


def unpack_moments(moments: Tensor) -> Moments:
    """Name the columns of `Clustered.moments`: count, C offsets, upper triangle of scatter.

    Args:
        moments: (..., F), where F is `num_moments` of the channels.

    Returns:
        Views of the columns.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels import unpack_moments
        >>> unpack_moments(torch.tensor([2.0, 0.5, 0.3])).distortions
        tensor(0.3000)
    """
    channels = 1
    while num_moments(channels) < moments.shape[-1]:
        channels += 1
    first = 1 + channels
    return Moments(moments[..., 0], moments[..., 1:first], moments[..., first:])


def run_tasks(function: Callable[[int], object], num_tasks: int) -> None:
    """Call ``function(task)`` for each task, on torch's number of threads.

    Args:
        function: of Python, most of whose time is spent in kernels of the CPU.
        num_tasks: how many tasks there are, numbered from 0.

    Examples:
        >>> from colorquant_nn.kernels import run_tasks
        >>> done = []
        >>> run_tasks(done.append, 3)
        >>> sorted(done)
        [0, 1, 2]
    """
    from colorquant_nn.kernels.cpu import runtime  # which waits for numba

    runtime.run_tasks(function, num_tasks)
