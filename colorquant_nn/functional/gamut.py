"""What a palette can show: pictures are moved into it before they are drawn.

Seen from afar, dots mix in linear light, so what a palette shows is the convex hull of its colours
there: a solid for a colour panel, a triangle for black, white and red, a line for greys. Outside of
it a dither has errors to pass on that no dot can ever make good.

Letters: N colours, K of a palette, V vertices of its hull, E edges, F faces.

References:
    Ottosson, "A perceptual color space for image processing", 2020 (OKLab). Wolfe 1976, "Finding
    the nearest point in a polytope".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from colorquant_nn.functional.color import (
    MATRICES,
    SLOPE_FLOOR,
    linear_to_rgb,
    oklab_to_rgb,
    rgb_to_linear,
    rgb_to_oklab,
)
from colorquant_nn.functional.points import check_images, check_palette, iterate_images
from colorquant_nn.kernels import sanitize

__all__ = ["fit_gamut", "fit_lightness", "lightness_range"]

NODES = 21  # of the table, along each axis: a colour that stays is less than 1/255 off between them
CHUNK = 1 << 20  # pixels that are looked up at a time
FLAT = 1e-6  # of linear light: nothing
DIRECTIONS = 512  # in which a large palette's outermost colours are looked for
STEPS = 4  # of Gauss and Newton
# Of squared errors in lightness, chroma and hue. What is nearly grey keeps its lightness; what is
# saturated may be darker rather than paler, but hardly of another hue.
NEAR_GREY = (30.0, 1.0, 1.0)
SATURATED = (0.25, 1.0, 4.0)
SATURATION = 0.1  # the chroma of what is; between the two, weights are in between
REACH = (0.5, 1.0, 8.0)  # the weights to find the chroma that there is near a lightness
KNEE = 0.8  # chroma that stays as it is, of what there is
TONES_LEFT = 0.35  # of the tones that are bent at an end: how much of their length is left
ON_A_LINE = 0.1  # colours that leave it by this much of its half length
BINS = 4096  # of lightness
TAIL = 0.005  # of the pixels, that a range of lightness leaves out at each end


def fit_gamut(image: Tensor, palette: Tensor) -> Tensor:
    """Move the colours of a picture to where dots of a palette can show them.

    Black and white become as light as the palette's darkest and lightest colour. In between,
    mid-tones stay as they are; highlights and shadows are bent, but nowhere flat, so that they keep
    their detail.
    Chroma that the palette lacks is taken back with a soft knee: what is a little too colourful
    stays less so than what is much too colourful. Hue is kept as far as possible. All of it is read
    from a table, made once for a palette.

    Args:
        image: (C, H, W) or (B, C, H, W) sRGB, float in [0, 1] or uint8; alpha stays as it is.
        palette: (K, 3) or (K, 4) sRGB, float in [0, 1] or uint8: as measured, see `load_panel`.

    Returns:
        The same shape and dtype. In linear light, each colour is a mixture of palette colours; with
        the eight corners of the cube in the palette, it is the picture itself.

    Raises:
        ValueError: for a wrong shape or range, or for fewer than two different visible colours,
            which show nothing.
        TypeError: for something else than tensors, or a wrong dtype.

    References:
        Ottosson 2020 (OKLab).

    Examples:
        >>> import torch
        >>> from colorquant_nn import fit_gamut
        >>> greys = torch.tensor([[0.2, 0.2, 0.2], [0.7, 0.7, 0.7]])
        >>> fit_gamut(torch.tensor([0.0, 1.0]).expand(3, 1, 2), greys)[:, 0].T
        tensor([[0.2000, 0.2000, 0.2000],
                [0.7000, 0.7000, 0.7000]])
    """
    check_images(image)
    colors = _visible(palette)
    table = _table(tuple(map(tuple, colors.tolist())))
    if table is None:
        return image.clone()
    table = table.to(image.device)

    def look_up(rgb: Tensor) -> Tensor:
        places = rgb.to(table).mul(2).sub(1)[None, None, None]  # (1, 1, 1, N, 3)
        found = nn.functional.grid_sample(table, places, align_corners=True)  # (1, 3, 1, 1, N)
        return linear_to_rgb(found[0, :, 0, 0].T)

    return _map_colors(image, look_up)


def fit_lightness(
    image: Tensor, palette: Tensor, *, bounds: tuple[float, float] | None = None
) -> Tensor:
    """Stretch the lightness of a picture from a palette's darkest to its lightest colour.

    Made for tiny palettes, such as greys or the greens of an old console, of which a picture would
    otherwise use the middle. Where the colours of the palette lie about on a line of OKLab, such as
    those two, each colour of the picture is moved onto it: chroma, which the palette cannot show,
    would otherwise make some colours darker and others lighter, since the line is oblique.

    Args:
        image: (C, H, W) or (B, C, H, W) sRGB, float in [0, 1] or uint8; alpha stays as it is.
        palette: (K, 3) or (K, 4) sRGB, float in [0, 1] or uint8.
        bounds: the lightness in OKLab that becomes the darkest and the lightest; None: that of the
            image, by `lightness_range`, which takes several images, too.

    Returns:
        The same shape and dtype. An image of one lightness is not stretched.

    Raises:
        ValueError: for a wrong shape or range, for fewer than two different visible colours, which
            show nothing, or for bounds that are not two numbers in order.
        TypeError: for something else than tensors, or a wrong dtype.

    References:
        Ottosson 2020 (OKLab).

    Examples:
        >>> import torch
        >>> from colorquant_nn import apply_palette, fit_lightness, load_palette
        >>> greens = load_palette("gameboy")
        >>> fog = torch.linspace(0.4, 0.6, 8).expand(3, 1, 8)
        >>> apply_palette(fog, greens, space="oklab").indices.unique()
        tensor([1, 2])
        >>> apply_palette(fit_lightness(fog, greens), greens, space="oklab").indices.unique()
        tensor([0, 1, 2, 3])
    """
    check_images(image)
    line = rgb_to_oklab(_visible(palette))
    line = line[line[:, 0].argsort(stable=True)].to(image.device)
    low, high = float(line[0, 0]), float(line[-1, 0])
    if bounds is not None and not (len(bounds) == 2 and bounds[0] <= bounds[1]):
        raise ValueError(f"expected bounds as two lightnesses, the darker first, got {bounds}")
    darkest, lightest = lightness_range(image) if bounds is None else bounds
    is_line = _is_line(line)

    def stretch(rgb: Tensor) -> Tensor:
        points = rgb_to_oklab(rgb)
        lightness = points[:, :1]
        if lightest - darkest > 1 / BINS:
            share = ((lightness - darkest) / (lightest - darkest)).clamp(0, 1)
            lightness = low + (high - low) * share
        lightness = lightness.clamp(low, high)
        if is_line:
            after = torch.searchsorted(line[:, 0].contiguous(), lightness[:, 0]).clamp(
                1, len(line) - 1
            )
            first, last = line[after - 1], line[after]
            share = (lightness - first[:, :1]) / (last - first)[:, :1].clamp(min=1e-6)
            points = torch.lerp(first, last, share.clamp(0, 1))
        else:
            points = torch.cat([lightness, points[:, 1:]], dim=1)
        return oklab_to_rgb(points)

    return _map_colors(image, stretch)


def lightness_range(images: Tensor | Iterable[Tensor]) -> tuple[float, float]:
    """Find between which lightnesses nearly all pixels are: all but 0.5 % at each end.

    Args:
        images: (C, H, W) or (B, C, H, W) sRGB, float in [0, 1] or uint8; or several, which are read
            once. Fully transparent pixels do not count.

    Returns:
        The lightness in OKLab of the darkest and of the lightest; 0 and 1 without a pixel.

    Raises:
        ValueError: for a wrong shape.
        TypeError: for something else than tensors.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.gamut import lightness_range
        >>> low, high = lightness_range(torch.tensor([0.2, 0.8]).expand(3, 4, 2))
        >>> round(low, 2), round(high, 2)
        (0.32, 0.85)
    """
    counts = torch.zeros(BINS, dtype=torch.int64, device="cpu")
    for image in iterate_images(images):
        pixels = image.detach().movedim(-3, -1).flatten(0, -2)
        for part in pixels.split(CHUNK):
            seen = part[part[:, 3] > 0] if part.shape[1] == 4 else part
            lightness = rgb_to_oklab(sanitize(seen[:, :3], clamp=True))[:, 0]
            bins = (lightness * (BINS - 1)).round().long().clamp(0, BINS - 1)
            counts += bins.bincount(minlength=BINS).cpu()
    below = counts.cumsum(0).double()
    if below[-1] == 0:
        return 0.0, 1.0
    ends = below.new_tensor([TAIL, 1 - TAIL]) * below[-1]
    low, high = torch.searchsorted(below, ends).tolist()
    return low / (BINS - 1), high / (BINS - 1)


def _visible(palette: Tensor) -> Tensor:
    """The colours (K, 3) of a palette that are not fully transparent, each once, on the CPU."""
    colors = check_palette(palette, alpha=True).cpu()
    if colors.shape[1] == 4:
        colors = colors[colors[:, 3] > 0, :3]
    colors = colors.unique(dim=0)
    if len(colors) < 2:
        raise ValueError(
            "expected a palette of at least two different visible colours to fit a picture into, "
            f"got {len(colors)}"
        )
    return colors


def _map_colors(image: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A function of sRGB (N, 3) of all the colours of an image, whose alpha stays."""
    pixels = image[..., :3, :, :].movedim(-3, -1)
    parts = [
        function(sanitize(part, clamp=True)).clamp(0, 1)
        for part in pixels.reshape(-1, 3).split(CHUNK)
    ]
    colors = torch.cat(parts).reshape(pixels.shape).movedim(-1, -3)
    if image.dtype == torch.uint8:
        colors = (colors * 255).round()
    return torch.cat([colors.to(image.dtype), image[..., 3:, :, :]], dim=-3)


