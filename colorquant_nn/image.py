"""Palettes for pictures: find the best colours, and draw a picture in given ones.

Letters: B pictures, H rows, W columns, K colours of a palette, C channels (3, or 4 with alpha).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.clustering import distortion
from colorquant_nn.functional.color import SPACES, color_space, to_working_space
from colorquant_nn.functional.dither import DITHERS
from colorquant_nn.functional.drawing import check_drawing, draw
from colorquant_nn.functional.fitting import (
    EFFORTS,
    dark_to_light,
    fit,
    palette_error,
    round_to_bytes,
    smallest_count,
)
from colorquant_nn.functional.grid import check_bits, check_on_grid
from colorquant_nn.functional.histogram import (
    ColorHistogram,
    count,
    list_pixels,
    split_floats,
)
from colorquant_nn.functional.metrics import mse_to_psnr
from colorquant_nn.functional.opacity import assign
from colorquant_nn.functional.order import order_for_deflate
from colorquant_nn.functional.points import (
    check_count,
    check_image,
    check_images,
    check_kept,
    check_palette,
    check_seed,
    check_strength,
    in_working_space,
    iterate_images,
    to_pixels,
    warn_of_pictures,
    with_alpha,
)
from colorquant_nn.functional.spatial import move_palette, sample
from colorquant_nn.kernels import sanitize
from colorquant_nn.names import Dither, Effort, Space, check_name

__all__ = [
    "QuantizedImage",
    "apply_palette",
    "draw_frames",
    "fit_palette",
    "match_palette",
    "quantize_frames",
    "quantize_image",
    "repaint",
    "smallest_palette",
    "spatial_palette",
    "within_cluster_sum_of_squares",
]

CHUNK = 1 << 20  # pixels that are converted to another space at a time


class QuantizedImage(NamedTuple):
    """A picture, or a batch of pictures, in the colours of a palette.

    These are the colours that a file says; of a display, they may be others than those that it
    shows, see the ``device`` of `apply_palette`.

    Examples:
        >>> import torch
        >>> from colorquant_nn import quantize_image
        >>> rgb, indices, palette = quantize_image(torch.rand(3, 8, 8), 4)
        >>> torch.equal(rgb, palette[indices].movedim(-1, 0))
        True
    """

    rgb: Tensor
    """(C, H, W) or (B, C, H, W): ``palette[indices]`` in the picture's dtype; uint8 is rounded."""
    indices: Tensor
    """(H, W) or (B, H, W) int64."""
    palette: Tensor
    """(K, C) float32 sRGB in [0, 1], alpha straight, of all pictures."""


