"""Measures of a quantized picture and of the palette's use.

Pictures are channels-first ``(..., 3, H, W)``, sRGB, floating point in [0, 1] or uint8 (divided by
255). A measure is one number over all pixels of all pictures, or one of each picture
(``per_image``); pixels of weight 0 do not count, whatever is in them. Every result is a tensor on
the device of its arguments, and no function waits for a device: weights are not looked into. Only
`visual_quality` does, since it is computed on the CPU.
"""

import math

import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional import eye
from colorquant_nn.functional import quality as quality_of
from colorquant_nn.functional.color import rgb_to_lab
from colorquant_nn.functional.points import check_pictures, check_rows, check_tensor, check_votes

__all__ = [
    "ciede2000",
    "colors_in_use",
    "entropy",
    "eye_error",
    "mean_ciede2000",
    "mse",
    "mse_to_psnr",
    "palette_usage",
    "perplexity",
    "psnr",
    "squared_error_8bit",
    "ssim",
    "visual_quality",
    "weighted_mse",
]

CHUNK_PIXELS = 1 << 18  # of temporaries: some twenty float32 a pixel
SEEN_PIXELS = 1 << 20  # blurred at once, and at least so many rows, since the eye's blur is wide
SEEN_ROWS = 512

_DEGREE = math.pi / 180
_WINDOW = 11
_SIGMA = 1.5


def mse(
    image: Tensor, other: Tensor, *, weights: Tensor | None = None, per_image: bool = False
) -> Tensor:
    """Mean squared error over all elements, in units of the range [0, 1].

    Args:
        image: (..., 3, H, W) floating point in [0, 1] or uint8.
        other: the same shape.
        weights: importance of each pixel (..., H, W), at least 0; or a mask, True where it counts.
        per_image: whether to give one value of each image.

    Returns:
        () the mean, as `torch.nn.functional.mse_loss` has it, or (...) that of each image;
        differentiable. NaN where no pixel counts.

    Raises:
        ValueError: the shapes differ, or weights on the CPU are negative or not finite.
        TypeError: neither floating point nor uint8.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.metrics import mse
        >>> mse(torch.zeros(3, 2, 2), torch.full((3, 2, 2), 0.5))
        tensor(0.2500)
    """
    check_pictures(image, other)
    difference = _unit(image) - _unit(other)
    if weights is not None:
        weights = _check_weights(weights, _size_of(image)).unsqueeze(-3)
        difference = difference.masked_fill(weights == 0, 0)
        weights = weights.to(difference.dtype).expand_as(difference)
    axes = tuple(range(difference.ndim))
    if per_image:
        _check_axes(image)
        axes = (-3, -2, -1)
    squares = difference.square()
    if weights is None:
        return squares.mean(axes)
    return (squares * weights).sum(axes) / weights.sum(axes)


def psnr(
    image: Tensor, other: Tensor, *, weights: Tensor | None = None, per_image: bool = False
) -> Tensor:
    """Peak signal-to-noise ratio, for a peak of 1.

    Of several images it is that of their mean squared error, in which the worst weigh most. Papers
    mostly report the mean of each image's own, which is never less:
    ``psnr(images, others, per_image=True).mean()``.

    Args:
        image: (..., 3, H, W) floating point in [0, 1] or uint8.
        other: the same shape.
        weights: importance of each pixel (..., H, W), at least 0; or a mask, True where it counts.
        per_image: whether to give one value of each image.

    Returns:
        () ``-10 log10(mse)`` in dB, or (...) that of each image; infinity for equal pictures.

    Raises:
        ValueError: the shapes differ, or weights on the CPU are negative or not finite.
        TypeError: neither floating point nor uint8.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.metrics import psnr
        >>> images, others = torch.zeros(2, 3, 2, 2), torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
        >>> psnr(images, others.expand(2, 3, 2, 2))
        tensor(22.9671)
        >>> psnr(images, others.expand(2, 3, 2, 2), per_image=True)
        tensor([20., 40.])
    """
    return mse_to_psnr(mse(image, other, weights=weights, per_image=per_image))