def _is_line(points: Tensor) -> bool:
    """Whether points (K, 3) of OKLab, of which lightness is a good part, lie about on a line."""
    apart = points - points.mean(0)
    direction = torch.linalg.svd(apart, full_matrices=False)[2][0]
    along = apart @ direction
    beside = (apart - along[:, None] * direction).norm(dim=1)
    return bool(beside.max() <= ON_A_LINE * along.abs().max()) and abs(float(direction[0])) > 0.5


@lru_cache(maxsize=8)
def _table(palette: tuple[tuple[float, ...], ...]) -> Tensor | None:
    """Where the colours of a grid go, (1, 3, blue, green, red) in linear light; None: they stay."""
    if set(product((0.0, 1.0), repeat=3)) <= set(palette):
        return None
    with torch.no_grad(), torch.device("cpu"):
        colors = torch.tensor(palette, dtype=torch.float32)
        axis = torch.linspace(0, 1, NODES, dtype=torch.float32)
        grid = torch.cartesian_prod(axis, axis, axis).flip(-1)
        moved = _move(rgb_to_oklab(grid), _hull(rgb_to_linear(colors)))
    return moved.T.reshape(1, 3, NODES, NODES, NODES).contiguous()


def _move(points: Tensor, hull: _Hull) -> Tensor:
    """Where colours (N, 3) of OKLab go in a hull, (N, 3) in linear light."""
    ends = rgb_to_oklab(linear_to_rgb(hull.vertices))[:, 0]
    lightness = _tone(points[:, :1], float(ends.min()), float(ends.max()))
    chroma = points[:, 1:].norm(dim=1, keepdim=True)
    hue = torch.where(chroma > 1e-5, points[:, 1:] / chroma, points.new_tensor([1, 0]))
    most = _most_chroma(points[:, :1], hue)
    reach = points.new_tensor(REACH).expand(len(points), 3)
    reached = _nearest(torch.cat([lightness, most * hue], dim=1), hue, hull, reach)
    there = (rgb_to_oklab(linear_to_rgb(reached))[:, 1:] * hue).sum(1, keepdim=True).clamp(min=1e-6)
    chroma = there * _soft_knee(chroma / there, most / there)
    grey, saturated = points.new_tensor([NEAR_GREY, SATURATED]).log()
    weights = torch.lerp(grey, saturated, (chroma / SATURATION).clamp(max=1)).exp()
    return _nearest(torch.cat([lightness, chroma * hue], dim=1), hue, hull, weights)