def fit_palette(
    images: Tensor | ColorHistogram | Iterable[Any],
    num_colors: int,
    *,
    space: Space = "oklab",
    effort: Effort = "balanced",
    weights: Tensor | Iterable[Tensor | None] | None = None,
    keep: Tensor | None = None,
    seed: int = 0,
    bits: Sequence[int] | int | None = None,
) -> Tensor:
    """Find the palette with the smallest mean squared error: k-means over the colours.

    The pixels are all counted, by their 8-bit colours. An iterable is read once and in bounded
    memory: with more than 524288 distinct colours, neighbours merge. The same arguments give the
    same palette; the global random numbers are not used.

    Args:
        images: (C, H, W) or (B, C, H, W) sRGB, float in [0, 1] or uint8; an iterable of these, of
            any sizes, or of tuples whose first item they are, as a DataLoader gives them; or a
            `ColorHistogram`. With alpha (C = 4), distances are between premultiplied colours, and
            fully transparent pixels do not vote; if there are any, one colour of several is
            transparent. Opaque pixels have opaque colours, unless there is a single colour beside
            the transparent one, for mostly soft pixels. Beside images with alpha, those without it
            are opaque.
        num_colors: K, at least 1. A single colour is that of the pixels that are seen, and a
            warning says so if some are transparent.
        space: where distances are taken: "oklab", as people see them; "rgb", for the best PSNR;
            "linear" or "lab".
        effort: "fast", "balanced" or "best".
        weights: importance of each pixel, (H, W) or (B, H, W), at least 0, or a mask; for an
            iterable as many as there are images.
        keep: (J, 3) or (J, C) colours that the palette contains exactly, float in [0, 1] or uint8.
        seed: of what is left to chance.
        bits: of red, green and blue, 1 to 8 each, or one number for all, of a display that has
            fewer than 8: level v of b bits is v / (2^b - 1). The colours are the best ones that the
            display has, not the best of all, rounded; those to keep have to be among them.

    Returns:
        (K, C) float32 sRGB in [0, 1], dark to light; fewer rows for fewer distinct
        colours.

    Raises:
        ValueError: for a wrong shape, range or name, if no pixel has a vote, or if colours to keep
            leave no room for a transparent one.
        TypeError: for something else than tensors, or a wrong dtype.

    References:
        Lloyd 1982; Arthur and Vassilvitskii 2007 (k-means++); Fritzke 2020 (breathing k-means).

    Examples:
        >>> import torch
        >>> from colorquant_nn import fit_palette
        >>> image = torch.tensor([[[0.0, 0.2, 1.0]]]).expand(3, 1, 3)
        >>> fit_palette(image, 2)
        tensor([[0.0522, 0.0522, 0.0522],
                [1.0000, 1.0000, 1.0000]])
        >>> fit_palette(image, 2, space="rgb")
        tensor([[0.1000, 0.1000, 0.1000],
                [1.0000, 1.0000, 1.0000]])
        >>> fit_palette(image, 2, keep=torch.zeros(1, 3))[0]
        tensor([0., 0., 0.])
    """
    num_colors = check_count(num_colors)
    check_name("a colour space", space, SPACES)
    check_name("an effort", effort, EFFORTS)
    kept = check_kept(keep, num_colors)
    seed = check_seed(seed)
    grid = None if bits is None else check_bits(bits)
    if kept is not None and grid is not None:
        check_on_grid(kept, grid)
    colors = count(images, weights, num_colors)
    if isinstance(images, Tensor):
        warn_of_pictures(images)
    if num_colors == 1 and colors.hole is not None and len(colors.codes) > 0 and kept is None:
        warnings.warn(
            "a single colour for pictures with transparent pixels, which get it, too; with two, "
            "one is transparent",
            stacklevel=2,
        )
    return fit(colors, num_colors, space, effort, kept, seed, grid)


