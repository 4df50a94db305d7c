"""Where a drawing needs dots: as far as its error is seen, and the picture does not hide it.

Without dither a sky has bands: the colour of many neighbours is wrong in the same way, so that
their mean is, and that is seen. What hides it is contrast between neighbours in the picture itself.
A pixel gets as much dither as the error has a share in both: nearly all of it in skies, nearly none
at edges and in text, and less everywhere as a palette has more colours. What is flat in the picture
stays flat, whatever its error is.

Letters: H rows, W columns, N = H W pixels, K colours, C channels (3 or 4).
"""

from __future__ import annotations

import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.color import to_working_space
from colorquant_nn.functional.opacity import nearest_colors
from colorquant_nn.functional.points import in_working_space
from colorquant_nn.names import Space

__all__ = ["dither_amounts"]

# Distances in OKLab: 0.02 is just noticeable between two areas, a level of 8 bits is some 0.003.
UNSEEN = 0.0005  # an error of the mean of this much is half hidden where the picture is smooth;
HIDDEN = 0.3  # with contrast between neighbours, one of this much of it, too
EDGE = 0.02  # neighbours further apart are not of one area;
FLAT = 0.01  # an area within so little, three levels, is flat


def dither_amounts(pixels: Tensor, palette: Tensor, space: Space) -> Tensor:
    """How much dither each pixel needs, to be drawn in the colours of a palette.

    It depends on the pixels around alone, but for areas that are flat: what is still in an
    animation needs the same in each frame.

    Args:
        pixels: (H, W, C) sRGB, float in [0, 1] or uint8.
        palette: (K, C) sRGB float in [0, 1].
        space: where distances are taken, to know which colours are nearest.

    Returns:
        (H, W) float32 from 0 to 1.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.auto import dither_amounts
        >>> ramp = torch.linspace(0, 1, 256).view(1, 256, 1).expand(16, 256, 3)
        >>> palette = torch.tensor([[0.25] * 3, [0.75] * 3])
        >>> dither_amounts(ramp, palette, "oklab").mean() > 0.8
        tensor(True)
        >>> dither_amounts(torch.full((16, 256, 3), 0.5), palette, "oklab").max()
        tensor(0.)
    """
    height, width, channels = pixels.shape
    pixels, palette = pixels.detach().flatten(0, 1), palette.detach().to(torch.float32)
    indices = nearest_colors(pixels, palette, space)
    points = in_working_space(pixels, channels, "oklab").to(torch.float32)
    return kernels.dither_amounts(
        points.view(height, width, channels),
        indices.view(height, width),
        to_working_space(palette, "oklab"),
        UNSEEN,
        HIDDEN,
        [EDGE, FLAT],
    )
