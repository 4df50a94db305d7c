"""The two steps, against Lloyd's, their definition, and zlib."""

import itertools
import zlib

import numpy as np
import pytest
import torch

from colorquant_nn import kernels
from colorquant_nn.functional import rate
from colorquant_nn.functional.color import color_space, to_working_space
from colorquant_nn.functional.opacity import CLEAR, OPAQUE, SOFT
from colorquant_nn.functional.rate import begin, improve, prepare_source, to_result
from tests import oracles
from tests.helpers import SPACES, assert_same, picture, random


def source_of(pixels, space="oklab"):
    """(C, H, W)."""
    return prepare_source(pixels.movedim(0, -1), space)


def icon():
    """A picture with a hole that has a soft edge."""
    alpha = torch.full((1, 24, 32), 255, dtype=torch.uint8)
    alpha[:, 4:16, 6:20], alpha[:, 7:13, 9:17] = 120, 0
    return torch.cat([picture(3, 3, 24, 32), alpha])


RGBA_PALETTE = torch.tensor(
    [[0.0, 0, 0, 0], [0.2, 0.4, 0.6, 0.5], [0.6, 0.5, 0.4, 1], [0.2, 0.2, 0.2, 1]]
)


@pytest.fixture
def steps(monkeypatch):
    """What `kernels.choose_indices` was asked for, and what it gave."""
    seen = []
    choose = kernels.choose_indices

    def record(*arguments):
        seen.append((arguments, choose(*arguments)))
        return seen[-1][1]

    monkeypatch.setattr(kernels, "choose_indices", record)
    return seen


@pytest.mark.parametrize("space", SPACES)
def test_where_bits_are_free_a_step_is_one_of_lloyds(space):
    source = source_of(picture(0), space)
    before = begin(source, random(9, 3))
    after = improve(source, before, 0.0)
    points = source.points.flatten(0, 1)
    found = kernels.cluster(points[None], before.colors[None])
    assert torch.equal(after.indices.flatten().long(), found.indices[0])
    moments = kernels.unpack_moments(found.moments[0])
    means = before.colors + moments.offsets / moments.counts.clamp_min(1)[:, None]
    torch.testing.assert_close(after.colors.double(), means, rtol=1e-6, atol=1e-6)


def test_the_palette_is_the_mean_of_its_pixels_by_what_is_not_masked():
    source, lossy = source_of(picture(1)), 30.0
    before = begin(source, random(6, 3))
    after = improve(source, before, lossy)
    weights = 1 / (1 + source.variance.double() * lossy * rate.PRICE / rate.MASKING)
    for k in range(6):
        mine = after.indices == k
        if mine.any():
            mean = (weights[mine, None] * source.points[mine]).sum(0) / weights[mine].sum()
            torch.testing.assert_close(after.colors[k].double(), mean, rtol=0, atol=1e-6)
        else:
            assert torch.equal(after.colors[k], before.colors[k])


def test_errors_weigh_less_where_the_picture_varies_and_the_more_so_the_higher_the_price(steps):
    pixels = torch.full((3, 20, 40), 0.5)
    pixels[:, :, 20:] += 0.4 * (random(3, 20, 20) - 0.5)
    source = source_of(pixels)
    start = begin(source, random(4, 3))
    for lossy in (0.0, 1e-300, 1.0, 20.0, 1e6):
        improve(source, start, lossy)
    weights = [arguments[1] for arguments, _ in steps]
    for each in weights:
        assert float(each.mean()) == pytest.approx(1, abs=1e-5)
    assert (weights[0] == 1).all()
    assert (weights[1] == 1).all()
    shares = [float(each[:, 25:].sum() / each.sum()) for each in weights]
    assert shares == sorted(shares, reverse=True)
    assert shares[3] < 0.4


@pytest.mark.parametrize("space", ["rgb", "linear", "lab"])
def test_other_spaces_know_the_plain_error(space, steps):
    source = source_of(picture(1), space)
    assert source.variance is None
    improve(source, begin(source, random(6, 3)), 30.0)
    ((_, weights, *_, diffusion), _) = steps[0]
    assert (weights == 1).all()
    assert diffusion == 0


def test_the_price_of_a_bit_is_a_part_of_the_error_of_black_and_white(steps):
    for space in SPACES:
        source = source_of(picture(1), space)
        start = begin(source, random(8, 3))
        improve(source, start, 50.0)
        white = float(to_working_space(torch.ones(1, 3), space).square().sum())
        (*_, price, _), _ = steps.pop()
        torch.testing.assert_close(price.literals, torch.full_like(price.literals, 150e-6 * white))


