from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from colorquant_nn.functional.histogram import ColorHistogram, count, count_colors, merge_colors
from tests.helpers import assert_same, levels, random


def as_dictionary(image: Tensor) -> dict[tuple[float, ...], int]:
    """Slow and obvious: how often each colour (C, N) occurs."""
    counts: dict[tuple[float, ...], int] = {}
    for color in image.T.tolist():
        counts[tuple(color)] = counts.get(tuple(color), 0) + 1
    return counts


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("layout", ["planes", "interleaved"])
def test_counts_are_those_of_a_dictionary(channels: int, layout: str) -> None:
    image = levels(channels, 500, count=6, seed=0) * 50
    expected = as_dictionary(image)
    if channels == 4:
        expected = {color: count for color, count in expected.items() if color[3] > 0}
    points = image.T if layout == "planes" else image.T.contiguous()
    counted = count_colors(points[None])
    colors = (counted.colors * 255).round().int().tolist()
    found = dict(zip(map(tuple, colors), counted.weights.tolist(), strict=True))
    assert found == expected
    assert (counted.codes.diff() > 0).all()
    floats = count_colors((points.float() / 255)[None])
    assert_same(counted[:3], floats[:3])


def test_floats_are_averaged_within_a_byte_and_odd_ones_do_not_count() -> None:
    points = torch.tensor([[0.5, 0.5, 0.5], [0.501, 0.5, 0.5], [2.0, -1.0, 0.25]])
    odd = torch.tensor([[torch.nan, 0, 0], [0, torch.inf, 0]])
    counted = count_colors(torch.cat([points, odd])[None])
    assert counted.weights.sum() == 3
    torch.testing.assert_close(
        counted.colors.sort(0).values,
        torch.tensor([[0.5005, 0.5, 0.5], [1, 0, 0.25]]).sort(0).values,
    )


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_one_odd_channel_is_no_vote(odd: float, channel: int) -> None:
    points = random(1, 50, 3)
    expected = count_colors(points[:, 1:])
    points[0, 0, channel] = odd
    assert_same(count_colors(points)[:3], expected[:3])


def test_weights_add_up_and_zero_is_no_vote() -> None:
    points = torch.tensor([[[10, 20, 30], [10, 20, 30], [1, 2, 3]]], dtype=torch.uint8)
    counted = count_colors(points, torch.tensor([[0.25, 2.0, 0.0]]))
    assert counted.weights.tolist() == [2.25]
    assert torch.equal(counted.colors, points[0, :1].float() / 255)


def test_weights_add_up_with_alpha_too() -> None:
    points = torch.tensor([[[10, 20, 30, 200], [10, 20, 30, 200], [1, 2, 3, 9]]], dtype=torch.uint8)
    weights = torch.tensor([[0.25, 2.0, 0.0]])
    for given in (points, points / 255):
        counted = count_colors(given, weights)
        assert counted.weights.tolist() == [2.25]
        torch.testing.assert_close(counted.colors, points[0, :1] / 255)
    points[..., 3] = 255
    assert count_colors(points, weights).weights.tolist() == [2.25]


def test_a_byte_of_alpha_1_is_not_opaque() -> None:
    faint = torch.tensor([[[255, 0, 0, 1], [0, 255, 0, 1]]], dtype=torch.uint8)
    assert (count_colors(faint).colors * 255)[:, 3].tolist() == [1, 1]


def test_floats_with_alpha_are_rounded_to_their_byte() -> None:
    levels = torch.tensor([100.6, 101.4]) / 255
    points = torch.stack([levels, levels, levels, torch.full((2,), 0.5)], 1)
    assert count_colors(points[None]).weights.tolist() == [2]


@pytest.mark.parametrize("of_bytes", [True, False])
def test_the_first_transparent_pixel_is_the_hole(of_bytes: bool) -> None:
    points = torch.tensor([[[9, 9, 9, 255], [1, 2, 3, 0], [9, 9, 9, 0], [9, 9, 9, 255]]])
    points = points.to(torch.uint8) if of_bytes else points / 255
    counted = count_colors(points)
    assert counted.weights.tolist() == [2]
    assert counted.hole is not None
    torch.testing.assert_close(counted.hole * 255, torch.tensor([1.0, 2, 3, 0]))
    assert count_colors(points[:, :1]).hole is None
    assert count_colors(points[..., :3]).hole is None


def test_transparent_floats_do_not_vote_where_colours_are_few() -> None:
    rows = [[0.1, 0.2, 0.3, 1], [0.9, 0, 0, 0], [0, 0.9, 0, 0], [0.1, 0.2, 0.301, 1]]
    image = torch.tensor(rows).T[:, None]
    counted = count(image, num_colors=8)
    assert torch.equal(counted.colors, image[:, 0, [0, 3]].T)
    weighted = count(image, torch.tensor([[2.0, 9, 9, 0]]), num_colors=8)
    assert torch.equal(weighted.colors, image[:, 0, :1].T)
    assert weighted.weights.tolist() == [2]
    assert weighted.hole is not None


def test_streams_keep_near_colours_apart() -> None:
    images = [torch.full((3, 4, 5), value, dtype=torch.uint8) for value in (0, 1, 0)]
    counted = count(iter(images))
    assert (counted.colors[:, 0] * 255).tolist() == [0, 1]
    assert counted.weights.tolist() == [40, 20]