def smallest_palette(
    image: Tensor | ColorHistogram | Iterable[Any],
    min_psnr: float,
    *,
    max_colors: int = 256,
    space: Space = "oklab",
    effort: Effort = "balanced",
    seed: int = 0,
) -> Tensor:
    """Find the palette of fewest colours that reaches a peak signal-to-noise ratio.

    PSNR is that of `apply_palette` without dither, ``10 log10(1 / MSE)`` over all channels in
    sRGB, of the pixels that are finite and not fully transparent. It falls nearly on a line over
    log K, along which a handful of fits close in on K.

    Args:
        image: (C, H, W) sRGB, float in [0, 1] or uint8; several in a list or a batch, as for
            `quantize_frames`; a `ColorHistogram`, whose PSNR is that of its `distortion`; or a
            stream of images, as for `fit_palette`, where floats count as their bytes.
        min_psnr: in dB.
        max_colors: K is at most this, at least 1.
        space: see `fit_palette`.
        effort: see `fit_palette`.
        seed: see `fit_palette`.

    Returns:
        (K, C) float32 sRGB, dark to light: K colours reach ``min_psnr``, the fit of K - 1 does
        not. They are rounded to bytes, but for float images. With transparent pixels K is at least
        2, with nothing else 1.

    Raises:
        ValueError: for a wrong shape or name, or a ``min_psnr`` that is not a number, or that
            ``max_colors`` do not reach; it says how far they come.
        TypeError: for something else than tensors, or a wrong dtype.

    References:
        Gray and Neuhoff 1998, "Quantization": MSE falls as a power of K.

    Examples:
        >>> import torch
        >>> from colorquant_nn import smallest_palette
        >>> image = torch.linspace(0, 1, 256).expand(3, 1, 256)
        >>> [len(smallest_palette(image, psnr)) for psnr in (10, 20, 30)]
        [1, 3, 10]
    """
    check_name("a colour space", space, SPACES)
    check_name("an effort", effort, EFFORTS)
    if math.isnan(min_psnr):
        raise ValueError(f"expected min_psnr in dB, got {min_psnr}")
    max_colors, seed = check_count(max_colors, "max_colors"), check_seed(seed)
    points = None
    if isinstance(image, (Tensor, list, tuple)):
        whole = _one_picture(_list_frames(image))
        warn_of_pictures(whole)
        image = count(whole)
        if whole.dtype != torch.uint8:
            points = to_pixels(whole)  # a float differs from its byte's mean
    colors = count(image)
    pixels = colors if points is None else list_pixels(points)
    if len(colors.codes) == 0:
        if colors.hole is None:
            raise ValueError("expected an image with at least one finite pixel")
        return colors.hole[None].to(colors.device)
    fits: dict[int, tuple[float, Tensor]] = {}

    def psnr(num_colors: int) -> float:
        if num_colors not in fits:
            palette = fit(colors, num_colors, space, effort, seed=seed)
            palette = round_to_bytes(palette) if points is None else palette
            if isinstance(image, ColorHistogram):
                error = image.distortion(palette, space=space)
            else:
                error = palette_error(pixels, palette.cpu(), space)
            fits[num_colors] = (float(mse_to_psnr(error)), palette)
        return fits[num_colors][0]

    def fewest() -> int:
        least = 1 + (colors.hole is not None)
        distinct = len(colors.codes) + least - 1
        most = min(distinct, max_colors)
        exact = most == distinct and colors.bits == 8 and not isinstance(image, ColorHistogram)
        if most < least or not (exact or psnr(most) >= min_psnr):
            raise ValueError(
                f"{most} colours reach {psnr(most):.1f} dB, not {min_psnr:g}: expected a smaller "
                f"min_psnr, or max_colors of more than {max_colors} (--min-psnr, -k)"
            )
        return smallest_count(psnr, min_psnr, most, least)

    num_colors = fewest()
    if points is not None and psnr(num_colors) < min_psnr:  # floats of one byte are told apart
        colors = split_floats(points, None, colors)
        fits.clear()
        num_colors = fewest()
    psnr(num_colors)
    return fits[num_colors][1]


def spatial_palette(
    images: Tensor | Iterable[Any],
    palette: Tensor,
    *,
    strength: float = 1.0,
    keep: Tensor | None = None,
    bits: Sequence[int] | int | None = None,
) -> Tensor:
    """Move a palette to where its dots, of ``dither="spatial"``, show the pictures best.

    A palette for no dither has its colours inside of the pictures' colours, which dots then cannot
    reach. Here dots and palette are found in turn, each with the other fixed. Large pictures, and
    many, are stood for by tiles, spread evenly.

    Args:
        images: one image, a batch, or an iterable, which is read once, as for `fit_palette`.
        palette: (K, 3) or (K, 4) sRGB, float in [0, 1] or uint8, such as of `fit_palette`.
        strength: of the dither, 0 to 1; with 0 no colour moves.
        keep: (J, 3) or (J, C), colours of the palette that stay as they are.
        bits: of a display, see `fit_palette`; dots make up for what its colours miss.

    Returns:
        (K, C) float32, dark to light, with alpha if one of the arguments has it. Opaque
        colours stay opaque, and transparent ones as they are. Rounded to bytes if all images are
        uint8. With ``bits`` there may be fewer rows, where the display has no more colours nearby.

    Raises:
        ValueError: for a wrong shape or range, or if there is no image.
        TypeError: for something else than tensors, or a wrong dtype.

    References:
        Puzicha, Held, Ketterer, Buhmann and Fellner 2000, "On spatial quantization of color
        images".

    Examples:
        >>> import torch
        >>> from colorquant_nn import spatial_palette
        >>> image = torch.linspace(0, 1, 256).expand(3, 32, 256)
        >>> moved = spatial_palette(image, torch.tensor([[0.3, 0.3, 0.3], [0.8, 0.8, 0.8]]))
        >>> (moved * 255).round()
        tensor([[ 23.,  23.,  23.],
                [232., 232., 232.]])
    """
    colors = check_palette(palette, alpha=True).cpu()
    kept = check_kept(keep, len(colors))
    check_strength(strength)
    grid = None if bits is None else check_bits(bits)
    if kept is not None and grid is not None:
        check_on_grid(kept, grid)
    tiles = sample(images)
    if not tiles:
        raise ValueError("expected at least one image with pixels, got none")
    if colors.shape[1] == 4 or any(tile.shape[2] == 4 for tile in tiles):
        tiles, colors = [with_alpha(tile) for tile in tiles], with_alpha(colors)
    pinned = torch.zeros(len(colors), dtype=torch.bool)
    if kept is not None:
        mine, theirs = ((with_alpha(rows) * 255).round() for rows in (colors, kept))
        pinned = (mine[:, None] == theirs).all(2).any(1)
    moved = move_palette(tiles, colors, strength, pinned, grid)
    if all(tile.dtype == torch.uint8 for tile in tiles):
        moved = round_to_bytes(moved)
    return dark_to_light(moved).to(palette.device)


