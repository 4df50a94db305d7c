"""Pictures for people: that what they claim to show is where they claim it."""

import math

import numpy as np
import pytest
import torch

from colorquant_nn.plot import _knee, comparison, is_light, palette_swatch, rate_distortion


def flat(color, height=400, width=600) -> torch.Tensor:
    return torch.tensor(color).view(3, 1, 1).expand(3, height, width)


def area_of(picture, color) -> int:
    return int((np.asarray(picture) == np.array(color, np.uint8)).all(-1).sum())


def test_comparison_shows_each_picture_at_its_size():
    picture = comparison({"red\nfirst": flat([1.0, 0, 0]), "blue": flat([0, 0, 1.0])})
    assert picture.mode == "RGB"
    assert area_of(picture, (255, 0, 0)) == 400 * 600
    assert area_of(picture, (0, 0, 255)) == 400 * 600
    columns = np.flatnonzero((np.asarray(picture) == (255, 0, 0)).all(-1).any(0))
    assert columns.max() < np.flatnonzero((np.asarray(picture) == (0, 0, 255)).all(-1).any(0)).min()


def test_captions_change_the_picture_and_long_ones_are_cut():
    image = {"a": flat([1.0, 0, 0])}
    plain = comparison(image)
    named = comparison({"b": image["a"]})
    assert plain.size == named.size
    assert plain.tobytes() != named.tobytes()
    assert comparison({"a" * 500: image["a"]}).size == plain.size


def test_tiny_pictures_are_enlarged_without_smoothing():
    tiny = torch.zeros(3, 2, 3)
    tiny[0, 0, 0] = 1
    picture = comparison({"tiny": tiny})
    assert area_of(picture, (255, 0, 0)) == math.ceil(320 / 3) ** 2
    assert area_of(picture, (0, 0, 0)) >= 5 * math.ceil(320 / 3) ** 2


def test_huge_pictures_are_reduced():
    picture = comparison(
        {"huge": flat([0, 1.0, 0], 1100, 1900), "thin": flat([1.0, 0, 0], 1, 3000)}
    )
    assert max(picture.size) < 2300


def test_thin_pictures_leave_room_for_captions_and_palettes():
    palette = torch.eye(3)
    for height, width in ((10, 900), (900, 10)):
        picture = comparison({"long": flat([0.5, 0.5, 0.5], height, width)}, palette=palette)
        assert min(picture.size) > 240
        for color in (255, 0, 0), (0, 255, 0), (0, 0, 255):
            assert area_of(picture, color) > 200 * 200 / 4


def test_wide_pictures_are_stacked():
    wide = flat([0.5, 0.5, 0.5], 30, 900)
    picture = comparison({"a": wide, "b": wide}, palette=torch.eye(3))
    assert picture.width < 1000
    assert area_of(picture, (128, 128, 128)) >= 2 * 30 * 900
    assert area_of(picture, (255, 0, 0)) > 200 * 200
    assert comparison({"a": wide, "b": flat([0.5, 0.5, 0.5])}).width > 1800  # only if all are


def test_letters_that_the_font_lacks_are_told_by_others():
    image = flat([1.0, 0, 0])
    for name, drawn in (("naïve.png", "naive.png"), ("写真\udcff.png", "???.png"), ("a\x1b", "a?")):
        assert comparison({name: image}).tobytes() == comparison({drawn: image}).tobytes()


def test_codes_of_half_transparent_colors_have_their_alpha():
    almost = [palette_swatch(torch.tensor([[0.0, 0, 0, alpha / 255]])) for alpha in (254, 255)]
    changed = [(np.asarray(almost[0]).astype(int) - np.asarray(almost[1])) > 9]
    assert np.any(changed)  # more than the ground, which changes by 1


def test_many_pictures_make_rows():
    pictures = {str(number): flat([number / 8, 0, 0], 320, 320) for number in range(1, 8)}
    picture = comparison(pictures)
    assert picture.width < 4 * 400
    for number in range(1, 8):
        assert area_of(picture, (round(number / 8 * 255), 0, 0)) >= 320 * 320


