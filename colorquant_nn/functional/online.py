"""Learning a palette from a stream of batches: a warm-up by full k-means, then the update rule.

A palette that learns is four tensors, its `PaletteState`, changed in place; how it learns is a
`Learning`. `learn` quantizes a batch and learns from it. Or the two are apart: `observe` quantizes
and gathers, and `commit` learns from all that was gathered as from one batch. `learn` and `observe`
are custom ops, opaque to ``torch.compile``.

With other `ranks`, a step sums the batch's histogram, or its moments, over them: one all-reduce of
a fixed shape, after which every rank learns the same.

Letters: B images, N points, K centroids, M cells of the memory; F is the width of the moments.
"""

import math
import warnings
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from colorquant_nn import kernels
from colorquant_nn.functional.clustering import moments_of, update
from colorquant_nn.functional.color import color_space
from colorquant_nn.functional.points import OUTSIDE, finite_weights, in_space, warn_of_range
from colorquant_nn.functional.ranks import WORLD, all_reduce, together
from colorquant_nn.functional.relocation import revive
from colorquant_nn.functional.seeding import num_candidates
from colorquant_nn.kernels import CHANCE, TINY
from colorquant_nn.names import Space

__all__ = [
    "MEMORY",
    "Learning",
    "PaletteState",
    "commit",
    "learn",
    "look_once",
    "observe",
    "quantize",
]

MEMORY = 6144  # cells, 48 KiB: DDP broadcasts a layer's buffers in every forward
HISTOGRAM_BITS = 6
RANGES = (
    "divide images of 0 to 255 by 255, put the layer before Normalize, or give it their range, as "
    "value_range=(-1, 1); an encoder's colours are brought in by a loss with the commitment of "
    "quantize()"
)
FORGOTTEN = 100  # forwards without a commit, after which a user is asked whether it was forgotten


class PaletteState(NamedTuple):
    """All that a learning palette knows."""

    centroids: Tensor
    """(K, 3) float32 in the working space."""
    counts: Tensor
    """(K,) float32, running number of pixels of each."""
    memory: Tensor
    """(M, 4) float16, colours of the warm-up: root of the weight, and mean sRGB; later zero."""
    batches: Tensor
    """() float32, how many batches were learnt from; a mean of several palettes has a fraction."""


class Learning(NamedTuple):
    """How a palette learns."""

    space: Space
    """A name of `colorquant_nn.functional.color.SPACES`."""
    decay: float
    """Of the running counts, from 0 to 1."""
    dead_below: float
    """A centroid is dead below this fraction of the mean count."""
    warm_up: int
    """How many batches are learnt by full k-means on the memory."""
    ranks: str = WORLD
    """With whom, see `colorquant_nn.functional.ranks`."""


class Fit(NamedTuple):
    """How long a fit of the warm-up goes on; chosen on CIFAR-10."""

    steps: int
    """Of Lloyd's algorithm."""
    rounds: int
    """Of relocations, with `STEPS_A_ROUND` steps of Lloyd's algorithm each."""


SHORT = Fit(steps=4, rounds=4)
THOROUGH = Fit(steps=40, rounds=60)  # the last time: what it finds is only refined from then on
STEPS_A_ROUND = 5


class Batch(NamedTuple):
    """A quantized batch, as the kernel gives it, and the palette that it was quantized with."""

    indices: Tensor
    """(B, N) int64."""
    moments: Tensor
    """(K, F) float64."""
    values: Tensor
    """(B, N, 3), rows of the palette in the points' dtype."""
    palette: Tensor
    """(K, 3) float32 sRGB."""


def quantize(
    points: Tensor, centroids: Tensor, space: Space, weights: Tensor | None = None
) -> Batch:
    """Every point to its nearest centroid.

    Args:
        points: (B, N, 3) sRGB.
        centroids: (K, 3) in the space.
        space: a name of `colorquant_nn.functional.color.SPACES`.
        weights: (B, N) float32 of the points in the moments, at least 0; all 1 without it.

    Returns:
        See `Batch`.
    """
    palette = color_space(space).to_rgb(centroids).clamp(0, 1)
    rgb = space == "rgb"  # the kernel clamps, and sees what is not finite
    if not rgb:
        known = finite_weights(points)
        weights = known if weights is None else known * weights
    indices, moments, values = kernels.cluster(
        in_space(points, space), centroids[None], palette[None], weights, clamp=rgb
    )
    return Batch(indices, moments[0], values, palette)