@pytest.mark.parametrize("lossy", [0.0, 20.0, 300.0])
def test_no_step_raises_error_and_price(lossy, steps):
    """Of the costs before it; then costs move, to fit what was chosen."""
    source = source_of(picture(2, height=60, width=80), "rgb")
    coded = begin(source, random(32, 3))
    states = [coded := improve(source, coded, lossy) for _ in range(6)]

    def energy(indices, counts, colors, price):
        error = (source.points - colors[indices.long()]).double().square().sum()
        return float(error + sum((n * cost).sum() for n, cost in zip(counts, price, strict=True)))

    for (_, before), (arguments, after) in itertools.pairwise(steps):
        *_, colors, _, price, _ = arguments
        assert energy(*after, colors, price) <= energy(*before, colors, price) * (1 + 1e-3)
    for state, (arguments, after) in zip(states, steps, strict=True):
        *_, colors, _, price, _ = arguments
        assert energy(*after, state.colors, price) <= energy(*after, colors, price) * (1 + 1e-6)


def test_a_higher_price_takes_fewer_bits():
    source = source_of(picture(0, height=60, width=80))
    bits = []
    for lossy in (0.0, 10.0, 100.0, 1000.0):
        coded = begin(source, random(32, 3))
        for _ in range(3):
            coded = improve(source, coded, lossy)
        bits.append(coded.bits)
    assert bits == sorted(bits, reverse=True)
    assert bits[-1] < 0.25 * bits[0]


def test_bits_are_about_what_deflate_takes():
    source = source_of(picture(0, height=200, width=150))
    coded = begin(source, random(32, 3))
    for _ in range(4):
        coded = improve(source, coded, 30.0)
    rows = torch.nn.functional.pad(coded.indices, (1, 0)).byte().numpy().tobytes()
    assert coded.bits / 8 == pytest.approx(len(zlib.compress(rows, 9)), rel=0.15)


@pytest.mark.parametrize("height", [1, 63, 200, 330])
def test_costs_could_be_those_of_a_code(height):
    """Kraft's inequality, with every length and distance counted for each of its extra bits."""
    source = source_of(picture(0, height=height, width=20))
    coded = begin(source, random(32, 3))
    for _ in range(3):
        coded = improve(source, coded, 20.0)
        literals, lengths, distances = (part.double().numpy() for part in coded.costs)
        extra = np.array(oracles.DISTANCE_EXTRA)
        assert len(literals) == max(1, round(height / 128))
        assert ((2**-literals).sum(1) + (2.0 ** -lengths[:, 3:]).sum(1) <= 1 + 1e-5).all()
        assert ((2.0 ** (extra - distances)).sum(1) <= 1 + 1e-5).all()
        for part in coded.costs:
            assert (part >= 0).all()


def test_codes_are_those_of_the_standard():
    assert rate.LENGTHS.tolist() == oracles.LENGTH_BASES
    assert rate.LENGTH_BITS.tolist() == oracles.LENGTH_EXTRA
    assert rate.DISTANCE_BITS.tolist() == oracles.DISTANCE_EXTRA
    for length in range(3, 259):
        code = max(c for c, base in enumerate(oracles.LENGTH_BASES) if base <= length)
        assert rate.LENGTH_CODES[length] == code


def test_what_comes_up_often_costs_little():
    pixels = torch.zeros(3, 20, 30)
    pixels[:, :, 7::8] = 1
    pixels[0, 3, 3] = 1
    source = source_of(pixels, "rgb")
    palette = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 0, 1]])
    coded = improve(source, begin(source, palette), 100.0)
    black, white, red, blue = coded.costs.literals[0].tolist()
    assert black <= white <= red <= blue
    assert blue == max(coded.costs.literals[0])


def test_bands_know_half_of_what_the_others_use():
    pixels = torch.zeros(3, 256, 20)
    pixels[:, 128:] = (random(3, 128, 20) < 0.5).float()  # eight colors; above there is but black
    corners = torch.tensor([*itertools.product([0.0, 1.0], repeat=3), (0.5, 0.5, 0.5)])
    source = source_of(pixels, "rgb")
    literals = improve(source, begin(source, corners), 0.0).costs.literals
    assert len(literals) == 2
    assert (literals[0, 1:8] < literals[0, 8] - 5).all()  # no pixel is grey
    assert literals[1, 0] < literals[1, 8] - 5


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("lossy", [0.0, 50.0, 1e6])
def test_clear_stays_clear_and_opaque_stays_opaque(space, lossy):
    source = source_of(icon(), space)
    assert set(source.kinds.unique().tolist()) == {CLEAR, SOFT, OPAQUE}
    coded = begin(source, RGBA_PALETTE)
    for _ in range(3):
        coded = improve(source, coded, lossy)
        assert (coded.colors[0] == 0).all()
        assert (coded.colors[2:, 3] == color_space(space).lightness).all()
    palette, indices = to_result(source, coded)
    alpha = palette[indices][..., 3]
    assert (alpha[source.kinds == CLEAR] == 0).all()
    assert (alpha[source.kinds == OPAQUE] == 1).all()