def match_palette(
    palette: Tensor,
    image: Tensor | Iterable[Any],
    *,
    most: int | None = None,
    space: Space = "oklab",
) -> Tensor:
    """Give a palette what the picture, or the frames, that are to be drawn in it ask for.

    Colour i stays colour i, a transparent one too, which an opaque picture need not use.

    Args:
        palette: (K, 3) or (K, 4) sRGB, float in [0, 1] or uint8.
        image: (C, H, W) sRGB, float in [0, 1] or uint8; or several, as for `quantize_frames`, or
            in what can be iterated twice, such as what `colorquant_nn.open_frames` returns.
        most: colours that a file can hold. Where K is as many, and a transparent one is missing,
            it takes the place of the colour that is used least (the last of these), and a warning
            names that colour.
        space: where distances are taken to see which that is.

    Returns:
        (K, C) or (K + 1, C) float32, with alpha if one of the arguments has it; a transparent
        colour comes last if there are fully transparent pixels and had been none.

    Raises:
        ValueError: for a wrong shape, range or name, or if the picture is opaque and all colours
            are fully transparent.
        TypeError: for something else than tensors, or a wrong dtype.

    Examples:
        >>> import torch
        >>> from colorquant_nn import match_palette
        >>> match_palette(torch.ones(1, 3), torch.zeros(4, 8, 8))
        tensor([[1., 1., 1., 1.],
                [0., 0., 0., 0.]])
    """
    check_name("a colour space", space, SPACES)
    if isinstance(image, Iterator):
        raise TypeError(f"expected frames that are there twice, got {type(image).__name__}")
    frames = _list_frames(image) if isinstance(image, Tensor) else image
    colors = check_palette(palette, alpha=True)
    channels, has_holes = 0, False
    for frame in iterate_images(frames):
        check_image(frame)
        channels = max(channels, len(frame))
        if len(frame) == 4 and bool((frame[3] <= 0).any()):
            has_holes = True
            break
    if not channels:
        raise ValueError("expected at least one image, got none")
    if channels == 3:
        if colors.shape[1] == 4 and not bool((colors[:, 3] > 0).any()):
            raise ValueError("expected a palette with a visible colour, for the picture is opaque")
        return colors
    colors = with_alpha(colors)
    if not has_holes or bool((colors[:, 3] <= 0).any()):
        return colors
    if most is None or len(colors) != most or most == 1:
        return torch.cat([colors, colors.new_zeros(1, 4)])
    uses = torch.zeros(len(colors), dtype=torch.int64, device=colors.device)
    for frame in iterate_images(frames):
        indices = apply_palette(frame, colors, space=space).indices
        seen = indices[frame[3] > 0] if len(frame) == 4 else indices
        uses += seen.flatten().bincount(minlength=len(colors)).to(uses.device)
    place = len(colors) - 1 - int(uses.flip(0).argmin())
    code = "".join(f"{value:02x}" for value in (colors[place] * 255).round().int().tolist())
    warnings.warn(
        f"colour {place} of the palette, #{code.removesuffix('ff')}, gives its place to the "
        f"transparent one: {most} colours are full, and {int(uses[place])} pixels use it",
        stacklevel=2,
    )
    colors = colors.clone()
    colors[place] = 0
    return colors


