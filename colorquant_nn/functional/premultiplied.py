"""Colours with or without alpha in a working space, where distances are meant to be taken.

With alpha, a colour counts as it would show on black: channels of the space times alpha, and
alpha itself on the scale of the space's lightness. Two transparent colours are therefore alike,
and opaque ones are as far apart as without alpha. Letters: C channels (3, or 4 with alpha).
"""

import torch
from torch import Tensor

from colorquant_nn.functional.color import color_space

__all__ = ["from_working_space", "to_working_space"]

ALPHA_SCALES = {"lab": 100.0}  # lightness runs to 100 there, elsewhere to 1


def to_working_space(colors: Tensor, space: str) -> Tensor:
    """Convert sRGB, alpha straight, to the working space, alpha premultiplied.

    Args:
        colors: (..., C) float sRGB in [0, 1].
        space: a name of `colorquant_nn.functional.color.SPACES`.

    Returns:
        (..., C).

    Examples:
        >>> to_working_space(torch.tensor([1.0, 0.5, 0.0, 0.5]), "rgb")
        tensor([0.5000, 0.2500, 0.0000, 0.5000])
    """
    converted = color_space(space).from_rgb(colors[..., :3])
    if colors.shape[-1] == 3:
        return converted
    alpha = colors[..., 3:]
    return torch.cat([converted * alpha, alpha * ALPHA_SCALES.get(space, 1.0)], dim=-1)


def from_working_space(points: Tensor, space: str) -> Tensor:
    """Convert back to sRGB with straight alpha, limited to [0, 1]; the inverse.

    Args:
        points: (..., C).
        space: a name of `colorquant_nn.functional.color.SPACES`.

    Returns:
        (..., C); black where alpha is 0.

    Examples:
        >>> from_working_space(torch.tensor([0.5, 0.25, 0.0, 0.5]), "rgb")
        tensor([1.0000, 0.5000, 0.0000, 0.5000])
    """
    to_rgb = color_space(space).to_rgb
    if points.shape[-1] == 3:
        return to_rgb(points).clamp(0, 1)
    alpha = points[..., 3:] / ALPHA_SCALES.get(space, 1.0)
    straight = points[..., :3] / torch.where(alpha > 0, alpha, 1)
    return torch.cat([to_rgb(straight), alpha], dim=-1).clamp(0, 1)
