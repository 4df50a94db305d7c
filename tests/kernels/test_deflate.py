"""Indices that take few bits: against searches of everything, and where there is one answer."""

import itertools
import math

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from colorquant_nn.kernels import DeflateCosts, assign, choose_indices
from tests.helpers import assert_same, random
from tests.oracles import assert_nearest, cheapest_parse, distance_code, images, palette

settings = hypothesis.settings(max_examples=40, deadline=None, derandomize=True, database=None)
OPAQUE = 1  # any kind but 0
SMALL = st.integers(1, 3), st.integers(1, 8), st.integers(1, 4)  # rows, columns, colours
SEEDS = st.integers(0, 999)


def costs(bands, num_colors, literal=0.0, length=0.0, distance=0.0):
    parts = ((num_colors, literal), (259, length), (30, distance))
    return DeflateCosts(*(torch.full((bands, size), cost) for size, cost in parts))


def some_costs(bands, num_colors, price, seed):
    parts = random(bands, num_colors + 259 + 30, seed=seed) * price
    return DeflateCosts(*parts.split([num_colors, 259, 30], dim=1))


def choose(points, colors, price, kinds=None, allowed=None, weights=None, diffusion=0.0):
    """With what is usual for what is not said."""
    if kinds is None:
        kinds = torch.full(points.shape[:2], OPAQUE, dtype=torch.uint8)
    if weights is None:
        weights = torch.ones(points.shape[:2])
    if allowed is None:
        allowed = torch.ones(int(kinds.max()) + 1, len(colors), dtype=torch.bool)
    return choose_indices(points, weights, kinds, colors, allowed, price, diffusion)


def greys(rows):
    """(H, W, 4) points of one axis that is not 0."""
    points = torch.zeros(len(rows), len(rows[0]), 4)
    points[..., 0] = torch.tensor(rows)
    return points


def row_of(points, colors, price):
    return choose(points, colors, price)[0][0].tolist()


BLACK_AND_WHITE = greys([[0.0, 1.0]])[0]
THREE = greys([[0.0, 0.5, 1.0]])[0]


def errors_of(points, weights, colors):
    """(H, W, K) float64."""
    return (points[..., None, :] - colors).double().square().sum(-1) * weights[..., None]