def test_transparency_is_shown_as_a_checkerboard():
    clear = torch.cat([flat([1.0, 0, 0]), torch.zeros(1, 400, 600)])
    picture = comparison({"clear": clear})
    assert area_of(picture, (255, 0, 0)) == 0
    assert area_of(picture, (222, 222, 222)) == 400 * 600 / 2


def test_codes_on_a_clear_colour_are_written_as_on_light_grey():
    assert is_light((0, 0, 0, 0))
    assert not is_light((0, 0, 0, 255))
    assert not is_light((0, 0, 0, 128))
    assert is_light((0, 0, 0, 96))


def test_shares_are_drawn_to_scale():
    palette = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])
    picture = np.asarray(palette_swatch(palette, torch.tensor([1, 3])))
    bar = picture[20]
    red = (bar == (255, 0, 0)).all(-1).sum()
    blue = (bar == (0, 0, 255)).all(-1).sum()
    assert blue == pytest.approx(3 * red, abs=3)


@pytest.mark.parametrize("count", [1, 5, 64, 100, 1000])
@pytest.mark.parametrize("with_counts", [False, True])
def test_swatches_show_every_color(count, with_counts):
    numbers = torch.arange(count)
    palette = torch.stack([numbers % 256, numbers // 256, 255 - numbers % 200], 1) / 255
    counts = numbers if with_counts else None
    picture = palette_swatch(palette, counts)
    shown = {color for _, color in picture.getcolors(1 << 20)}
    assert {tuple(color) for color in (palette * 255).round().int().tolist()} <= shown
    picture = comparison({"a": flat([0.0, 0, 0])}, palette=palette, counts=counts)
    shown = {color for _, color in picture.getcolors(1 << 20)}
    assert {tuple(color) for color in (palette * 255).round().int().tolist()} <= shown


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="at least one image"):
        comparison({})
    with pytest.raises(ValueError, match=r"got \(2, 3, 4, 4\)"):
        comparison({"batch": torch.rand(2, 3, 4, 4)})
    with pytest.raises(ValueError, match=r"counts of shape \(2,\), got \(3,\)"):
        palette_swatch(torch.rand(2, 3), torch.ones(3))


def test_rate_distortion_marks_the_knee():
    assert _knee([1, 2, 3, 4, 5], [100, 50, 12, 10, 9]) == 2
    assert _knee([1, 2, 3], [5, 5, 5]) == 0
    curve = {2: 16.5, 4: 19.3, 8: 23.0, 16: 26.3, 32: 29.2, 64: 31.8, 128: 34.3, 256: 36.6}
    picture = rate_distortion(curve, "parrots")
    marked = np.argwhere((np.asarray(picture) == (214, 84, 38)).all(-1) & _below(picture, 160))
    # The dashes stand above the fourth of eight points.
    assert abs(np.median(marked[:, 1]) - (116 + 3 / 7 * 890)) < 8


def test_exact_palettes_are_drawn_at_no_error():
    picture = np.asarray(rate_distortion({2: 12.0, 3: math.inf}))
    dots = np.argwhere((picture == (52, 98, 160)).all(-1))
    lowest = dots[dots[:, 0] > 605]
    assert abs(np.median(lowest[:, 1]) - 1006) < 8  # the axis is at 610, the last point at 1006
    for curve in ({1: math.inf}, {2: math.inf}, {2: 12.0}, {256: 30.0, 257: math.inf}):
        assert rate_distortion(curve).size == (1120, 720)


def test_the_note_names_the_exact_count_and_the_knee():
    curve = {2: 16.5, 4: 19.3, 8: 23.0}

    def note(points) -> bytes:
        return np.asarray(rate_distortion(points))[72:102].tobytes()

    exact = [note({**curve, count: math.inf}) for count in (16, 32)]
    assert exact[0] != exact[1]
    assert note(curve) not in exact
    assert note({2: 12.0, 4: 15.0}) == note({2: 12.0})  # two points have no knee
    assert note({2: 10, 4: 30, 8: 31, 16: 32}) != note({2: 10, 4: 12, 8: 31, 16: 32})
    assert note({2: 10, 4: 30, 8: 31, 16: 32}) == note({2: 11, 4: 31, 8: 32, 16: 33})


def _below(picture, row) -> np.ndarray:
    return np.arange(picture.height)[:, None] > row
