"""Colour spaces: sRGB, linear light, CIE Lab and OKLab, with bounded gradients.

Every conversion is one function of one signature, ``(..., 3) -> (..., 3)``, and a short chain of
stages: a curve for each channel or a 3x3 matrix. Nothing is clamped: colours slightly outside of
the sRGB cube convert and come back, since the curves continue below zero (odd, or as the straight
line that they begin with).

The forward values are exact. The gradient of OKLab's cube root, infinite at black, is taken where
the argument is at least `SLOPE_FLOOR`; so it is bounded on the whole cube and around it.

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

SLOPE_FLOOR = 1e-4

Matrix = tuple[tuple[float, float, float], ...]


class Curve(NamedTuple):
    """A function of each channel, and its derivative."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


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
            and not torch.compiler.is_compiling()  # inductor fuses the plain form
        ):
            compiled: Tensor = _convert_cpu(colors, name)
            return compiled
        for part in _CHAINS.get(name, (name,)):
            stage = _STAGES[part]
            colors = stage.value(colors) if isinstance(stage, Curve) else _mix(colors, stage)
        return colors

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        colors, ctx.name = inputs
        ctx.save_for_backward(colors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (argument,) = ctx.saved_tensors
        names = _CHAINS.get(ctx.name, (ctx.name,))
        arguments = [argument]
        for name in names[:-1]:  # by `apply`, so that second derivatives are safe too
            arguments.append(_Conversion.apply(arguments[-1], name))
        for name, argument in zip(reversed(names), reversed(arguments), strict=True):
            stage = _STAGES[name]
            if isinstance(stage, Curve):
                grad = grad * stage.slope(argument)
            else:
                grad = _mix(grad, tuple(zip(*stage, strict=True)))
        return grad, None


@torch.library.custom_op("colorquant_nn::convert_color", mutates_args=(), device_types="cpu")
def _convert_cpu(colors: Tensor, name: str) -> Tensor:
    from colorquant_nn.kernels import color_cpu

    stages = [(part, _STAGES[part]) for part in _CHAINS.get(name, (name,))]
    return color_cpu.convert(
        colors, tuple(part if isinstance(stage, Curve) else stage for part, stage in stages)
    )


@_convert_cpu.register_fake
def _(colors: Tensor, name: str) -> Tensor:
    return torch.empty_like(colors)


@_convert_cpu.register_vmap
def _(info: Any, in_dims: Any, colors: Tensor, name: str) -> tuple[Tensor, int]:
    return _convert_cpu(colors.movedim(in_dims[0], 0), name), 0


def _mix(colors: Tensor, matrix: Matrix) -> Tensor:
    """Matrix times colour by elementwise operations: no TF32, no autocast, no blocked sums."""
    first, second, third = colors.unbind(-1)
    rows = [first * a + second * b + third * c for a, b, c in matrix]
    # Keep the memory layout: the channels lie behind the axes of larger strides.
    axis = sum(stride > colors.stride(-1) for stride in colors.stride()[:-1])
    return torch.stack(rows, dim=axis).movedim(axis, -1)


def _srgb_decode(t: Tensor) -> Tensor:
    size = t.abs()
    power = size.add(0.055).mul_(1 / 1.055).pow_(2.4)
    return torch.where(size > 0.04045, power, size.mul_(1 / 12.92)).copysign_(t)


def _srgb_decode_slope(t: Tensor) -> Tensor:
    size = t.abs()
    power = ((size + 0.055) / 1.055) ** 1.4 * (2.4 / 1.055)
    return torch.where(size > 0.04045, power, 1 / 12.92)


def _srgb_encode(t: Tensor) -> Tensor:
    size = t.abs()
    power = size.pow(1 / 2.4).mul_(1.055).sub_(0.055)
    return torch.where(size > 0.0031308, power, size.mul(12.92)).copysign_(t)


def _srgb_encode_slope(t: Tensor) -> Tensor:
    size = t.abs()
    power = size.clamp(min=0.0031308) ** (1 / 2.4 - 1) * (1.055 / 2.4)
    return torch.where(size > 0.0031308, power, 12.92)


def _cube_root(t: Tensor) -> Tensor:
    return t.abs().pow_(1 / 3).copysign_(t)


def _cube_root_slope(t: Tensor) -> Tensor:
    return t.abs().clamp(min=SLOPE_FLOOR) ** (-2 / 3) / 3


# The curve of Lab, less its value 4/29 at 0: the cube root, and below (6/29)^3 its tangent.
_BEND = 6 / 29


def _lab_curve(t: Tensor) -> Tensor:
    power = t.abs().pow_(1 / 3).sub_(4 / 29)
    return torch.where(t > _BEND**3, power, t / (3 * _BEND**2))


def _lab_curve_slope(t: Tensor) -> Tensor:
    return t.clamp(min=_BEND**3) ** (-2 / 3) / 3


def _lab_uncurve(t: Tensor) -> Tensor:
    shifted = t + 4 / 29
    return torch.where(shifted > _BEND, shifted * shifted * shifted, t * (3 * _BEND**2))


def _lab_uncurve_slope(t: Tensor) -> Tensor:
    return 3 * (t + 4 / 29).clamp(min=_BEND) ** 2


def _inverse(matrix: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    adjugate = (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
    return tuple((x / determinant, y / determinant, z / determinant) for x, y, z in adjugate)


_RGB_TO_XYZ: Matrix = (  # X and Z relative to the white
    (0.412453 / 0.95047, 0.357580 / 0.95047, 0.180423 / 0.95047),
    (0.212671, 0.715160, 0.072169),
    (0.019334 / 1.08883, 0.119193 / 1.08883, 0.950227 / 1.08883),
)
_XYZ_TO_LAB: Matrix = ((0.0, 116.0, 0.0), (500.0, -500.0, 0.0), (0.0, 200.0, -200.0))
_RGB_TO_LMS: Matrix = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_LMS_TO_OKLAB: Matrix = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
_CHAINS = {
    "rgb_to_linear": ("srgb_decode",),
    "linear_to_rgb": ("srgb_encode",),
    "rgb_to_lab": ("srgb_decode", "rgb_to_xyz", "lab_curve", "xyz_to_lab"),
    "lab_to_rgb": ("lab_to_xyz", "lab_uncurve", "xyz_to_rgb", "srgb_encode"),
    "rgb_to_oklab": ("srgb_decode", "rgb_to_lms", "cube_root", "lms_to_oklab"),
    "oklab_to_rgb": ("oklab_to_lms", "cube", "lms_to_rgb", "srgb_encode"),
}
_STAGES: dict[str, Curve | Matrix] = {
    "srgb_decode": Curve(_srgb_decode, _srgb_decode_slope),
    "srgb_encode": Curve(_srgb_encode, _srgb_encode_slope),
    "cube_root": Curve(_cube_root, _cube_root_slope),
    "cube": Curve(lambda t: t * t * t, lambda t: 3 * t * t),
    "lab_curve": Curve(_lab_curve, _lab_curve_slope),
    "lab_uncurve": Curve(_lab_uncurve, _lab_uncurve_slope),
    "rgb_to_xyz": _RGB_TO_XYZ,
    "xyz_to_rgb": _inverse(_RGB_TO_XYZ),
    "xyz_to_lab": _XYZ_TO_LAB,
    "lab_to_xyz": _inverse(_XYZ_TO_LAB),
    "rgb_to_lms": _RGB_TO_LMS,
    "lms_to_rgb": _inverse(_RGB_TO_LMS),
    "lms_to_oklab": _LMS_TO_OKLAB,
    "oklab_to_lms": _inverse(_LMS_TO_OKLAB),
}