def _tone(lightness: Tensor, low: float, high: float) -> Tensor:
    """From [0, 1] to [low, high]: the middle stays, the ends are bent, and nowhere flat."""
    still = low / max(1 + low - high, 1e-6)  # what a straight line would leave as it is
    dark = min(low / (1 - TONES_LEFT), still)
    light = 1 - min((1 - high) / (1 - TONES_LEFT), 1 - still)
    lightness = dark - _bent(dark - lightness, dark, dark - low)
    return light + _bent(lightness - light, 1 - light, high - light)


def _bent(over: Tensor, length: float, left: float) -> Tensor:
    """Bend what is above 0, steepest there, where the slope is 1, so that a length is the left."""
    bend = (length - left) / max(length * left, 1e-6)
    return torch.where(over > 0, over / (1 + bend * over.clamp(min=0)), over)


def _soft_knee(share: Tensor, limit: Tensor) -> Tensor:
    """Shares of what there is: kept up to `KNEE`, then bent so that ``limit``, if above 1, is 1."""
    over = (share - KNEE).clamp(min=0)
    bend = (limit - 1).clamp(min=0) / ((limit - KNEE).clamp(min=1 - KNEE) * (1 - KNEE))
    return torch.where(share > KNEE, KNEE + over / (1 + bend * over), share)