def apply_palette(
    image: Tensor,
    palette: Tensor,
    *,
    space: Space = "oklab",
    dither: Dither = "none",
    strength: float = 1.0,
    device: Tensor | None = None,
) -> QuantizedImage:
    """Draw an image, or each one of a batch, in the colours of a palette.

    Fully transparent pixels get a fully transparent colour if there is one, opaque pixels an opaque
    one, and no dither changes which pixels are fully transparent. The images of a batch get their
    dots on threads.

    Args:
        image: (C, H, W) or (B, C, H, W) sRGB, float in [0, 1] or uint8. Without alpha, it counts
            as opaque to a palette with alpha; and a palette without alpha as opaque to an image
            with it.
        palette: (K, 3) or (K, 4) sRGB, float in [0, 1] or uint8.
        space: where distances are taken, see `fit_palette`.
        dither: a name of `colorquant_nn.functional.dither.DITHERS`, such as "ordered" or
            "floyd-steinberg". Whatever the space, what is mixed is linear light.
        strength: of the dither, 0 to 1.
        device: (K, 3) or (K, 4), other colours for the result, as a display wants them that shows
            those of the palette, see `load_panel`.

    Returns:
        The image, its indices and the palette, with alpha if one of the arguments has it. With
        ``device``, image and palette are in its colours; the indices are the same.

    Raises:
        ValueError: for a wrong shape, range or name.
        TypeError: for something else than tensors, or a wrong dtype.

    Examples:
        >>> import torch
        >>> from colorquant_nn import apply_palette
        >>> image = torch.rand(3, 8, 8)
        >>> result = apply_palette(image, torch.tensor([[0.0, 0, 0], [1, 1, 1]]))
        >>> result.rgb.unique(), result.indices.shape
        (tensor([0., 1.]), torch.Size([8, 8]))
    """
    check_drawing(space, dither, strength)
    check_images(image)
    warn_of_pictures(image)
    drawn = _draw(image.detach(), check_palette(palette, alpha=True), space, dither, strength)
    return drawn if device is None else repaint(drawn, device)


def draw_frames(
    frames: Iterable[Tensor],
    palette: Tensor,
    *,
    space: Space = "oklab",
    dither: Dither = "none",
    strength: float = 1.0,
) -> Iterator[QuantizedImage]:
    """Draw the frames of an animation one by one, so that still pixels keep their colours.

    A pixel that is as it was in the frame before keeps its index, and its dots do not boil. One
    frame is held beside the one that is drawn.

    Args:
        frames: (C, H, W) sRGB each, float in [0, 1] or uint8. Where the size, the channels or the
            type change, nothing is kept.
        palette: see `apply_palette`.
        space: see `apply_palette`.
        dither: see `apply_palette`.
        strength: see `apply_palette`.

    Yields:
        The frames.

    Raises:
        ValueError: for a wrong shape, range or name.
        TypeError: for something else than tensors, or a wrong dtype.

    Examples:
        >>> import torch
        >>> from colorquant_nn.image import draw_frames
        >>> frame = torch.rand(3, 8, 8)
        >>> moved = frame.clone()
        >>> moved[:, 2:4] = 0
        >>> palette = torch.tensor([[0.0, 0, 0], [1, 1, 1]])
        >>> first, second = draw_frames([frame, moved], palette, dither="floyd-steinberg")
        >>> torch.equal(first.indices[4:], second.indices[4:])
        True
    """
    check_drawing(space, dither, strength)
    colors = check_palette(palette, alpha=True)
    before: Tensor | None = None
    indices = torch.empty(0)
    for frame in frames:
        check_image(frame)
        warn_of_pictures(frame)
        kept = None
        is_alike = before is not None and (before.shape, before.dtype) == (frame.shape, frame.dtype)
        if before is not None and is_alike:
            is_still = (frame == before.to(frame.device)).all(0)
            kept = torch.where(is_still, indices.to(frame.device), -1)
        drawn = _draw(frame.detach(), colors, space, dither, strength, kept)
        if dither != "none":  # copies, for the next frame may be decoded into the same memory
            before, indices = frame.detach().clone(), drawn.indices.clone()
        yield drawn


