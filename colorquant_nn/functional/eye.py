"""What an eye sees of a picture from a distance: light mixed as its blur mixes it, in OKLab.

The eye's blur is that of S-CIELAB: on an axis of luminance and on two of colour, each a mixture of
Gaussians. They are wide, up to 361 taps along a side; those of four pixels and more run on a
picture that was halved several times by binomial means, and is doubled again by the same: the taps
between are the least squares of the Gaussian, and errors are within a ten thousandth of exact ones.
All is elementwise, so TF32 and autocast leave it alone.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn.functional.color import linear_to_oklab, rgb_to_linear

__all__ = ["as_seen", "reach"]

# Linear sRGB to XYZ, and that to Poirson and Wandell's axes as Zhang and Wandell print them:
# luminance, red-green, blue-yellow; multiplied, and inverted.
RGB_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
XYZ_TO_OPPONENT = ((0.279, 0.72, -0.107), (-0.449, 0.29, -0.077), (0.086, -0.59, 0.501))
RGB_TO_OPPONENT = np.array(XYZ_TO_OPPONENT) @ np.array(RGB_TO_XYZ)
OPPONENT_TO_RGB = np.linalg.inv(RGB_TO_OPPONENT)
# (weight, spread in degrees) of each axis; the spread is the square root of two deviations.
MIXTURES = (
    ((1.00327, 0.0500), (0.11442, 0.2250), (-0.11769, 7.0)),
    ((0.61673, 0.0685), (0.38328, 0.826)),
    ((0.56789, 0.0920), (0.43212, 0.6451)),
)
WIDEST = 60.0  # pixels: a standard deviation is no larger
CUT = 3.0  # standard deviations
LEAST_REDUCED = 2.0  # a standard deviation on the reduced picture
UNIT = 16  # pixels: one of the most reduced picture; where strips begin
BINOMIAL = tuple(math.comb(6, i) / 64 for i in range(7))
STRIP_PIXELS = 1 << 16  # convolved at once on the CPU: what its cache holds
MARGIN = 3  # samples beyond the edges, after which a reduced picture is as constant as the given


def as_seen(image: Tensor, pixels_per_degree: float) -> Tensor:
    """A picture as an eye sees it from a distance.

    Beyond the edges their pixels continue.

    Args:
        image: (..., 3, H, W) float sRGB in [0, 1], H and W at least 1.
        pixels_per_degree: of the visual angle, above 0.

    Returns:
        (..., H, W, 3) OKLab.

    References:
        Zhang and Wandell, "A spatial extension of CIELAB for digital color-image reproduction",
        1997.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.eye import as_seen
        >>> checks = (torch.arange(64)[:, None] + torch.arange(64)).remainder(2).expand(3, 64, 64)
        >>> as_seen(checks.float(), 40)[32, 32].round(decimals=3).abs()  # the cube root of 1 / 2
        tensor([0.7940, 0.0000, 0.0000])
    """
    linear = rgb_to_linear(image.movedim(-3, -1)).movedim(-1, -3)
    axes = []
    for axis, mixture in zip(_mix(linear, RGB_TO_OPPONENT), MIXTURES, strict=True):
        blurred = torch.zeros_like(axis)
        for weight, spread in mixture:
            part = _blur(axis, _deviation(spread, pixels_per_degree))
            blurred = blurred.add_(part, alpha=weight / sum(weight for weight, _ in mixture))
        axes.append(blurred)
    seen = torch.stack(_mix(torch.stack(axes, -3), OPPONENT_TO_RGB), -1)
    return linear_to_oklab(seen.masked_fill(seen < 0, 0))  # black has a gradient, as clamped not


def reach(pixels_per_degree: float) -> int:
    """How far away the eye's blur takes light from, but for a millionth.

    Args:
        pixels_per_degree: of the visual angle, above 0.

    Returns:
        The pixels, a multiple of `UNIT`.

    Examples:
        >>> from colorquant_nn.functional.eye import reach
        >>> reach(40)
        192
    """
    widest = max(_deviation(spread, pixels_per_degree) for axis in MIXTURES for _, spread in axis)
    return math.ceil((CUT + 0.2) * widest / UNIT) * UNIT


def _deviation(spread: float, pixels_per_degree: float) -> float:
    return min(spread * pixels_per_degree / math.sqrt(2), WIDEST)


def _mix(planes: Tensor, matrix: NDArray[np.float64]) -> list[Tensor]:
    """Matrix times colour: (..., 3, H, W) to three (..., H, W)."""
    first, second, third = planes.unbind(-3)
    return [(first * a).add_(second, alpha=b).add_(third, alpha=c) for a, b, c in matrix.tolist()]


def _halvings(deviation: float) -> int:
    return int(math.log2(max(1, deviation / LEAST_REDUCED)))


@lru_cache(maxsize=64)
def _taps(deviation: float, halvings: int) -> tuple[float, ...]:
    """Of the reduced picture: what makes of halving and doubling the Gaussian, cut off, nearly."""
    radius, unit = int(CUT * deviation + 0.5), 2**halvings
    if radius == 0:
        return (1.0,)
    places = np.arange(-radius - 6 * unit, radius + 6 * unit + 1)
    gaussian = np.exp(-((places / deviation) ** 2) / 2) * (abs(places) <= radius)
    reduced = (places == 0).astype(np.float64)  # one sample, there and back
    for i in range(halvings):
        binomial = np.zeros(6 * 2**i + 1)
        binomial[:: 2**i] = BINOMIAL
        reduced = np.convolve(np.convolve(reduced, binomial, "same"), binomial, "same")
    steps = range(-(radius // unit), radius // unit + 1)
    samples = np.stack([np.roll(reduced, step * unit) for step in steps], 1)
    taps = np.linalg.lstsq(samples, gaussian, rcond=None)[0]
    return tuple((taps / taps.sum()).tolist())


def _blur(x: Tensor, deviation: float) -> Tensor:
    """Blur (..., H, W) by a Gaussian of so many pixels, cut off; the edges continue."""
    halvings, halved = _halvings(deviation), []
    taps = _taps(deviation, halvings)
    for axis in (-2, -1):
        begin = 0
        for _ in range(halvings):
            halved.append((axis, begin, x.shape[axis]))
            x, begin = _halve(x, axis, begin), -MARGIN
    for axis in (-2, -1):
        x = _convolve(_pad(x, axis, len(taps) // 2, len(taps) // 2), taps, axis)
    for axis, begin, length in reversed(halved):
        x = _double(x, axis, begin, length)
    return x


def _pad(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    """Continue the edges along an axis."""
    edges = []
    for place, width in ((0, before), (x.shape[axis] - 1, after)):
        shape = list(x.shape)
        shape[axis] = width
        edges.append(x.narrow(axis, place, 1).expand(shape))
    return torch.cat([edges[0], x, edges[1]], axis)


def _convolve(x: Tensor, taps: Sequence[float], axis: int, step: int = 1) -> Tensor:
    """Every so many-th sum along an axis, where the taps fit."""
    count = (x.shape[axis] - len(taps)) // step + 1
    total = count if axis == -2 else x.shape[-2]
    rows = total if x.is_cuda else max(1, STRIP_PIXELS * x.shape[-2] // max(1, x.numel()))
    strips = []
    for top in range(0, total, rows):
        height = min(rows, total - top)
        first, size = (top * step, height) if axis == -2 else (0, count)
        source = x if axis == -2 else x.narrow(-2, top, height)
        result = None
        for start, tap in enumerate(taps, first):
            part = source.narrow(axis, start, (size - 1) * step + 1)
            if step > 1:
                part = part[..., ::step, :] if axis == -2 else part[..., ::step]
            result = part * tap if result is None else result.add_(part, alpha=tap)
        strips += [] if result is None else [result]
    return strips[0] if len(strips) == 1 else torch.cat(strips, -2)


def _halve(x: Tensor, axis: int, begin: int) -> Tensor:
    """Every second of binomial means, from -MARGIN: sample i of the result is at 2 i.

    Args:
        x: (..., H, W).
        axis: -2 or -1.
        begin: where its first sample is.

    Returns:
        As much as is not constant, about half.
    """
    last = begin + x.shape[axis] - 1
    end = math.ceil((last + MARGIN) / 2)
    x = _pad(x, axis, begin + 3 * MARGIN, 2 * end + MARGIN - last)
    return _convolve(x, BINOMIAL, axis, step=2)


def _double(x: Tensor, axis: int, begin: int, length: int) -> Tensor:
    """Back to the samples that `_halve` had: binomial means of these and zeros between them."""
    even = [2 * tap for tap in BINOMIAL[1::2]]
    odd = [2 * tap for tap in BINOMIAL[::2]]
    evens = _convolve(x.narrow(axis, 0, x.shape[axis] - 1), even, axis)  # from -MARGIN - 1
    pairs = torch.stack([evens, _convolve(x, odd, axis)], axis).flatten(axis - 1, axis)
    return pairs.narrow(axis, begin + MARGIN + 1, length)