def test_parts_without_alpha_are_opaque_beside_others() -> None:
    opaque, mixed = levels(1, 300, 3, count=5, seed=0) * 50, levels(1, 300, 4, count=5, seed=1) * 50
    alike = torch.cat([opaque, torch.full_like(opaque[..., :1], 255)], dim=-1)
    expected = merge_colors([count_colors(torch.cat([alike, mixed], dim=1))])
    for parts in ([opaque, mixed], [mixed, opaque], [opaque[:, :100], mixed, opaque[:, 100:]]):
        found = merge_colors(count_colors(part) for part in parts)
        assert_same(found[:3], expected[:3])
        assert found.hole is not None
    whole = merge_colors([count_colors(opaque), count_colors(alike)])
    assert whole.colors.shape[1] == 4
    assert whole.hole is None


@pytest.mark.parametrize("channels", [3, 4])
def test_merged_parts_are_the_whole(channels: int) -> None:
    image = levels(1, 900, channels, count=8, seed=1)
    whole = count_colors(image)
    parts = merge_colors(count_colors(part) for part in image.split(100, dim=1))
    assert_same(whole[:3], parts[:3])


def test_a_long_stream_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colorquant_nn.functional.histogram.MERGE_ABOVE", 1000)
    image = levels(1, 30000, 3, seed=2)
    image[..., 2] = 0
    parts = [count_colors(part) for part in image.split(500, dim=1)]
    merged = merge_colors(parts)
    assert len(merged.codes) <= 64**2 + 2000
    assert merged.weights.sum() == 30000
    mean = (merged.colors.double() * merged.weights[:, None]).sum(0) / 30000
    torch.testing.assert_close(mean, image[0].double().mean(0) / 255, atol=1e-6, rtol=0)
    cells = count_colors(merged.colors[None]).codes >> 6  # of the grid of 64 a side
    assert torch.equal((merged.codes >> 6).unique(), cells.unique())


def test_histogram_sums_are_exact_in_any_order() -> None:
    images = levels(6, 3, 20, 30, seed=3)
    forwards, backwards = ColorHistogram(), ColorHistogram().update(images.flip(0, 2, 3))
    for image in images:
        forwards.update(image)
    assert torch.equal(forwards.cells, backwards.cells)
    merged = ColorHistogram().update(images[:2]).merge(ColorHistogram().update(images[2:]))
    assert torch.equal(merged.cells, forwards.cells)
    assert forwards.count == 6 * 600
    assert torch.equal(forwards.cells[:, 1:].sum(0), images.sum((0, 2, 3)).double())
    grey = torch.full((3, 1, 81), 101, dtype=torch.uint8)  # 8181 / 255 * 255 is not 8181
    assert ColorHistogram().update(grey).cells[:, 1:].sum(0).tolist() == [8181] * 3


def test_histogram_lists_the_means_of_its_cells() -> None:
    image = torch.tensor([[8, 9, 200], [8, 9, 100], [8, 11, 0]], dtype=torch.uint8)[:, None]
    counted = ColorHistogram().update(image).colors()
    assert counted.weights.tolist() == [2, 1]
    expected = torch.tensor([[8.5, 8.5, 9.5], [200, 100, 0]]) / 255
    torch.testing.assert_close(counted.colors, expected)
    assert (counted.codes.diff() > 0).all()


def test_histogram_takes_iterables_and_empty_images() -> None:
    images = levels(3, 3, 5, 5, seed=4)
    histogram = ColorHistogram().update(iter(images)).update(torch.zeros(3, 0, 4))
    assert torch.equal(histogram.cells, ColorHistogram().update(images).cells)
    batches = [(images[:3], torch.zeros(3)), [images[3:], "label"]]
    assert torch.equal(histogram.cells, ColorHistogram().update(batches).cells)


def failing(image: Tensor) -> Iterator[Tensor]:
    yield image
    raise OSError("a file that cannot be read")


def test_an_update_counts_all_images_or_none() -> None:
    good = levels(3, 8, 8, seed=5)
    histogram = ColorHistogram().update(good)
    before = histogram.cells.clone()
    for images, error in (
        ([good, good[:2]], ValueError),
        ([good, "a.png"], TypeError),
        (failing(good), OSError),
    ):
        with pytest.raises(error):
            histogram.update(images)
        assert torch.equal(histogram.cells, before)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(4, 2, 2), ValueError, r"\(4, 2, 2\)"),
        (torch.zeros(2, 2), ValueError, r"\(2, 2\)"),
        (torch.zeros(3, 2, 2, dtype=torch.int64), TypeError, "int64"),
        ("a.png", TypeError, r"got str; load_image\(path\)"),
        (["a.png"], TypeError, r"got str; load_image\(path\)"),
        ([["a.png"]], TypeError, "got str"),
        ({"image": torch.zeros(3, 2, 2)}, TypeError, "got dict"),
        ([{"image": torch.zeros(3, 2, 2)}], TypeError, "got dict"),
        (np.zeros((3, 2, 2), np.uint8), TypeError, r"got ndarray; torch\.from_numpy"),
        (Image.new("RGB", (2, 2)), TypeError, r"got Image; load_image\(path\)"),
        (7, TypeError, "got int"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_histogram_rejects(images: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ColorHistogram().update(images)


def test_merge_rejects_others() -> None:
    with pytest.raises(TypeError, match="Tensor"):
        ColorHistogram().merge(torch.zeros(3))  # type: ignore[arg-type]
