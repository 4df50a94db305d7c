"""Images, palettes and weights as the core wants them: checked, and as points, without a copy.

Letters: B images, N = H W pixels, K colours, C channels (3, or 4 with alpha).
"""

import torch
from torch import Tensor

from colorquant_nn.functional.color import color_space
from colorquant_nn.functional.gradients import clamp_through
from colorquant_nn.functional.premultiplied import to_working_space
from colorquant_nn.kernels import finite, sanitize

__all__ = [
    "check_colors",
    "check_image",
    "check_images",
    "check_kept",
    "check_palette",
    "check_weights",
    "finite_weights",
    "first_hole",
    "in_space",
    "in_working_space",
    "to_image",
    "to_index_map",
    "to_pixels",
    "to_points",
]


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


def check_colors(colors: Tensor) -> Tensor:
    """Check that colours are (K, 3) or (K, 4), K at least 1, and make them float32 in [0, 1]."""
    if not isinstance(colors, Tensor):
        raise TypeError(f"expected colours as a tensor (K, 3), got {type(colors).__name__}")
    if colors.dim() != 2 or colors.shape[1] not in (3, 4) or len(colors) == 0:
        raise ValueError(f"expected colours (K, 3) or (K, 4), got {tuple(colors.shape)}")
    colors = colors.detach()
    if colors.dtype == torch.uint8:
        return colors.to(torch.float32) / 255
    if not colors.is_floating_point():
        raise TypeError(f"expected colours of uint8 or floating point, got {colors.dtype}")
    if not bool(((colors >= 0) & (colors <= 1)).all()):
        low, high = colors.min().item(), colors.max().item()
        raise ValueError(f"expected colours in [0, 1], got from {low:g} to {high:g}")
    return colors.to(torch.float32)


def check_kept(keep: Tensor | None, channels: int, num_colors: int) -> Tensor:
    """Check the colours to keep, (J, 3) or (J, C), and make them (J, C) float32, each once."""
    if keep is None or (isinstance(keep, Tensor) and keep.numel() == 0):
        return torch.zeros(0, channels, dtype=torch.float32, device="cpu")
    kept = check_colors(keep).cpu()
    if kept.shape[1] == 3 and channels == 4:
        kept = torch.cat([kept, kept.new_ones(len(kept), 1)], dim=1)
    if kept.shape[1] != channels:
        raise ValueError(
            f"expected colours to keep (J, {channels}) for images of {channels} channels, "
            f"got {tuple(keep.shape)}"
        )
    kept = kept.unique(dim=0)
    if len(kept) > num_colors:
        raise ValueError(f"expected at most {num_colors} colours to keep, got {len(kept)}")
    return kept
