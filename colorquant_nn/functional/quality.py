"""The quality of a picture beside its original in one number, in the units of SSIMULACRA2.

100 is the original, 90 is told from it by nobody who does not flick between both, 70 is high, 50
medium, 30 low; below 0 little is left of it. It is fast enough to be asked many times by a search:
what belongs to the original is prepared once, and only maps that count are computed. It is done on
the CPU, whatever device a picture is on, and has no gradient.

The measure compares both in XYB, the colours of JPEG XL, at five scales that are halved in linear
light: where their structure differs (SSIM), where edges came up ("ringing"), where edges were lost.
Of each map there is the mean, and the fourth root of the mean of the fourth power, which looks at
the worst places. A weighted sum of these is bent to the scale of what people said.

Beyond the upper and the lower edge pictures are reflected, beside them all is black, as in the
Python package ssimulacra2, whose numbers are met within 0.01; libjxl's own tool sees black on all
sides, which is worth up to about 1 more at 70 and several more below 30. Small pictures have all
five scales too, down to a pixel; the others leave some out below a side of 256 or less, and weigh
what is left by the weights of other channels.

References:
    Sneyers, "SSIMULACRA 2", 2022 and 2023, https://github.com/cloudinary/ssimulacra2; the constants
    are those of version 2.1, tools/ssimulacra2.cc of libjxl.
"""

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
# changes by more than 0.005.
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
    scales: list[list[tuple[Tensor, Tensor]]]
    """Of each ground that it is seen on, and of each scale, the channels that count there (C, H,
    W), and `kernels.blur_channels` of them."""


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
    scores = [_score(view, scales) for view, scales in views]
    return torch.tensor(scores, device=image.device).amin(0)


def _views(image: Tensor) -> list[Tensor]:
    """(3, H, W) linear light, plus `BIAS`, over each ground."""
    image = image.detach().cpu()
    image = image / 255 if image.dtype == torch.uint8 else image.float()
    colors, alpha = image[:3], image[3:]
    seen = [colors * alpha + (1 - alpha) * ground for ground in GROUNDS] if len(alpha) else [colors]
    return [rgb_to_linear(colors.movedim(0, -1)).movedim(-1, 0).add_(BIAS) for colors in seen]


def _scales(linear: Tensor) -> list[tuple[Tensor, Tensor]]:
    """See `Prepared`."""
    return [(channels, kernels.blur_channels(channels)) for channels in _pyramid(linear)]


def _score(linear: Tensor, scales: list[tuple[Tensor, Tensor]]) -> float:
    """Of a picture (3, H, W) in linear light beside what was prepared of another."""
    total = 0.0
    for weights, channels, prepared in zip(WEIGHTS, _pyramid(linear), scales, strict=True):
        means = kernels.compare_channels(channels, *prepared) / channels[0].numel()
        names = _names(weights)
        for channel, norm, *factors in weights:
            found = means[names.index(channel), :, norm // 4].tolist()
            for factor, mean in zip(factors, found, strict=True):
                total += factor * mean ** (1 / norm)
    total *= 0.9562382616834844
    bent = 2.326765642916932 * total - 0.020884521182843837 * total**2
    bent += 6.248496625763138e-05 * total**3
    return 100 - 10 * max(bent, 0.0) ** 0.6276336467831387  # what is not a number stays so


def _pyramid(linear: Tensor) -> Iterator[Tensor]:
    """The channels of XYB that count at each scale, (C, H, W), of (3, H, W)."""
    for scale, weights in enumerate(WEIGHTS):
        linear = _halved(linear) if scale else linear
        converted = kernels.convert_color(linear.movedim(0, -1), *TO_XYB)
        yield torch.stack([converted[..., name] + OFFSETS[name] for name in _names(weights)])


def _names(weights: tuple[Weights, ...]) -> list[int]:
    return sorted({channel for channel, *_ in weights})


def _halved(x: Tensor) -> Tensor:
    """The means of 2 x 2 pixels, of those that there are."""
    for axis in (-2, -1):
        if x.shape[axis] % 2:
            x = torch.cat([x, x.narrow(axis, x.shape[axis] - 1, 1)], axis)
        first, second = x.unflatten(axis, (-1, 2)).unbind(axis)
        x = (first + second).mul_(0.5)
    return x
