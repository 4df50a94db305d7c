import copy
import os
import pickle
import weakref
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from colorquant_nn import apply_palette, fit_palette
from colorquant_nn.functional.histogram import (
    ColorHistogram,
    WeightedColors,
    count,
    count_colors,
    count_each,
    merge_colors,
)
from colorquant_nn.functional.metrics import mse
from colorquant_nn.names import Space
from tests.helpers import SPACES, assert_same, levels, picture, random, run_ranks


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


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("limit", [1 << 19, 500])
def test_a_stream_depends_on_no_order_and_on_no_batches(monkeypatch, channels, limit) -> None:
    images = [levels(channels, 40, 40 + seed, count=24, seed=seed) for seed in range(6)]
    monkeypatch.setattr("colorquant_nn.functional.histogram.MERGE_ABOVE", limit)
    expected = count(images)
    assert expected.bits == (8 if limit > 500 else 6)
    for batch in (1, 500, 1 << 20):
        monkeypatch.setattr("colorquant_nn.functional.histogram.BATCH", batch)
        assert_same(count(images)[:3], expected[:3])
        assert_same(count(images[::-1])[:3], expected[:3])


def test_one_image_is_exact_whatever_its_colors(monkeypatch) -> None:
    monkeypatch.setattr("colorquant_nn.functional.histogram.MERGE_ABOVE", 100)
    monkeypatch.setattr("colorquant_nn.functional.histogram.BATCH", 400)
    image = levels(3, 20, 20)
    assert_same(count([image])[:3], count(image)[:3])


def test_a_stream_may_come_in_the_same_memory() -> None:
    def frames():
        image = torch.zeros(3, 4, 4, dtype=torch.uint8)
        for value in range(5):
            yield image.fill_(value)

    assert (count(frames()).colors[:, 0] * 255).tolist() == [0, 1, 2, 3, 4]


def test_small_images_are_counted_many_at_once(monkeypatch) -> None:
    kinds = [levels(3, 4, 4), levels(4, 4, 4), levels(3, 4, 4) / 255]
    parts = list(count_each([kind for kind in kinds for _ in range(50)]))
    assert [part.weights.sum() for part in parts[::2]] == [800, 800]
    assert len(parts) == 3


def test_histogram_sums_are_exact_in_any_order() -> None:
    images = levels(6, 3, 20, 30, seed=3)
    forwards, backwards = ColorHistogram(), ColorHistogram().update(images.flip(0, 2, 3))
    for image in images:
        forwards.update(image)
    assert torch.equal(forwards.cells, backwards.cells)
    merged = ColorHistogram().update(images[:2]).merge(ColorHistogram().update(images[2:]))
    assert torch.equal(merged.cells, forwards.cells)
    assert forwards.count == 6 * 600
    sums = forwards.cells.sum(0)
    assert torch.equal(sums[1:4], images.sum((0, 2, 3)).double())
    assert sums[4] == images.double().square().sum()
    grey = torch.full((3, 1, 81), 101, dtype=torch.uint8)  # 8181 / 255 * 255 is not 8181
    assert ColorHistogram().update(grey).cells[:, 1:4].sum(0).tolist() == [8181] * 3


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


@pytest.mark.parametrize("of_bytes", [True, False])
def test_whole_weights_are_repetitions(of_bytes: bool) -> None:
    images = levels(2, 3, 9, 11, count=9, seed=6)
    images = images if of_bytes else images / 255
    weights = levels(2, 9, 11, count=4, seed=7)
    pixels = images.movedim(1, -1).flatten(0, 2)
    repeated = pixels.repeat_interleave(weights.flatten().int(), 0).T[:, None]
    expected = ColorHistogram().update(repeated).cells
    for found in (
        ColorHistogram().update(images, weights.float()),
        ColorHistogram().update(list(images), weights),
        ColorHistogram().update([(images, "labels")], [weights.double()]),
    ):
        torch.testing.assert_close(found.cells, expected, rtol=1e-12, atol=0)
    assert_same(count(images, weights)[1:3], count(repeated)[1:3])
    assert_same(count(iter(images), iter(weights))[1:3], count(repeated)[1:3])


def test_a_mask_says_which_pixels_count() -> None:
    image, mask = levels(3, 8, 9, seed=8), levels(8, 9, count=2, seed=9).bool()
    expected = ColorHistogram().update(image[:, mask][:, None])
    assert torch.equal(ColorHistogram().update(image, mask).cells, expected.cells)
    assert torch.equal(ColorHistogram().update([image], [mask]).cells, expected.cells)
    both = ColorHistogram().update([image, image], [mask, None])
    assert both.count == mask.sum() + 72
    assert_same(count([image], [mask])[:3], count(image[:, mask][:, None])[:3])


@pytest.mark.parametrize("size", [50, 900])  # 810000 pixels are many for the cells
def test_weighted_sums_do_not_depend_on_the_threads(
    size: int, threads: Callable[[int], None]
) -> None:
    image, weights = random(3, size, size), random(size, size, seed=1)
    threads(1)
    expected = ColorHistogram().update(image, weights).cells
    for number in (2, 3):
        threads(number)
        assert torch.equal(ColorHistogram().update(image, weights).cells, expected)