def _draw(
    image: Tensor,
    palette: Tensor,
    space: Space,
    dither: Dither,
    strength: float,
    kept: Tensor | None = None,
) -> QuantizedImage:
    """`apply_palette`; the pixels of one image may keep their indices (H, W)."""
    palette = palette.to(image.device)
    channels = max(image.shape[-3], palette.shape[1])
    palette = with_alpha(palette) if channels == 4 else palette
    shape = image.shape[:-3] + image.shape[-2:]
    if dither == "none":
        indices = torch.empty(shape, dtype=torch.int64, device=image.device)
        centroids = to_working_space(palette, space)
        pictures = (x if image.dim() == 4 else x[None] for x in (image, indices))
        for picture, its_indices in zip(*pictures, strict=True):
            _assign(picture, centroids, space, its_indices)
    else:
        pixels = image.movedim(-3, -1)
        pixels = with_alpha(pixels) if channels == 4 else pixels
        if kept is not None:
            indices = DITHERS[dither](pixels, palette, strength, space, kept)
        else:
            pixels = pixels if image.dim() == 4 else pixels[None]
            indices = draw(pixels, palette[None], dither, strength, space).view(shape)
    return QuantizedImage(_paint(palette, indices, image.dtype), indices, palette)


def repaint(drawn: QuantizedImage, colors: Tensor) -> QuantizedImage:
    """Draw the same indices in other colours, such as a device's.

    Args:
        drawn: a picture, or a batch of pictures.
        colors: (K, 3) or (K, 4) sRGB, float in [0, 1] or uint8. Fully transparent colours of the
            palette stay so, also one beyond K that `match_palette` gave it.

    Returns:
        The picture in them, with alpha if it had it or they have.

    Raises:
        ValueError: for another number of colours, or a wrong shape or range.
        TypeError: for something else than tensors, or a wrong dtype.

    Examples:
        >>> import torch
        >>> from colorquant_nn import apply_palette
        >>> from colorquant_nn.image import repaint
        >>> drawn = apply_palette(torch.zeros(3, 1, 2), torch.tensor([[0.1, 0.1, 0.1], [0.7] * 3]))
        >>> repaint(drawn, torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])).rgb.unique()
        tensor([0.])
    """
    rgb, indices, palette = drawn
    colors = check_palette(colors, alpha=True, what="colours of a device").to(palette.device)
    channels = max(palette.shape[1], colors.shape[1])
    if channels == 4:
        palette, colors = with_alpha(palette), with_alpha(colors)
        if len(colors) == len(palette) - 1 and bool(palette[-1, 3] <= 0):
            colors = torch.cat([colors, colors.new_zeros(1, 4)])
    if len(colors) != len(palette):
        raise ValueError(
            f"expected as many colours of a device as the palette has, {len(palette)}, "
            f"got {len(colors)}"
        )
    if channels == 4:
        colors = torch.where(palette[:, 3:] <= 0, 0, colors)
    return QuantizedImage(_paint(colors, indices, rgb.dtype), indices, colors)


def order_for_size(drawn: QuantizedImage) -> QuantizedImage:
    """Put the palette into an order in which the picture becomes a smaller PNG.

    It pays with 64 colours or more, and where most rows begin in one colour, as on white paper:
    see `functional.order`. The picture stays as it is.

    Args:
        drawn: a picture, not a batch.

    Returns:
        the picture with its palette and its indices in the new order.

    Examples:
        >>> import torch
        >>> from colorquant_nn import apply_palette
        >>> from colorquant_nn.image import order_for_size
        >>> mostly_white = torch.ones(3, 4, 6)
        >>> mostly_white[:, 1, 2] = 0
        >>> drawn = apply_palette(mostly_white, torch.tensor([[0.0, 0, 0], [1, 1, 1]]))
        >>> order_for_size(drawn).palette.tolist()
        [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    """
    order = order_for_deflate(drawn.indices, len(drawn.palette)).to(drawn.indices.device)
    return QuantizedImage(drawn.rgb, order.argsort()[drawn.indices], drawn.palette[order])