def mse_to_psnr(error: Tensor) -> Tensor:
    """What `psnr` makes of an `mse`.

    Args:
        error: (...) in units of the range [0, 1].

    Returns:
        (...) ``-10 log10(error)`` in dB.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.metrics import mse_to_psnr
        >>> mse_to_psnr(torch.tensor([1.0, 0.01, 0.0]))
        tensor([-0., 20., inf])
    """
    return -10 * error.log10()


def weighted_mse(colors: Tensor, other: Tensor, weights: Tensor) -> Tensor:
    """The `mse` of pixels that are listed once for many.

    Args:
        colors: (N, C) in [0, 1].
        other: (N, C), what stands for them.
        weights: (N,) how many pixels each is, at least 0.

    Returns:
        () float64, the mean over pixels and channels.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.metrics import weighted_mse
        >>> weighted_mse(torch.zeros(2, 3), torch.tensor([[0.5] * 3, [0.0] * 3]), torch.ones(2))
        tensor(0.1250, dtype=torch.float64)
    """
    errors = (colors - other).to(torch.float64).square().mean(1)
    weights = weights.to(torch.float64)
    return errors @ weights / weights.sum()


def squared_error_8bit(
    image: Tensor, other: Tensor, *, weights: Tensor | None = None, per_image: bool = False
) -> Tensor:
    """Mean squared error a pixel, summed over the channels, in 8-bit units.

    It is the "MSE" of the colour-quantization literature: `mse` times 3 channels times 255 squared.

    Args:
        image: (..., 3, H, W) floating point in [0, 1] or uint8.
        other: the same shape.
        weights: importance of each pixel (..., H, W), at least 0; or a mask, True where it counts.
        per_image: whether to give one value of each image.

    Returns:
        () the mean over the pixels, or (...) that of each image.

    Raises:
        ValueError: the shapes differ, or have fewer than 3 axes.
        TypeError: neither floating point nor uint8.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.metrics import squared_error_8bit
        >>> squared_error_8bit(torch.zeros(3, 2, 2), torch.full((3, 2, 2), 1 / 255))
        tensor(3.)
    """
    error = mse(image, other, weights=weights, per_image=per_image)
    _check_axes(image)
    return error * (image.shape[-3] * 255**2)