def test_without_a_clear_or_an_opaque_color_the_others_serve():
    source = source_of(icon())
    for palette in (RGBA_PALETTE[:1], RGBA_PALETTE[1:2], RGBA_PALETTE[2:]):
        coded = improve(source, begin(source, palette), 10.0)
        assert coded.indices.max() < len(palette)
        assert coded.colors.isfinite().all()


def test_a_result_has_the_colors_that_are_used_in_bytes():
    source = source_of(picture(0) // 2)
    palette = torch.cat([0.5 * random(5, 3), torch.ones(1, 3)])  # nothing is so light
    coded = improve(source, begin(source, palette), 10.0)
    assert 5 not in coded.indices
    colors, indices = to_result(source, coded)
    assert len(colors) == len(indices.unique()) == int(indices.max()) + 1
    assert indices.dtype == torch.int64
    torch.testing.assert_close(colors * 255, (colors * 255).round(), rtol=0, atol=1e-4)
    chosen = to_working_space(colors, "oklab")[indices]
    torch.testing.assert_close(
        chosen, coded.colors[coded.indices.long(), :3], rtol=0, atol=0.01
    )  # in the same order


def test_an_order_of_colors_changes_their_numbers_alone():
    source = source_of(picture(0))
    coded = improve(source, begin(source, random(9, 3)), 300.0)
    colors, indices = to_result(source, coded)
    order = torch.tensor([4, 7, 0, 8, 1, 3, 2, 6, 5])
    turned, its_indices = to_result(source, coded, order)
    assert_same([turned[its_indices]], [colors[indices]])
    used = [k for k in order.tolist() if k in coded.indices]
    assert torch.equal(turned, colors[[sorted(used).index(k) for k in used]])


@pytest.mark.parametrize("channels", [3, 4])
def test_a_source_is_the_same_of_bytes_and_of_numbers(channels):
    pixels = picture(0, channels)
    of_bytes, of_numbers = source_of(pixels), source_of(pixels / 255)
    torch.testing.assert_close(of_bytes.points, of_numbers.points, rtol=0, atol=1e-6)
    assert torch.equal(of_bytes.kinds, of_numbers.kinds)


@pytest.mark.parametrize("channels", [3, 4])
def test_what_is_not_a_number_or_out_of_range_is_taken_as_elsewhere(channels):
    pixels = random(channels, 9, 9)
    pixels[0, 2, 3], pixels[1, 4, 4], pixels[2, 5, 5] = float("nan"), float("inf"), -3.0
    tamed = pixels.nan_to_num(0).clamp(0, 1)
    wild, tame = source_of(pixels), source_of(tamed)
    assert torch.equal(wild.points, tame.points)
    assert wild.variance.isfinite().all()


def test_variance_is_of_what_is_there():
    """Transparent pixels are neither dark nor light."""
    alpha = (torch.arange(40) < 20).float().expand(1, 30, 40)
    source = source_of(torch.cat([torch.full((3, 30, 40), 0.7), alpha]))
    assert source.variance[:, :20].max() < 1e-4


def test_colours_merge_that_are_not_worth_what_tells_them_apart():
    generator = torch.Generator().manual_seed(0)
    near = torch.tensor([[0.50, 0.5, 0.5], [0.51, 0.5, 0.5], [0.9, 0.1, 0.1]])
    pixels = near[torch.randint(3, (40, 40), generator=generator)].movedim(-1, 0)
    source = source_of(pixels, "rgb")
    for lossy, count in ((0.0, 3), (1e-3, 3), (50.0, 2)):
        coded = improve(source, begin(source, near), lossy)
        palette, indices = to_result(source, coded)
        assert len(palette) == count
        assert len(indices.unique()) == count
    assert torch.allclose(palette[0], torch.tensor([0.505, 0.5, 0.5]), atol=0.003)
    assert palette[1].sub(near[2]).abs().max() < 0.003
