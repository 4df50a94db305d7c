"""The quality of a picture beside its original in one number, in the units of SSIMULACRA2.

100 is the original, 90 is told from it by nobody who does not flick between both, 70 is high, 50
medium, 30 low; below 0 little is left of it. It is fast enough to be asked many times by a search:
what belongs to the original is prepared once, and only maps that count are computed. No gradients.

The measure compares both in XYB, the colours of JPEG XL, at five scales that are halved in linear
light: where their structure differs (SSIM), where edges came up ("ringing"), where edges were lost.
Of each map there is the mean, and the fourth root of the mean of the fourth power, which looks at
the worst places. A weighted sum of these is bent to the scale of what people said.

All is elementwise, so TF32 and autocast leave it alone; pictures are looked at in strips of rows.

References:
    Sneyers, "SSIMULACRA 2", 2022 and 2023, https://github.com/cloudinary/ssimulacra2; the constants
    are those of version 2.1, tools/ssimulacra2.cc of libjxl.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.color import rgb_to_linear
from colorquant_nn.functional.points import check_pictures

__all__ = ["Prepared", "prepare", "quality"]

# Linear sRGB to XYB as the measure scales it. What is added before the cube root is added to linear
# light at once, since each row of the matrix adds up to 1; XYB is moved so that it is positive.
CONES = (
    *(0.3, 0.622, 0.078),
    *(0.23, 0.692, 0.078),
    *(0.24342268924547819, 0.20476744424496821, 0.55180986650955360),
)
BIAS = 0.0037930732552754493
XYB = (7.0, -7.0, 0.0, 0.5, 0.5, 0.0, -0.5, -0.5, 1.0)
TO_XYB = (["matrix", "cube_root", "matrix"], [*CONES, *XYB])
OFFSETS = (0.42, 0.01 - BIAS ** (1 / 3), 0.55)
# (channel, norm, of the structure, of edges that came up, of edges that were lost) at each scale,
# the channels being X, Y and B. The other ones of the 108 weights are 0, or so small that no score
# changes by more than 0.002.
Weights: TypeAlias = tuple[int, int, float, float, float]
WEIGHTS: tuple[tuple[Weights, ...], ...] = (
    ((1, 4, 7.466890328078848, 0.0, 17.445833984131262),),
    (
        (0, 4, 1.1041726426657346, 0.0, 0.0),
        (1, 4, 6.683678146179332, 0.0, 1.027889937768264),
    ),
    (
        (0, 4, 1.8422455520539298, 11.441172603757666, 0.0),
        (1, 1, 225.20515300849274, 0.0, 0.0),
        (1, 4, 19.213238186143016, 0.0, 0.0),
    ),
    (
        (0, 4, 1.8787594979546387, 10.94906990605142, 0.0),
        (1, 1, 176.39317598450694, 0.0, 0.0),
        (1, 4, 24.43300999870476, 0.28520802612117757, 0.0),
        (2, 4, 8.826982764996862, 23.19243343998926, 0.0),
    ),
    (
        (0, 1, 0.0, 0.9677937080626833, 0.0),
        (0, 4, 0.0, 0.9981766977854967, 0.0),
        (1, 4, 34.77906344483772, 44.835625328877896, 0.0),
        (2, 1, 95.1080498811086, 0.9863978034400682, 0.9834382792465353),
        (2, 4, 0.0, 171.2667255897307, 0.9807858872435379),
    ),
)
STABLE = 0.0009  # added to variances: C2 of SSIM
RADIUS = 5  # of the blur, whose standard deviation is 1.5 pixels
GAUSSIAN = [math.exp(-((i - RADIUS) ** 2) / (2 * 1.5**2)) for i in range(2 * RADIUS + 1)]
TAPS = [tap / sum(GAUSSIAN) for tap in GAUSSIAN]
STRIP_PIXELS = 1 << 16  # compared at once on the CPU: what its cache holds
GROUNDS = (0.0, 1.0)  # what a picture with alpha is seen on


class Prepared(NamedTuple):
    """What `quality` needs of an original; see `prepare`.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.quality import prepare
        >>> prepare(torch.rand(3, 8, 8)).shape
        torch.Size([3, 8, 8])
    """

    shape: torch.Size
    """Of the picture."""
    scales: list[list[Tensor]]
    """Of each ground that it is seen on, and of each scale: (3, channels, H, W), the channels that
    count there, their means and their variances."""


@torch.no_grad()
def prepare(reference: Tensor) -> Prepared:
    """Compute once what `quality` needs of an original.

    Args:
        reference: (3, H, W) or (4, H, W) floating point in [0, 1] or uint8.

    Returns:
        it, about 20 bytes a pixel, twice that with alpha.

    Raises:
        ValueError: another shape, or a side has no pixel.
        TypeError: neither floating point nor uint8.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.quality import prepare, quality
        >>> reference = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> prepared = prepare(reference)
        >>> print(*(f"{quality(reference * x, prepared):.0f}" for x in (1, 0.9, 0.5)))
        100 66 -64
    """
    check_pictures(reference, reference)
    shape = reference.shape
    if len(shape) != 3 or shape[0] not in (3, 4) or min(shape[1:]) < 1:
        raise ValueError(
            "expected an image of shape (3, H, W) or (4, H, W) with sides of at least 1 pixel, got "
            f"{tuple(shape)}"
        )
    return Prepared(shape, [_scales(view) for view in _views(reference)])


@torch.no_grad()
def quality(image: Tensor, prepared: Prepared) -> Tensor:
    """The `visual_quality` of a picture beside an original that was prepared.

    Args:
        image: of the original's shape, floating point in [0, 1] or uint8.
        prepared: the original, of `prepare`.

    Returns:
        () float32.

    Raises:
        ValueError: the shapes differ.
        TypeError: neither floating point nor uint8.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.quality import prepare, quality
        >>> image = torch.zeros(3, 8, 8, dtype=torch.uint8)
        >>> quality(image, prepare(image))
        tensor(100.)
    """
    check_pictures(image, image)
    if image.shape != prepared.shape:
        raise ValueError(
            f"expected an image of the original's shape {tuple(prepared.shape)}, got "
            f"{tuple(image.shape)}"
        )
    views = zip(_views(image), prepared.scales, strict=True)
    return torch.stack([_score(view, scales) for view, scales in views]).amin(0).float()


def _views(image: Tensor) -> list[Tensor]:
    """(3, H, W) linear light, plus `BIAS`, over each ground."""
    image = image.float() / 255 if image.dtype == torch.uint8 else image.float()
    colors, alpha = image[:3], image[3:]
    seen = [colors * alpha + (1 - alpha) * ground for ground in GROUNDS] if len(alpha) else [colors]
    return [rgb_to_linear(colors.movedim(0, -1)).movedim(-1, 0).add_(BIAS) for colors in seen]


def _scales(linear: Tensor) -> list[Tensor]:
    """See `Prepared`."""
    scales = []
    for scale, weights in enumerate(WEIGHTS):
        linear = linear if scale == 0 else _halved(linear)
        strips = []
        for strip in _strips(linear):
            colors = _padded(_channels(_rows(linear, *strip), weights))
            mean, square = _blurred(torch.stack([colors, colors * colors]))
            inner = colors[:, RADIUS:-RADIUS, RADIUS:-RADIUS]
            strips.append(torch.stack([inner, mean, square - mean * mean]))
        scales.append(torch.cat(strips, 2))
    return scales


def _score(linear: Tensor, scales: list[Tensor]) -> Tensor:
    """Of a picture (3, H, W) in linear light beside what was prepared of another."""
    exact = kernels.exact_dtype(linear)
    total = torch.zeros((), dtype=exact, device=linear.device)
    for scale, (weights, prepared) in enumerate(zip(WEIGHTS, scales, strict=True)):
        linear = linear if scale == 0 else _halved(linear)
        sums = torch.zeros((len(weights), 3), dtype=exact, device=linear.device)
        for strip in _strips(linear):
            colors = _channels(_rows(linear, *strip), weights)
            others = _rows(prepared[0], *strip)
            maps = _differences(colors, others, prepared[:, :, slice(*strip)])
            sums += _sums(maps, weights)
        means = sums / linear[0].numel()
        for (_, norm, *factors), mean in zip(weights, means, strict=True):
            total += (mean ** (1 / norm) * torch.tensor(factors).to(mean)).sum()
    total = total * 0.9562382616834844
    bent = 2.326765642916932 * total - 0.020884521182843837 * total**2
    bent = bent + 6.248496625763138e-05 * total**3
    return 100 - 10 * bent.clamp(min=0) ** 0.6276336467831387


def _differences(colors: Tensor, others: Tensor, prepared: Tensor) -> list[Tensor]:
    """How structure and edges differ, three maps (channels, rows, W).

    Args:
        colors: (channels, rows + 2 RADIUS, W) of the picture.
        others: the original's.
        prepared: (3, channels, rows, W) see `Prepared`.
    """
    colors, others = _padded(colors), _padded(others)
    mean, square, product = _blurred(torch.stack([colors, colors * colors, colors * others]))
    inner = colors[:, RADIUS:-RADIUS, RADIUS:-RADIUS]
    original, original_mean, variance = prepared
    shared = (product - mean * original_mean).mul_(2).add_(STABLE)
    both = (square - mean * mean).add_(variance).add_(STABLE)
    light = 1 - (mean - original_mean).square_()
    structure = (1 - shared.mul_(light).div_(both)).clamp_(min=0)
    edges = (inner - mean).abs_().add_(1) / (original - original_mean).abs_().add_(1) - 1
    return [structure, edges.clamp(min=0), edges.neg_().clamp_(min=0)]


def _sums(maps: list[Tensor], weights: tuple[Weights, ...]) -> Tensor:
    """(weights, maps) sums of the maps' powers over the pixels; 0 where no weight is.

    Rows are added up one by one, then together, so that no number of threads changes a bit.
    """
    names = _names(weights)
    zero = maps[0].new_zeros((), dtype=kernels.exact_dtype(maps[0]))
    sums = []
    for channel, norm, *factors in weights:
        for factor, differences in zip(factors, maps, strict=True):
            plane = differences[names.index(channel)]
            if norm == 4:
                plane = plane.square().square_()
            sums.append(plane.sum(-1).sum(dtype=zero.dtype) if factor else zero)
    return torch.stack(sums).view(-1, 3)


def _channels(linear: Tensor, weights: tuple[Weights, ...]) -> Tensor:
    """Those channels of XYB that count: (3, rows, W) to (channels, rows, W)."""
    converted = kernels.convert_color(linear.movedim(0, -1), *TO_XYB)
    return torch.stack([converted[..., name] + OFFSETS[name] for name in _names(weights)])


def _names(weights: tuple[Weights, ...]) -> list[int]:
    return sorted({channel for channel, *_ in weights})


def _strips(linear: Tensor) -> Iterator[tuple[int, int]]:
    """The first row of each strip, and the row after its last."""
    height, width = linear.shape[-2:]
    step = height if linear.is_cuda else max(1, STRIP_PIXELS // width)
    for top in range(0, height, step):
        yield top, min(top + step, height)


def _rows(x: Tensor, top: int, bottom: int) -> Tensor:
    """The rows of a strip, and those that its blur sees; at the edges they are reflected."""
    height = x.shape[-2]
    if top >= RADIUS and bottom + RADIUS <= height:
        return x[:, top - RADIUS : bottom + RADIUS]
    rows = torch.arange(top - RADIUS, bottom + RADIUS, device=x.device) % (2 * height)
    return x[:, torch.minimum(rows, 2 * height - 1 - rows)]


def _padded(x: Tensor) -> Tensor:
    """Black columns on both sides, as far as the blur sees."""
    return torch.nn.functional.pad(x, (RADIUS, RADIUS))


def _blurred(x: Tensor) -> Tensor:
    """(..., H, W) to (..., H - 2 RADIUS, W - 2 RADIUS)."""
    for axis in (-2, -1):
        length = x.shape[axis] - 2 * RADIUS
        blurred = x.narrow(axis, 0, length) * TAPS[0]
        for start, tap in enumerate(TAPS[1:], 1):
            blurred.add_(x.narrow(axis, start, length), alpha=tap)
        x = blurred
    return x


def _halved(x: Tensor) -> Tensor:
    """The means of 2 x 2 pixels, of those that there are."""
    for axis in (-2, -1):
        if x.shape[axis] % 2:
            x = torch.cat([x, x.narrow(axis, x.shape[axis] - 1, 1)], axis)
        first, second = x.unflatten(axis, (-1, 2)).unbind(axis)
        x = (first + second).mul_(0.5)
    return x
