"""The curves and matrices that colour conversions are made of, in plain torch.

Sources: see `colorquant_nn.functional.color`. A curve that torch computes here is computed by
`colorquant_nn.kernels.cpu.convert` too, under the same name.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

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
CHAINS = {
    "rgb_to_linear": ("srgb_decode",),
    "linear_to_rgb": ("srgb_encode",),
    "rgb_to_lab": ("srgb_decode", "rgb_to_xyz", "lab_curve", "xyz_to_lab"),
    "lab_to_rgb": ("lab_to_xyz", "lab_uncurve", "xyz_to_rgb", "srgb_encode"),
    "rgb_to_oklab": ("srgb_decode", "rgb_to_lms", "cube_root", "lms_to_oklab"),
    "oklab_to_rgb": ("oklab_to_lms", "cube", "lms_to_rgb", "srgb_encode"),
}
STAGES: dict[str, Curve | Matrix] = {
    "srgb_decode": Curve(_srgb_decode, _srgb_decode_slope),
    "srgb_encode": Curve(_srgb_encode, _srgb_encode_slope),
    "cube_root": Curve(_cube_root, _cube_root_slope),
    "cube": Curve(lambda t: t * t * t, lambda t: 3 * t * t),
    "lab_curve": Curve(_lab_curve, _lab_curve_slope),
    "lab_uncurve": Curve(_lab_uncurve, _lab_uncurve_slope),
    "rgb_to_xyz": RGB_TO_XYZ,
    "xyz_to_rgb": _inverse(RGB_TO_XYZ),
    "xyz_to_lab": XYZ_TO_LAB,
    "lab_to_xyz": _inverse(XYZ_TO_LAB),
    "rgb_to_lms": RGB_TO_LMS,
    "lms_to_rgb": _inverse(RGB_TO_LMS),
    "lms_to_oklab": LMS_TO_OKLAB,
    "oklab_to_lms": _inverse(LMS_TO_OKLAB),
}
