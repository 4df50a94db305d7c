"""Dithers against slow loops in numpy, and what each promises about the mean."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from colorquant_nn.functional.dither import (
    DITHERS,
    _longest_gap,
    atkinson,
    bayer_matrix,
    floyd_steinberg,
    nearest,
    ordered,
)
from colorquant_nn.functional.opacity import opacity

# (pixels ahead, rows down, share of the error), as published.
FLOYD_STEINBERG = ((1, 0, 7 / 16), (-1, 1, 3 / 16), (0, 1, 5 / 16), (1, 1, 1 / 16))
ATKINSON = tuple((*at, 1 / 8) for at in ((1, 0), (2, 0), (-1, 1), (0, 1), (1, 1), (0, 2)))
BLACK_AND_WHITE = torch.tensor([[0.0] * 3, [1.0] * 3])
DITHERING = [name for name in DITHERS if name != "none"]


def random_problem(seed: int, height: int, width: int, colors: int, channels: int = 3):
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.rand(1, channels, 4, 5, generator=generator)
    points = torch.nn.functional.interpolate(smooth, (height, width), mode="bilinear")
    return points[0].permute(1, 2, 0), torch.rand(colors, channels, generator=generator)


def gradient(width: int = 256, height: int = 32) -> Tensor:
    return torch.linspace(0, 1, width)[None, :, None].expand(height, width, 3)


def local_mean(picture: Tensor, size: int = 8) -> Tensor:
    return torch.nn.functional.avg_pool2d(picture.permute(2, 0, 1), size, stride=1)


def longest_gap(centroids: np.ndarray) -> float:
    """Longest edge of the minimum spanning tree: the smallest radius that connects all."""
    distances = np.sqrt(((centroids[:, None] - centroids[None]) ** 2).sum(-1))
    for radius in np.unique(distances):
        reached = distances[0] <= radius
        for _ in centroids:
            reached = (distances[reached] <= radius).any(0)
        if reached.all():
            return radius
    raise AssertionError


def limits_of(centroids):
    """`longest_gap` of a part of the centroids, each part once."""
    return cache(lambda allowed: longest_gap(centroids[np.frombuffer(allowed, bool)]))


def may_take(point, centroids):
    """Which centroids a pixel may take, if it is not left out; and the one it has if it is."""
    every = np.ones(len(centroids), bool)
    if len(point) == 3:
        return every, None
    clear, opaque = centroids[:, 3] == 0, centroids[:, 3] == 1
    nearest_one = ((point - centroids) ** 2).sum(1).argmin()
    if point[3] == 0:
        return every, clear.argmax() if clear.any() else nearest_one
    if point[3] == 1 and opaque.any():
        return opaque, None
    return ~clear, nearest_one if clear[nearest_one] and point[3] < 1 else None


def diffuse_slowly(points, centroids, strength, targets):
    """The definition, one pixel at a time, in float64."""
    points = points.double().numpy().copy()
    centroids = centroids.double().numpy()
    given, limit_of = points.copy(), limits_of(centroids)
    height, width, _ = points.shape
    indices = np.zeros((height, width), np.int64)
    for row in range(height):
        direction = -1 if row % 2 else 1
        for column in range(width)[::direction]:
            allowed, left_out = may_take(given[row, column], centroids)
            if left_out is not None:
                indices[row, column] = left_out
                continue
            if allowed.sum() < len(centroids) and centroids[allowed, 3].min() == 1:
                points[row, column, 3] = 1  # no error of alpha
            limit = limit_of(allowed.tobytes())
            distances = ((points[row, column] - centroids) ** 2).sum(-1)
            index = indices[row, column] = np.where(allowed, distances, np.inf).argmin()
            error = points[row, column] - centroids[index]
            error *= min(1, limit / max(np.linalg.norm(error), 1e-30)) * strength
            for ahead, down, share in targets:
                beside, below = column + direction * ahead, row + down
                if 0 <= beside < width and below < height:
                    points[below, beside] += error * share
    return torch.from_numpy(indices)


def mix_slowly(points, centroids, strength):
    """The definition, one pixel at a time, in float64."""
    points, centroids = points.double().numpy(), centroids.double().numpy()
    seen = centroids[:, -1] > 0 if centroids.shape[1] == 4 else np.ones(len(centroids), bool)
    centered = centroids - centroids[seen].mean(0)
    axis = np.linalg.svd(centered[seen], full_matrices=False)[2][0]
    order = np.argsort(centered @ axis * np.sign(axis[np.abs(axis).argmax()]), kind="stable")
    ranks = np.argsort(order)
    limit_of = limits_of(centroids)
    matrix = np.zeros((1, 1), int)
    for _ in range(3):
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    indices = np.zeros(points.shape[:2], np.int64)
    for row, column in np.ndindex(*indices.shape):
        error, mixture = np.zeros(points.shape[2]), []
        allowed, left_out = may_take(points[row, column], centroids)
        if left_out is not None:
            indices[row, column] = left_out
            continue
        limit = limit_of(allowed.tobytes())
        for _ in range(16):
            distances = ((points[row, column] + error - centroids) ** 2).sum(1)
            index = np.where(allowed, distances, np.inf).argmin()
            mixture.append(ranks[index])
            error += (points[row, column] - centroids[index]) * strength * 0.7
            error *= min(1, limit / max(np.linalg.norm(error), 1e-30))
        indices[row, column] = order[sorted(mixture)[matrix[row % 8, column % 8] // 4]]
    return torch.from_numpy(indices)


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize(("colors", "channels"), [(7, 3), (9, 4)])
def test_ordered_dither_is_its_definition(colors, channels, strength):
    points, centroids = random_problem(7, 24, 31, colors, channels)
    agree = ordered(points, centroids, strength) == mix_slowly(points, centroids, strength)
    assert agree.double().mean() > 0.99


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize(
    ("dither", "targets"), [(floyd_steinberg, FLOYD_STEINBERG), (atkinson, ATKINSON)]
)
@pytest.mark.parametrize(("colors", "channels"), [(2, 3), (7, 3), (40, 3), (9, 4)])
def test_error_diffusion_is_its_definition(dither, targets, colors, channels, strength):
    points, centroids = random_problem(colors, 24, 31, colors, channels)
    expected = diffuse_slowly(points, centroids, strength, targets)
    indices = dither(points, centroids, strength)
    assert indices.dtype == torch.int64
    # float32 rounds: one tie decided otherwise may change what comes after, rarely.
    assert (indices == expected).double().mean() > 0.98
    assert indices[:8].equal(expected[:8])


@pytest.mark.parametrize("channels", [3, 4])
def test_the_search_is_exact(channels):
    """Passing on next to nothing, error diffusion finds the nearest centroid of every pixel."""
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(120, 130, channels, generator=generator)
    centroids = torch.rand(256, channels, generator=generator)
    assert floyd_steinberg(points, centroids, 1e-30).equal(nearest(points, centroids))
    clustered = centroids * 0.01 + torch.randint(0, 2, (256, channels), generator=generator)
    assert floyd_steinberg(points, clustered, 1e-30).equal(nearest(points, clustered))


@pytest.mark.parametrize("name", DITHERS)
def test_strength_zero_is_no_dither(name):
    points, centroids = random_problem(3, 20, 30, 12)
    assert DITHERS[name](points, centroids, 0.0).equal(nearest(points, centroids))


@pytest.mark.parametrize("grey", [0.1, 0.25, 0.5, 0.8])
def test_mean_of_flat_grey(grey):
    flat = torch.full((64, 64, 3), grey)
    white = floyd_steinberg(flat, BLACK_AND_WHITE).double().mean()
    assert white == pytest.approx(grey, abs=0.01)
    assert ordered(flat, BLACK_AND_WHITE).double().mean() == pytest.approx(grey, abs=1 / 16)


@pytest.mark.parametrize("name", DITHERING)
@pytest.mark.parametrize("irregular", [False, True])
def test_local_mean_of_a_gradient_is_better_than_without(name, irregular):
    centroids = BLACK_AND_WHITE
    if irregular:
        centroids = torch.tensor([[0, 0, 0], [0.9, 0.2, 0.1], [0.1, 0.5, 0.9], [1, 1, 1]])
    points = gradient()

    def error(indices):
        return (local_mean(centroids[indices]) - local_mean(points)).square().mean()

    plain = error(nearest(points, centroids))
    assert error(DITHERS[name](points, centroids, 1.0)) < 0.35 * plain
    assert error(DITHERS[name](points, centroids, 0.5)) < plain


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
    points, centroids = random_problem(7, 40, 48, 10)
    whole = ordered(points, centroids)
    assert ordered(points[16:, 8:], centroids).equal(whole[16:, 8:])
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
    indices = floyd_steinberg(points, centroids)
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
    assert _longest_gap(apart) == pytest.approx(0.6, abs=0.05)
    assert _longest_gap(apart[:1].expand(colors, -1)) == 0


@pytest.mark.parametrize("dither", [floyd_steinberg, atkinson])
def test_error_diffusion_with_alpha_is_its_definition(dither):
    """Holes and opaque pixels among soft ones; the loop knows the rules one by one."""
    points, centroids = random_problem(5, 24, 31, 10, 4)
    points[..., 3] = (points[..., 3] * 3 - 1).clamp(0, 1)
    centroids[:3, 3], centroids[3] = 1, 0
    targets = FLOYD_STEINBERG if dither is floyd_steinberg else ATKINSON
    expected = diffuse_slowly(points, centroids, 1.0, targets)
    indices = dither(points, centroids)
    assert (indices == expected).double().mean() > 0.98
    assert indices[:8].equal(expected[:8])
    agree = ordered(points, centroids) == mix_slowly(points, centroids, 1.0)
    assert agree.double().mean() > 0.99
    assert {0, 1, 2} == set(opacity(points).unique().tolist())


@pytest.mark.parametrize("dither", [floyd_steinberg, ordered])
def test_opaque_pixels_mix_soft_colours_where_none_is_opaque(dither):
    centroids = torch.tensor([[0.0, 0, 0, 0.9], [0.8, 0.8, 0.8, 0.8], [0.0, 0, 0, 0]])
    grey = torch.tensor([0.4, 0.4, 0.4, 1.0]).expand(16, 16, 4)
    assert set(dither(grey, centroids).unique().tolist()) == {0, 1}


def test_bayer_matrix_holds_each_threshold_once():
    assert sorted(bayer_matrix(8).ravel()) == list(range(64))