def band_rows(height, bands):
    size = -(-height // bands)
    return [slice(top, top + size) for top in range(0, height, size)]


def price_of(counts, price):
    return [sum(float((n * c).sum()) for n, c in zip(*band, strict=True)) for band in
            zip(zip(*counts, strict=True), zip(*price, strict=True), strict=True)]  # fmt: skip


@settings
@hypothesis.given(
    st.integers(1, 20), st.integers(1, 40), st.integers(1, 70), st.integers(1, 5), SEEDS,
    st.sampled_from([3, 4]), st.sampled_from(["noise", "lattice", "bisectors", "line"]),
)  # fmt: skip
def test_where_bits_are_free_each_pixel_takes_its_nearest_color(
    height, width, num_colors, bands, seed, axes, kind
):
    points, colors = images(kind, height * width, axes, seed), palette(kind, num_colors, axes)
    padded = [torch.nn.functional.pad(x, (0, 4 - axes)) for x in (points, colors)]
    indices, counts = choose(
        padded[0].view(height, width, 4), padded[1][0], costs(bands, num_colors)
    )
    assert indices.dtype == torch.int32
    found = indices.view(1, -1).long()
    assert_nearest(points, colors, found)
    if kind == "lattice":  # distances are exact, and ties go to the first
        assert torch.equal(found, assign(points, colors))
    assert int(counts.literals.sum()) <= height * width


@settings
@hypothesis.given(*SMALL, SEEDS, st.integers(1, 4), st.sampled_from([0.01, 0.1, 1.0, 10.0]))
def test_what_is_counted_is_a_way_to_store_the_indices_and_none_is_dearer_than_literals(
    height, width, num_colors, seed, bands, scale
):
    points, colors = random(height, width, 4, seed=seed), random(num_colors, 4, seed=seed + 1)
    weights = random(height, width, seed=seed + 2) + 0.1
    price = some_costs(bands, num_colors, scale, seed + 3)
    indices, counts = choose(points, colors, price, weights=weights)
    assert int(counts.lengths[:, :3].sum()) == 0
    assert torch.equal(counts.lengths.sum(1), counts.distances.sum(1))
    pixels = counts.literals.sum(1) + counts.lengths @ torch.arange(259)
    errors = errors_of(points, weights, colors)
    taken = errors.gather(2, indices[..., None].long())[..., 0]
    paid = price_of(counts, price)
    for band, rows in enumerate(band_rows(height, bands)):
        assert pixels[band] == indices[rows].numel()
        literal, length, distance = (part[band].double().numpy() for part in price)
        least = cheapest_parse(indices[rows][None].numpy(), literal, length, distance)[0]
        assert paid[band] >= least - 1e-5 * scale
        plain = float((errors[rows] + price.literals[band]).min(-1).values.sum())
        assert float(taken[rows].sum()) + paid[band] <= plain + 1e-5 * (scale + plain)


def search_all(points, weights, colors, price):
    """The least error and price of one row, over all its indices and all ways to store them."""
    width = points.shape[1]
    every = np.array(list(itertools.product(range(len(colors)), repeat=width)))
    errors = errors_of(points, weights, colors)[0].numpy()[np.arange(width), every].sum(1)
    return (errors + cheapest_parse(every[:, None], *(p[0].double().numpy() for p in price))).min()


def test_a_row_is_nearly_as_cheap_as_can_be():
    ratios = []
    for seed in range(60):
        width, num_colors = 3 + seed % 5, 2 + seed % 2
        points, colors = random(1, width, 4, seed=seed), random(num_colors, 4, seed=100 + seed)
        weights, price = random(1, width, seed=seed) + 0.1, some_costs(1, num_colors, 0.4, seed)
        indices, counts = choose(points, colors, price, weights=weights)
        errors = errors_of(points, weights, colors).gather(2, indices[..., None].long())
        least = search_all(points, weights, colors, price)
        ratios.append((float(errors.sum()) + price_of(counts, price)[0]) / least)
    assert min(ratios) > 1 - 1e-5
    assert np.median(ratios) < 1 + 1e-5
    assert max(ratios) < 1.2


@pytest.mark.parametrize("width", [1, 2, 3, 4, 258, 259, 700])
def test_one_color_is_a_literal_and_copies_of_it(width):
    price = costs(1, 3, literal=1.0, length=0.1, distance=0.1)
    indices, counts = choose(greys([[0.5] * width]), THREE, price)
    assert (indices == 1).all()
    if width > 3:
        copies = -(-(width - 1) // 258)
        assert (int(counts.lengths.sum()), int(counts.distances[0, 0])) in [
            (n, n) for n in (copies, copies + 1)
        ]
        assert int(counts.literals.sum()) <= 2


@pytest.mark.parametrize("period", [1, 2, 3, 4])
def test_what_repeats_within_a_row_is_copied(period):
    colors = greys([[float(k) for k in range(period)]])[0]
    rows = [[float(k % period) for k in range(40)]]
    price = costs(1, period, literal=0.5, length=0.1, distance=0.1)
    indices, counts = choose(greys(rows), colors, price)
    assert indices[0].tolist() == [k % period for k in range(40)]
    assert counts.literals.sum() == period
    assert counts.lengths.nonzero().tolist() == [[0, 40 - period]]
    assert counts.distances.nonzero().tolist() == [[0, period - 1]]


def test_two_halves_are_two_literals_and_two_copies():
    price = costs(1, 2, literal=0.05, length=0.05, distance=0.05)
    indices, counts = choose(greys([[0.0] * 20 + [1.0] * 20]), BLACK_AND_WHITE, price)
    assert indices[0].tolist() == [0] * 20 + [1] * 20
    assert counts.literals.tolist() == [[1, 1]]
    assert counts.lengths[0, 19] == 2


def test_a_speck_is_kept_as_long_as_it_is_worth_its_bits():
    row = greys([[0.0] * 8 + [0.7] + [0.0] * 8])
    assert row_of(row, BLACK_AND_WHITE, costs(1, 2, 0.1, 0.05, 0.05)) == [0] * 8 + [1] + [0] * 8
    assert row_of(row, BLACK_AND_WHITE, costs(1, 2, 0.3, 0.1, 0.1)) == [0] * 17


@pytest.mark.parametrize("across", range(-4, 5))
def test_a_row_that_is_nearly_one_above_becomes_it(across):
    """Moved by a few pixels, and as far back as in a file, where rows begin with a byte."""
    width = 60
    line = random(width + 8, seed=3).round()
    above, below = line[4:-4], line[4 + across :][:width].clone()
    below[30] += 0.52 - 1.04 * below[30]  # nearer to the other color
    points = 9 * greys([above.tolist(), below.tolist()])
    price = costs(1, 2, literal=5.0, length=1.0, distance=1.0)
    (first, second), counts = choose(points, 9 * BLACK_AND_WHITE, price)
    assert first.tolist() == above.tolist()
    start, end = max(0, -across), width - max(0, across)
    assert second[start:end].tolist() == first[start + across : end + across].tolist()
    assert second[30] != choose(points, 9 * BLACK_AND_WHITE, costs(1, 2))[0][1, 30]
    assert int(counts.lengths[0, width - 10 :].sum()) == 1
    assert counts.distances[0, distance_code(width + 1 - across)] >= 1


@pytest.mark.parametrize("rows_up", [1, 2, 3, 4])
def test_copies_reach_over_rows(rows_up):
    noise = random(rows_up, 50, seed=5).round().tolist()
    price = costs(1, 2, literal=0.1, length=0.1, distance=0.1)
    indices, counts = choose(greys(noise + noise[:1]), BLACK_AND_WHITE, price)
    assert indices[rows_up].tolist() == indices[0].tolist()
    assert counts.lengths[0, 50] == 1
    assert counts.distances[0, distance_code(51 * rows_up)] >= 1


def test_a_copy_costs_what_its_distance_does():
    """65 bytes for the row above, where a code begins."""
    noise = greys(random(1, 64, seed=5).round().tolist() * 2)
    price = costs(1, 2, literal=0.1, distance=100.0)
    price.distances[0, 12] = 0.01
    counts = choose(noise, BLACK_AND_WHITE, price)[1]
    assert counts.literals.sum() == 64
    assert counts.lengths.nonzero().tolist() == [[0, 64]]


def test_a_long_copy_is_gone_on_with():
    noise = greys(random(1, 700, seed=5).round().tolist() * 2)
    counts = choose(noise, BLACK_AND_WHITE, costs(1, 2, 0.1, 0.1, 0.1))[1]
    above = choose(noise[:1], BLACK_AND_WHITE, costs(1, 2, 0.1, 0.1, 0.1))[1]
    assert torch.equal(counts.literals, above.literals)
    assert counts.lengths.sum() == above.lengths.sum() + 3
    assert counts.lengths[0, 258] == 2


def test_what_was_seen_far_above_is_found_again():
    """Beyond the places that are always tried; not in the row above, and not where it was."""
    colors = greys([[float(k) for k in range(16)]])[0]
    noise = (random(12, 80, seed=7) * 15).round()
    noise[11, 30:70] = noise[1, 5:45]
    price = costs(1, 16, literal=0.5, length=0.1, distance=0.1)
    indices, counts = choose(greys(noise.tolist()), colors, price)
    assert torch.equal(indices[11, 30:70], indices[1, 5:45])
    assert int(counts.lengths[0, 37:].sum()) == 1
    assert counts.distances[0, distance_code(10 * 81 + 25)] >= 1


@settings
@hypothesis.given(st.integers(2, 12), st.integers(1, 12), SEEDS, st.sampled_from([0.0, 0.1, 1e4]))
def test_no_pixel_takes_a_color_that_its_kind_may_not_have(height, width, seed, scale):
    points, colors = random(height, width, 4, seed=seed), random(6, 4, seed=seed + 1)
    kinds = (3 * random(height, width, seed=seed + 2)).byte()
    weights = random(height, width, seed=seed + 3) ** 8 + 1e-6
    allowed = torch.tensor([[1, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]).bool()
    price = some_costs(2, 6, scale, seed)
    for diffusion in (0.0, 0.5):
        indices, _ = choose(points, colors, price, kinds, allowed, weights, diffusion)
        assert allowed[kinds.long(), indices.long()].all()


def test_bands_know_nothing_of_each_other():
    points = random(20, 1, 4, seed=1).expand(20, 30, 4).contiguous()  # rows that are easy to copy
    points[:] = points[:5].repeat(4, 1, 1)
    colors, price = random(9, 4), some_costs(4, 9, 0.1, 2)
    together, counts = choose(points, colors, price, diffusion=0.5)
    for band, rows in enumerate(points.split(5)):
        part = DeflateCosts(*(cost[band : band + 1] for cost in price))
        alone, its_counts = choose(rows.contiguous(), colors, part, diffusion=0.5)
        assert torch.equal(together[5 * band : 5 * band + 5], alone)
        assert_same(its_counts, [n[band : band + 1] for n in counts])


@pytest.mark.parametrize(("height", "bands"), [(1, 3), (3, 7), (5, 4), (7, 7)])
def test_more_bands_than_rows_leave_some_empty(height, bands):
    points, colors = random(height, 9, 4), random(3, 4, seed=1)
    indices, counts = choose(points, colors, costs(bands, 3))
    assert torch.equal(indices, choose(points, colors, costs(1, 3))[0])
    assert int(counts.literals.sum() + (counts.lengths @ torch.arange(259)).sum()) == 9 * height


def diffuse_slowly(points, colors, share, clear):
    """Each row to the nearest colors, and a share of what that leaves to the row below."""
    points, chosen = points.double().clone(), []
    for row in range(len(points)):
        nearest = (points[row][:, None] - colors).square().sum(-1).argmin(1)
        chosen.append(nearest)
        left = points[row] - colors[nearest]
        left[clear[row]] = 0
        if row + 1 < len(points):
            points[row + 1] += share / 2 * left
            points[row + 1, 1:] += share / 4 * left[:-1]
            points[row + 1, :-1] += share / 4 * left[1:]
    return torch.stack(chosen)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_errors_go_to_the_row_below_but_none_of_kind_0(share):
    points, colors = random(12, 17, 4), random(6, 4, seed=1)
    kinds = (random(12, 17, seed=2) < 0.7).byte()
    found = choose(points, colors, costs(1, 6), kinds, diffusion=share)[0]
    assert torch.equal(found.long(), diffuse_slowly(points, colors.double(), share, kinds == 0))


def test_what_lies_between_two_colors_keeps_its_mean():
    grey = greys([[0.4] * 30] * 30)
    price = costs(1, 2, 0.02, 0.02, 0.02)
    off = {
        share: abs(
            float(choose(grey, BLACK_AND_WHITE, price, diffusion=share)[0].float().mean()) - 0.4
        )
        for share in (0.0, 0.9)
    }
    assert off[0.0] == pytest.approx(0.4)
    assert off[0.9] < 0.1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (300, 1), (300, 2), (200, 3), (3, 40_000)])
def test_narrow_tall_and_wider_than_what_deflate_looks_back_on(height, width):
    points = random(height, width, 4, seed=4).round()  # corners of the cube, many alike
    colors = torch.tensor(list(itertools.product([0.2, 0.9], repeat=4)))
    price = costs(2, 16, literal=0.01, length=0.002, distance=0.002)
    indices, counts = choose(points, colors, price)
    assert ((indices >= 0) & (indices < 16)).all()
    stored = counts.literals.sum() + (counts.lengths @ torch.arange(259)).sum()
    assert stored == height * width
    if height > 1:
        assert counts.lengths.sum() > 0 or width < 3


def test_a_copy_never_reaches_back_further_than_deflate():
    line = random(1, 20_000, 4, seed=4)
    points = torch.cat([line, random(1, 20_000, 4, seed=5), line])  # 40002 bytes apart
    price = costs(1, 8, literal=0.1, length=0.01, distance=0.0)
    price.distances[0, :28] = 100.0  # all but the furthest two
    _, counts = choose(points, random(8, 4), price)
    assert counts.distances[0, :28].sum() == 0
    near = choose(points[:, :10_000].contiguous(), random(8, 4), price)[1]
    assert near.distances[0, 28:].sum() > 0  # 20002 bytes apart


def test_any_memory_will_do():
    points, weights = random(4, 9, 5, seed=1).permute(2, 1, 0), random(9, 5).T
    colors, kinds = random(4, 6, seed=2).T, torch.ones(9, 5, dtype=torch.uint8).T
    allowed, price = torch.ones(6, 2).bool().T, some_costs(2, 6, 0.1, 3)
    plain = [x.contiguous() for x in (points, weights, kinds, colors, allowed)]
    turned = DeflateCosts(*(part.T.contiguous().T for part in price))
    expected = choose_indices(*plain, price, 0.3)
    found = choose_indices(points, weights, kinds, colors, allowed, turned, 0.3)
    assert_same([found[0], *found[1]], [expected[0], *expected[1]])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
@pytest.mark.parametrize("share", [0.001, 0.3, 1.0])
def test_numbers_that_are_not_finite_do_no_harm(value, share):
    height, width = 4, 700  # longer than a copy can be
    points, colors = random(height, width, 4).round(), random(5, 4)
    weights, price = torch.ones(height, width), some_costs(2, 5, 0.1, 0)
    wild = points.clone(), weights.clone(), some_costs(2, 5, 0.1, 0)
    for part in (wild[0], wild[1], wild[2].lengths):
        part[random(*part.shape, seed=1) < share] = value
    for case in ((wild[0], weights, price), (points, wild[1], price), (points, weights, wild[2])):
        indices, counts = choose(case[0], colors, case[2], weights=case[1], diffusion=0.3)
        assert ((indices >= 0) & (indices < 5)).all()
        stored = counts.literals.sum() + (counts.lengths @ torch.arange(259)).sum()
        assert stored == height * width
