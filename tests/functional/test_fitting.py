"""From weighted colours to a palette; fewer colours and more, from a palette alone."""

import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from colorquant_nn import ColorQuantize, resize_palette
from colorquant_nn.functional.clustering import distortion, lloyd, moments_of
from colorquant_nn.functional.fitting import EFFORTS, _pool, dark_to_light, fit, smallest_count
from colorquant_nn.functional.histogram import count
from tests.helpers import batch, picture


@pytest.mark.parametrize("effort", list(EFFORTS))
def test_the_seed_counts(effort: str) -> None:
    colors = count(picture(0, height=60, width=80))
    palettes = [fit(colors, 24, effort=effort, seed=seed) for seed in (0, 0, 1, 2)]
    assert torch.equal(palettes[0], palettes[1])
    assert any(not torch.equal(palettes[0], other) for other in palettes[2:])


def test_every_effort_is_another_search() -> None:
    colors = count(picture(0, height=60, width=80))
    found = [fit(colors, 24, effort=effort) for effort in EFFORTS]
    assert all(not torch.equal(found[i], found[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_few_colours_are_the_best_of_several_starts() -> None:
    image = picture(1, height=60, width=80)
    points, colors = (image / 255).flatten(1).T.contiguous(), count(image)
    best = KMeans(8, n_init=10, random_state=0).fit(points.numpy()).inertia_
    for seed in range(3):
        palette = fit(colors, 8, effort="fast", seed=seed)
        assert distortion(moments_of(points, palette, None)) < 1.004 * best  # of one start, 1.009


@pytest.mark.parametrize("effort", list(EFFORTS))
def test_the_search_ends_on_all_colours_not_on_cells(effort: str) -> None:
    image = picture(1, height=120, width=160)
    points = (image / 255).flatten(1).T.contiguous()
    palette = fit(count(image), 8, effort=effort)
    errors = [
        distortion(moments_of(points, centroids, None))
        for centroids in (palette, lloyd(points, palette, None, 1))
    ]
    assert errors[1] > 0.9995 * errors[0]  # another step gains nothing


def test_cells_are_weighted_means() -> None:
    points = torch.tensor([[0.0, 0.0, 0.0], [0.008, 0.0, 0.0], [0.5, 0.5, 0.5]])
    weights = torch.tensor([3.0, 1.0, 5.0], dtype=torch.float64)
    means, totals = _pool(points, weights, torch.tensor([0, 1, 1 << 22]), 5)
    assert totals.tolist() == [4, 5]
    torch.testing.assert_close(means[0], torch.tensor([0.002, 0.0, 0.0]))
    assert torch.equal(means[1], points[2])


@pytest.mark.parametrize("effort", list(EFFORTS))
def test_the_search_knows_the_kept_colours(effort: str) -> None:
    generator = torch.Generator().manual_seed(0)
    white = 0.97 + 0.03 * torch.rand(3, 1, 400, generator=generator)
    red = torch.tensor([0.8, 0.1, 0.1])[:, None, None]
    red = red + 0.03 * torch.rand(3, 1, 400, generator=generator)
    colors = count(torch.cat([white, red], dim=2))
    palette = fit(colors, 2, effort=effort, keep=torch.ones(1, 3))
    assert torch.equal(palette[1], torch.ones(3))
    torch.testing.assert_close(palette[0], red.mean((1, 2)), atol=0.01, rtol=0)


def test_dark_to_light_is_by_luminance_and_transparent_colours_come_first() -> None:
    blue, red, green, grey = (0, 0, 1), (1, 0, 0), (0, 1, 0), (0.2, 0.2, 0.2)
    palette = torch.tensor([green, red, blue, grey], dtype=torch.float32)
    assert torch.equal(dark_to_light(palette), palette[[3, 2, 1, 0]])
    alpha = torch.tensor([[0.0], [1], [0.5], [1]])
    assert torch.equal(dark_to_light(torch.cat([palette, alpha], 1))[:, :3], palette[[0, 3, 2, 1]])


def test_few_fits_find_the_smallest_count() -> None:
    for target in (3, 17, 100, 900):
        calls = []

        def psnr(count: int) -> float:
            calls.append(count)  # noqa: B023
            return 7 * math.log(count)

        assert smallest_count(psnr, 7 * math.log(target), 30000) == target
        assert len(calls) <= 10


@pytest.mark.parametrize("weighted", [False, True])
def test_fewer_colours_are_weighted_kmeans_of_the_old(weighted: bool) -> None:
    palette = batch(0, 64, 3)
    counts = batch(1, 64) if weighted else None
    fewer = resize_palette(palette, 8, counts)
    assert fewer.shape == (8, 3)
    weights = torch.ones(64) if counts is None else counts
    theirs = KMeans(8, n_init=10, random_state=0).fit(
        palette.numpy(), sample_weight=weights.numpy()
    )
    nearest = torch.cdist(palette, fewer).square().min(1).values
    assert (weights * nearest).sum().item() < 1.01 * theirs.inertia_


def test_there_are_as_many_colours_as_asked_for_where_many_were_the_same() -> None:
    palette = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]).repeat(4, 1)
    fewer = resize_palette(palette, 4)
    assert torch.equal(fewer[:2], palette[:2])
    assert len(fewer.unique(dim=0)) == 4


def test_colours_that_count_most_survive() -> None:
    palette = batch(0, 12, 3)
    counts = torch.zeros(12)
    counts[:4] = torch.tensor([5.0, 1, 3, 2])
    fewer = resize_palette(palette, 4, counts)
    assert torch.cdist(palette[:4], fewer).min(1).values.max() < 1e-3


@pytest.mark.parametrize("counts", [None, torch.zeros(3), torch.tensor([1.0, 9.0, 2.0])])
def test_more_colours_keep_the_old_and_are_all_different(counts: torch.Tensor | None) -> None:
    palette = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [1.0, 0.0, 0.0]])
    more = resize_palette(palette, 9, counts)
    assert torch.equal(more[:3], palette)
    assert len(more.unique(dim=0)) == 9
    assert more.min() >= 0
    assert more.max() <= 1


