"""The colour conversions of `colorquant_nn.functional.color` as modules for images.

Values, gradients and dtypes are those of the functions: float32 out, float64 for float64.
"""

from collections.abc import Callable

from torch import Tensor, nn

from colorquant_nn.functional import color

__all__ = ["LabToRgb", "LinearToRgb", "OklabToRgb", "RgbToLab", "RgbToLinear", "RgbToOklab"]


class _ColorConversion(nn.Module):
    """Apply a function of ``(..., 3)`` colours to channels-first images."""

    def __init__(self, convert: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.convert = convert

    def forward(self, image: Tensor) -> Tensor:
        """Convert (3, H, W) or (B, 3, H, W), in the memory layout of ``image``."""
        if image.ndim not in (3, 4) or image.shape[-3] != 3:
            raise ValueError(
                f"expected an image of shape (3, H, W) or (B, 3, H, W), got {tuple(image.shape)}"
            )
        return self.convert(image.movedim(-3, -1)).movedim(-1, -3)


class RgbToLinear(_ColorConversion):
    """Convert images from sRGB to linear light; see `functional.color.rgb_to_linear`.

    Shape:
        (3, H, W) or (B, 3, H, W), and the same out.

    >>> import torch
    >>> RgbToLinear()(torch.ones(2, 3, 4, 4)).shape
    torch.Size([2, 3, 4, 4])
    """

    def __init__(self) -> None:
        super().__init__(color.rgb_to_linear)


class LinearToRgb(_ColorConversion):
    """Convert images from linear light to sRGB; see `functional.color.linear_to_rgb`.

    Shape:
        (3, H, W) or (B, 3, H, W), and the same out.

    >>> import torch
    >>> LinearToRgb()(torch.ones(3, 1, 1)).flatten()
    tensor([1., 1., 1.])
    """

    def __init__(self) -> None:
        super().__init__(color.linear_to_rgb)


class RgbToLab(_ColorConversion):
    """Convert images from sRGB to CIE Lab; see `functional.color.rgb_to_lab`.

    Shape:
        (3, H, W) or (B, 3, H, W), and the same out.

    >>> import torch
    >>> RgbToLab()(torch.zeros(3, 1, 1)).flatten()
    tensor([0., 0., 0.])
    """

    def __init__(self) -> None:
        super().__init__(color.rgb_to_lab)


class LabToRgb(_ColorConversion):
    """Convert images from CIE Lab to sRGB, not clamped; see `functional.color.lab_to_rgb`.

    Shape:
        (3, H, W) or (B, 3, H, W), and the same out.

    >>> import torch
    >>> LabToRgb()(torch.zeros(3, 1, 1)).flatten()
    tensor([0., 0., 0.])
    """

    def __init__(self) -> None:
        super().__init__(color.lab_to_rgb)


class RgbToOklab(_ColorConversion):
    """Convert images from sRGB to OKLab; see `functional.color.rgb_to_oklab`.

    Shape:
        (3, H, W) or (B, 3, H, W), and the same out.

    >>> import torch
    >>> RgbToOklab()(torch.zeros(3, 1, 1)).flatten()
    tensor([0., 0., 0.])
    """

    def __init__(self) -> None:
        super().__init__(color.rgb_to_oklab)


class OklabToRgb(_ColorConversion):
    """Convert images from OKLab to sRGB, not clamped; see `functional.color.oklab_to_rgb`.

    Shape:
        (3, H, W) or (B, 3, H, W), and the same out.

    >>> import torch
    >>> OklabToRgb()(torch.zeros(3, 1, 1)).flatten()
    tensor([0., 0., 0.])
    """

    def __init__(self) -> None:
        super().__init__(color.oklab_to_rgb)
