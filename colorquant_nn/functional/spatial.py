"""Spatial colour quantization: palette and dots that look like the picture from where one stands.

For pixels ``x`` and their colours ``P[i]``, both in linear light on the axes of OKLab, the eye
sees the error

    E = sum_p |h * (w (P[i] - x))|^2

where ``h`` is the eye's blur, a Gaussian for each axis, and ``w``, the slope of lightness at the
local luminance, about ``Y^(-2/3) / 3``, makes this OKLab's distance around the greys. With ``c``
the autocorrelation of ``h`` and ``e = w (P[i] - x)``, E is ``sum_pq e_p c(p - q) e_q``, and each
of two steps lowers it. With the palette fixed, a pixel of colour ``y`` takes the one nearest to

    y - (c * e)(p) / (c(0) w_p)

and with the dots fixed, the palette is a K x K least squares. Without blur, ``h = 1``, that target
is the pixel itself and the least squares are weighted means: Lloyd's algorithm, the rule that all
palettes here follow. ``c(0)`` is 1 in what follows: it is part of the axes.

Letters: H rows, W columns, K colours, C channels (3 or 4), R the reach of the coupling.

References:
    Analoui and Allebach 1992, "Model-based halftoning using direct binary search"; Puzicha, Held,
    Ketterer, Buhmann and Fellner 2000, "On spatial quantization of color images"; Zhang and
    Wandell 1997, "A spatial extension of CIELAB".
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.color import (
    LMS_TO_OKLAB,
    LUMINANCE,
    RGB_TO_LMS,
    to_working_space,
)
from colorquant_nn.functional.grid import Bits, around, round_to_grid, without_repetition
from colorquant_nn.functional.opacity import (
    CLEAR,
    OPAQUE,
    SOFT,
    nearest_colors,
    opacity,
    round_opacity,
)
from colorquant_nn.functional.points import (
    asks_for_dots,
    in_working_space,
    iterate_images,
    with_alpha,
)
from colorquant_nn.functional.progress import progress
from colorquant_nn.kernels import Dots, Target, sanitize
from colorquant_nn.names import Space

__all__ = ["Coupling", "couple", "move_palette", "sample", "smooth", "spatial"]

# The coarser the dots, the further away one stands. Widths of the blur of lightness are in pixels,
# the shortest and the longest of ``WIDTH * distance ** GROWTH``, for the distance in OKLab that
# pixels are from their nearest colours. Four colours of a photograph look best from 0.9, 64
# from 0.6: what is blurred more has less error from afar, but loses its grain's fineness.
WIDTHS = (0.5, 1.4)
WIDTH, GROWTH = 1.6, 0.25
NEARING = 0.7  # the power of the strength by which the blur shrinks: each step of it is seen
WIDER = 0.6  # the blur of the axes of colour, which the eye sees less sharply
SPREADING = 1.3  # how much further pixels are from colours that were moved for dots
LOOKED_AT = 1 << 14  # pixels that tell the distance
DARK = 0.01  # added to the luminance: below it, slopes no longer rise
ADAPTATION = 1.0  # pixels over which the local luminance is taken
ROUNDS = 12  # of dots and palette in turn
ON_GRID = 4  # more, on a display's grid, at most
FRESH = 6  # of these, where dots begin anew: those that are there hold the palette back
SWEEPS = 5  # for dots of a given palette, at most
DESCENTS = 50  # through the colours in a palette step, at most
SAME = 1e-6  # in linear light, less than any two points of a grid are apart
BLOCK = 8  # pixels a side that a sweep skips together
TILE = 64  # pixels a side of what is sampled of many, or large, pictures
TILES = 128
CHUNK = 1 << 20  # pixels that are converted at a time


class Coupling(NamedTuple):
    """How far colours mix."""

    blur: Tensor
    """(2 R + 1, 4) float32, one factor of the coupling of two pixels, see `kernels.sweep_dots`."""
    axes: Tensor
    """(4, 4) float64, from linear light and alpha to the axes on which ``c(0)`` is 1."""


def couple(strength: float = 1.0, width: float = 0.8) -> Coupling:
    """The blur of an eye that comes nearer as the strength goes to 0, where nothing mixes.

    Args:
        strength: 0 to 1.
        width: of the blur of lightness, in pixels, where the strength is 1.

    Returns:
        The coupling of pixels, and the axes on which it holds.

    Examples:
        >>> from colorquant_nn.functional.spatial import couple
        >>> couple(0.0).blur[:, 0]
        tensor([0., 0., 0., 0., 1., 0., 0., 0., 0.])
    """
    reach = 2 if width < 0.9 else 3 if width < 1.2 else 4
    places = np.arange(-reach, reach + 1)
    spreads = np.array([0, WIDER, WIDER, 0]) + width
    spreads = np.maximum(spreads * strength**NEARING, 1e-3)
    lines = np.exp(-0.5 * (places / spreads[:, None]) ** 2)
    lines /= lines.sum(1, keepdims=True)
    sizes = (lines**2).sum(1)
    blur = np.stack(
        [np.convolve(line, line) / size for line, size in zip(lines, sizes, strict=True)]
    )
    axes = np.diag(sizes)
    axes[:3, :3] = axes[:3, :3] @ np.array(LMS_TO_OKLAB) @ np.array(RGB_TO_LMS)
    return Coupling(torch.from_numpy(blur.T.astype(np.float32)), torch.from_numpy(axes))


def spatial(
    pixels: Tensor,
    palette: Tensor,
    strength: float = 1.0,
    space: Space = "rgb",
    kept: Tensor | None = None,
) -> Tensor:
    """Dots that look like the picture once the eye has blurred them: direct binary search.

    All pixels start as they should be; sweep by sweep each takes the colour that makes the blurred
    error least, the others as they are.

    Args:
        pixels: see `colorquant_nn.functional.dither.nearest`.
        palette: see there.
        strength: 1 is the eye's blur at arm's length; it comes nearer down to 0, which is
            `colorquant_nn.functional.dither.nearest`.
        space: where distances are taken if the strength is 0; and with alpha, by which it is told
            which soft pixels are clear. Else distances are where the eye measures.
        kept: see there.

    Returns:
        (H, W) int64.

    Raises:
        ValueError: for another shape, or another strength.

    References:
        Analoui and Allebach 1992, "Model-based halftoning using direct binary search".

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.spatial import spatial
        >>> black_and_white = torch.tensor([[0.0] * 3, [1.0] * 3])
        >>> light = spatial(torch.full((64, 64, 3), 0.5), black_and_white).double().mean()
        >>> 0.20 < light < 0.23  # linear light, of which this grey has 0.214
        tensor(True)
    """
    asks = asks_for_dots(pixels, palette, strength)
    device = pixels.device
    pixels, palette = pixels.detach().cpu(), palette.detach().cpu()
    kept = None if kept is None else kept.cpu()
    if not asks:
        indices = nearest_colors(pixels.flatten(0, 1), palette, space).view(pixels.shape[:2])
    else:
        coupling = couple(strength, _width([pixels], palette))
        target = _target(pixels, palette, coupling, space)
        indices = _draw(target, _on_axes(_light(palette), coupling), coupling, kept)
        if pixels.shape[2] == 4:
            clear = target.weights == 0
            indices[clear] = nearest_colors(pixels[clear], palette, space)
    if kept is not None:
        indices = torch.where(kept >= 0, kept, indices)
    return indices.to(device)


def move_palette(
    pictures: list[Tensor],
    palette: Tensor,
    strength: float,
    pinned: Tensor,
    bits: Bits | None = None,
) -> Tensor:
    """Move a palette to where its dots show pictures best: dots and palette in turn.

    A colour that no dot has goes to where most is amiss.

    Args:
        pictures: (H, W, C) sRGB each, float in [0, 1] or uint8, on the CPU; what is not finite does
            not count.
        palette: (K, C) sRGB float in [0, 1], on the CPU.
        strength: see `spatial`.
        pinned: (K,) bool, the colours that stay; those that are clear do, too.
        bits: of red, green and blue of a display, for the best colours that it has.

    Returns:
        (K, C) float32, in the order of the palette. What is opaque stays opaque. With ``bits``
        fewer rows where the display has no other colours nearby.

    References:
        Puzicha, Held, Ketterer, Buhmann and Fellner 2000, "On spatial quantization of color
        images".

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.spatial import move_palette
        >>> orange, free = torch.tensor([1.0, 0.5, 0.0]), torch.zeros(1, dtype=torch.bool)
        >>> moved = move_palette([orange.expand(8, 8, 3)], 0.9 * orange[None], 1.0, free)
        >>> (moved - orange).abs().max() < 1e-4
        tensor(True)
    """
    palette, channels = palette.to(torch.float32, copy=True), palette.shape[1]
    if strength == 0:
        return palette if bits is None else without_repetition(round_to_grid(palette, bits))
    coupling = couple(strength, _width(pictures, palette, SPREADING))
    gap = len(coupling.blur) // 2
    target = _atlas(
        [_target(picture, palette, coupling, "oklab", voting=True) for picture in pictures], gap
    )
    light = _light(palette).double()
    movable = torch.ones(len(palette), dtype=torch.uint8)
    if channels == 4:
        kinds = opacity(palette)
        movable[kinds == SOFT] = 2
        movable[kinds == CLEAR] = 0
    movable[pinned] = 0
    start = light.clone()
    for round_ in range(ROUNDS):
        colors = _on_axes(light, coupling)
        if round_ < FRESH:
            dots = _undecided(target, coupling)
        else:
            response = kernels.blur_errors(target, colors, coupling.blur, dots.indices)
            dots = dots._replace(response=response, stale=torch.ones_like(dots.stale))
        kernels.sweep_dots(target, colors, coupling.blur, dots)
        matrix, gradient = kernels.couple_colors(
            target.weights, coupling.blur, dots.indices, dots.response, len(light)
        )
        light = kernels.move_colors(matrix, gradient, light, coupling.axes, movable, DESCENTS)
        if round_ < ROUNDS - 2:
            light = _revive(light, movable, matrix, dots, target, coupling)
    if bits is not None:
        light = _put_on_grid(light, movable, target, coupling, channels, bits)
    moved = (light != start).any(1)
    palette[moved] = _to_palette(light[moved], channels)
    return palette if bits is None else without_repetition(round_to_grid(palette, bits))


def sample(images: Tensor | Iterable[Any]) -> list[Tensor]:
    """What stands for pictures while a palette is moved: one that is small, or tiles of all.

    Tiles are spread evenly over all pictures, and always the same ones.

    Args:
        images: (C, H, W) or (B, C, H, W), or an iterable of these, which is read once.

    Returns:
        (H, W, C) each, on the CPU.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.spatial import sample
        >>> len(sample(torch.zeros(3, 80, 90))), len(sample(torch.zeros(10, 3, 80, 90)))
        (1, 40)
    """
    if isinstance(images, Tensor) and images.ndim == 3 and images[0].numel() <= TILES * TILE**2:
        return [images.detach().movedim(0, -1).cpu()]
    chosen: list[tuple[float, int, Tensor]] = []
    number = 0
    for batch in iterate_images(images):
        for image in batch.detach() if batch.ndim == 4 else batch.detach()[None]:
            for strip in image.tensor_split(-(-image.shape[1] // TILE), 1):
                for tile in strip.tensor_split(-(-image.shape[2] // TILE), 2):
                    # The multiples of the golden ratio below a bound are spread evenly.
                    entry = (-(number * 0.6180339887498949 % 1), number, tile)
                    number += 1
                    if tile.numel() and (len(chosen) < TILES or entry > chosen[0]):
                        entry = (*entry[:2], tile.movedim(0, -1).cpu().clone())
                        (heapq.heappush if len(chosen) < TILES else heapq.heapreplace)(
                            chosen, entry
                        )
    return [tile for _, _, tile in sorted(chosen, key=lambda entry: entry[1])]


def _light(colors: Tensor) -> Tensor:
    """(N, C) sRGB to (N, 4) float32, premultiplied linear light and alpha."""
    colors = sanitize(colors, clamp=True).to(torch.float32)
    light = torch.ones(len(colors), 4)
    light[:, :3] = kernels.convert_color(colors[:, :3], ["srgb_decode"], [])
    if colors.shape[1] == 4:
        light[:, 3] = colors[:, 3]
        light = round_opacity(light)
        light[:, :3] *= light[:, 3:]
    return light


def _on_axes(light: Tensor, coupling: Coupling) -> Tensor:
    """(N, 4) float32; equal colours become equal bits."""
    light, axes = light.to(torch.float32), coupling.axes
    points = torch.empty_like(light)
    matrix = axes[:3, :3].flatten().tolist()
    points[:, :3] = kernels.convert_color(light[:, :3].contiguous(), ["matrix"], matrix)
    points[:, 3] = light[:, 3] * float(axes[3, 3])
    return points


def _to_palette(light: Tensor, channels: int) -> Tensor:
    alpha = light[:, 3:].clamp_min(1e-6)
    straight = torch.cat([(light[:, :3] / alpha).clamp(0, 1), light[:, 3:]], 1).to(torch.float32)
    straight[:, :3] = kernels.convert_color(straight[:, :3].contiguous(), ["srgb_encode"], [])
    return straight[:, :channels].clamp(0, 1)


def _target(
    pixels: Tensor, palette: Tensor, coupling: Coupling, space: Space, voting: bool = False
) -> Target:
    """Pixels (H, W, C) on the eye's axes; clear ones, and non-finite ones in a vote, weigh 0."""
    height, width, channels = pixels.shape
    points, luminance = torch.empty(height, width, 4), torch.empty(height, width)
    presence = torch.ones(height, width)
    kinds = torch.ones(height, width, dtype=torch.uint8)
    theirs = opacity(with_alpha(palette))
    has_opaque = bool((theirs == OPAQUE).any())
    rows = max(1, CHUNK // max(1, width))
    for top in range(0, height, rows):
        part = pixels[top : top + rows].reshape(-1, channels)
        light = _light(part)
        points[top : top + rows] = _on_axes(light, coupling).view(-1, width, 4)
        luminance[top : top + rows] = (
            (light[:, :3] * torch.tensor(LUMINANCE)).sum(1).view(-1, width)
        )
        if channels == 4:
            kind = opacity(light)
            undecided = (kind == SOFT).nonzero().squeeze(1)
            nearest = nearest_colors(part[undecided], palette, space)
            kind[undecided[theirs[nearest] == CLEAR]] = CLEAR
            presence[top : top + rows] = torch.where(kind == CLEAR, 0, light[:, 3]).view(-1, width)
            kinds[top : top + rows] = (kind if has_opaque else kind.clamp_max(1)).view(-1, width)
        if voting and part.is_floating_point():
            finite = kernels.finite(part).view(-1, width)
            kinds[top : top + rows] *= finite
            presence[top : top + rows] *= finite
    luminance *= presence > 0
    local = smooth(luminance, ADAPTATION).div_(smooth(presence, ADAPTATION).clamp_min_(1e-6))
    weights = local.add_(DARK).pow_(-2 / 3).div_(3).mul_(kinds > 0)
    if not bool((theirs != CLEAR).any()):
        weights.zero_()
        kinds.zero_()
    return Target(points, weights, kinds)


def smooth(values: Tensor, width: float) -> Tensor:
    """Sum a picture's values around each pixel, weighed by a Gaussian; beyond the edges is nothing.

    Args:
        values: (H, W).
        width: of the Gaussian, in pixels.

    Returns:
        (H, W); not normalized.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.spatial import smooth
        >>> smooth(torch.tensor([[0.0, 1.0, 0.0]]), 1.0)
        tensor([[0.6065, 1.0000, 0.6065]])
    """
    reach = int(np.ceil(3 * width))
    line = [float(np.exp(-0.5 * (step / width) ** 2)) for step in range(reach + 1)]
    for axis in (0, 1):
        size = values.shape[axis]
        total = values * line[0]
        for step in range(1, min(reach, size - 1) + 1):
            ahead, behind = (values.narrow(axis, start, size - step) for start in (step, 0))
            total.narrow(axis, 0, size - step).add_(ahead, alpha=line[step])
            total.narrow(axis, step, size - step).add_(behind, alpha=line[step])
        values = total
    return values


def _width(pictures: list[Tensor], palette: Tensor, factor: float = 1.0) -> float:
    """Of the blur of lightness, in steps, so that it does not hang on what is rounded."""
    step = -(-sum(picture[..., 0].numel() for picture in pictures) // LOOKED_AT)
    pixels = torch.cat([picture.flatten(0, 1)[::step] for picture in pictures])
    points = in_working_space(pixels, palette.shape[1], "oklab").double()
    colors = to_working_space(palette, "oklab").double()
    offsets = (points - colors[nearest_colors(pixels, palette, "oklab")]).square().sum(1).numpy()
    distance = factor * float(np.sqrt(offsets.mean()))
    return round(20 * min(max(WIDTH * distance**GROWTH, WIDTHS[0]), WIDTHS[1])) / 20


def _atlas(targets: list[Target], gap: int) -> Target:
    """Targets beside each other, further apart than they are coupled."""
    if len(targets) == 1:
        return targets[0]
    height = max(target.weights.shape[0] for target in targets) + gap
    width = max(target.weights.shape[1] for target in targets) + gap
    across = int(np.ceil(len(targets) ** 0.5))
    size = -(-len(targets) // across) * height, across * width
    whole = Target(torch.zeros(*size, 4), torch.zeros(size), torch.zeros(size, dtype=torch.uint8))
    for place, target in enumerate(targets):
        top, left = place // across * height, place % across * width
        bottom, right = top + len(target.weights), left + target.weights.shape[1]
        for sheet, part in zip(whole, target, strict=True):
            sheet[top:bottom, left:right] = part
    return whole


def _undecided(target: Target, coupling: Coupling) -> Dots:
    """Dots of pixels that are as they should be."""
    height, width = target.weights.shape
    reach = len(coupling.blur) - 1
    indices = torch.full((height, width), -1, dtype=torch.int32)
    indices[target.kinds == 0] = 0
    response = torch.zeros(height + reach, width + reach, 4)
    stale = torch.ones(-(-height // BLOCK), -(-width // BLOCK), dtype=torch.uint8)
    return Dots(indices, response, stale)


def _draw(target: Target, colors: Tensor, coupling: Coupling, kept: Tensor | None) -> Tensor:
    """The dots (H, W) int64 of given colours (K, 4) on the eye's axes."""
    visible = (colors[:, 3] > 0).nonzero().squeeze(1)
    dots = _undecided(target, coupling)
    if len(visible) == 0:
        return dots.indices.long()
    its_colors, colors = len(colors), colors[visible]
    if kept is not None:
        places = torch.full((int(max(kept.max(), visible.max())) + 1,), -1)
        places[visible] = torch.arange(len(visible))
        own = torch.where(kept >= 0, places[kept], -1)
        is_kept = kept >= 0
        dots.indices[is_kept] = own[is_kept].to(torch.int32)
        target = target._replace(kinds=target.kinds.masked_fill(is_kept, 0))
        dots = dots._replace(
            response=kernels.blur_errors(target, colors, coupling.blur, dots.indices)
        )
    for _ in progress(SWEEPS, "dots", "sweep"):
        if not kernels.sweep_dots(target, colors, coupling.blur, dots):
            break
    indices = dots.indices.clamp_min_(0).long()
    return indices if len(visible) == its_colors else visible[indices]


def _put_on_grid(
    light: Tensor, movable: Tensor, target: Target, coupling: Coupling, channels: int, bits: Bits
) -> Tensor:
    """Colours (K, 4) of a display: the nearest ones, then from point to point of its grid."""
    apart = torch.eye(len(light), dtype=light.dtype)[..., None].expand(-1, -1, 4)
    slopes = torch.zeros_like(light)  # with which the best is the nearest
    best = light = _step_on_grid(apart, slopes, light, movable, coupling, channels, bits)
    least = np.inf
    for _ in range(ON_GRID):
        colors, dots = _on_axes(light, coupling), _undecided(target, coupling)
        kernels.sweep_dots(target, colors, coupling.blur, dots)
        matrix, gradient = kernels.couple_colors(
            target.weights, coupling.blur, dots.indices, dots.response, len(light)
        )
        reach = len(coupling.blur) // 2
        errors = (colors[dots.indices.long()] - target.points).mul_(target.weights[..., None])
        errors *= dots.response[reach:-reach, reach:-reach]
        error = float(errors.sum(dtype=torch.float64))
        if error >= least:
            break
        best, least = light, error
        light = _step_on_grid(matrix, gradient, light, movable, coupling, channels, bits)
    return best


def _step_on_grid(
    matrix: Tensor,
    gradient: Tensor,
    light: Tensor,
    movable: Tensor,
    coupling: Coupling,
    channels: int,
    bits: Bits,
) -> Tensor:
    """`kernels.move_colors` from point to point of a grid, which no two colours share."""
    light, gradient = light.clone(), gradient.clone()
    for _ in range(DESCENTS):
        before = light.clone()
        points = around(_to_palette(light, channels), bits)
        places = _light(points.flatten(0, 1)).double().view(len(light), -1, 4)
        for index in movable.nonzero().squeeze(1).tolist():
            changes = (places[index] - light[index]) @ coupling.axes.T
            costs = changes @ gradient[index] + 0.5 * changes.square() @ matrix[index, index]
            others = (places[index][:, None] - light).abs().amax(2)
            others[:, index] = 1
            costs[others.amin(1) < SAME] = torch.inf
            best = int(costs.argmin())
            light[index] = places[index, best]
            gradient += matrix[:, index] * changes[best]
        if torch.equal(light, before):
            break
    return light


def _revive(
    light: Tensor, movable: Tensor, matrix: Tensor, dots: Dots, target: Target, coupling: Coupling
) -> Tensor:
    """Colours that no dot has go to what would mend the largest errors."""
    unused = ((matrix.diagonal()[0] == 0) & (movable > 0)).nonzero().squeeze(1)
    reach = len(coupling.blur) // 2
    if len(unused) == 0:
        return light
    response = dots.response[reach:-reach, reach:-reach]
    size = response.square().sum(2) * (target.kinds > 0)
    light = light.clone()
    for index in unused.tolist():
        place = int(size.argmax())
        row, column = divmod(place, size.shape[1])
        if size[row, column] == 0:
            break
        point = (
            target.points[row, column].double()
            - response[row, column] / target.weights[row, column]
        )
        color = torch.linalg.solve(coupling.axes, point.double())
        color[3] = color[3].clamp(0, 1) if movable[index] == 2 else light[index, 3]
        light[index] = torch.minimum(color.clamp_min(0), color[3])
        size[max(0, row - TILE) : row + TILE, max(0, column - TILE) : column + TILE] = 0
    return light
