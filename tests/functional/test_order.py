"""The order of a palette in which its indices deflate best."""

import itertools

import numpy as np
import pytest
import torch

from colorquant_nn.functional.order import order_for_deflate
from colorquant_nn.image import QuantizedImage, order_for_size, quantize_image
from colorquant_nn.io import encode_frames
from tests.helpers import photo


def bits_of_differences(indices, order):
    place = order.argsort()[indices]
    return sum((1 + place.diff(dim=dim).abs()).log2().sum().item() for dim in (0, 1))


def walk(colors, seed=0):
    """A picture (40, 40) in which each colour meets two others, whose names say nothing."""
    draw = np.random.default_rng(seed)
    place = np.abs(np.cumsum(draw.integers(-1, 2, (40, 40)), 1) + np.arange(40)[:, None] // 3)
    return torch.from_numpy(draw.permutation(colors)[place % colors])


@pytest.mark.parametrize("colors", [1, 2, 3, 5, 40])
def test_every_colour_has_one_place(colors):
    indices = torch.randint(0, max(1, colors - 2), (9, 11))  # two are in no pixel
    order = order_for_deflate(indices, colors)
    assert order.dtype == torch.int64
    assert order.sort().values.equal(torch.arange(colors))
    assert order.equal(order_for_deflate(indices.clone(), colors))


def test_pictures_of_a_row_or_a_column_have_an_order():
    for shape in ((1, 1), (1, 30), (30, 1)):
        order = order_for_deflate(torch.randint(0, 7, shape), 7)
        assert order.sort().values.equal(torch.arange(7))


@pytest.mark.parametrize("seed", range(5))
def test_few_colors_come_close_to_the_best_of_all_orders(seed):
    indices = walk(6, seed)
    found = bits_of_differences(indices, order_for_deflate(indices, 6))
    best = min(
        bits_of_differences(indices, torch.tensor(order))
        for order in itertools.permutations(range(6))
    )
    assert found <= 1.05 * best


def test_neighbours_in_the_picture_are_neighbours_in_the_palette():
    indices = walk(64)
    given = bits_of_differences(indices, torch.arange(64))
    assert bits_of_differences(indices, order_for_deflate(indices, 64)) < 0.4 * given


def test_the_colour_of_the_margin_is_the_first():
    indices = walk(12)
    indices[:, 0] = indices[:, -1] = 7
    assert order_for_deflate(indices, 12)[0] == 7


def test_the_picture_stays_and_its_file_becomes_smaller():
    drawn = quantize_image(torch.from_numpy(photo()).movedim(-1, 0), 64)
    ordered = order_for_size(drawn)
    assert isinstance(ordered, QuantizedImage)
    assert ordered.rgb is drawn.rgb
    assert ordered.palette[ordered.indices].equal(drawn.palette[drawn.indices])
    before, after = (len(encode_frames("a.png", [image])) for image in (drawn, ordered))
    assert after < before


def test_transparent_colors_keep_their_pixels():
    indices = walk(5)
    palette = torch.rand(5, 4)
    drawn = QuantizedImage(palette[indices].movedim(-1, 0), indices, palette)
    ordered = order_for_size(drawn)
    assert ordered.palette[ordered.indices].movedim(-1, 0).equal(drawn.rgb)
