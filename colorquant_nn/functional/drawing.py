"""Several pictures in the dots of a dither, each on a thread of its own.

Letters: B pictures, H rows, W columns, K colours, C channels (3 or 4).
"""

import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.color import SPACES
from colorquant_nn.functional.dither import DITHERS
from colorquant_nn.functional.points import check_strength
from colorquant_nn.names import Dither, Space, check_name

__all__ = ["check_drawing", "draw", "run_draw"]


def check_drawing(space: Space, dither: Dither, strength: float) -> None:
    """Raise unless there is such a space and such a dither, and the strength is from 0 to 1."""
    check_name("a colour space", space, SPACES)
    check_name("a dither", dither, DITHERS)
    check_strength(strength)


def draw(
    pictures: Tensor, palettes: Tensor, dither: Dither, strength: float, space: Space
) -> Tensor:
    """Draw each picture by a dither; the same indices as one after the other.

    It is one operation, one node to `torch.compile`, and done on the CPU: from another device the
    pictures go there, and the indices come back.

    Args:
        pictures: (B, H, W, C) sRGB, float in [0, 1] or uint8.
        palettes: (B, K, C) sRGB float in [0, 1], or (1, K, C) for all.
        dither: a name of `colorquant_nn.functional.dither.DITHERS`.
        strength: of the dither, 0 to 1.
        space: where distances are taken.

    Returns:
        (B, H, W) int64.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.drawing import draw
        >>> black_and_white = torch.tensor([[[0.0] * 3, [1.0] * 3]])
        >>> dots = draw(torch.full((2, 64, 64, 3), 0.5), black_and_white, "atkinson", 1.0, "rgb")
        >>> dots.shape, dots.unique(), torch.equal(dots[0], dots[1])
        (torch.Size([2, 64, 64]), tensor([0, 1]), True)
    """
    indices: Tensor = kernels.call("draw", pictures, palettes, dither, strength, space)
    return indices


def run_draw(
    pictures: Tensor, palettes: Tensor, dither: Dither, strength: float, space: Space
) -> Tensor:
    """`draw`, on the CPU."""
    indices = pictures.new_empty(pictures.shape[:3], dtype=torch.int64)
    palettes = palettes.expand(len(pictures), -1, -1)
    inference = torch.is_inference_mode_enabled()  # of this thread: the others are told

    def draw_one(i: int) -> None:
        with torch.inference_mode(inference):
            indices[i] = DITHERS[dither](pictures[i], palettes[i], strength, space)

    if indices.numel() > 0:
        kernels.run_tasks(draw_one, len(pictures))
    return indices
