"""Pictures with or without alpha as pixels: checks, and views for the functions of the core.

Letters: B images, N = H W pixels, C channels (3, or 4 with alpha).
"""

import torch
from torch import Tensor

from colorquant_nn.functional.premultiplied import to_working_space
from colorquant_nn.kernels.reference import sanitize

__all__ = [
    "check_image",
    "check_images",
    "check_weights",
    "first_hole",
    "in_working_space",
    "to_pixels",
]


def first_hole(images: Tensor) -> Tensor | None:
    """The colour (4,) of the first fully transparent pixel, if there is one."""
    if images.shape[-3] == 3:
        return None
    points = to_pixels(images.detach()).flatten(0, 1)
    transparent = (points[:, 3] == 0).nonzero()
    return (
        sanitize(points[transparent[0, 0]], clamp=True).float().cpu() if len(transparent) else None
    )


def to_pixels(images: Tensor) -> Tensor:
    """View (C, H, W) or (B, C, H, W) as (B, N, C)."""
    return (images if images.dim() == 4 else images[None]).flatten(2).transpose(1, 2)


def in_working_space(pixels: Tensor, channels: int, space: str) -> Tensor:
    """Pixels (N, 3) or (N, C) in the working space."""
    colors = sanitize(pixels, clamp=True)
    if colors.shape[1] < channels:
        colors = torch.cat([colors, colors.new_ones(len(colors), 1)], dim=1)
    return to_working_space(colors, space)


def check_images(images: Tensor) -> None:
    """Raise unless images are (C, H, W) or (B, C, H, W), uint8 or floating point."""
    if not isinstance(images, Tensor):
        raise TypeError(f"expected an image tensor (3, H, W), got {type(images).__name__}")
    if images.dim() not in (3, 4) or images.shape[-3] not in (3, 4):
        raise ValueError(
            "expected images (3, H, W), (4, H, W) or a batch of them, channels first, "
            f"got {tuple(images.shape)}"
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(f"expected images of uint8 or floating point, got {images.dtype}")


def check_image(image: Tensor) -> None:
    """Raise unless an image is (C, H, W), uint8 or floating point."""
    check_images(image)
    if image.dim() != 3:
        raise ValueError(f"expected one image (3, H, W) or (4, H, W), got {tuple(image.shape)}")


def check_weights(weights: Tensor, images: Tensor) -> Tensor:
    """Raise unless weights are of the images' size and at least 0; make them float32 (B, N)."""
    shape = images.shape[:-3] + images.shape[-2:]
    if not isinstance(weights, Tensor) or weights.shape != shape:
        given = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
        raise ValueError(f"expected weights of the image's size {tuple(shape)}, got {given}")
    weights = weights.detach().reshape(-1, shape[-2] * shape[-1]).to(torch.float32)
    if not bool((weights.isfinite() & (weights >= 0)).all()):
        raise ValueError("expected weights that are finite and at least 0")
    return weights