def learn(
    points: Tensor, state: PaletteState, how: Learning, weights: Tensor | None = None
) -> Batch:
    """Quantize a batch, and learn from it.

    In the warm-up the palette is fitted first, to the memory and this batch, by a few steps of
    Lloyd's algorithm and of relocations, the last time by more; the first batch is seeded by
    k-means++. After it, the update rule moves the centroids when the batch has been quantized, and
    dead ones are revived.

    Args:
        points: (B, N, 3) sRGB; those that are not finite do not count.
        state: changed in place.
        how: see `Learning`.
        weights: (B, N) float32, at least 0: how much each point counts; all 1 without it.

    Returns:
        The batch as it was quantized, see `Batch`.
    """
    return Batch(*kernels.call("learn", points, weights, *state, *how))


def observe(
    points: Tensor,
    state: PaletteState,
    pending: Tensor,
    how: Learning,
    weights: Tensor | None = None,
) -> Batch:
    """Quantize a batch, and add it to what the next `commit` learns from.

    A forward that is repeated inside a backward, as that of activation checkpointing is, adds
    nothing.

    Args:
        points: (B, N, 3) sRGB; those that are not finite do not count.
        state: in the warm-up its memory takes the batch up; the rest stays.
        pending: (K, F) float32, moments of the batches after the warm-up.
        how: see `Learning`.
        weights: (B, N) float32, at least 0: how much each point counts; all 1 without it.

    Returns:
        The batch as it was quantized, see `Batch`.
    """
    return Batch(*kernels.call("observe", points, weights, *state, pending, *how))


def commit(state: PaletteState, pending: Tensor, how: Learning) -> None:
    """Learn from all that was observed since the last commit as from one batch.

    Args:
        state: changed in place.
        pending: (K, F) float32; emptied.
        how: see `Learning`.
    """
    step, fresh = step_of(state.batches, how.warm_up), pending[:, 0].sum() > 0
    if step < how.warm_up:
        _fit(_recall(state, how, pending[0, 0]), fresh, state, how, step)
    else:
        _apply_rule(pending.to(torch.float64), fresh, state, how)
    pending.zero_()
    _waiting[pending] = 0


