"""What a quantizer takes and gives: images as points and back, without a copy.

Letters: B images, N = H W pixels.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from colorquant_nn.functional.color import color_space
from colorquant_nn.functional.gradients import clamp_through
from colorquant_nn.kernels.reference import finite

__all__ = [
    "Estimator",
    "Quantized",
    "check_palette",
    "finite_weights",
    "in_space",
    "to_image",
    "to_index_map",
    "to_points",
]

Estimator = Callable[[Tensor, Tensor, Tensor], Tensor]


class Quantized(NamedTuple):
    """A quantized image or batch, and all that is known of it."""

    values: Tensor
    """The image in palette colours: shape and dtype of the input."""
    indices: Tensor
    """(B, H, W) int64, or (H, W): the palette's row at each pixel."""
    palette: Tensor
    """(K, 3) float32 sRGB, or (B, K, 3) where each image has its own."""
    mse: Tensor
    """Mean squared error over all elements, with a gradient to the input."""


def to_points(x: Tensor) -> Tensor:
    """View images (B, 3, H, W) or (3, H, W) as points (B, N, 3)."""
    if not isinstance(x, Tensor):
        raise TypeError(f"expected a tensor (B, 3, H, W), got {type(x).__name__}")
    if x.dim() not in (3, 4) or x.shape[-3] != 3:
        raise ValueError(
            f"expected images (B, 3, H, W) or (3, H, W), channels first, got {tuple(x.shape)}"
        )
    if not x.is_floating_point():
        raise TypeError(
            f"expected floating point images in [0, 1], got {x.dtype}; "
            "divide uint8 images by 255 (x.float() / 255)"
        )
    return (x if x.dim() == 4 else x[None]).flatten(2).transpose(1, 2)


def to_image(points: Tensor, x: Tensor) -> Tensor:
    """View points (B, N, 3) as images of the shape of x."""
    image = points.transpose(1, 2).unflatten(2, x.shape[-2:])
    return image if x.dim() == 4 else image.squeeze(0)


def to_index_map(indices: Tensor, x: Tensor) -> Tensor:
    """View indices (B, N) as the pixels of x: (B, H, W) or (H, W)."""
    shaped = indices.unflatten(1, x.shape[-2:])
    return shaped if x.dim() == 4 else shaped.squeeze(0)


def in_space(pixels: Tensor, space: str) -> Tensor:
    """Pixels (B, N, 3) in the working space; in sRGB as they are, since the kernel clamps them."""
    return pixels if space == "rgb" else color_space(space).from_rgb(clamp_through(pixels))


def finite_weights(pixels: Tensor) -> Tensor:
    """Weights (B, N) float32 of the pixels (B, N, 3): 0 where a channel is not finite, else 1."""
    return finite(pixels).to(torch.float32)


def check_palette(palette: Tensor) -> None:
    """Raise unless a palette is (K, 3) floating point sRGB in [0, 1], K at least 1."""
    if not isinstance(palette, Tensor):
        raise TypeError(f"expected a palette tensor (K, 3), got {type(palette).__name__}")
    if palette.dim() != 2 or palette.shape[1] != 3 or palette.shape[0] == 0:
        raise ValueError(f"expected a palette (K, 3), got {tuple(palette.shape)}")
    if not palette.is_floating_point():
        raise TypeError(
            f"expected a floating point palette in [0, 1], got {palette.dtype}; "
            "divide 8-bit colours by 255"
        )
    if not bool(((palette >= 0) & (palette <= 1)).all()):
        low, high = palette.min().item(), palette.max().item()
        raise ValueError(f"expected palette colours in [0, 1], got from {low:g} to {high:g}")
