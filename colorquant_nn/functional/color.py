"""Colour spaces: sRGB, linear light, CIE Lab and OKLab, with bounded gradients, and with alpha.

Every conversion is one function of one signature, ``(..., 3) -> (..., 3)``, and a short chain of
stages: a curve for each channel or a 3x3 matrix. It takes floating point (TypeError) of three
channels, the last axis (ValueError), and gives float64 for float64, otherwise float32: half
precision is computed and returned in float32. Nothing is clamped: colours slightly outside of the
sRGB cube convert and come back, since the curves continue below zero (odd, or as the straight
line that they begin with).

The forward values are exact. The gradient of OKLab's cube root, infinite at black, is taken where
the argument is at least 1e-4; so it is bounded on the whole cube and around it.

On the CPU one compiled pass converts float32 colours, rounding only the result: sRGB comes back
within 1e-6, and equal colours get equal bits wherever they lie in a tensor. Elsewhere (CUDA,
float64, an exported graph) the stages are elementwise torch operations; in float32 sRGB comes back
within 5e-5 there. Only elementwise operations are used, so neither autocast nor TF32 changes a
value.

With alpha, a colour of the working space, where distances are taken, counts as it would show on
black: channels of the space times alpha, and alpha itself on the scale of the space's lightness.
Two transparent colours are therefore alike, and opaque ones are as far apart as without alpha.

References:
    IEC 61966-2-1:1999 (sRGB). CIE 15:2004 (Lab), with the D65 white of the 2-degree observer.
    Ottosson, "A perceptual color space for image processing", 2020 (OKLab).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.names import Space, check_name

__all__ = [
    "SPACES",
    "ColorSpace",
    "color_space",
    "convert_plain",
    "from_working_space",
    "lab_to_rgb",
    "linear_to_oklab",
    "linear_to_rgb",
    "oklab_to_rgb",
    "rgb_to_lab",
    "rgb_to_linear",
    "rgb_to_oklab",
    "to_working_space",
]


class ColorSpace(NamedTuple):
    """A space in which means and distances can be taken."""

    from_rgb: Callable[[Tensor], Tensor]
    """(..., 3) sRGB to (..., 3) of the space."""
    to_rgb: Callable[[Tensor], Tensor]
    """And back."""
    lightness: float = 1.0
    """Of white: the scale of alpha."""


def rgb_to_linear(colors: Tensor) -> Tensor:
    """Convert sRGB to linear light.

    Args:
        colors: (..., 3) sRGB in [0, 1]; values outside follow the odd extension of the curve.

    Returns:
        (..., 3) linear sRGB.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.color import rgb_to_linear
        >>> rgb_to_linear(torch.tensor([0.0, 0.5, 1.0]))
        tensor([0.0000, 0.2140, 1.0000])
    """
    return _convert(colors, "rgb_to_linear")


def linear_to_rgb(colors: Tensor) -> Tensor:
    """Convert linear light to sRGB; the inverse of `rgb_to_linear`.

    Args:
        colors: (..., 3) linear sRGB.

    Returns:
        (..., 3) sRGB, not clamped.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.color import linear_to_rgb
        >>> linear_to_rgb(torch.tensor([0.0, 0.2140, 1.0]))
        tensor([0.0000, 0.5000, 1.0000])
    """
    return _convert(colors, "linear_to_rgb")


def rgb_to_lab(colors: Tensor) -> Tensor:
    """Convert sRGB to CIE 1976 L*a*b*.

    The white point and the matrix of linear sRGB to XYZ are the rounded ones that scikit-image,
    OpenCV and others share, so that values agree; greys therefore have a* and b* of up to 0.005.

    Args:
        colors: (..., 3) sRGB in [0, 1].

    Returns:
        (..., 3) L* in [0, 100], a*, b*.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.color import rgb_to_lab
        >>> rgb_to_lab(torch.tensor([1.0, 0.0, 0.0]))
        tensor([53.2406, 80.0923, 67.2028])
    """
    return _convert(colors, "rgb_to_lab")


def lab_to_rgb(colors: Tensor) -> Tensor:
    """Convert CIE 1976 L*a*b* to sRGB; the inverse of `rgb_to_lab`.

    Args:
        colors: (..., 3) L*, a*, b*.

    Returns:
        (..., 3) sRGB, not clamped.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.color import lab_to_rgb
        >>> lab_to_rgb(torch.tensor([53.2406, 80.0923, 67.2032])).round(decimals=3).abs()
        tensor([1., 0., 0.])
    """
    return _convert(colors, "lab_to_rgb")


def rgb_to_oklab(colors: Tensor) -> Tensor:
    """Convert sRGB to OKLab.

    Args:
        colors: (..., 3) sRGB in [0, 1].

    Returns:
        (..., 3) L in [0, 1], a, b.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.color import rgb_to_oklab
        >>> rgb_to_oklab(torch.tensor([1.0, 0.0, 0.0]))
        tensor([0.6280, 0.2249, 0.1258])
    """
    return _convert(colors, "rgb_to_oklab")


def oklab_to_rgb(colors: Tensor) -> Tensor:
    """Convert OKLab to sRGB; the inverse of `rgb_to_oklab`.

    Args:
        colors: (..., 3) L, a, b.

    Returns:
        (..., 3) sRGB, not clamped.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.color import oklab_to_rgb
        >>> oklab_to_rgb(torch.tensor([0.62796, 0.22486, 0.12585])).round(decimals=3).abs()
        tensor([1., 0., 0.])
    """
    return _convert(colors, "oklab_to_rgb")


def linear_to_oklab(colors: Tensor) -> Tensor:
    """Convert linear light to OKLab.

    Args:
        colors: (..., 3) linear sRGB.

    Returns:
        (..., 3) L in [0, 1], a, b.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.color import linear_to_oklab
        >>> linear_to_oklab(torch.tensor([1.0, 0.0, 0.0]))
        tensor([0.6280, 0.2249, 0.1258])
    """
    return _convert(colors, "linear_to_oklab")


def _checked(colors: Tensor) -> Tensor:
    if not isinstance(colors, Tensor):
        raise TypeError(f"expected colours as a tensor (..., 3), got {type(colors).__name__}")
    if not colors.is_floating_point():
        raise TypeError(f"expected floating-point colours, got {colors.dtype}")
    if colors.ndim == 0 or colors.shape[-1] != 3:
        raise ValueError(f"expected colours of shape (..., 3), got {tuple(colors.shape)}")
    return colors.to(torch.promote_types(colors.dtype, torch.float32))


SPACES: dict[str, ColorSpace] = {
    "rgb": ColorSpace(_checked, _checked),
    "linear": ColorSpace(rgb_to_linear, linear_to_rgb),
    "lab": ColorSpace(rgb_to_lab, lab_to_rgb, lightness=100.0),
    "oklab": ColorSpace(rgb_to_oklab, oklab_to_rgb),
}


def color_space(name: str) -> ColorSpace:
    """Look up a colour space of `SPACES`.

    Args:
        name: "rgb", "linear", "lab" or "oklab".

    Returns:
        The functions from sRGB into the space and back, and its lightness.

    Raises:
        ValueError: no space has this name.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.color import color_space
        >>> color_space("oklab").from_rgb(torch.zeros(3))
        tensor([0., 0., 0.])
    """
    check_name("a colour space", name, SPACES)
    return SPACES[name]


def to_working_space(colors: Tensor, space: Space) -> Tensor:
    """Convert sRGB, alpha straight, to the working space, alpha premultiplied.

    Args:
        colors: (..., C) float sRGB in [0, 1], C of 3 or 4.
        space: a name of `SPACES`.

    Returns:
        (..., C).

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.color import to_working_space
        >>> to_working_space(torch.tensor([1.0, 0.5, 0.0, 0.5]), "rgb")
        tensor([0.5000, 0.2500, 0.0000, 0.5000])
    """
    from_rgb, _, lightness = color_space(space)
    converted = from_rgb(colors[..., :3])
    if colors.shape[-1] == 3:
        return converted
    alpha = colors[..., 3:]
    return torch.cat([converted * alpha, alpha * lightness], dim=-1)


def from_working_space(points: Tensor, space: Space) -> Tensor:
    """Convert back to sRGB with straight alpha, limited to [0, 1]; the inverse.

    Args:
        points: (..., C), C of 3 or 4.
        space: a name of `SPACES`.

    Returns:
        (..., C); black where alpha is 0.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.color import from_working_space
        >>> from_working_space(torch.tensor([0.5, 0.25, 0.0, 0.5]), "rgb")
        tensor([1.0000, 0.5000, 0.0000, 0.5000])
    """
    _, to_rgb, lightness = color_space(space)
    if points.shape[-1] == 3:
        return to_rgb(points).clamp(0, 1)
    alpha = points[..., 3:] / lightness
    straight = points[..., :3] / torch.where(alpha > 0, alpha, 1)
    return torch.cat([to_rgb(straight), alpha], dim=-1).clamp(0, 1)


# The stages. A curve that torch computes here, the CPU's column of `kernels.convert_color` computes
# too, under the same name.

SLOPE_FLOOR = 1e-4  # the cube root's slope is taken at this or more

Matrix = tuple[tuple[float, float, float], ...]


class Curve(NamedTuple):
    """A function of each channel, and its derivative."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