def run_learn(points: Tensor, weights: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    """The operation behind `learn`."""
    _refuse_recomputation()
    state, how = PaletteState(*rest[:4]), Learning(*rest[4:])
    step = step_of(state.batches, how.warm_up)
    look_once(points, state.counts)
    if step < how.warm_up:
        cells = _histogram(points, weights, state, how)
        cells, weight = _remember(cells, _recall(state, how), state)
        _fit(cells, weight > 0, state, how, step)
    batch = quantize(points, state.centroids, how.space, weights)
    if step >= how.warm_up:
        moments = all_reduce(batch.moments.clone(), how.ranks)
        _apply_rule(moments, moments[:, 0].sum() > 0, state, how)
    return tuple(batch)


def run_observe(points: Tensor, weights: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    """The operation behind `observe`."""
    state, pending, how = PaletteState(*rest[:4]), rest[4], Learning(*rest[5:])
    batch = quantize(points, state.centroids, how.space, weights)
    if not recomputing():
        waiting = _waiting.get(pending, 0)
        look_once(points, state.counts)
        if step_of(state.batches, how.warm_up) < how.warm_up:
            cells = _histogram(points, weights, state, how)
            _, weight = _remember(cells, _recall(state, how, pending[0, 0]), state)
            pending[0, 0] += weight  # all that a commit wants to know then: was there anything
        else:
            pending.add_(all_reduce(batch.moments.clone(), how.ranks))
        _waiting[pending] = waiting + 1
        if waiting + 1 == FORGOTTEN:
            warnings.warn(
                f"a DeferredColorQuantize saw {FORGOTTEN} batches and no commit(), without which "
                "its palette does not learn: call layer.commit() after each optimizer step, or "
                "take ColorQuantize, which learns in every forward",
                stacklevel=2,
            )
    return tuple(batch)


_waiting = WeakIdKeyDictionary()  # forwards since the last commit, by the tensor of what waits
_looked = WeakIdKeyDictionary()  # the counts of palettes that have seen a batch


def look_once(points: Tensor, counts: Tensor) -> None:
    """Warn if the first batch of a palette is of another range; it waits for the device then.

    Args:
        points: (B, N, 3), of which [0, 1] is expected.
        counts: the palette's, by which it is known again.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.online import look_once
        >>> look_once(torch.rand(1, 4, 3), torch.zeros(2))
    """
    if counts not in _looked and points.numel() > 0:
        _looked[counts] = True
        warn_of_range(points, RANGES)


def _recall(state: PaletteState, how: Learning, waiting: Tensor | float = 0.0) -> Tensor:
    """The memory as cells (M, 4), of the weight that counts, and what waits for a commit, say.

    They are exact, where the memory's own weights are rounded to half precision.
    """
    cells = unpack(state.memory)
    weight = how.decay * state.counts.sum() + waiting
    return cells * (weight / cells[:, 0].sum().clamp_min(TINY))


def _histogram(
    points: Tensor, weights: Tensor | None, state: PaletteState, how: Learning
) -> Tensor:
    """The colours of a batch, on all ranks, in cells (8 ** bits, 4) float64."""
    cells = kernels.histogram(points, HISTOGRAM_BITS, weights)
    if not together(how.ranks):
        return cells
    size = float(len(state.centroids))
    row = cells.new_tensor([[1.0, size, size * size, 0.0]])
    cells = all_reduce(torch.cat([cells, row]), how.ranks)
    ranks, sizes, squares = cells[-1, :3].tolist()
    if ranks * squares != sizes * sizes:
        raise RuntimeError(
            f"layers of other numbers of colours than this one's {size:.0f} learn on other ranks: "
            "models that differ need sync=False, or a process_group"
        )
    return cells[:-1]


def _remember(cells: Tensor, recalled: Tensor, state: PaletteState) -> tuple[Tensor, Tensor]:
    """Add the colours of a batch to what was recalled, and keep it all in the memory.

    Returns:
        The memory and the batch in the cells of a histogram, (8 ** bits, 4) float32, and the
        weight of the batch.
    """
    memory, weight = state.memory, cells[:, 0].sum()
    side = 1 << HISTOGRAM_BITS
    red, green, blue = (memory[:, 1:].float() * side).to(torch.int64).clamp(0, side - 1).unbind(1)
    cells.index_add_(0, (red * side + green) * side + blue, recalled.to(cells.dtype))
    cells = cells[octree_order(cells.device)]
    memory.copy_(pack(summarize(cells, len(memory))))
    return cells.to(torch.float32), weight


def pack(cells: Tensor) -> Tensor:
    """Weights and sums (M, 4) as a memory has them: roots, in the range of float16, and means."""
    roots = cells[:, :1].sqrt().clamp(max=torch.finfo(torch.float16).max)
    return torch.cat([roots, cells[:, 1:] / cells[:, :1].clamp_min(TINY)], 1)


def unpack(memory: Tensor) -> Tensor:
    """The inverse of `pack`, float32."""
    weights = memory[:, :1].float().square()
    return torch.cat([weights, weights * memory[:, 1:].float()], 1)


def summarize(cells: Tensor, size: int) -> Tensor:
    """A few cells for many: an octree over the colour cube, split where the error is largest.

    A node stands for its pixels by their mean. From the whole cube on, the node of the largest sum
    of squared distances is split, while there is room for its children.

    Args:
        cells: (8 ** bits, 4) weight and sums of each; eight neighbours are the children of a node.
        size: M, the most cells of the result.

    Returns:
        (M, 4) weight and sums, in the order of the cells; the last are 0.
    """
    columns = cells.T.contiguous()
    squares = columns[1:].square().sum(0) / columns[0].clamp_min(TINY)
    levels = [torch.cat([columns, squares[None]])]  # the whole cube first
    while levels[0].shape[1] > 1:
        levels.insert(0, levels[0].unflatten(1, (-1, 8)).sum(-1))
    inner = torch.cat(levels[:-1], 1)
    error = inner[4] - inner[1:4].square().sum(0) / inner[0].clamp_min(TINY)
    children = torch.cat([(level[0] > 0).view(-1, 8).sum(1) for level in levels[1:]])
    order = error.argsort(descending=True, stable=True)
    room = 1 + (children[order] - 1).clamp_min(0).cumsum(0) <= size
    split = torch.zeros_like(room).index_put_((order,), room)

    # Leaves do not overlap: each goes where its first cell is.
    summary, leaf = torch.zeros_like(columns), split.new_zeros(len(cells))
    splits = split.split([level.shape[1] for level in levels[:-1]])
    reached = split.new_ones(1)
    for level, its in zip(levels, [*splits, split.new_zeros(len(cells))], strict=True):
        step = len(cells) // len(its)
        ends = reached & ~its & (level[0] > 0)
        summary[:, ::step] = torch.where(ends, level[:4], summary[:, ::step])
        leaf[::step] |= ends
        reached = (reached & its).repeat_interleave(8)
    place = torch.where(leaf, leaf.cumsum(0) - 1, size)  # the last row takes what is no leaf
    return cells.new_zeros(size + 1, 4).index_add_(0, place, summary.T)[:size]


@lru_cache
def octree_order(device: torch.device | str = "cpu") -> Tensor:
    """The cells of the histogram so that eight neighbours are a cube: bits interleaved."""
    number = torch.arange(8**HISTOGRAM_BITS, device=device)
    place = torch.zeros_like(number)
    for bit in range(HISTOGRAM_BITS):
        for axis in range(3):  # blue is the lowest
            place |= (number >> (3 * bit + axis) & 1) << (bit + axis * HISTOGRAM_BITS)
    return place


def _fit(cells: Tensor, fresh: Tensor, state: PaletteState, how: Learning, step: int) -> None:
    """Fit the centroids to cells if there is news in them; the memory then fades as counts do."""
    last = step == how.warm_up - 1
    if cells.device.type == "cpu":
        if not fresh:
            return
        cells = cells[cells[:, 0] > 0]  # a shape that depends on data: elsewhere it would wait
    weights = cells[:, 0].contiguous()
    colors = color_space(how.space).from_rgb(cells[:, 1:] / weights[:, None].clamp_min(TINY))
    fitted = _search(colors, weights, state.centroids, step == 0, THOROUGH if last else SHORT)
    moments = moments_of(colors, fitted, weights)
    _assign(state, update(fitted, state.counts, moments, decay=0.0), fresh, how.space)
    fading = 0.0 if last else how.decay**0.5
    state.memory[:, 0].mul_(torch.where(fresh, fading, 1.0))
    state.memory[:, 1:].mul_((state.memory[:, :1] > 0).to(state.memory.dtype))


def _search(colors: Tensor, weights: Tensor, centroids: Tensor, seeding: bool, fit: Fit) -> Tensor:
    """Better centroids (K, 3); where distinct colours run out, the given ones stay."""
    if len(colors) == 0:
        return centroids
    num_clusters = len(centroids)
    candidates = num_candidates(num_clusters) if seeding else 0
    generator = torch.Generator("cpu").manual_seed(0)
    uniforms = torch.rand(1, num_clusters, candidates, generator=generator, device="cpu")
    normals = torch.randn(1, fit.rounds, 2, num_clusters, generator=generator, device="cpu")
    uniforms, blurs = uniforms.to(colors.device), (CHANCE * normals).exp_().to(colors.device)
    found = kernels.search(
        colors, weights, centroids[None], 0, uniforms, blurs, fit.steps, STEPS_A_ROUND
    )
    red, green, blue = ((column[:, None] == column) for column in found.unbind(1))
    repeated = (red & green & blue).tril(-1).any(1, keepdim=True)
    return torch.where(repeated | (weights.sum() == 0), centroids, found)


def _apply_rule(moments: Tensor, fresh: Tensor, state: PaletteState, how: Learning) -> None:
    new = update(state.centroids, state.counts, moments, how.decay)
    if how.dead_below > 0:
        new = revive(*new, moments, how.dead_below)
    _assign(state, new, fresh, how.space)
    if state.batches in _over:
        _over[state.batches] = state.batches._version


def _assign(state: PaletteState, new: tuple[Tensor, Tensor], fresh: Tensor, space: Space) -> None:
    """Take up new centroids and counts as those of one batch more, if there was anything in it."""
    centroids, counts = new
    state.centroids.copy_(torch.where(fresh, into_cube(centroids, space), state.centroids))
    state.counts.copy_(torch.where(fresh, counts, state.counts))
    state.batches.add_(fresh)


def into_cube(centroids: Tensor, space: Space) -> Tensor:
    """Bring centroids that left the sRGB cube back to it; the others stay, bit for bit.

    A relocated centroid can land outside, and the cube is not convex in Lab and OKLab, so that a
    mean of its colours may lie outside, too. The palette that is shown is the one that is used.

    Args:
        centroids: (K, 3) in the space.
        space: a name of `colorquant_nn.functional.color.SPACES`.
    """
    if space in ("rgb", "linear"):
        return centroids.clamp(0, 1)
    rgb = color_space(space).to_rgb(centroids)
    outside = ((rgb < -OUTSIDE) | (rgb > 1 + OUTSIDE)).any(1, keepdim=True)
    return torch.where(outside, color_space(space).from_rgb(rgb.clamp(0, 1)), centroids)


_over = WeakIdKeyDictionary()  # versions of `batches` with which a warm-up was known to be over


def step_of(batches: Tensor, warm_up: int) -> int:
    """The value of ``batches``, or ``warm_up`` if it is known to be that or more.

    A device is asked, and waited for, in the warm-up; after it only if somebody else wrote to the
    tensor, which its version tells.
    """
    if batches.device.type == "cpu" or batches.is_inference():
        return math.ceil(batches)
    if _over.get(batches, -1) == batches._version:
        return warm_up
    step = math.ceil(batches)
    if step >= warm_up:
        _over[batches] = batches._version
    return step


def recomputing() -> bool:
    """Whether this forward runs inside a backward, as that of activation checkpointing does."""
    return torch._C._current_graph_task_id() != -1


def _refuse_recomputation() -> None:
    if recomputing():
        raise RuntimeError(
            "a palette that learns in every forward cannot be under activation checkpointing, "
            "which repeats the forward; use DeferredColorQuantize and call commit() after each "
            "optimizer step"
        )