IMAGE = torch.zeros(3, 2, 2)
WEIGHTS = torch.ones(2, 2)


@pytest.mark.parametrize(
    ("images", "weights", "error", "message"),
    [
        ([IMAGE] * 3, [WEIGHTS] * 2, ValueError, "got 2 weights for 3 images"),
        ([IMAGE], [WEIGHTS] * 2, ValueError, "got 2 weights for 1 images"),
        (iter([IMAGE] * 3), iter([WEIGHTS] * 2), ValueError, "got 2 weights for 3 images"),
        (
            (image for image in [IMAGE] * 3),
            (weights for weights in [WEIGHTS] * 2),
            ValueError,
            "got 2 weights for at least 3 images",
        ),
        (
            (image for image in [IMAGE] * 2),
            (weights for weights in [WEIGHTS] * 4),
            ValueError,
            "got at least 3 weights for 2 images",
        ),
        ([IMAGE], 0.5, TypeError, "an iterable of weights, one tensor for each image, got float"),
        ([IMAGE], [0.5], TypeError, r"weights as a tensor \(2, 2\), got float"),
        (IMAGE, [WEIGHTS], TypeError, r"weights as a tensor \(2, 2\), got list"),
        (IMAGE, WEIGHTS[None], ValueError, r"size \(2, 2\), got \(1, 2, 2\)"),
        ([IMAGE, IMAGE], [WEIGHTS, -WEIGHTS], ValueError, "at least 0"),
        (IMAGE, WEIGHTS / 0, ValueError, "finite"),
    ],
)
def test_weights_that_do_not_fit_are_named_and_nothing_is_counted(
    images: Any, weights: Any, error: type[Exception], message: str
) -> None:
    histogram = ColorHistogram()
    with pytest.raises(error, match=message):
        histogram.update(images, weights)
    assert histogram.count == 0


def test_streams_of_colours_check_their_weights_too() -> None:
    with pytest.raises(ValueError, match="got 1 weights for 2 images"):
        count([IMAGE, IMAGE], [WEIGHTS])
    with pytest.raises(ValueError, match="no weights beside a ColorHistogram"):
        count(ColorHistogram().update(IMAGE), WEIGHTS)


def test_histograms_add_up() -> None:
    images = levels(3, 3, 5, 6, seed=10)
    parts = [ColorHistogram().update(image) for image in images]
    before = [part.cells.clone() for part in parts]
    expected = ColorHistogram().update(images).cells
    assert torch.equal(sum(parts).cells, expected)
    assert torch.equal((parts[0] + parts[1] + parts[2]).cells, expected)
    alone = sum(parts[:1])
    alone.update(images)
    assert_same([part.cells for part in parts], before)
    for other in (1, torch.zeros(3)):
        with pytest.raises(TypeError):
            parts[0] + other
        with pytest.raises(TypeError):
            other + parts[0]


def test_a_histogram_is_saved_and_copied(tmp_path: Path) -> None:
    histogram = ColorHistogram().update(levels(3, 5, 6, seed=11))
    torch.save({"histogram": histogram}, tmp_path / "histogram.pt")
    loaded = torch.load(tmp_path / "histogram.pt", weights_only=True)["histogram"]
    copies = [loaded, pickle.loads(pickle.dumps(histogram)), copy.deepcopy(histogram)]
    expected = histogram.cells.clone()
    histogram.update(levels(3, 5, 6, seed=11))
    for its in copies:
        assert torch.equal(its.cells, expected)
        assert torch.equal(its.merge(its).cells, histogram.cells)


@pytest.mark.parametrize("of_bytes", [True, False])
@pytest.mark.parametrize("space", SPACES)
def test_the_distortion_is_the_error_where_cells_agree(of_bytes: bool, space: Space) -> None:
    images = levels(2, 3, 20, 30, count=64, seed=12) * 4  # one pixel colour in each cell
    images[0] += levels(3, 20, 30, count=4, seed=13)  # and some
    images = images if of_bytes else images / 255
    far = torch.tensor([[0.0, 0, 0], [1, 1, 1]])
    drawn = [
        apply_palette(image / 255 if of_bytes else image, far, space=space) for image in images
    ]
    errors = [mse(image, its.rgb).double() for image, its in zip(images, drawn, strict=True)]
    found = ColorHistogram().update(images).distortion(far, space=space)
    assert found.shape == ()
    torch.testing.assert_close(found, torch.stack(errors).mean(), rtol=1e-4, atol=0)


def test_the_distortion_counts_the_variance_inside_the_cells() -> None:
    image = torch.tensor([100, 101, 103], dtype=torch.uint8).expand(3, 1, 3)
    mean = torch.full((1, 3), 304 / 3 / 255)
    found = ColorHistogram().update(image).distortion(mean)
    expected = image[0].double().var(correction=0) / 255**2
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    weighted = (
        ColorHistogram()
        .update(image, torch.tensor([[1.0, 0.0, 1.0]]))
        .distortion(torch.tensor([[101, 101, 101]], dtype=torch.uint8))
    )
    torch.testing.assert_close(weighted, torch.tensor(2.5 / 255**2).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("space", "least"), [("rgb", 1 - 1e-5), ("oklab", 0.99)])