def _most_chroma(lightness: Tensor, hue: Tensor) -> Tensor:
    """The chroma (N, 1) up to which colours of a lightness and a hue are in the cube of sRGB."""
    low, high = torch.zeros_like(lightness), torch.full_like(lightness, 0.4)
    for _ in range(14):
        middle = (low + high) / 2
        rgb = oklab_to_rgb(torch.cat([lightness, middle * hue], dim=1))
        inside = ((rgb > -1e-4) & (rgb < 1 + 1e-4)).all(1, keepdim=True)
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    return low


class _Hull(NamedTuple):
    """The convex hull of colours in linear light; a flat one has no inside, a line no faces."""

    vertices: Tensor
    """(V, 3)."""
    edges: Tensor
    """(2, E) vertices."""
    faces: Tensor
    """(3, F) vertices."""
    normals: Tensor
    """(F, 3) of length 1, outwards."""
    offsets: Tensor
    """(F,): a point is inside if its products with the normals are at most these."""


def _hull(colors: Tensor) -> _Hull:
    """The hull of at least two colours (K, 3)."""
    if len(colors) > 16:  # those that are outermost in some direction
        steps = torch.arange(DIRECTIONS, dtype=torch.float32) + 0.5
        height, turn = 1 - 2 * steps / DIRECTIONS, steps * torch.pi * (1 + 5**0.5)
        around = (1 - height.square()).sqrt()
        ways = torch.stack([around * turn.cos(), around * turn.sin(), height])
        colors = colors[(colors @ ways).argmax(0).unique()]
    triples = torch.combinations(torch.arange(len(colors)), 3)
    exact = colors.double()
    first, second, third = exact[triples].unbind(1)
    normals = torch.linalg.cross(second - first, third - first)
    sizes = normals.norm(dim=1)
    normals = normals / sizes[:, None].clamp(min=1e-12)
    offsets = (normals * first).sum(1)
    sides = normals @ exact.T - offsets[:, None]  # (F, V)
    flipped = sides.amax(1) > FLAT
    outer = (sizes > FLAT) & ((sides.amax(1) <= FLAT) | (sides.amin(1) >= -FLAT))
    is_flat = bool((sides[outer].abs().amax(1) <= FLAT).any())
    normals = torch.where(flipped[:, None], -normals, normals)[outer]
    offsets = torch.where(flipped, -offsets, offsets)[outer]
    faces = triples[outer]
    if len(faces):
        edges = torch.cat([faces[:, :2], faces[:, 1:], faces[:, ::2]]).unique(dim=0)
    else:
        edges = torch.combinations(torch.arange(len(colors)), 2)
    if is_flat or len(faces) == 0:
        offsets = torch.full_like(offsets, -torch.inf)
    return _Hull(colors, edges.T, faces.T, normals.float(), offsets.float())