def _assign(image: Tensor, centroids: Tensor, space: Space, indices: Tensor) -> None:
    """Write the nearest centroid of each pixel of (C, H, W) into the indices (H, W)."""
    pixels, flat, channels = image.flatten(1).T, indices.view(-1), centroids.shape[1]
    plain = space == "rgb" and channels == 3  # the kernel reads such pixels in place
    size = max(1, len(flat)) if plain else CHUNK
    for start in range(0, len(flat), size):
        part = pixels[start : start + size]
        if plain:
            found = kernels.assign(part[None], centroids[None], clamp=True)[0]
        else:
            points = in_working_space(part, channels, space)
            found = assign(points, centroids, color_space(space).lightness)
        flat[start : start + size] = found


def quantize_image(
    image: Tensor,
    num_colors: int,
    *,
    space: Space = "oklab",
    dither: Dither = "none",
    strength: float = 1.0,
    effort: Effort = "balanced",
    seed: int = 0,
    keep: Tensor | None = None,
) -> QuantizedImage:
    """Fit a palette to an image, or one to a batch, and draw the image or the batch in it.

    An image of at most ``num_colors`` distinct colours comes back as it was. The palette of a
    uint8 image is rounded to bytes first.

    Args:
        image: (C, H, W) or (B, C, H, W) sRGB, float in [0, 1] or uint8.
        num_colors: K, at least 1.
        space: see `fit_palette`.
        dither: see `apply_palette`.
        strength: see `apply_palette`.
        effort: see `fit_palette`.
        seed: see `fit_palette`.
        keep: see `fit_palette`.

    Returns:
        The image, its indices and the palette.

    Raises:
        ValueError: for a wrong shape, range or name, or if no pixel has a vote.
        TypeError: for something else than tensors, or a wrong dtype.

    Examples:
        >>> import torch
        >>> from colorquant_nn import quantize_image
        >>> image = torch.randint(256, (3, 16, 16), dtype=torch.uint8)
        >>> result = quantize_image(image, 8)
        >>> result.rgb.dtype, result.palette.shape, int(result.indices.max())
        (torch.uint8, torch.Size([8, 3]), 7)
    """
    check_drawing(space, dither, strength)
    check_images(image)
    palette = fit_palette(image, num_colors, space=space, effort=effort, keep=keep, seed=seed)
    if image.dtype == torch.uint8:
        palette = round_to_bytes(palette)
    if dither == "spatial":
        palette = spatial_palette(image, palette, strength=strength, keep=keep)
    return apply_palette(image, palette, space=space, dither=dither, strength=strength)


def quantize_frames(
    frames: Sequence[Tensor] | Tensor,
    num_colors: int,
    *,
    space: Space = "oklab",
    dither: Dither = "none",
    strength: float = 1.0,
    effort: Effort = "balanced",
    seed: int = 0,
    keep: Tensor | None = None,
) -> list[QuantizedImage]:
    """Fit one palette to the frames of an animation, or to pages, and draw each in it.

    A pixel that is as it was in the frame before keeps its index: dots do not boil.

    Args:
        frames: (C, H, W) sRGB each, float in [0, 1] or uint8, of any sizes; or (B, C, H, W). If
            some have alpha, the others are opaque.
        num_colors: K, at least 1.
        space: see `fit_palette`.
        dither: see `apply_palette`.
        strength: see `apply_palette`.
        effort: see `fit_palette`.
        seed: see `fit_palette`.
        keep: see `fit_palette`.

    Returns:
        The frames, all with the same palette, which has alpha if one of them has it; rounded to
        bytes if all are uint8.

    Raises:
        ValueError: for a wrong shape, range or name, or if there is no frame or no pixel that has
            a vote.
        TypeError: for something else than tensors, or a wrong dtype.

    Examples:
        >>> import torch
        >>> from colorquant_nn import quantize_frames
        >>> frames = quantize_frames([torch.rand(3, 8, 8), torch.rand(4, 5, 9)], 16)
        >>> [frame.rgb.shape for frame in frames], torch.equal(frames[0].palette, frames[1].palette)
        ([torch.Size([4, 8, 8]), torch.Size([4, 5, 9])], True)
    """
    check_drawing(space, dither, strength)
    frames = _list_frames(frames)
    whole = _one_picture(frames)
    palette = fit_palette(whole, num_colors, space=space, effort=effort, keep=keep, seed=seed)
    if whole.dtype == torch.uint8:
        palette = round_to_bytes(palette)
    if dither == "spatial":
        looked_at = frames[0] if len(frames) == 1 else frames  # as a whole, like an image
        palette = spatial_palette(looked_at, palette, strength=strength, keep=keep)
    return list(draw_frames(frames, palette, space=space, dither=dither, strength=strength))


