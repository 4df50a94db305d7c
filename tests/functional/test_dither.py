"""Dithers against slow loops in numpy, and what each promises about the mean of the light."""

from functools import cache
from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from colorquant_nn import load_palette
from colorquant_nn.functional.color import linear_to_rgb, rgb_to_linear, to_working_space
from colorquant_nn.functional.dither import (
    DIFFUSIONS,
    DITHERS,
    bayer,
    bayer_matrix,
    blue_noise,
    diffuse,
    nearest,
    ordered,
)
from colorquant_nn.functional.opacity import opacity
from colorquant_nn.functional.spatial import spatial
from colorquant_nn.kernels.cpu.dither import _gaps, _with_alpha
from colorquant_nn.names import Space

SPACES = get_args(Space)
BLACK_AND_WHITE = torch.tensor([[0.0] * 3, [1.0] * 3])
DITHERING = [name for name in DITHERS if name != "none"]
KEEPING = ["ordered", "bayer", *sorted(DIFFUSIONS.keys() - {"atkinson"})]  # all the light
LUMINANCE = torch.tensor([0.2126, 0.7152, 0.0722])


def random_problem(seed: int, height: int, width: int, colors: int, channels: int = 3):
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.rand(1, channels, 4, 5, generator=generator)
    points = torch.nn.functional.interpolate(smooth, (height, width), mode="bilinear")
    return points[0].permute(1, 2, 0), torch.rand(colors, channels, generator=generator)


def gradient(width: int = 200, height: int = 200) -> Tensor:
    """Even in light, of which a dither is to keep the mean."""
    light = torch.linspace(0, 1, width)[None, :, None].expand(height, width, 3)
    return linear_to_rgb(light).clamp(0, 1)


@cache
def scene(height: int = 200, width: int = 200) -> Tensor:
    """What photographs have: shades, edges, texture and noise in many colours."""
    generator = torch.Generator().manual_seed(3)
    picture = torch.zeros(1, 3, height, width)
    for size, weight in ((3, 0.5), (12, 0.3), (48, 0.15)):
        noise = torch.rand(1, 3, size, size, generator=generator)
        picture += weight * torch.nn.functional.interpolate(noise, (height, width), mode="bilinear")
    picture[..., 20:60, 30:80] *= 0.4
    picture += 0.03 * torch.randn(picture.shape, generator=generator)
    return picture[0].permute(1, 2, 0).clamp(0, 1)


def luminance(colors: Tensor) -> float:
    return float((rgb_to_linear(colors).double() @ LUMINANCE.double()).mean())


def local_mean(picture: Tensor, size: int = 8) -> Tensor:
    return torch.nn.functional.avg_pool2d(picture.permute(2, 0, 1), size, stride=1)


def gaps(colors: np.ndarray) -> np.ndarray:
    """Edges of the minimum spanning tree, by Kruskal's algorithm."""
    distances = np.sqrt(((colors[:, None] - colors[None]) ** 2).sum(-1))
    trees, edges = np.arange(len(colors)), [0.0][len(colors) - 1 :]
    for place in np.argsort(distances, axis=None, kind="stable"):
        one, two = divmod(place, len(colors))
        if trees[one] != trees[two]:
            trees[trees == trees[one]] = trees[two]
            edges.append(distances[one, two])
    return np.array(edges)


def axes_of(colors, space):
    """Of a part of the colours, each part once: across its axes, and how long errors may be."""

    @cache
    def axes(allowed):
        part = colors[np.frombuffer(allowed, bool)]
        luminance = np.array([0.2126, 0.7152, 0.0722, 0])
        root = np.linalg.cholesky(np.eye(4) + 1000 * np.outer(luminance, luminance))
        across = np.linalg.svd((part - part.mean(0)) @ root)[2] @ root.T
        few = len(part) < 8 and space in ("lab", "oklab")
        lengths = np.ptp(part @ across.T, axis=0) * (3 if few else 1)
        edges = gaps(part)
        longest = np.array([edges.max(), *3 * [edges.max() if few else edges.mean()]])
        return across, np.minimum(lengths, longest / np.linalg.norm(np.linalg.inv(across), axis=0))

    return axes