def _srgb_decode(t: Tensor) -> Tensor:
    size = t.abs()
    power = size.add(0.055).mul_(1 / 1.055).pow_(2.4)
    return torch.where(size > 0.04045, power, size.mul_(1 / 12.92)).mul_(t.sign())


def _srgb_decode_slope(t: Tensor) -> Tensor:
    size = t.abs()
    power = ((size + 0.055) / 1.055) ** 1.4 * (2.4 / 1.055)
    return torch.where(size > 0.04045, power, 1 / 12.92)


def _srgb_encode(t: Tensor) -> Tensor:
    size = t.abs()
    power = size.pow(1 / 2.4).mul_(1.055).sub_(0.055)
    return torch.where(size > 0.0031308, power, size.mul(12.92)).mul_(t.sign())


def _srgb_encode_slope(t: Tensor) -> Tensor:
    size = t.abs()
    power = size.clamp(min=0.0031308) ** (1 / 2.4 - 1) * (1.055 / 2.4)
    return torch.where(size > 0.0031308, power, 12.92)


def _cube_root(t: Tensor) -> Tensor:
    return t.abs().pow_(1 / 3).mul_(t.sign())


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


LUMINANCE = (0.2126, 0.7152, 0.0722)  # of linear light, ITU-R BT.709
RGB_TO_XYZ: Matrix = (  # X and Z relative to the white
    (0.412453 / 0.95047, 0.357580 / 0.95047, 0.180423 / 0.95047),
    (0.212671, 0.715160, 0.072169),
    (0.019334 / 1.08883, 0.119193 / 1.08883, 0.950227 / 1.08883),
)
XYZ_TO_LAB: Matrix = ((0.0, 116.0, 0.0), (500.0, -500.0, 0.0), (0.0, 200.0, -200.0))
RGB_TO_LMS: Matrix = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
LMS_TO_OKLAB: Matrix = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
CHAINS: dict[str, tuple[str, ...]] = {
    "rgb_to_linear": ("srgb_decode",),
    "linear_to_rgb": ("srgb_encode",),
    "rgb_to_lab": ("srgb_decode", "rgb_to_xyz", "lab_curve", "xyz_to_lab"),
    "lab_to_rgb": ("lab_to_xyz", "lab_uncurve", "xyz_to_rgb", "srgb_encode"),
    "rgb_to_oklab": ("srgb_decode", "rgb_to_lms", "cube_root", "lms_to_oklab"),
    "linear_to_oklab": ("rgb_to_lms", "cube_root", "lms_to_oklab"),
    "oklab_to_rgb": ("oklab_to_lms", "cube", "lms_to_rgb", "srgb_encode"),
    "linear_to_linear": (),
    "linear_to_lab": ("rgb_to_xyz", "lab_curve", "xyz_to_lab"),
}
CURVES: dict[str, Curve] = {
    "srgb_decode": Curve(_srgb_decode, _srgb_decode_slope),
    "srgb_encode": Curve(_srgb_encode, _srgb_encode_slope),
    "cube_root": Curve(_cube_root, _cube_root_slope),
    "cube": Curve(lambda t: t * t * t, lambda t: 3 * t * t),
    "lab_curve": Curve(_lab_curve, _lab_curve_slope),
    "lab_uncurve": Curve(_lab_uncurve, _lab_uncurve_slope),
}
MATRICES: dict[str, Matrix] = {
    "rgb_to_xyz": RGB_TO_XYZ,
    "xyz_to_rgb": _inverse(RGB_TO_XYZ),
    "xyz_to_lab": XYZ_TO_LAB,
    "lab_to_xyz": _inverse(XYZ_TO_LAB),
    "rgb_to_lms": RGB_TO_LMS,
    "lms_to_rgb": _inverse(RGB_TO_LMS),
    "lms_to_oklab": LMS_TO_OKLAB,
    "oklab_to_lms": _inverse(LMS_TO_OKLAB),
}
# Each stage is a conversion too: the backward of a chain goes through them one by one.
CHAINS |= {name: (name,) for name in (*CURVES, *MATRICES)}


