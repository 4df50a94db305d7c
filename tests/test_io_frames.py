"""Animations and pages: frames, timing and one palette."""

import numpy as np
import pytest
import torch
from PIL import Image

from colorquant_nn import QuantizedImage, apply_palette, save_image
from colorquant_nn.io import load_frames, open_frames, save_frames
from tests.helpers import HEIGHT, WIDTH, as_bytes, drawn, photo, quantized


def animation() -> list[QuantizedImage]:
    first = quantized(12)
    second = first.indices.clone()
    second[3:6, 4:9] = 7
    frames = [first.indices, second, second, first.indices]
    return [drawn(indices, first.palette) for indices in frames]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_frames_keep_their_timing(tmp_path, suffix):
    frames = animation()
    save_frames(tmp_path / f"a{suffix}", frames, [100, 50, 70, 300], plays=3)
    back = load_frames(tmp_path / f"a{suffix}")
    assert back.plays == 3
    assert back.durations == [100, 50, 70, 300]
    for image, frame in zip(back.images, frames, strict=True):
        assert image.equal(as_bytes(frame.rgb))


@pytest.mark.parametrize("source", [".gif", ".png", ".webp"])
@pytest.mark.parametrize("target", [".gif", ".png", ".webp"])
@pytest.mark.parametrize("plays", [0, 1, 2, 7])
def test_times_and_plays_survive_from_format_to_format(tmp_path, source, target, plays):
    frames = animation()
    save_frames(tmp_path / f"a{source}", frames, [100, 50, 70, 300], plays)
    back = open_frames(tmp_path / f"a{source}")
    again = (apply_palette(image, frames[0].palette) for image, _ in back)
    save_frames(tmp_path / f"b{target}", again, back.durations, back.plays)
    final = open_frames(tmp_path / f"b{target}")
    assert final.durations == [100, 50, 70, 300]
    assert final.plays == plays


def test_a_gif_has_one_palette(tmp_path):
    frames = animation()
    save_frames(tmp_path / "a.gif", frames, [100] * 4, plays=0)
    data = (tmp_path / "a.gif").read_bytes()
    assert data[10] == 0x80 | 0x70 | 3  # a global table of 16 colours
    assert data[13 : 13 + 36] == as_bytes(frames[0].palette).numpy().tobytes()
    assert local_color_tables(data) == [False] * 4


def local_color_tables(gif: bytes) -> list[bool]:
    """For each frame, whether it has colours of its own."""
    position = 13 + (3 << (gif[10] & 7) + 1)
    tables = []
    while gif[position] != 0x3B:
        if gif[position] == 0x2C:
            tables.append(bool(gif[position + 9] & 0x80))
            position += 11
        else:
            position += 2
        while gif[position]:
            position += gif[position] + 1
        position += 1
    return tables


def test_frames_with_transparency(tmp_path):
    palette = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    frames = []
    for place in range(3):
        indices = torch.zeros(6, 6, dtype=torch.int64)
        indices[place : place + 2, place] = 1 + place % 2
        frames.append(drawn(indices, palette))
    for suffix in (".gif", ".png", ".webp"):
        save_frames(tmp_path / f"a{suffix}", frames, [40] * 3, plays=0)
        back = load_frames(tmp_path / f"a{suffix}").images
        assert len(back) == 3
        for image, frame in zip(back, frames, strict=True):
            assert image[3].equal((frame.rgb[3] * 255).byte())
            assert (image[:3] * (image[3] > 0)).equal((frame.rgb[:3] * 255).byte())


def test_pages_of_different_sizes(tmp_path):
    small, large = quantized(5, height=4, width=7), quantized(5)
    save_frames(tmp_path / "a.tif", [small, large])
    back = load_frames(tmp_path / "a.tif").images
    for image, page in zip(back, [small, large], strict=True):
        assert image.equal(as_bytes(page.rgb))
    with pytest.raises(ValueError, match=r"use \.tif for pages"):
        save_frames(tmp_path / "a.gif", [small, large])


def test_a_still_picture_is_one_frame(tmp_path):
    Image.fromarray(photo()).save(tmp_path / "a.jpg")
    frames = load_frames(tmp_path / "a.jpg")
    assert len(frames.images) == 1
    assert frames.durations == [0]
    assert frames.plays == 1


def test_previews_are_no_frames(tmp_path):
    preview = Image.fromarray(photo()[:8])
    Image.fromarray(photo()).save(tmp_path / "a.mpo", "MPO", save_all=True, append_images=[preview])
    assert len(load_frames(tmp_path / "a.mpo").images) == 1


def test_palettes_must_be_shared(tmp_path):
    with pytest.raises(ValueError, match="share one palette"):
        save_frames(tmp_path / "a.gif", [quantized(5), quantized(5, seed=1)])