def test_the_distortion_of_a_picture_is_close_to_its_error(space: str, least: float) -> None:
    image = picture(14, height=80, width=90)
    histogram = ColorHistogram().update(image)
    last = torch.inf
    for num_colors in (2, 16, 64):
        palette = fit_palette(histogram, num_colors, space=space)
        drawn = apply_palette(image / 255, palette, space=space).rgb
        exact = mse(image, drawn).double()
        found = histogram.distortion(palette, space=space)
        assert least * exact <= found <= 1.02 * exact
        assert found < last
        last = found


def test_a_palette_of_all_colours_has_no_distortion() -> None:
    image = levels(3, 6, 7, count=64, seed=15) * 4
    histogram = ColorHistogram().update(image)
    assert histogram.distortion(image.flatten(1).T) < 1e-15


def test_distortion_rejects() -> None:
    histogram = ColorHistogram()
    with pytest.raises(ValueError, match="at least one pixel"):
        histogram.distortion(torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"\(K, 3\), got \(1, 4\)"):
        histogram.distortion(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="hsv"):
        histogram.distortion(torch.zeros(1, 3), space="hsv")  # type: ignore[arg-type]


def test_ranks_need_a_process_group_to_add_up() -> None:
    with pytest.raises(RuntimeError, match="init_process_group"):
        ColorHistogram().all_reduce()


def count_a_share(rank: int, world: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{folder}/store", world)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    images = levels(5, 3, 6, 7, seed=16)
    histogram = ColorHistogram().update(images[rank::world])
    assert histogram.all_reduce() is histogram
    torch.save(histogram, f"{folder}/{rank}.pt")
    # In a group of its own a rank is alone.
    groups = [torch.distributed.new_group([number]) for number in range(world)]
    alone = ColorHistogram().update(images[rank]).all_reduce(groups[rank])
    assert torch.equal(alone.cells, ColorHistogram().update(images[rank]).cells)
    with pytest.raises(ValueError, match="a process group of which this rank is a member"):
        alone.all_reduce(groups[1 - rank])
    torch.distributed.destroy_process_group()


def test_ranks_add_up_to_all_data(tmp_path: Path) -> None:
    run_ranks(count_a_share, 2, 2, str(tmp_path))
    expected = ColorHistogram().update(levels(5, 3, 6, 7, seed=16))
    for rank in range(2):
        assert torch.equal(torch.load(tmp_path / f"{rank}.pt").cells, expected.cells)


def count_without_the_other(rank: int, world: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = torch.distributed.FileStore(f"{folder}/store", world)
    torch.distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=1)
    )
    if rank == 0:
        with pytest.raises(RuntimeError, match="waited for the other ranks, which did not come"):
            ColorHistogram().all_reduce()
    store.set(str(rank), "done")
    store.wait([str(other) for other in range(world)], timedelta(seconds=60))
    torch.distributed.destroy_process_group()


def test_a_rank_that_adds_up_alone_is_told(tmp_path: Path) -> None:
    run_ranks(count_without_the_other, 2, 2, str(tmp_path))


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


def test_an_update_of_several_counts_each_as_it_was_when_it_came() -> None:
    images = levels(9, 3, 200, 201, seed=6)  # some wait, some go into a table of their own
    masks = levels(9, 200, 201, seed=7) > 100

    def one_memory(parts: Tensor) -> Iterator[Tensor]:
        memory = torch.empty_like(parts[0])
        for part in parts:
            yield memory.copy_(part)

    histogram = ColorHistogram().update(one_memory(images), one_memory(masks.float()))
    assert torch.equal(histogram.cells, ColorHistogram().update(images, masks).cells)


def test_small_images_of_a_list_need_no_table_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    histogram, images = ColorHistogram(), levels(4, 3, 8, 8, seed=5)
    expected = ColorHistogram().update(images)
    monkeypatch.setattr(ColorHistogram, "__init__", None)
    assert torch.equal(histogram.update(list(images)).cells, expected.cells)


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
        ([{"image": torch.zeros(3, 2, 2)}], TypeError, r'got dict; .* batch\["image"\]'),
        ([IMAGE, torch.arange(8)], ValueError, r"got \(8,\); of \(images, labels\), give"),
        ([3, 1, 4], TypeError, "got int$"),
        (np.zeros((3, 2, 2), np.uint8), TypeError, r"got ndarray; torch\.from_numpy"),
        (Image.new("RGB", (2, 2)), TypeError, r"got Image; torch\.from_numpy.*load_image\(path\)"),
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


def test_of_many_small_parts_few_are_held_at_once() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def parts() -> Iterator[WeightedColors]:
        for number in range(100):
            part = count(torch.full((3, 1, 1), number, dtype=torch.uint8))
            alive.append(weakref.ref(part.codes))
            yield part
            assert sum(reference() is not None for reference in alive) < 40

    assert len(merge_colors(parts()).codes) == 100