def to_light(colors):
    """Linear light, premultiplied, and alpha: (N, 4) float64."""
    light = to_working_space(colors.double(), "linear").numpy()
    return np.concatenate([light, np.ones((*light.shape[:-1], 4 - light.shape[-1]))], -1)


def to_space(light, space):
    """Premultiplied light (..., 4) where distances are taken, as published."""
    alpha = np.maximum(light[..., 3:], 1 / 256)
    x = light[..., :3] / alpha
    lightness = 1
    if space == "rgb":
        x = np.sign(x) * np.where(
            abs(x) > 0.0031308, 1.055 * abs(x) ** (1 / 2.4) - 0.055, 12.92 * abs(x)
        )
    elif space == "lab":
        xyz = [
            [0.412453, 0.357580, 0.180423],
            [0.212671, 0.715160, 0.072169],
            [0.019334, 0.119193, 0.950227],
        ]
        x = x @ np.array(xyz).T / [0.95047, 1, 1.08883]
        sign, x = np.sign(x), abs(x)  # odd
        x = sign * np.where(x > (6 / 29) ** 3, np.cbrt(x) - 4 / 29, x / (3 * (6 / 29) ** 2))
        lightness = 100
        x = x @ np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]]).T
    elif space == "oklab":
        lms = [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
        lab = [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
        x = np.cbrt(x @ np.array(lms).T) @ np.array(lab).T
    return np.concatenate([x * alpha, light[..., 3:] * lightness], -1)


class Slowly:
    """A picture, a palette and a space, whose definitions look at one pixel at a time."""

    def __init__(self, pixels: Tensor, palette: Tensor, space: Space) -> None:
        self.light, self.colors, self.space = to_light(pixels), to_light(palette), space
        self.points = to_working_space(pixels.double(), space).numpy()
        self.centroids = to_working_space(palette.double(), space).numpy()
        self.coordinates = to_space(self.colors, space)
        self.axes_of = axes_of(self.colors, space)

    def may_take(self, place):
        """Which colours a pixel may take, if it is not left out; and the one it has if it is."""
        every = np.ones(len(self.colors), bool)
        point = self.points[place]
        if len(point) == 3:
            return every, None
        alpha, clear, opaque = self.light[place][3], self.colors[:, 3] == 0, self.colors[:, 3] == 1
        nearest_one = ((point - self.centroids) ** 2).sum(1).argmin()
        if alpha == 0:
            return every, clear.argmax() if clear.any() else nearest_one
        if alpha == 1 and opaque.any():
            return opaque, None
        return ~clear, nearest_one if clear[nearest_one] and alpha < 1 else None

    def find(self, light, allowed):
        distances = ((to_space(light, self.space) - self.coordinates) ** 2).sum(-1)
        return np.where(allowed, distances, np.inf).argmin()

    def cut(self, error, allowed):
        across, limits = self.axes_of(allowed.tobytes())
        return np.linalg.solve(across, np.clip(across @ error, -limits, limits))

    def diffuse(self, strength, targets, kept=None, amounts=None):
        height, width = self.light.shape[:2]
        errors = np.zeros((height + 2, width, 4))
        indices = np.zeros((height, width), np.int64)
        for row in range(height):
            direction = -1 if row % 2 else 1
            for column in range(width)[::direction]:
                allowed, left_out = self.may_take((row, column))
                if left_out is not None:
                    indices[row, column] = left_out
                    continue
                amount = 1 if amounts is None else float(amounts[row, column])
                light = self.light[row, column] + errors[row, column] * amount
                if self.colors[allowed, 3].min() == 1:
                    light[3] = 1  # no error of alpha
                index = self.find(light, allowed)
                if kept is not None and kept[row, column] >= 0:
                    index = kept[row, column]
                indices[row, column] = index
                error = self.cut(light - self.colors[index], allowed) * strength * amount
                for ahead, down, share in targets:
                    beside = column + direction * ahead
                    if 0 <= beside < width:
                        errors[row + down, beside] += error * share
        return torch.from_numpy(indices)

    def mix(self, strength, thresholds):
        dark_to_light = np.argsort(self.colors[:, :3] @ LUMINANCE.numpy(), kind="stable")
        indices = np.zeros(self.light.shape[:2], np.int64)
        for place in np.ndindex(*indices.shape):
            allowed, left_out = self.may_take(place)
            if left_out is not None:
                indices[place] = left_out
                continue
            weights = self.mixture(self.light[place], allowed, strength)[dark_to_light]
            height, width = thresholds.shape
            threshold = thresholds[place[0] % height, place[1] % width]
            indices[place] = dark_to_light[(np.cumsum(weights) > threshold).argmax()]
        return torch.from_numpy(indices)

    def mixture(self, light, allowed, strength):
        """The share (K,) of each colour."""
        index = self.find(light, allowed)
        goal = self.colors[index] + strength * (light - self.colors[index])
        weights, error, step = np.zeros(len(self.colors)), np.zeros(4), 1.0
        for _ in range(8):
            weights[index] += step
            error = self.cut(error + (goal - self.colors[index]) * step * 0.7, allowed)
            if not error.any():
                break
            before, index = index, self.find(goal + error, allowed)
            step = 2 * step if index == before else 1.0
        weights /= weights.sum()
        luminance = np.append(LUMINANCE.numpy(), 0)
        used = [k for k in np.argsort(self.colors @ luminance) if weights[k] > 0]
        for sweep in range(4):
            for place, one in enumerate(used):
                for other in used[:place]:
                    apart = self.colors[one] - self.colors[other]
                    along = luminance if sweep == 3 else apart
                    if along @ apart > 0:
                        shift = (goal - weights @ self.colors) @ along / (along @ apart)
                        shift = min(max(shift, -weights[one]), weights[other])
                        weights[one] += shift
                        weights[other] -= shift
        return weights


def test_errors_go_where_it_was_published():
    matrices = {  # the rows from the pixel on; those below are centred on it
        "floyd-steinberg": (16, [7], [3, 5, 1]),
        "atkinson": (8, [1, 1], [1, 1, 1], [1]),
        "jarvis-judice-ninke": (48, [7, 5], [3, 5, 7, 5, 3], [1, 3, 5, 3, 1]),
        "stucki": (42, [8, 4], [2, 4, 8, 4, 2], [1, 2, 4, 2, 1]),
        "burkes": (32, [8, 4], [2, 4, 8, 4, 2]),
        "sierra": (32, [5, 3], [2, 4, 5, 4, 2], [2, 3, 2]),
    }
    assert matrices.keys() == DIFFUSIONS.keys()
    for name, (divisor, *rows) in matrices.items():
        expected = {
            (column + 1 if down == 0 else column - len(row) // 2, down, weight / divisor)
            for down, row in enumerate(rows)
            for column, weight in enumerate(row)
        }
        assert set(DIFFUSIONS[name]) == expected


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(
    ("colors", "channels", "strength"), [(7, 3, 1.0), (9, 4, 1.0), (9, 4, 0.6)]
)
def test_ordered_dithers_are_their_definition(colors, channels, strength, space):
    pixels, palette = random_problem(7, 10, 19, colors, channels)
    slowly = Slowly(pixels, palette, space)
    for dither, matrix in ((ordered, blue_noise(64)), (bayer, bayer_matrix(8))):
        expected = slowly.mix(strength, (matrix + 0.5) / matrix.size)
        assert (dither(pixels, palette, strength, space) == expected).double().mean() > 0.99


# Spaces and opacities with one row of the table; all rows, which are data, with one space.
@pytest.mark.parametrize(
    ("name", "space", "colors", "channels", "strength"),
    [
        *product(["floyd-steinberg"], SPACES, [2], [3], [1.0]),
        *product(["floyd-steinberg"], SPACES, [9], [4], [1.0]),
        *product(DIFFUSIONS, ["oklab"], [40], [3], [0.6]),
    ],
)
def test_error_diffusion_is_its_definition(name, space, colors, channels, strength):
    pixels, palette = random_problem(colors, 20, 27, colors, channels)
    expected = Slowly(pixels, palette, space).diffuse(strength, DIFFUSIONS[name])
    indices = DITHERS[name](pixels, palette, strength, space)
    assert indices.dtype == torch.int64
    # float32 rounds: one tie decided otherwise may change what comes after, rarely.
    assert (indices == expected).double().mean() > 0.98
    assert indices[:8].equal(expected[:8])


def test_kept_indices_and_amounts_are_their_definition():
    pixels, palette = random_problem(4, 24, 31, 7, 4)
    palette[0, 3], palette[3:, 3] = 0, 1
    generator = torch.Generator().manual_seed(0)
    kept = torch.randint(-6, 7, (24, 31), generator=generator).clamp(-1)
    kept[kept == 0] = 1  # the clear one
    amounts = torch.rand(24, 31, generator=generator)
    targets = DIFFUSIONS["floyd-steinberg"]
    for its, shares in ((kept, None), (None, amounts), (kept, amounts)):
        expected = Slowly(pixels, palette, "oklab").diffuse(1.0, targets, its, shares)
        indices = diffuse(pixels, palette, 1.0, "oklab", its, shares)
        seen = expected != 0
        assert (indices == expected)[seen].double().mean() > 0.98
        assert indices[:8][seen[:8]].equal(expected[:8][seen[:8]])


def test_pixels_with_an_amount_of_zero_are_drawn_without_dither():
    pixels, palette = random_problem(6, 40, 40, 8)
    amounts = torch.ones(40, 40)
    amounts[10:30, 15:] = 0
    indices = diffuse(pixels, palette, 1.0, "lab", None, amounts)
    plain = nearest(pixels, palette, space="lab")
    assert indices[10:30, 15:].equal(plain[10:30, 15:])
    assert (indices != plain).double().mean() > 0.1


@pytest.mark.parametrize("name", DITHERS)
def test_every_dither_keeps_the_indices_it_is_given(name):
    pixels, palette = random_problem(6, 20, 30, 8)
    free = torch.full((20, 30), -1)
    plain = DITHERS[name](pixels, palette, 1.0, "oklab")
    assert DITHERS[name](pixels, palette, 1.0, "oklab", free).equal(plain)
    kept = torch.where(torch.rand(20, 30) < 0.5, (plain + 1) % 8, -1)
    found = DITHERS[name](pixels, palette, 1.0, "oklab", kept)
    assert found[kept >= 0].equal(kept[kept >= 0])
    assert DITHERS[name](pixels, palette, 0.0, "oklab", kept)[kept >= 0].equal(kept[kept >= 0])


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("channels", [3, 4])
def test_the_search_is_exact(channels, space):
    """Passing on next to nothing, error diffusion finds the nearest colour of every pixel."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(40, 50, channels, generator=generator)
    palette = torch.rand(256, channels, generator=generator).clamp_min(0.01)
    corner = palette * 0.2  # most pixels lie outside
    clustered = palette * 0.01 + torch.randint(0, 2, (256, channels), generator=generator) * 0.9
    if channels == 4:
        pixels[..., 3] = pixels[..., 3] * 0.9 + 0.05  # none is opaque or clear
    for colors in (palette, clustered, corner):
        found = diffuse(pixels, colors, 1e-30, space)
        centroids = to_working_space(colors.double(), space)
        points = to_working_space(pixels.double(), space)
        distances = (points[:, :, None] - centroids).square().sum(-1)
        worse = distances.gather(2, found[..., None])[..., 0] - distances.amin(-1)
        assert worse.max() < 1e-5 * float(centroids.abs().max()) ** 2


@pytest.mark.parametrize("name", DITHERS)
def test_strength_zero_is_no_dither(name):
    points, centroids = random_problem(3, 20, 30, 12)
    assert DITHERS[name](points, centroids, 0.0).equal(nearest(points, centroids))


PALETTES = {
    "two greys": [0x000000, 0xFFFFFF],
    "four greys": [0x000000, 0x555555, 0xAAAAAA, 0xFFFFFF],
    "three inks": [0x000000, 0xFFFFFF, 0xFF0000],
    "corners": [0, 0xFF, 0xFF00, 0xFFFF, 0xFF0000, 0xFF00FF, 0xFFFF00, 0xFFFFFF],
}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", KEEPING)
@pytest.mark.parametrize("picture", [gradient, scene])
def test_the_mean_luminance_stays(picture, name, space):
    """In palettes from black to white within 2 %, whether or not they have the hues."""
    picture = picture()
    expected = luminance(picture)
    for kind, colors in PALETTES.items():
        palette = torch.tensor([[c >> 16, c >> 8 & 255, c & 255] for c in colors]) / 255
        found = luminance(palette[DITHERS[name](picture, palette, 1.0, space)])
        # Lab's hues of dark colours, far apart, outweigh lightness.
        near = 0.05 if (kind, space) == ("corners", "lab") else 0.02
        assert found == pytest.approx(expected, rel=near)


@pytest.mark.parametrize("panel", ["spectra6", "epaper-bwry", "#0f0f0f,#c8c8c8,#780f05"])
@pytest.mark.parametrize("name", ["ordered", "bayer", "burkes", "floyd-steinberg"])
def test_what_few_inks_can_mix_keeps_its_colour(name, panel):
    """Their errors are longer than the panel is wide: cut, all hues become that of one ink."""
    palette = load_palette(panel)
    light = rgb_to_linear(palette)
    generator = torch.Generator().manual_seed(0)
    shares = torch.rand(6, len(light), generator=generator) ** 2
    for mixture in (shares / shares.sum(1, keepdim=True)) @ light:
        flat = linear_to_rgb(mixture).expand(64, 64, 3)
        found = light[DITHERS[name](flat, palette, 1.0, "oklab")].mean((0, 1))
        assert (found - mixture).abs().max() < 0.04


@pytest.mark.parametrize("grey", [0.01, 0.1, 0.25, 0.5, 0.8])
def test_an_ordered_dither_has_a_level_for_each_threshold(grey):
    flat = linear_to_rgb(torch.full((64, 64, 3), grey))
    white = ordered(flat, BLACK_AND_WHITE, 1.0, "oklab").double().mean()
    assert white == pytest.approx(grey, abs=1 / 4096)
    assert bayer(flat, BLACK_AND_WHITE, 1.0, "oklab").double().mean() == pytest.approx(
        grey, abs=1 / 128 + 1e-6
    )


@pytest.mark.parametrize("color", [(0.0, 0.0, 1.0), (1.0, 0.2, 0.0)])
def test_a_mixture_of_greys_has_the_luminance_of_a_hue_that_they_lack(color):
    flat = torch.tensor(color).expand(64, 64, 3)
    white = ordered(flat, BLACK_AND_WHITE, 1.0, "oklab").double().mean()
    assert white == pytest.approx(luminance(flat), abs=1 / 2048)


@pytest.mark.parametrize("name", DITHERING)
@pytest.mark.parametrize("irregular", [False, True])
def test_local_mean_of_a_gradient_is_better_than_without(name, irregular):
    palette = BLACK_AND_WHITE
    if irregular:
        palette = torch.tensor([[0, 0, 0], [0.9, 0.2, 0.1], [0.1, 0.5, 0.9], [1, 1, 1]])
    pixels = gradient()

    def error(indices):
        means = (local_mean(rgb_to_linear(x)) for x in (palette[indices], pixels))
        return (next(means) - next(means)).square().mean()

    plain = error(nearest(pixels, palette))
    assert error(DITHERS[name](pixels, palette, 1.0)) < 0.35 * plain
    assert error(DITHERS[name](pixels, palette, 0.5)) < plain


@pytest.mark.parametrize("name", DITHERS)
def test_palette_colors_map_to_themselves(name):
    _, centroids = random_problem(5, 8, 8, 30)
    for index in (0, 11, 29):
        flat = centroids[index].expand(9, 14, 3)
        assert (DITHERS[name](flat, centroids, 1.0) == index).all()


@pytest.mark.parametrize("name", DITHERING)
def test_bytes_are_levels_of_255(name):
    points, centroids = random_problem(9, 24, 31, 7)
    levels = (points * 255).to(torch.uint8)
    assert DITHERS[name](levels, centroids, 1.0).equal(DITHERS[name](levels / 255, centroids, 1.0))


def test_ordered_depends_on_color_and_place_alone():
    points, centroids = random_problem(7, 72, 80, 10)
    whole = ordered(points, centroids)
    assert ordered(points[64:, 64:], centroids).equal(whole[64:, 64:])
    assert bayer(points[16:, 8:], centroids).equal(bayer(points, centroids)[16:, 8:])
    changed = points.clone()
    changed[20, 20] = 1 - changed[20, 20]
    difference = ordered(changed, centroids) != whole
    difference[20, 20] = False
    assert not difference.any()


def test_unreachable_colors_do_not_smear():
    """To the left a colour outside of the palette's hull, to the right one of the palette's."""
    centroids = torch.tensor([[0.4, 0.4, 0.4], [0.5, 0.5, 0.5], [0.6, 0.6, 0.6]])
    points = torch.full((32, 64, 3), 0.5)
    points[:, :32] = torch.tensor([1.0, 0.9, 1.0])
    indices = diffuse(points, centroids)
    assert (indices[:, 40:] == 1).all()


@pytest.mark.parametrize("name", DITHERS)
def test_same_bits_again_and_any_layout_and_threads(name, threads):
    points, centroids = random_problem(11, 50, 40, 20)
    planes = points.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    first = DITHERS[name](points.contiguous(), centroids, 1.0)
    assert DITHERS[name](planes, centroids, 1.0).equal(first)
    for count in (1, 2):
        threads(count)
        assert DITHERS[name](points, centroids, 1.0).equal(first)


@pytest.mark.parametrize("name", DITHERS)
def test_odd_sizes_and_values(name):
    _, centroids = random_problem(2, 4, 4, 5)
    for height, width in [(1, 1), (1, 9), (9, 1), (3, 2)]:
        assert DITHERS[name](torch.rand(height, width, 3), centroids, 1.0).shape == (height, width)
    assert (DITHERS[name](torch.rand(4, 4, 3), centroids[:1], 1.0) == 0).all()
    broken = torch.full((6, 6, 3), 0.5)
    broken[2, 2] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    indices = DITHERS[name](broken, centroids, 1.0)
    assert 0 <= indices.min() <= indices.max() < 5
    twice = torch.cat([centroids, centroids])
    assert DITHERS[name](torch.rand(8, 8, 3), twice, 1.0).max() < 5


@pytest.mark.parametrize("name", DITHERING)
def test_a_pixel_that_is_not_finite_counts_as_black_and_changes_no_other(name):
    points, centroids = random_problem(0, 12, 13, 6)
    broken, black = points.clone(), points.clone()
    broken[4, 5], black[4, 5] = torch.nan, 0.0
    expected = DITHERS[name](black, centroids, 1.0)
    assert torch.equal(DITHERS[name](broken, centroids, 1.0), expected)


@pytest.mark.parametrize("name", DITHERING)
def test_bad_arguments_are_named(name):
    points, centroids = torch.rand(4, 4, 3), torch.rand(5, 3)
    with pytest.raises(ValueError, match=r"\(H, W, 3\).*got \(3, 4\)"):
        DITHERS[name](torch.rand(3, 4), centroids, 1.0)
    with pytest.raises(ValueError, match=r"\(K, 3\), got \(5, 4\)"):
        DITHERS[name](points, torch.rand(5, 4), 1.0)
    with pytest.raises(ValueError, match=r"from 0 to 1, got 1\.5"):
        DITHERS[name](points, centroids, 1.5)


@pytest.mark.parametrize("colors", [3000, 20000])
def test_the_longest_gap_of_many_colours_is_that_of_some(colors):
    generator = torch.Generator().manual_seed(0)
    cloud = torch.rand(colors, 3, generator=generator) * 0.4
    apart = torch.cat([cloud, cloud + torch.tensor([1.0, 0.0, 0.0])])
    assert _gaps(_with_alpha(apart))[0] == pytest.approx(0.6, abs=0.05)
    assert _gaps(_with_alpha(apart[:1].expand(colors, -1)))[0] == 0


@pytest.mark.parametrize("space", SPACES)
def test_dithers_with_alpha_are_their_definition(space):
    """Holes and opaque pixels among soft ones; the loop knows the rules one by one."""
    pixels, palette = random_problem(5, 24, 31, 10, 4)
    pixels[..., 3] = (pixels[..., 3] * 3 - 1).clamp(0, 1)
    palette[:3, 3], palette[3] = 1, 0
    slowly = Slowly(pixels, palette, space)
    for name in ("floyd-steinberg", "atkinson"):
        expected = slowly.diffuse(1.0, DIFFUSIONS[name])
        indices = DITHERS[name](pixels, palette, 1.0, space)
        assert (indices == expected).double().mean() > 0.98
        assert indices[:8].equal(expected[:8])
    expected = slowly.mix(1.0, (bayer_matrix(8) + 0.5) / 64)
    assert (bayer(pixels, palette, 1.0, space) == expected).double().mean() > 0.99
    assert {0, 1, 2} == set(opacity(pixels).unique().tolist())


@pytest.mark.parametrize("dither", [diffuse, ordered, spatial])
def test_opaque_pixels_mix_soft_colours_where_none_is_opaque(dither):
    palette = torch.tensor([[0.0, 0, 0, 0.9], [0.8, 0.8, 0.8, 0.8], [0.0, 0, 0, 0]])
    grey = torch.tensor([0.4, 0.4, 0.4, 1.0]).expand(16, 16, 4)
    assert set(dither(grey, palette).unique().tolist()) == {0, 1}


def test_bayer_matrix_holds_each_threshold_once():
    assert sorted(bayer_matrix(8).ravel()) == list(range(64))


def test_blue_noise_holds_each_threshold_once_and_little_energy_of_low_frequencies():
    ranks = blue_noise(64)
    assert sorted(ranks.ravel()) == list(range(4096))
    away = np.abs(np.fft.fftfreq(64))
    radius = np.hypot(away[:, None], away)  # of a torus: the tiles have no seams
    for level in (64, 256, 1024, 2048, 3072, 3840):
        dots = ranks < level
        power = np.abs(np.fft.fft2(dots - dots.mean())) ** 2 / dots.size
        white = dots.mean() * (1 - dots.mean())
        low = 0.25 * np.sqrt(min(level, 4096 - level) / 4096)  # a quarter of the dots' frequency
        assert power[(radius > 0) & (radius < low)].mean() < 0.1 * white
        assert power.max() < 20 * white  # no lattice: a checkerboard has 4096
    shifted = np.random.default_rng(0).permutation(4096).reshape(64, 64) < 1024
    assert (np.abs(np.fft.fft2(shifted - 0.25)) ** 2 / 4096)[radius < 0.25].mean() > 0.15


def test_blue_noise_tiles_without_seams():
    """Dots of one tile keep the same distance from those of the next."""
    dots = np.tile(blue_noise(64) < 400, (2, 2))
    places = np.argwhere(dots)
    apart = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))
    np.fill_diagonal(apart, np.inf)
    seam = (np.abs(places - 63.5) < 1).any(1)
    assert apart[seam].min() >= apart.min() > 1.5