def _nearest(targets: Tensor, hue: Tensor, hull: _Hull, weights: Tensor) -> Tensor:
    """The colours of a hull, (N, 3) in linear light, that are nearest to colours of OKLab.

    Args:
        targets: (N, 3) of OKLab.
        hue: (N, 2), their directions, of length 1.
        hull: the hull.
        weights: (N, 3), of the squared differences in lightness, chroma and hue.

    Each step of Gauss and Newton takes OKLab for what it is at the last place: linear, so that the
    nearest point of the hull is on one of its edges or faces, of all of which the best is taken.
    """
    places = rgb_to_linear(oklab_to_rgb(targets))
    outside = ~((places @ hull.normals.T - hull.offsets) <= FLAT).all(1)
    if len(hull.offsets) == 0:
        outside = torch.ones_like(outside)
    size = max(1, (1 << 22) // (hull.edges.shape[1] + hull.faces.shape[1]))
    rows = outside.nonzero().squeeze(1)
    for part in rows.split(size):
        # Products of differences of nearly nothing: in double precision.
        its = [one[part].double() for one in (places, targets, hue, weights)]
        places[part] = _nearest_outside(hull, *its).float()
    return places


def _nearest_outside(
    hull: _Hull, places: Tensor, targets: Tensor, hue: Tensor, weights: Tensor
) -> Tensor:
    vertices = hull.vertices.double()
    to_lms = places.new_tensor(MATRICES["rgb_to_lms"])
    to_oklab = places.new_tensor(MATRICES["lms_to_oklab"])
    frames = places.new_zeros(len(places), 3, 3)  # of lightness, chroma and hue
    frames[:, 0, 0] = 1
    frames[:, 1, 1:] = hue
    frames[:, 2, 1], frames[:, 2, 2] = -hue[:, 1], hue[:, 0]
    frames *= weights.sqrt()[..., None]

    def linear(places: Tensor) -> tuple[Tensor, Tensor]:
        """How far colours are from their targets, and how that changes with them."""
        lms = places @ to_lms.T
        apart = (lms.abs().pow(1 / 3) * lms.sign()) @ to_oklab.T - targets
        slopes = lms.abs().clamp(min=SLOPE_FLOOR).pow(-2 / 3) / 3
        return (frames @ apart[..., None])[..., 0], frames @ to_oklab @ (slopes[..., None] * to_lms)

    best, least = places, places.new_full((len(places),), torch.inf)
    for _ in range(STEPS):
        apart, metric = linear(places)
        corners = (vertices - places[:, None]) @ metric.mT + apart[:, None]  # (N, V, 3)
        places = _shortest(corners @ corners.mT, hull) @ vertices
        error = linear(places)[0].square().sum(1)
        better = error < least
        best = torch.where(better[:, None], places, best)
        least = torch.where(better, error, least)
    return best


def _shortest(gram: Tensor, hull: _Hull) -> Tensor:
    """The shares (N, V) of the vertices in the hull's shortest vector, by their products."""
    first, last = hull.edges
    aa, ab, bb = gram[:, first, first], gram[:, first, last], gram[:, last, last]
    share = ((aa - ab) / (aa - 2 * ab + bb).clamp(min=1e-20)).clamp(0, 1)
    on_edges = aa + share * (2 * (ab - aa) + share * (aa - 2 * ab + bb))
    least, edge = on_edges.min(1)
    rows = torch.arange(len(gram))
    share = share[rows, edge]
    shares = gram.new_zeros(gram.shape[:2])
    shares[rows, first[edge]] = 1 - share
    shares[rows, last[edge]] = share
    if hull.faces.shape[1] == 0:
        return shares
    a, b, c = hull.faces
    aa, bb, cc = gram[:, a, a], gram[:, b, b], gram[:, c, c]
    ab, ac, bc = gram[:, a, b], gram[:, a, c], gram[:, b, c]
    left, right, middle = ac * bc - ab * cc, ab * bc - ac * bb, ab * ac - aa * bc
    parts = torch.stack(
        [
            bb * cc - bc * bc + left + right,
            aa * cc - ac * ac + left + middle,
            aa * bb - ab * ab + right + middle,
        ]
    )
    total = parts.sum(0)
    u, v, w = parts / total.clamp(min=1e-20)
    on_faces = u * (u * aa + 2 * (v * ab + w * ac)) + v * (v * bb + 2 * w * bc) + w * w * cc
    is_there = (parts >= 0).all(0) & (total > 1e-20)
    found, face = torch.where(is_there, on_faces, torch.inf).min(1)
    nearer = (found < least).nonzero().squeeze(1)
    face = face[nearer]
    shares[nearer] = 0
    for corners, weights in zip((a, b, c), (u, v, w), strict=True):
        shares[nearer, corners[face]] = weights[nearer, face]
    return shares
