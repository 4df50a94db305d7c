"""What the functions of the rim say to arguments of the wrong kind."""

import numpy as np
import pytest
import torch
from PIL import Image

from colorquant_nn.image import QuantizedImage
from colorquant_nn.io import load_frames, load_image, save_frames, save_image
from colorquant_nn.palette_files import parse_color
from colorquant_nn.palettes import load_palette, save_palette
from colorquant_nn.plot import comparison, palette_swatch, rate_distortion

NO_TENSORS = {
    "array": np.zeros((3, 4, 4), np.uint8),
    "list": [[0.0, 0.5, 1.0]],
    "picture": Image.new("RGB", (4, 4)),
    "none": None,
    "text": "photo.png",
    "number": 3,
}
NO_PATHS = {"none": None, "number": 3, "tensor": torch.zeros(3), "bytes": b"a.png", "list": ["a"]}
QUANTIZED = QuantizedImage(torch.zeros(3, 2, 2), torch.zeros(2, 2).long(), torch.zeros(1, 3))


@pytest.mark.parametrize("value", NO_TENSORS.values(), ids=NO_TENSORS)
def test_tensors_are_asked_for_by_name(tmp_path, value):
    came = f"got {type(value).__name__}(;|$)"  # what to do may follow
    with pytest.raises(
        TypeError, match="expected an image as a tensor .* or a QuantizedImage, " + came
    ):
        save_image(tmp_path / "a.png", value)
    with pytest.raises(TypeError, match="expected an image as a tensor .*" + came):
        comparison({"a": value})
    with pytest.raises(TypeError, match="expected a palette as a tensor .*" + came):
        palette_swatch(value)
    with pytest.raises(TypeError, match="expected a palette as a tensor .*" + came):
        save_palette(tmp_path / "a.gpl", value)
    with pytest.raises(TypeError, match="expected a palette as a tensor .*" + came):
        save_image(tmp_path / "a.png", QUANTIZED._replace(palette=value))
    with pytest.raises(TypeError, match="expected indices as a tensor .*" + came):
        save_image(tmp_path / "a.png", QUANTIZED._replace(indices=value))
    with pytest.raises(TypeError, match="expected quantized images, .*" + came):
        save_frames(tmp_path / "a.gif", [QUANTIZED, value])
    if value is not None:
        with pytest.raises(TypeError, match="expected counts as a tensor .*" + came):
            palette_swatch(torch.zeros(1, 3), value)
        with pytest.raises(TypeError, match="expected a palette as a tensor .*" + came):
            comparison({"a": torch.zeros(3, 4, 4)}, palette=value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", NO_PATHS.values(), ids=NO_PATHS)
def test_paths_are_asked_for_by_name(value):
    for call in (
        lambda: load_image(value),
        lambda: load_frames(value),
        lambda: load_palette(value),
        lambda: save_image(value, torch.zeros(3, 4, 4)),
        lambda: save_frames(value, [QUANTIZED]),
        lambda: save_palette(value, torch.zeros(1, 3)),
    ):
        with pytest.raises(TypeError, match=f"expected .* path.*, got {type(value).__name__}$"):
            call()


@pytest.mark.parametrize("value", [None, 3, QUANTIZED, {1: QUANTIZED}, "ab"], ids=str)
def test_frames_are_a_sequence_of_quantized_images(tmp_path, value):
    with pytest.raises(TypeError, match=r"expected .*quantized images"):
        save_frames(tmp_path / "a.gif", value)


def test_frames_without_a_frame_and_timings_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="at least one frame, got none"):
        save_frames(tmp_path / "a.gif", [])
    with pytest.raises(ValueError, match="a duration for each frame, got 2 for 1 frames"):
        save_frames(tmp_path / "a.gif", [QUANTIZED], [50, 50])
    for durations in ([-1], [None], ["50"], 50):
        with pytest.raises((TypeError, ValueError), match="milliseconds"):
            save_frames(tmp_path / "a.gif", [QUANTIZED], durations)
    for plays in (-1, "x", 1.5):
        with pytest.raises((TypeError, ValueError), match="plays"):
            save_frames(tmp_path / "a.gif", [QUANTIZED] * 2, [50, 50], plays)
    with pytest.raises(ValueError, match=r"indices of 0 to 0, got 0 to 7"):
        save_image(tmp_path / "a.png", QUANTIZED._replace(indices=torch.tensor([[0, 7]])))
    with pytest.raises(ValueError, match=r"indices of shape \(H, W\), got \(2, 2, 2\)"):
        save_image(tmp_path / "a.png", QUANTIZED._replace(indices=torch.zeros(2, 2, 2).long()))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [None, 3, [torch.zeros(3, 4, 4)], torch.zeros(3, 4, 4)], ids=str)
def test_pictures_to_compare_have_captions(value):
    with pytest.raises(
        TypeError, match=f"expected captions with pictures, .* got {type(value).__name__}"
    ):
        comparison(value)


def test_captions_are_text():
    with pytest.raises(TypeError, match="expected captions as text, got int"):
        comparison({1: torch.zeros(3, 4, 4)})


@pytest.mark.parametrize(
    "curve", [None, 3, [20.0, 25.0], {"2": 20.0}, {2: "20"}, {2: None}], ids=str
)
def test_curves_are_numbers(curve):
    with pytest.raises(TypeError, match="expected a curve of PSNR in dB by number of colours"):
        rate_distortion(curve)


@pytest.mark.parametrize("curve", [{}, {2: float("nan")}, {0: 20.0}, {2: -float("inf")}], ids=str)
def test_curves_have_points(curve):
    with pytest.raises(ValueError, match="expected a curve"):
        rate_distortion(curve)


@pytest.mark.parametrize("value", [None, 3, b"#fff", ["#fff"]], ids=str)
def test_colors_are_text(value):
    with pytest.raises(TypeError, match=f"expected a colour as text, got {type(value).__name__}"):
        parse_color(value)
