"""Unused colours of a palette that gradients move: found in forward, moved after the next step.

Hardly a gradient reaches a colour that no pixel has. Each forward counts the pixels of each; the
first one after a step of the optimizer brings colours that left the cube back to it (projected
gradient descent), and moves the dead ones to where the error was largest. Between
two steps the palette is constant: several forwards have one backward, gradients accumulate, and a
forward that is repeated inside a backward sees what it saw the first time, and counts nothing.

Letters: B images, N points, K colours; F is the width of the kernel's moments.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.color import color_space
from colorquant_nn.functional.online import into_cube, quantize, recomputing
from colorquant_nn.functional.ranks import ALONE, WORLD, all_reduce, together
from colorquant_nn.functional.relocation import revive
from colorquant_nn.kernels import TINY, sanitize
from colorquant_nn.names import Space

__all__ = ["HORIZON", "LearnedState", "Renewal", "renew"]

HORIZON = 20  # forwards: what a colour was used for is forgotten, e-fold, in as many


class LearnedState(NamedTuple):
    """A palette that gradients move, and what is known of its use."""

    colors: Tensor
    """(K, 3) float32 sRGB, the parameter; it counts as limited to [0, 1], wherever a step led."""
    counts: Tensor
    """(K,) float32, running share of the pixels of each, of `HORIZON` in all; 0 at the very first,
    when colours that no pixel has need not be waited for."""
    pending: Tensor
    """(K, F) float32, moments of the batches since the last step of the optimizer."""
    previous: Tensor
    """(K, 3) float32, the colours, limited, with which that began: others tell of a step."""


class Renewal(NamedTuple):
    """How unused colours come back."""

    space: Space
    """A name of `colorquant_nn.functional.color.SPACES`."""
    dead_below: float
    """A colour is dead below this fraction of the mean count."""
    ranks: str = WORLD
    """With whom, see `colorquant_nn.functional.ranks`; `ALONE` in a process group none comes back,
    since parameters that each rank moves as it likes would no longer be the same."""


def renew(
    points: Tensor, state: LearnedState, how: Renewal, weights: Tensor | None = None
) -> Tensor:
    """After a step bring colours back; find the nearest one of each point, and count.

    Those that left [0, 1] come back to it, and unused ones to where the error was largest.

    Args:
        points: (B, N, 3) sRGB; those that are not finite do not count.
        state: changed in place.
        how: see `Renewal`.
        weights: (B, N) float32, at least 0: how much each point counts; all 1 without it.

    Returns:
        (B, N) int64.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.renewal import LearnedState, Renewal, renew
        >>> colors = torch.tensor([[0.5, 0.5, 0.5], [1.0, 0.0, 1.0]])
        >>> state = LearnedState(colors, torch.zeros(2), torch.zeros(2, 10), colors.clone())
        >>> points, how = torch.tensor([[[0.2, 0.2, 0.2], [0.8, 0.8, 0.8]]]), Renewal("rgb", 0.1)
        >>> renew(points, state, how)
        tensor([[0, 0]])
        >>> colors -= 0.01  # a step
        >>> renew(points, state, how)
        tensor([[0, 1]])
    """
    return kernels.call("renew", points, weights, *state, *how)


def run_renew(points: Tensor, weights: Tensor | None, *rest: Any) -> Tensor:
    """The operation behind `renew`."""
    state, how = LearnedState(*rest[:4]), Renewal(*rest[4:])
    repeated = recomputing()
    if not repeated:
        _bring_back(state, how)
    centroids = color_space(how.space).from_rgb(sanitize(state.colors, clamp=True))
    batch = quantize(points, centroids, how.space, weights)
    if not repeated:
        moments = all_reduce(batch.moments.clone(), how.ranks)
        votes, total = moments[:, 0], moments[:, 0].sum()
        counts = (1 - 1 / HORIZON) * state.counts + votes / total.clamp_min(TINY)
        state.counts.copy_(torch.where(total > 0, counts, state.counts))
        state.pending.add_(moments)
    return batch.indices


def _bring_back(state: LearnedState, how: Renewal) -> None:
    """Once for each step of the optimizer: into the cube, and the dead ones to the error."""
    stepped = (state.colors != state.previous).any()  # to NaN, too
    if stepped.device.type == "cpu" and not stepped:
        return  # what follows would come to the same; elsewhere asking would wait
    colors, convert = sanitize(state.colors, clamp=True), color_space(how.space)
    centroids = convert.from_rgb(colors)
    dead_below = 0.0 if how.ranks == ALONE and together(WORLD) else how.dead_below
    moved, counts = revive(centroids, state.counts, state.pending.double(), dead_below)
    new = stepped & (moved != centroids).any(1, keepdim=True)
    moved = convert.to_rgb(into_cube(moved, how.space)).clamp(0, 1)
    colors = torch.where(new, moved, colors)
    changed = (colors != state.colors).any()
    if changed.device.type != "cpu" or changed:  # a parameter is written to only if need be
        state.colors.copy_(colors)
    state.counts.copy_(torch.where(stepped, counts, state.counts))
    state.pending.mul_(~stepped)
    state.previous.copy_(colors)