def test_a_frame_without_alpha_is_opaque_among_others(tmp_path):
    clear = np.dstack([photo(), np.full((HEIGHT, WIDTH), 99, np.uint8)])
    pages = [Image.fromarray(photo()), Image.fromarray(clear)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    opaque, faint = load_frames(tmp_path / "a.tif").images
    assert (opaque.shape[0], faint.shape[0]) == (4, 4)
    assert (opaque[3] == 255).all()
    assert (faint[3] == 99).all()


def test_what_a_format_cannot_hold_is_one_warning_that_names_the_file(tmp_path):
    with pytest.warns(UserWarning, match=r"a\.gif: a frame is shown for 655350 ms") as told:
        save_frames(tmp_path / "a.gif", animation()[:2], [700_000, 50], plays=1 << 40)
    assert len(told) == 1
    assert "; shown 65536 times at most, not 1099511627776" in str(told[0].message)
    back = load_frames(tmp_path / "a.gif")
    assert back.durations == [655_350, 50]
    assert back.plays == 65_536


def test_frames_of_a_generator_are_counted(tmp_path):
    for durations, message in (([50] * 3, "got 3 for 2 frames"), ([50], "got 1 for more frames")):
        with pytest.raises(ValueError, match=rf"a\.gif: .*{message}"):
            save_frames(tmp_path / "a.gif", iter(animation()[:2]), durations)
    with pytest.raises(ValueError, match="at least one frame, got none"):
        save_frames(tmp_path / "a.gif", iter([]), [9])
    with pytest.raises(ValueError, match="at least one frame, got none"):
        save_frames(tmp_path / "a.gif", [])
    assert not list(tmp_path.iterdir())


def test_errors_of_the_frames_are_not_blamed_on_the_target(tmp_path):
    def frames():
        yield animation()[0]
        raise ValueError("in.gif: broken")

    with pytest.raises(ValueError, match=r"^in\.gif: broken$"):
        save_frames(tmp_path / "a.gif", frames(), [50, 50])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("frames", [5, None, torch.rand(3, 8, 8), quantized(5), [np.eye(3)]])
def test_what_is_no_sequence_of_frames_is_refused(tmp_path, frames):
    for durations in (None, [9]):
        with pytest.raises(TypeError, match=r"expected quantized images, .*, got "):
            save_frames(tmp_path / "a.gif", frames, durations)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"indices": torch.tensor([[0, 5]])}, ValueError, "indices of 0 to 4, got 0 to 5"),
        ({"indices": torch.tensor([[-1, 0]])}, ValueError, "indices of 0 to 4, got -1 to 0"),
        ({"indices": torch.tensor([[0.0, 1]])}, TypeError, "whole numbers, got torch.float32"),
        ({"indices": torch.zeros(2, 3, 3, dtype=torch.int64)}, ValueError, r"got \(2, 3, 3\)"),
        ({"indices": torch.eye(3).long().to_sparse()}, ValueError, r"sparse_coo; use \.to_dense"),
        ({"indices": torch.eye(3, device="meta").long()}, ValueError, "with values"),
        ({"palette": torch.rand(5, 3).to_sparse()}, ValueError, "a dense tensor"),
        ({"palette": [[0, 0, 0]]}, TypeError, "a palette as a tensor .*, got list"),
    ],
)
def test_parts_of_a_frame_that_make_no_file_are_refused(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        save_frames(tmp_path / "a.png", [quantized(5)._replace(**change)])
    assert not list(tmp_path.iterdir())


def test_palettes_that_are_alike_are_shared(tmp_path):
    first, second = animation()[:2]
    other = second._replace(palette=second.palette.double())
    save_frames(tmp_path / "a.gif", [first, other], [50, 50])
    assert len(load_frames(tmp_path / "a.gif").images) == 2


@pytest.mark.parametrize(
    "durations", [np.array([50, 70], np.float32), torch.tensor([50, 70]), (np.int64(50), 70)]
)
def test_durations_may_be_numbers_of_any_library(tmp_path, durations):
    save_frames(tmp_path / "a.png", animation()[:2], durations)
    assert load_frames(tmp_path / "a.png").durations == [50, 70]


@pytest.mark.parametrize("wrong", [-1, float("inf"), float("nan")])
def test_the_wrong_duration_is_named(tmp_path, wrong):
    with pytest.raises(ValueError, match=f"finite durations .*, got {float(wrong)}"):
        save_frames(tmp_path / "a.png", animation()[:2], [5, wrong])


@pytest.mark.parametrize(
    ("max_pixels", "error"),
    [("9", TypeError), (9.5, TypeError), (None, TypeError), (0, ValueError)],
)
def test_a_bound_is_a_whole_number(tmp_path, max_pixels, error):
    save_image(tmp_path / "a.png", torch.rand(3, 4, 4))
    with pytest.raises(error, match="expected max_pixels"):
        open_frames(tmp_path / "a.png", max_pixels=max_pixels)


@pytest.mark.parametrize(
    ("resolution", "error"),
    [
        ((-300, 300), ValueError),
        ((300, float("nan")), ValueError),
        ((0, 0), ValueError),
        ((float("inf"), 1), ValueError),
        (300, TypeError),
        ((1, 2, 3), TypeError),
        ("ab", TypeError),
    ],
)
def test_bad_resolutions_are_refused(tmp_path, resolution, error):
    for save in (save_image, save_frames):
        pictures = quantized(5) if save is save_image else [quantized(5)]
        with pytest.raises(error, match="expected a resolution"):
            save(tmp_path / "a.png", pictures, resolution=resolution)
    with pytest.raises(error, match="expected a resolution"):
        save_image(tmp_path / "a.png", torch.rand(3, 4, 4), resolution=resolution)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_the_resolution_is_written(tmp_path, suffix):
    save_image(tmp_path / f"a{suffix}", torch.rand(3, 4, 4), resolution=(300, 150))
    save_image(tmp_path / f"b{suffix}", quantized(5), resolution=(300, 150))
    for name in "ab":
        with Image.open(tmp_path / f"{name}{suffix}") as stored:
            assert stored.info["dpi"] == pytest.approx((300, 150), abs=0.02)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".gif"])
def test_an_animation_plays_once_unless_told(tmp_path, suffix):
    save_frames(tmp_path / f"a{suffix}", animation()[:2], [50, 50])
    assert load_frames(tmp_path / f"a{suffix}").plays == 1