def _program(chain: tuple[str, ...]) -> tuple[list[str], list[float]]:
    """The stages and matrices of `kernels.convert_color`."""
    stages = [name if name in CURVES else "matrix" for name in chain]
    return stages, [x for name in chain for row in MATRICES.get(name, ()) for x in row]


PROGRAMS = {name: _program(chain) for name, chain in CHAINS.items()}


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
        on_cpu = colors.device.type == "cpu" and colors.dtype == torch.float32
        if on_cpu and not kernels.exporting():
            return kernels.convert_color(colors, *PROGRAMS[name])
        return convert_plain(colors, *PROGRAMS[name])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        colors, ctx.name = inputs
        ctx.save_for_backward(colors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (argument,) = ctx.saved_tensors
        names = CHAINS[ctx.name]
        arguments = [argument]
        for name in names[:-1]:  # by `apply`, so that second derivatives are safe too
            arguments.append(_Conversion.apply(arguments[-1], name))
        for name, argument in zip(reversed(names), reversed(arguments), strict=True):
            if name in CURVES:
                grad = grad * CURVES[name].slope(argument)
            else:
                grad = _mix(grad, tuple(zip(*MATRICES[name], strict=True)))
        return grad, None


def convert_plain(colors: Tensor, stages: Sequence[str], matrices: Sequence[float]) -> Tensor:
    """Run a chain of stages in plain torch: the reference of `kernels.convert_color`.

    Args:
        colors: (..., 3) floating point.
        stages: names of curves, or "matrix", which takes the next nine of ``matrices``.
        matrices: row by row.

    Returns:
        (..., 3).
    """
    used = 0
    for name in stages:
        if name == "matrix":
            a, b, c, d, e, f, g, h, i = matrices[used : used + 9]
            colors, used = _mix(colors, ((a, b, c), (d, e, f), (g, h, i))), used + 9
        else:
            colors = CURVES[name].value(colors)
    return colors


def _mix(colors: Tensor, matrix: Matrix) -> Tensor:
    """Matrix times colour by elementwise operations: no TF32, no autocast, no blocked sums."""
    first, second, third = colors.unbind(-1)
    rows = [first * a + second * b + third * c for a, b, c in matrix]
    # Keep the memory layout: the channels lie behind the axes of larger strides.
    axis = sum(stride > colors.stride(-1) for stride in colors.stride()[:-1])
    return torch.stack(rows, dim=axis).movedim(axis, -1)
