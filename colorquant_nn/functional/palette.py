"""What is done to palettes: check, order, resize, round, paint with them, measure their error.

Letters: K colours, C channels (3, or 4 with alpha), H rows, W columns.
"""

import numpy as np
import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.clustering import kmeans
from colorquant_nn.functional.color import rgb_to_linear
from colorquant_nn.functional.histogram import WeightedColors
from colorquant_nn.functional.points import check_colors
from colorquant_nn.functional.premultiplied import to_working_space

__all__ = [
    "dark_to_light",
    "mean_squared_error",
    "paint",
    "resize_palette",
    "round_to_bytes",
]

LUMINANCE = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709


def dark_to_light(palette: Tensor) -> Tensor:
    """Order a palette (K, C) by luminance, transparent colours first, equals by their channels."""
    luminance = rgb_to_linear(palette[:, :3].double()) @ palette.new_tensor(LUMINANCE).double()
    seen = (palette[:, 3] > 0) if palette.shape[1] == 4 else torch.ones_like(palette[:, 0])
    channels = palette.flip(1).unbind(1)
    order = np.lexsort([key.numpy() for key in (*channels, luminance, seen)])
    return palette[torch.from_numpy(order)]


def resize_palette(palette: Tensor, num_colors: int, counts: Tensor | None = None) -> Tensor:
    """Make a palette of another number of colours without seeing the images again.

    Fewer colours are the weighted k-means of the old ones, dark to light. More colours are the old
    ones, then new ones: each time the colour of the largest count is halved, and the other half
    goes half-way to the colour next to it. Learn on from the result for a palette as good as new.

    Args:
        palette: (K, 3) sRGB in [0, 1].
        num_colors: of the new palette, at least 1.
        counts: (K,) how often each colour is used, at least 0; all the same without it.

    Returns:
        (num_colors, 3) float32 sRGB in [0, 1].

    Raises:
        ValueError: for arguments out of range or of another shape.

    Examples:
        >>> old = ColorQuantize(4).fit(torch.rand(2, 3, 16, 16))
        >>> larger = resize_palette(old.palette, 6, old.counts)
        >>> ColorQuantize.from_palette(larger, frozen=False)
        ColorQuantize(6, space='rgb', decay=0.99)
    """
    colors = check_colors(palette)
    if colors.shape[1] != 3:
        raise ValueError(f"expected a palette (K, 3), got {tuple(palette.shape)}")
    if num_colors < 1:
        raise ValueError(f"num_colors must be at least 1, got {num_colors}")
    weights = colors.new_ones(len(colors)) if counts is None else counts.detach().to(colors)
    if weights.shape != colors.shape[:1]:
        raise ValueError(f"counts must be (K,) = ({len(colors)},), got {tuple(weights.shape)}")
    if not bool((weights.isfinite() & (weights >= 0)).all()):
        raise ValueError("counts must be finite and at least 0")
    if num_colors < len(colors):
        used = weights + 1e-6 * weights.mean() + 1e-30  # unused colours come last, not never
        fewer = kmeans(colors, num_colors, used / used.sum()).centroids.clamp(0, 1)
        return dark_to_light(fewer.cpu()).to(colors.device)
    resized, share = colors.cpu(), weights.cpu()
    while len(resized) < num_colors:
        largest = share.argmax()
        color = resized[largest]
        others = torch.cat(
            [resized, (color < 0.5).to(color)[None]]
        )  # the far corner, for a colour alone
        distance = (others - color).square().sum(1)
        distance[distance == 0] = torch.inf
        half_way = (color + others[distance.argmin()]) / 2
        share[largest] /= 2
        resized = torch.cat([resized, half_way[None]])
        share = torch.cat([share, share[largest][None]])
    return resized.to(colors.device, copy=True)


def round_to_bytes(palette: Tensor) -> Tensor:
    """The palette (K, C) of 8-bit colours, still float32 in [0, 1]."""
    return _to_bytes(palette).to(torch.float32) / 255


def paint(palette: Tensor, indices: Tensor, dtype: torch.dtype) -> Tensor:
    """The image (C, H, W) of indices (H, W) in a dtype; uint8 is rounded."""
    rows = _to_bytes(palette) if dtype == torch.uint8 else palette.to(dtype)
    image = torch.empty(palette.shape[1], *indices.shape, dtype=dtype, device=indices.device)
    for channel, row in zip(image, rows.T.contiguous(), strict=True):
        torch.take(row, indices, out=channel)
    return image


def mean_squared_error(counted: WeightedColors, palette: Tensor, space: str) -> float:
    """Mean over pixels and channels, in sRGB, when each takes the colour nearest in a space."""
    points = to_working_space(counted.colors, space)
    centroids = to_working_space(palette, space)
    nearest = kernels.assign(points[None], centroids[None])[0]
    errors = (counted.colors - palette[nearest]).double().square().mean(1)
    return float(errors @ counted.weights / counted.weights.sum())


def _to_bytes(palette: Tensor) -> Tensor:
    return (palette * 255).round().to(torch.uint8)
