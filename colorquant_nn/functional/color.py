"""Colour spaces: sRGB, linear light, CIE Lab and OKLab, with bounded gradients.

Every conversion is one function of one signature, ``(..., 3) -> (..., 3)``, and a short chain of
stages: a curve for each channel or a 3x3 matrix. Nothing is clamped: colours slightly outside of
the sRGB cube convert and come back, since the curves continue below zero (odd, or as the straight
line that they begin with).

The forward values are exact. The gradient of OKLab's cube root, infinite at black, is taken where
the argument is at least 1e-4; so it is bounded on the whole cube and around it.

On the CPU one compiled pass converts float32 colours, rounding only the result: sRGB comes back
within 1e-6, and equal colours get equal bits wherever they lie in a tensor. Elsewhere (CUDA,
float64, `torch.compile`) the stages are elementwise torch operations; in float32 sRGB comes back
within 5e-5 there. Half precision is computed and returned in float32. Only elementwise operations
are used, so neither autocast nor TF32 changes a value.

Sources: IEC 61966-2-1:1999 (sRGB), CIE 15:2004 (Lab), Ottosson, "A perceptual color space for
image processing", 2020 (OKLab).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.color_stages import CHAINS, STAGES, Curve, Matrix

__all__ = [
    "SPACES",
    "ColorSpace",
    "color_space",
    "lab_to_rgb",
    "linear_to_rgb",
    "oklab_to_rgb",
    "rgb_to_lab",
    "rgb_to_linear",
    "rgb_to_oklab",
]


class ColorSpace(NamedTuple):
    """The way into a colour space and back; both map ``(..., 3)`` to ``(..., 3)``."""

    from_rgb: Callable[[Tensor], Tensor]
    to_rgb: Callable[[Tensor], Tensor]


def rgb_to_linear(colors: Tensor) -> Tensor:
    """Convert sRGB to linear light.

    Args:
        colors: (..., 3) sRGB in [0, 1]; values outside follow the odd extension of the curve.

    Returns:
        (..., 3) linear sRGB; float64 for float64, otherwise float32 (half precision too).

    Raises:
        ValueError: the last axis is not 3 long.
        TypeError: the colours are not floating point.

    Source: IEC 61966-2-1.

    >>> rgb_to_linear(torch.tensor([0.0, 0.5, 1.0]))
    tensor([0.0000, 0.2140, 1.0000])
    """
    return _convert(colors, "rgb_to_linear")


def linear_to_rgb(colors: Tensor) -> Tensor:
    """Convert linear light to sRGB; the inverse of `rgb_to_linear`.

    Args:
        colors: (..., 3) linear sRGB.

    Returns:
        (..., 3) sRGB, not clamped; float64 for float64, otherwise float32.

    Raises:
        ValueError: the last axis is not 3 long.
        TypeError: the colours are not floating point.

    Source: IEC 61966-2-1.

    >>> linear_to_rgb(torch.tensor([0.0, 0.2140, 1.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    return _convert(colors, "linear_to_rgb")


def rgb_to_lab(colors: Tensor) -> Tensor:
    """Convert sRGB to CIE 1976 L*a*b* with the D65 white of the 2-degree observer.

    Args:
        colors: (..., 3) sRGB in [0, 1].

    Returns:
        (..., 3) L* in [0, 100], a*, b*; float64 for float64, otherwise float32.

    Raises:
        ValueError: the last axis is not 3 long.
        TypeError: the colours are not floating point.

    Source: CIE 15:2004. The white point and the matrix of linear sRGB to XYZ are the rounded ones
    that scikit-image, OpenCV and others share, so that values agree; greys therefore have a* and
    b* of up to 0.005.

    >>> rgb_to_lab(torch.tensor([1.0, 0.0, 0.0]))
    tensor([53.2406, 80.0923, 67.2028])
    """
    return _convert(colors, "rgb_to_lab")


def lab_to_rgb(colors: Tensor) -> Tensor:
    """Convert CIE 1976 L*a*b* to sRGB; the inverse of `rgb_to_lab`.

    Args:
        colors: (..., 3) L*, a*, b*.

    Returns:
        (..., 3) sRGB, not clamped; float64 for float64, otherwise float32.

    Raises:
        ValueError: the last axis is not 3 long.
        TypeError: the colours are not floating point.

    Source: CIE 15:2004.

    >>> lab_to_rgb(torch.tensor([53.2406, 80.0923, 67.2032])).round(decimals=3).abs()
    tensor([1., 0., 0.])
    """
    return _convert(colors, "lab_to_rgb")


def rgb_to_oklab(colors: Tensor) -> Tensor:
    """Convert sRGB to OKLab.

    Args:
        colors: (..., 3) sRGB in [0, 1].

    Returns:
        (..., 3) L in [0, 1], a, b; float64 for float64, otherwise float32.

    Raises:
        ValueError: the last axis is not 3 long.
        TypeError: the colours are not floating point.

    Source: Ottosson 2020.

    >>> rgb_to_oklab(torch.tensor([1.0, 0.0, 0.0]))
    tensor([0.6280, 0.2249, 0.1258])
    """
    return _convert(colors, "rgb_to_oklab")


def oklab_to_rgb(colors: Tensor) -> Tensor:
    """Convert OKLab to sRGB; the inverse of `rgb_to_oklab`.

    Args:
        colors: (..., 3) L, a, b.

    Returns:
        (..., 3) sRGB, not clamped; float64 for float64, otherwise float32.

    Raises:
        ValueError: the last axis is not 3 long.
        TypeError: the colours are not floating point.

    Source: Ottosson 2020.

    >>> oklab_to_rgb(torch.tensor([0.62796, 0.22486, 0.12585])).round(decimals=3).abs()
    tensor([1., 0., 0.])
    """
    return _convert(colors, "oklab_to_rgb")


def color_space(name: str) -> ColorSpace:
    """Look up a colour space of `SPACES`.

    Args:
        name: "rgb", "linear", "lab" or "oklab".

    Returns:
        The functions from sRGB into the space and back.

    Raises:
        ValueError: no space has this name.

    >>> color_space("oklab").from_rgb(torch.zeros(3))
    tensor([0., 0., 0.])
    """
    if name not in SPACES:
        raise ValueError(f"expected a colour space of {', '.join(SPACES)}, got {name!r}")
    return SPACES[name]


def _rgb(colors: Tensor) -> Tensor:
    return _checked(colors)


SPACES: dict[str, ColorSpace] = {
    "rgb": ColorSpace(_rgb, _rgb),
    "linear": ColorSpace(rgb_to_linear, linear_to_rgb),
    "lab": ColorSpace(rgb_to_lab, lab_to_rgb),
    "oklab": ColorSpace(rgb_to_oklab, oklab_to_rgb),
}


def _checked(colors: Tensor) -> Tensor:
    if not colors.is_floating_point():
        raise TypeError(f"expected floating-point colours, got {colors.dtype}")
    if colors.ndim == 0 or colors.shape[-1] != 3:
        raise ValueError(f"expected colours of shape (..., 3), got {tuple(colors.shape)}")
    return colors.to(torch.promote_types(colors.dtype, torch.float32))


def _convert(colors: Tensor, name: str) -> Tensor:
    colors = _checked(colors)
    if not torch.is_grad_enabled():
        return _Conversion.forward(colors, name)  # without the overhead, which small ones feel
    converted: Tensor = _Conversion.apply(colors, name)
    return converted


class _Conversion(torch.autograd.Function):
    """Run a chain of stages; save only its input, and recompute the rest in the backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(colors: Tensor, name: str) -> Tensor:
        if (
            colors.device.type == "cpu"
            and colors.dtype == torch.float32
            and not kernels.exporting()
        ):
            return kernels.convert_color(colors, *_chain(name))
        for part in CHAINS.get(name, (name,)):
            stage = STAGES[part]
            colors = stage.value(colors) if isinstance(stage, Curve) else _mix(colors, stage)
        return colors

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        colors, ctx.name = inputs
        ctx.save_for_backward(colors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (argument,) = ctx.saved_tensors
        names = CHAINS.get(ctx.name, (ctx.name,))
        arguments = [argument]
        for name in names[:-1]:  # by `apply`, so that second derivatives are safe too
            arguments.append(_Conversion.apply(arguments[-1], name))
        for name, argument in zip(reversed(names), reversed(arguments), strict=True):
            stage = STAGES[name]
            if isinstance(stage, Curve):
                grad = grad * stage.slope(argument)
            else:
                grad = _mix(grad, tuple(zip(*stage, strict=True)))
        return grad, None


def _chain(name: str) -> tuple[list[str], list[float]]:
    """The stages of a conversion, and the numbers of its matrices, as the kernel takes them."""
    stages: list[str] = []
    numbers: list[float] = []
    for part in CHAINS.get(name, (name,)):
        stage = STAGES[part]
        if isinstance(stage, Curve):
            stages.append(part)
        else:
            stages.append("matrix")
            numbers.extend(number for row in stage for number in row)
    return stages, numbers


def _mix(colors: Tensor, matrix: Matrix) -> Tensor:
    """Matrix times colour by elementwise operations: no TF32, no autocast, no blocked sums."""
    first, second, third = colors.unbind(-1)
    rows = [first * a + second * b + third * c for a, b, c in matrix]
    # Keep the memory layout: the channels lie behind the axes of larger strides.
    axis = sum(stride > colors.stride(-1) for stride in colors.stride()[:-1])
    return torch.stack(rows, dim=axis).movedim(axis, -1)