def _list_frames(images: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """The frames of an image, a batch or several images, checked."""
    several = isinstance(images, (list, tuple)) or (isinstance(images, Tensor) and images.ndim == 4)
    frames: list[Any] = list(images) if several else [images]
    for frame in frames:
        check_image(frame)
    if not frames:
        raise ValueError("expected at least one image, got none")
    return frames


def _one_picture(frames: list[Tensor]) -> Tensor:
    """Frames of any sizes as one image (C, 1, N) for counting, with alpha if one has it."""
    if len(frames) == 1:
        return frames[0]
    pixels = [frame.detach().flatten(1).T.to(frames[0].device) for frame in frames]  # (N, C)
    if len({frame.dtype for frame in frames}) > 1:
        pixels = [sanitize(part, clamp=False) for part in pixels]
    if len({frame.shape[0] for frame in frames}) > 1:
        pixels = [with_alpha(part) for part in pixels]
    return torch.cat(pixels).T[:, None]


def _paint(palette: Tensor, indices: Tensor, dtype: torch.dtype) -> Tensor:
    """The colours of indices, (..., H, W), as images (..., C, H, W); uint8 is rounded."""
    rows = (palette * 255).round() if dtype == torch.uint8 else palette
    rows = rows.to(dtype).T.contiguous()
    shape = (*indices.shape[:-2], len(rows), *indices.shape[-2:])
    images = torch.empty(shape, dtype=dtype, device=indices.device)
    pictures = (x if images.dim() == 4 else x[None] for x in (indices, images))
    for its_indices, its_colors in zip(*pictures, strict=True):
        for channel, row in zip(its_colors, rows, strict=True):
            torch.take(row, its_indices, out=channel)
    return images


def within_cluster_sum_of_squares(
    image: Tensor, palette: Tensor, *, space: Space = "oklab"
) -> Tensor:
    """Sum the squared distances of the pixels from their nearest colours: what k-means minimises.

    With alpha, these are the colours that `apply_palette` takes: opaque ones for opaque pixels.

    Args:
        image: (C, H, W) or (B, C, H, W) sRGB, float in [0, 1] or uint8; pixels that are not finite,
            or fully transparent, do not count.
        palette: (K, C) sRGB, float in [0, 1] or uint8.
        space: where distances are taken, by default as in `fit_palette`; the result is in its
            units, squared.

    Returns:
        A float64 scalar.

    Raises:
        ValueError: for a wrong shape, range or name.
        TypeError: for something else than tensors, or a wrong dtype.

    Examples:
        >>> import torch
        >>> from colorquant_nn import within_cluster_sum_of_squares
        >>> image = torch.tensor([0.0, 0.5, 1.0]).expand(3, 1, 3)
        >>> palette = torch.tensor([[0.0, 0, 0], [1, 1, 1]])
        >>> within_cluster_sum_of_squares(image, palette, space="rgb")
        tensor(0.7500, dtype=torch.float64)
    """
    check_images(image)
    check_name("a colour space", space, SPACES)
    warn_of_pictures(image)
    palette = check_palette(palette, alpha=True).to(image.device)
    channels = image.shape[-3]
    if palette.shape[1] != channels:
        raise ValueError(f"expected a palette (K, {channels}), got {tuple(palette.shape)}")
    centroids = to_working_space(palette, space)[None]
    total = image.new_zeros((), dtype=kernels.exact_dtype(image))
    for pixels in to_pixels(image.detach()):
        for start in range(0, len(pixels), CHUNK):
            part = pixels[start : start + CHUNK]
            votes = torch.isfinite(part).all(1)
            points = in_working_space(part, channels, space)
            if channels == 4:
                points = points[votes & (part[:, 3] > 0)]
                nearest = assign(points, centroids[0], color_space(space).lightness)
                total += (points - centroids[0, nearest]).to(total.dtype).square().sum()
                continue
            clustered = kernels.cluster(points[None], centroids, weights=votes[None].float())
            total += distortion(clustered.moments[0])
    return total