def test_the_colour_of_the_largest_count_is_split() -> None:
    palette = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [1.0, 1.0, 1.0]])
    counts = torch.tensor([1.0, 1.0, 9.0])
    more = resize_palette(palette, 4, counts)
    assert counts.tolist() == [1, 1, 9]
    assert torch.equal(more[3], torch.full((3,), 0.75))
    alone = resize_palette(torch.full((1, 3), 0.25), 2)
    assert torch.equal(alone[1], torch.full((3,), 0.625))


def test_a_new_colour_has_half_of_the_count_and_may_be_split_too() -> None:
    reds = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    more = resize_palette(reds, 5, torch.tensor([8.0, 3.0]))
    assert more[2:, 0].tolist() == [0.5, 0.25, 0.375]


def test_the_same_number_changes_nothing() -> None:
    palette = batch(0, 5, 3)
    same = resize_palette(palette, 5)
    assert torch.equal(same, palette)
    assert same.data_ptr() != palette.data_ptr()


@pytest.mark.parametrize("num_colors", [3, 12])
def test_a_layer_of_another_size_takes_over(num_colors: int) -> None:
    old = ColorQuantize(8, space="oklab").fit(batch(0))
    with pytest.raises(ValueError, match=r"\(8, 3\), this layer \(\d+, 3\); .*resize_palette"):
        ColorQuantize(num_colors, space="oklab").load_state_dict(old.state_dict())
    palette = resize_palette(old.palette, num_colors, old.counts)
    new = ColorQuantize.from_palette(palette, space="oklab", frozen=False, decay=0.5)
    for _ in range(20):
        error = new.quantize(batch(0)).mse
    best = ColorQuantize(num_colors, space="oklab").fit(batch(0)).quantize(batch(0)).mse
    assert error < 1.2 * best


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.rand(4, 4), 2), r"\(K, 3\), got \(4, 4\)"),
        ((torch.rand(4), 2), r"got \(4,\)"),
        ((2 + torch.rand(4, 3), 2), r"in \[0, 1\]"),
        ((torch.rand(4, 3), 0), "num_colors of at least 1, got 0"),
        ((torch.rand(4, 3), 2, torch.ones(3)), r"counts \(4,\), got \(3,\)"),
        ((torch.rand(4, 3), 2, torch.tensor([1, 2, 3, torch.nan])), "finite"),
        ((torch.rand(4, 3), 2, torch.tensor([1.0, 2, 3, -1])), "at least 0"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resize_palette(*arguments)


def test_a_number_of_any_library_will_do_and_nothing_else() -> None:
    palette = batch(0, 5, 3)
    assert torch.equal(resize_palette(palette, np.int64(3)), resize_palette(palette, 3))
    for number in (2.0, "2", True, None):
        with pytest.raises(TypeError, match="num_colors as a whole number, got"):
            resize_palette(palette, number)
    with pytest.raises(TypeError, match=r"got ndarray; torch\.from_numpy"):
        resize_palette(palette.numpy(), 3)