def ciede2000(colors: Tensor, other: Tensor) -> Tensor:
    """Perceived difference of each pair of colours, CIEDE2000.

    A difference of 1 is about what an observer just notices. The formula jumps slightly where two
    hues are opposite; it is meant for judging, not for training.

    Args:
        colors: (..., 3) L*, a*, b*.
        other: (..., 3) L*, a*, b*; leading axes broadcast.

    Returns:
        (...) the differences, at least 0; float64 for float64, otherwise float32.

    Raises:
        ValueError: a last axis is not 3 long.
        TypeError: something is no tensor.

    References:
        Sharma, Wu, Dalal, "The CIEDE2000 color-difference formula: implementation notes,
        supplementary test data, and mathematical observations", 2005; with k_L = k_C = k_H = 1.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.metrics import ciede2000
        >>> ciede2000(torch.tensor([50.0, 2.5, 0.0]), torch.tensor([61.0, -5.0, 29.0]))
        tensor(22.8977)
    """
    for lab in (colors, other):
        check_tensor(lab, "L*a*b* colours as a tensor (..., 3)")
        if lab.ndim == 0 or lab.shape[-1] != 3:
            raise ValueError(f"expected L*a*b* colours of shape (..., 3), got {tuple(lab.shape)}")
    dtype = torch.promote_types(torch.promote_types(colors.dtype, other.dtype), torch.float32)
    lightness1, a1, b1 = colors.to(dtype).unbind(-1)
    lightness2, a2, b2 = other.to(dtype).unbind(-1)

    # Equations 2 to 7: stretch a* so that greys are judged more strictly; chroma and hue of that.
    seventh = ((torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2) ** 7
    stretch = 1 + 0.5 * (1 - (seventh / (seventh + 25.0**7)).sqrt())
    a1, a2 = stretch * a1, stretch * a2
    chroma1, chroma2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    hue1 = torch.atan2(b1, a1) % (2 * math.pi)
    hue2 = torch.atan2(b2, a2) % (2 * math.pi)

    # Equations 8 to 14. Opposite hues, but for rounding, count as half a turn apart, not as more.
    # Beside a grey, which has no hue, the mean hue is arbitrary, since hue_step is 0 there.
    turn = hue2 - hue1
    far = turn.abs() > math.pi + 16 * torch.finfo(dtype).eps
    hue_step = torch.where(far, turn - 2 * math.pi * turn.sign(), turn)
    hue_step = 2 * (chroma1 * chroma2).sqrt() * (hue_step / 2).sin()
    hue = hue1 + hue2
    wrapped = torch.where(hue < 2 * math.pi, hue + 2 * math.pi, hue - 2 * math.pi)
    hue = torch.where(far, wrapped, hue) / 2

    # Equations 15 to 22: weights of the steps at the mean colour.
    lightness = ((lightness1 + lightness2) / 2 - 50) ** 2
    chroma = (chroma1 + chroma2) / 2
    tint = (
        1
        - 0.17 * (hue - 30 * _DEGREE).cos()
        + 0.24 * (2 * hue).cos()
        + 0.32 * (3 * hue + 6 * _DEGREE).cos()
        - 0.20 * (4 * hue - 63 * _DEGREE).cos()
    )
    lightness_term = (lightness2 - lightness1) / (1 + 0.015 * lightness / (20 + lightness).sqrt())
    chroma_term = (chroma2 - chroma1) / (1 + 0.045 * chroma)
    hue_term = hue_step / (1 + 0.015 * chroma * tint)
    seventh = chroma**7
    bend = 60 * _DEGREE * (-(((hue / _DEGREE - 275) / 25) ** 2)).exp()
    rotation = -2 * (seventh / (seventh + 25.0**7)).sqrt() * bend.sin()
    squared = lightness_term**2 + chroma_term**2 + hue_term**2 + rotation * chroma_term * hue_term
    return squared.clamp(min=0).sqrt()


def mean_ciede2000(
    image: Tensor, other: Tensor, *, weights: Tensor | None = None, per_image: bool = False
) -> Tensor:
    """Mean `ciede2000` over the pixels of sRGB pictures, in memory that does not grow with them.

    Args:
        image: (..., 3, H, W) floating point in [0, 1] or uint8.
        other: the same shape.
        weights: importance of each pixel (..., H, W), at least 0; or a mask, True where it counts.
        per_image: whether to give one value of each image.

    Returns:
        () float32, the mean difference, or (...) that of each image; NaN where no pixel counts.

    Raises:
        ValueError: the shapes differ or are not (..., 3, H, W), or weights on the CPU are negative
            or not finite.
        TypeError: neither floating point nor uint8.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.metrics import mean_ciede2000
        >>> image = torch.full((3, 4, 4), 0.5)
        >>> mean_ciede2000(image, image)
        tensor(0.)
    """
    check_pictures(image, other)
    _check_axes(image)
    if image.shape[-3] != 3:
        raise ValueError(f"expected images of shape (..., 3, H, W), got {tuple(image.shape)}")
    leads, size = image.shape[:-3], image.shape[-2] * image.shape[-1]
    pixels = [image.reshape(-1, 3, size), other.reshape(-1, 3, size)]
    if weights is not None:
        pixels.append(_check_weights(weights, _size_of(image)).reshape(-1, size))
    exact = kernels.exact_dtype(image)
    count = len(pixels[0])
    totals = image.new_zeros(2, count, dtype=exact)  # difference and weight of each image
    group = max(1, CHUNK_PIXELS // max(1, size))
    for first in range(0, count, group):
        images = [part[first : first + group] for part in pixels]
        for parts in zip(*(part.split(CHUNK_PIXELS, dim=-1) for part in images), strict=True):
            difference = ciede2000(*(rgb_to_lab(_unit(x).movedim(1, -1)) for x in parts[:2]))
            share = torch.ones_like(difference[:, :1]).expand_as(difference)
            if weights is not None:
                share = parts[2].to(exact)
                difference = difference.masked_fill(share == 0, 0) * share
            sums = [part.sum(1, dtype=exact) for part in (difference, share)]
            totals[:, first : first + group] += torch.stack(sums)
    difference, share = totals.view(2, *leads) if per_image else totals.sum(1)
    return (difference / share).float()


def palette_usage(
    indices: Tensor, num_colors: int, *, weights: Tensor | None = None, per_image: bool = False
) -> Tensor:
    """Count how many pixels take each colour of a palette.

    Args:
        indices: (...) integers in [0, num_colors); where the weight is 0, any.
        num_colors: the length of the palette, K.
        weights: importance of each pixel (...), at least 0; or a mask, True where it counts.
        per_image: whether to count each image of (..., H, W) by itself.

    Returns:
        (K,) int64, with weights floating point; (..., K) floating point of each image.

    Raises:
        TypeError: the indices are not integers.
        IndexError: on the CPU, for an index that is not from 0 to K - 1.
        ValueError: the weights are of another shape or, on the CPU, negative or not finite; or
            there is no (H, W).

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.metrics import palette_usage
        >>> palette_usage(torch.tensor([[0, 2], [2, 2]]), 4)
        tensor([1, 0, 3, 0])
    """
    check_tensor(indices, "integer indices as a tensor")
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise TypeError(f"expected integer indices, got {indices.dtype}")
    if per_image and indices.ndim < 2:
        raise ValueError(f"expected indices (..., H, W), got {tuple(indices.shape)}")
    flat = indices.flatten(-2 if per_image else 0).long()
    if weights is None:
        votes = torch.ones_like(flat[..., :1]).expand(flat.shape)
    else:
        weights = _check_weights(weights, indices.shape, "indices'")
        votes = weights.reshape(flat.shape).to(kernels.exact_dtype(indices))
        flat = flat.masked_fill(votes == 0, 0)
    check_rows(flat, num_colors)
    # bincount would wait for the device to learn how long its result is.
    counts = torch.zeros(
        *flat.shape[:-1], num_colors, dtype=votes.dtype, device=indices.device
    ).scatter_add_(-1, flat, votes)
    return counts.to(kernels.exact_dtype(indices)) if per_image else counts


def colors_in_use(counts: Tensor) -> Tensor:
    """Count the colours that at least one pixel takes.

    Args:
        counts: (K,) pixels of each colour, as `palette_usage` counts them; of several palettes
            (..., K), floating point, since integers of several axes look like indices.

    Returns:
        (...) int64.

    Raises:
        ValueError: for what looks like indices.
        TypeError: for something else than a tensor.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.metrics import colors_in_use
        >>> colors_in_use(torch.tensor([1, 0, 3, 0]))
        tensor(2)
    """
    _check_counts(counts)
    return (counts > 0).sum(-1)


def entropy(counts: Tensor) -> Tensor:
    """Entropy of a palette's use: the least mean number of bits that store a pixel's index.

    Args:
        counts: (K,) pixels of each colour, as `palette_usage` counts them; of several palettes
            (..., K), floating point, since integers of several axes look like indices.

    Returns:
        (...) bits a pixel, in [0, log2(K)]; 0 where nothing was counted.

    Raises:
        ValueError: for what looks like indices.
        TypeError: for something else than a tensor.

    References:
        Shannon, "A mathematical theory of communication", 1948.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.metrics import entropy
        >>> entropy(torch.tensor([2, 1, 1, 0]))
        tensor(1.5000)
    """
    _check_counts(counts)
    counts = counts.to(torch.promote_types(counts.dtype, torch.float32))
    total = counts.sum(-1, keepdim=True)
    share = counts / torch.where(total > 0, total, 1)
    return torch.special.entr(share).sum(-1) / math.log(2)


def perplexity(counts: Tensor) -> Tensor:
    """Effective number of colours: as many, equally used, would have the same `entropy`.

    Args:
        counts: (K,) pixels of each colour, as `palette_usage` counts them; of several palettes
            (..., K), floating point, since integers of several axes look like indices.

    Returns:
        (...) ``2 ** entropy``, in [1, K].

    Raises:
        ValueError: for what looks like indices.
        TypeError: for something else than a tensor.

    References:
        Jelinek, Mercer, Bahl, Baker, "Perplexity - a measure of the difficulty of speech
        recognition tasks", 1977.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.metrics import perplexity
        >>> perplexity(torch.tensor([5, 5, 5, 5]))
        tensor(4.)
    """
    return torch.exp2(entropy(counts))


def ssim(
    image: Tensor, other: Tensor, *, weights: Tensor | None = None, per_image: bool = False
) -> Tensor:
    """Structural similarity, the mean over the pixels, channels and pictures.

    In pictures with a side below 11 the window is the largest that fits, of an odd side, with the
    same sigma: it shrinks as far as it must, and no pixel is made up at the edges. With weights,
    the window weighs pixels by them too, and a place counts by the weight of its centre.

    Args:
        image: (..., 3, H, W) floating point in [0, 1] or uint8; H and W at least 1.
        other: the same shape.
        weights: importance of each pixel (..., H, W), at least 0; or a mask, True where it counts.
        per_image: whether to give one value of each image.

    Returns:
        () the mean, or (...) that of each image, 1 for equal pictures; over the places where the
        window fits into the picture. NaN where none counts.

    Raises:
        ValueError: the shapes differ, a side has no pixel, or weights on the CPU are negative or
            not finite.
        TypeError: neither floating point nor uint8.

    References:
        Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to
        structural similarity", 2004: a Gaussian window of 11x11 with sigma 1.5, K1 = 0.01, K2 =
        0.03.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.metrics import ssim
        >>> image = torch.linspace(0, 1, 3 * 16 * 16).reshape(3, 16, 16)
        >>> ssim(image, image)
        tensor(1.)
    """
    check_pictures(image, other)
    if image.ndim < 2 or min(image.shape[-2:]) < 1:
        raise ValueError(f"expected sides of at least 1 pixel, got {tuple(image.shape)}")
    if per_image or weights is not None:
        _check_axes(image)
    window = min(_WINDOW, (min(image.shape[-2:]) - 1) // 2 * 2 + 1)
    dtype = torch.promote_types(_unit(image[..., :0]).dtype, _unit(other[..., :0]).dtype)
    exact = kernels.exact_dtype(image)
    shape, height = image.shape, image.shape[-2] - window + 1
    planes = [image, other]
    if weights is not None:
        planes.append(_check_weights(weights, _size_of(image)).unsqueeze(-3).expand(shape))
    planes = [plane.reshape(-1, *shape[-2:]) for plane in planes]
    sums = []  # of the map and of the weights, of each plane
    rows = max(1, CHUNK_PIXELS // shape[-1])
    for group in zip(*(p.split(max(1, rows // shape[-2])) for p in planes), strict=True):
        total = group[0].new_zeros(2, len(group[0]), dtype=exact)
        for top in range(0, height, rows):
            strip = slice(top, min(top + rows, height) + window - 1)
            first, second = (_unit(plane[:, strip]).to(exact) for plane in group[:2])
            share = group[2][:, strip].to(exact) if weights is not None else None
            total = total + _ssim_sums(first, second, share, window)
        sums.append(total)
    total = torch.cat(sums, 1)
    total = total.view(2, *shape[:-2]).sum(-1) if per_image else total.sum(1)
    return (total[0] / total[1]).to(dtype)


def eye_error(
    image: Tensor,
    reference: Tensor,
    *,
    pixels_per_degree: float = 40.0,
    per_image: bool = False,
) -> Tensor:
    """How far a picture looks from another at a distance: the mean difference after the eye's blur.

    The eye sees through dots; errors of each pixel, as of `psnr` and `ciede2000`, do not. Both
    pictures are blurred in linear light on opponent axes as S-CIELAB blurs them, then compared in
    OKLab. Gradients are finite everywhere, also where the pictures are equal, so that it is a loss
    too. There are no weights, since the eye sees the light of a pixel in its neighbours.

    Args:
        image: (..., 3, H, W) floating point in [0, 1] or uint8; H and W at least 1.
        reference: the same shape.
        pixels_per_degree: of the visual angle: 40 for a picture at arm's length, 60 for a phone.
        per_image: whether to give one value of each image.

    Returns:
        () 100 times the mean OKLab distance, or (...) that of each image; 0 for equal pictures,
        the distance of the colours for flat ones.

    Raises:
        ValueError: the shapes differ, are not (..., 3, H, W), or a side has no pixel; or
            pixels_per_degree is not above 0 and finite.
        TypeError: neither floating point nor uint8.

    References:
        Zhang and Wandell, "A spatial extension of CIELAB for digital color-image reproduction",
        1997: the axes and the blur; its deviations are cut to 60 pixels here. Ottosson, "A
        perceptual color space for image processing", 2020: OKLab in the place of CIELAB.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.metrics import eye_error, psnr
        >>> checks = (torch.arange(64)[:, None] + torch.arange(64)).remainder(2).expand(3, 64, 64)
        >>> checks, grey = checks.float(), torch.full((3, 64, 64), 0.7354)  # half of white's light
        >>> psnr(checks, grey)
        tensor(5.1511)
        >>> for pixels_per_degree in (4, 40):
        ...     error = eye_error(checks, grey, pixels_per_degree=pixels_per_degree)
        ...     print(f"{error:.1f}")
        31.1
        0.6
    """
    check_pictures(image, reference)
    _check_axes(image)
    if image.shape[-3] != 3 or min(image.shape[-2:]) < 1:
        raise ValueError(
            f"expected images of shape (..., 3, H, W) with sides of at least 1 pixel, got "
            f"{tuple(image.shape)}"
        )
    if not 0 < pixels_per_degree < math.inf:
        raise ValueError(f"expected pixels_per_degree above 0 and finite, got {pixels_per_degree}")
    dtype = torch.promote_types(_unit(image[..., :0]).dtype, _unit(reference[..., :0]).dtype)
    leads, (height, width) = image.shape[:-3], image.shape[-2:]
    halo = eye.reach(pixels_per_degree)
    rows = max(SEEN_ROWS, SEEN_PIXELS // width) // eye.UNIT * eye.UNIT
    group = max(1, SEEN_PIXELS // (height * width))
    sums = []
    images = [x.reshape(-1, 3, height, width).split(group) for x in (image, reference)]
    for pair in zip(*images, strict=True):
        total = torch.zeros(len(pair[0]), dtype=kernels.exact_dtype(image), device=image.device)
        for top in range(0, height, rows):
            first = max(0, top - halo)
            strips = [_unit(x[:, :, first : top + rows + halo]) for x in pair]
            seen = [eye.as_seen(x, pixels_per_degree)[:, top - first :][:, :rows] for x in strips]
            squared = (seen[0] - seen[1]).square().sum(-1)
            apart = squared > 0  # where they are not, the root has no slope
            distance = torch.where(apart, squared, 1).sqrt().masked_fill(~apart, 0)
            total = total + distance.sum((-2, -1), dtype=total.dtype)
        sums.append(total)
    errors = torch.cat(sums) * (100 / (height * width))
    return (errors.view(leads) if per_image else errors.mean()).to(dtype)


def visual_quality(image: Tensor, reference: Tensor) -> Tensor:
    """How good a picture looks beside its original, in the units of SSIMULACRA2.

    It is our estimate, within 0.01 of the Python package ssimulacra2 for sides of at least 256
    pixels, and has no gradient. A picture with alpha is seen over black and over white, and the
    worse of both counts; SSIMULACRA2's own tool takes a dark and a light grey. For many pictures
    beside one original see `functional.quality`, which prepares it once.

    Args:
        image: (..., 3, H, W), or (..., 4, H, W) with straight alpha, floating point in [0, 1] or
            uint8; H and W at least 1.
        reference: the same shape.

    Returns:
        (...) float32, that of each picture: 100 for equal ones, 90 very high, 70 high, 50 medium,
        30 low; it may be negative.

    Raises:
        ValueError: the shapes differ, are not (..., 3, H, W) or (..., 4, H, W), or a side has no
            pixel.
        TypeError: neither floating point nor uint8.

    References:
        Sneyers, "SSIMULACRA 2", 2023, https://github.com/cloudinary/ssimulacra2.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional import visual_quality
        >>> image = torch.linspace(0, 1, 64).expand(3, 64, 64)
        >>> visual_quality(image, image)
        tensor(100.)
        >>> bands = (image * 9).floor() / 9
        >>> bool(visual_quality(bands, image) < 50)
        True
    """
    check_pictures(image, reference)
    _check_axes(image)
    if image.shape[-3] not in (3, 4) or min(image.shape[-2:]) < 1:
        raise ValueError(
            f"expected images of shape (..., 3, H, W) or (..., 4, H, W) with sides of at least 1 "
            f"pixel, got {tuple(image.shape)}"
        )
    pairs = zip(*(x.reshape(-1, *x.shape[-3:]) for x in (image, reference)), strict=True)
    found = torch.empty(image.shape[:-3].numel(), device=image.device)
    for number, (picture, original) in enumerate(pairs):
        found[number] = quality_of.quality(picture, quality_of.prepare(original))
    return found.view(image.shape[:-3])


def _ssim_sums(x: Tensor, y: Tensor, weights: Tensor | None, window: int) -> Tensor:
    """The sums (2, planes) of the similarity and of the weights over the places of the window."""

    def mean(values: Tensor) -> Tensor:
        return _blur(values if weights is None else values * weights, window) / share

    share: Tensor | float = 1.0
    if weights is not None:
        unseen = weights == 0
        x, y = x.masked_fill(unseen, 0), y.masked_fill(unseen, 0)
        share = _blur(weights, window)
        share = torch.where(share > 0, share, 1)
    mean_x, mean_y = mean(x), mean(y)
    variances = (mean(x * x) - mean_x * mean_x) + (mean(y * y) - mean_y * mean_y)
    covariance = mean(x * y) - mean_x * mean_y
    luminance, contrast = 0.01**2, 0.03**2
    above = (2 * mean_x * mean_y + luminance) * (2 * covariance + contrast)
    below = (mean_x**2 + mean_y**2 + luminance) * (variances + contrast)
    similarity, edge = above / below, window // 2
    centre = torch.ones_like(similarity)
    if weights is not None:
        height, width = similarity.shape[-2:]
        centre = weights[:, edge : edge + height, edge : edge + width]
    return torch.stack([(similarity * centre).sum((-2, -1)), centre.sum((-2, -1))])


def _blur(x: Tensor, window: int) -> Tensor:
    """Weighted means where the window fits; elementwise, so TF32 and autocast leave it alone."""
    weights = [math.exp(-((i - window // 2) ** 2) / (2 * _SIGMA**2)) for i in range(window)]
    for axis in (-1, -2):
        length = x.shape[axis] - window + 1
        blurred = torch.zeros_like(x.narrow(axis, 0, length))
        for start, weight in enumerate(weights):
            blurred = blurred.add(x.narrow(axis, start, length), alpha=weight / sum(weights))
        x = blurred
    return x


def _unit(image: Tensor) -> Tensor:
    """A picture as float32 or float64 in [0, 1]."""
    if image.dtype == torch.uint8:
        return image.float() / 255
    return image.to(torch.promote_types(image.dtype, torch.float32))


def _check_axes(image: Tensor) -> None:
    if image.ndim < 3:
        raise ValueError(f"expected images of shape (..., 3, H, W), got {tuple(image.shape)}")


def _check_weights(weights: Tensor, shape: torch.Size, whose: str = "images'") -> Tensor:
    """Weights of a shape; their values are looked at where that needs no waiting."""
    check_tensor(weights, f"weights as a tensor {tuple(shape)}")
    if weights.shape != shape:
        raise ValueError(
            f"expected weights of the {whose} size {tuple(shape)}, got {tuple(weights.shape)}"
        )
    if weights.device.type == "cpu" and not torch.compiler.is_compiling():
        check_votes(weights)
    return weights.detach()


def _size_of(image: Tensor) -> torch.Size:
    """(..., H, W) of images (..., 3, H, W)."""
    _check_axes(image)
    return image.shape[:-3] + image.shape[-2:]


def _check_counts(counts: Tensor) -> None:
    """Refuse what is more likely indices; a single row of them cannot be told from counts."""
    check_tensor(counts, "counts as a tensor (K,)")
    if counts.ndim != 1 and not counts.is_floating_point():
        raise ValueError(
            f"expected counts (K,), or floating point (..., K), got {counts.dtype} "
            f"{tuple(counts.shape)}; palette_usage(indices, num_colors) counts indices"
        )
