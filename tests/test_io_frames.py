"""Animations and pages: frames, timing and one palette."""

import numpy as np
import pytest
import torch
from PIL import Image

from colorquant_nn import QuantizedImage
from colorquant_nn.io import load_frames, save_frames
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
    assert sum(back.durations) == 520
    expected = [as_bytes(frame.rgb) for frame in frames]
    if suffix == ".gif":  # the others show equal frames as one
        assert back.durations == [100, 50, 70, 300]
    else:
        assert back.durations == [100, 120, 300]
        del expected[2]
    assert len(back.images) == len(expected)
    for image, original in zip(back.images, expected, strict=True):
        assert image.equal(original)


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


def test_long_durations_of_a_gif_are_the_longest_it_holds(tmp_path):
    save_frames(tmp_path / "a.gif", animation()[:2], [700_000, 50], plays=0)
    assert load_frames(tmp_path / "a.gif").durations == [655_350, 50]


@pytest.mark.parametrize("suffix", [".png", ".webp", ".gif"])
def test_an_animation_plays_once_unless_told(tmp_path, suffix):
    save_frames(tmp_path / f"a{suffix}", animation()[:2], [50, 50])
    assert load_frames(tmp_path / f"a{suffix}").plays == 1
