"""Palettes of displays that have few bits a channel: on their grid, and better than rounded."""

import pytest
import torch

from colorquant_nn import fit_palette, within_cluster_sum_of_squares
from colorquant_nn.functional.grid import check_bits, round_to_grid
from tests.helpers import SPACES, picture


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("bits", [(5, 6, 5), (3, 3, 2)])
@pytest.mark.parametrize("num_colors", [16, 64])
def test_colours_on_the_grid_are_better_than_rounded_ones(space, bits, num_colors):
    image = picture(0, height=60, width=80)
    palette = fit_palette(image, num_colors, space=space, bits=bits)
    assert palette.equal(round_to_grid(palette, bits))
    assert len(palette.unique(dim=0)) == len(palette) == num_colors
    rounded = round_to_grid(fit_palette(image, num_colors, space=space), bits)
    errors = [within_cluster_sum_of_squares(image, one, space=space) for one in (palette, rounded)]
    assert errors[0] < errors[1]


def test_there_are_no_more_colours_than_the_grid_has():
    palette = fit_palette(picture(0), 64, bits=1)
    assert len(palette) == len(palette.unique(dim=0)) <= 8
    assert set(palette.flatten().tolist()) <= {0.0, 1.0}
    two = torch.tensor([0.1, 0.2]).expand(3, 1, 2)  # both nearest to one grey
    assert fit_palette(two, 4, bits=2, space="rgb").tolist() == [
        [0.0] * 3,
        [pytest.approx(1 / 3)] * 3,
    ]
    assert fit_palette(two, 4, bits=1, space="rgb").tolist() == [[0.0] * 3]


def test_eight_bits_are_bytes():
    palette = fit_palette(picture(0), 8, bits=8)
    torch.testing.assert_close(palette * 255, (palette * 255).round(), atol=1e-4, rtol=0)
    assert fit_palette(picture(0), 8, bits=(8, 8, 8)).equal(palette)


def test_colours_to_keep_have_to_be_on_the_grid():
    image = picture(0)
    keep = torch.tensor([[132, 0, 255]], dtype=torch.uint8)  # 16 of 31
    palette = fit_palette(image, 8, keep=keep, bits=(5, 6, 5))
    assert (palette * 255).round().eq(keep).all(1).any()
    assert len(palette) == 8
    with pytest.raises(ValueError, match=r"5, 6, 5 bits, got #800000; the nearest is #840000"):
        fit_palette(image, 8, keep=torch.tensor([[128, 0, 0]], dtype=torch.uint8), bits=(5, 6, 5))


def test_alpha_has_eight_bits():
    image = picture(0, channels=4)
    image[3, :5] = 0
    image[3, 5:25] = 255
    palette = fit_palette(image, 12, bits=(3, 3, 2))
    assert palette.equal(round_to_grid(palette, (3, 3, 2)))
    assert (palette[:, 3] == 0).sum() == 1
    assert (palette[:, 3] == 1).any()
    hole = torch.zeros(4, 2, 2, dtype=torch.uint8)
    assert fit_palette(hole, 4, bits=3).tolist() == [[0.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("bits", [0, 9, (5, 6), (5, 6, 9), (5, 6, 5, 1), ()])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match="three whole numbers from 1 to 8, or one"):
        fit_palette(picture(0), 4, bits=bits)


@pytest.mark.parametrize("bits", ["565", 5.0, True, (5, 6, 5.0)])
def test_bits_are_whole_numbers(bits):
    with pytest.raises(TypeError, match="three whole numbers from 1 to 8, or one"):
        check_bits(bits)
