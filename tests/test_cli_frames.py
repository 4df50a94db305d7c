"""The command on animations and several inputs: all are seen, none is kept, sums are right."""

import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from colorquant_nn.cli import main, measures, quantize, report
from colorquant_nn.functional.fitting import round_to_bytes
from colorquant_nn.image import fit_palette, spatial_palette
from colorquant_nn.io import FrameStream, load_frames, load_image
from tests.helpers import HEIGHT, WIDTH, as_bytes, check_error, colors_of, contents, photo


def save_film(name: str, frames, duration=50, **options) -> None:
    first, *others = [
        Image.new("RGB", (8, 8), frame) if isinstance(frame, str) else Image.fromarray(frame)
        for frame in frames
    ]
    first.save(name, save_all=True, append_images=others, duration=duration, **options)


@pytest.fixture
def alive(monkeypatch) -> list[int]:
    """How many frames are in memory whenever one more is decoded."""
    frames: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    counts: list[int] = []
    iterate = FrameStream.__iter__

    def watched(stream):
        for image, duration in iterate(stream):
            frames.add(image)
            counts.append(len(frames))
            yield image, duration

    monkeypatch.setattr(FrameStream, "__iter__", watched)
    return counts


def test_palettes_of_spatial_dots_are_moved_for_all_frames_and_files(folder, run):
    save_film("film.gif", [photo(seed) for seed in range(3)])
    options = ("-k", 5, "--space", "oklab", "--keep", "ff00ff", "--dither", "spatial")
    keep = torch.tensor([[255, 0, 255]], dtype=torch.uint8)

    def expected(images):
        palette = round_to_bytes(fit_palette(images, 5, space="oklab", keep=keep))
        palette = spatial_palette(images, palette, keep=keep)
        return {tuple(row) for row in as_bytes(palette).tolist()}

    frames = list(load_frames("film.gif").images)
    for name, images in (("film.gif", frames), ("photo.png", load_image("photo.png"))):
        assert run("quantize", name, *options, "-o", "alone.png", "-f")[0] == 0
        assert colors_of("alone.png") <= expected(images)
        assert (255, 0, 255) in expected(images)
    assert run("quantize", "film.gif", "photo.png", *options, "--shared-palette")[0] == 0
    assert colors_of("photo-quantized.png") <= expected([*frames, load_image("photo.png")])


@pytest.mark.parametrize(
    "arguments",
    [
        ["quantize", "long.gif", "-k", 4],
        ["quantize", "long.gif", "--palette", "gameboy", "--compare", "side.png"],
        ["quantize", "long.gif", "--min-psnr", 20],
        ["quantize", "long.gif", "photo.png", "-k", 4, "--shared-palette"],
        ["quantize", "long.gif", "-k", 4, "--dither", "spatial"],
        ["palette", "long.gif", "-k", 4, "--plot", "curve.png"],
        ["compare", "long.gif", "long.gif", "-o", "both.png"],
    ],
)
def test_frames_are_not_kept(folder, run, alive, arguments):
    save_film("long.gif", [photo(seed) for seed in range(12)])
    code, _, err = run(*arguments)
    assert (code, err) == (0, "")
    assert len(alive) >= 12
    assert max(alive) <= 7  # of each file the first, which is drawn, and some in the hand


def test_an_animation_counts_as_a_whole_or_not_at_all(folder, run):
    save_film("film.png", [photo(seed) for seed in range(3)])
    data = Path("film.png").read_bytes()
    Path("cut.png").write_bytes(data[: int(len(data) * 0.9)])
    alone = run("palette", "holes.png", "-k", 6)[1]
    for inputs in (["holes.png", "cut.png"], ["cut.png", "holes.png"]):
        code, out, err = run("palette", *inputs, "-k", 6)
        assert (code, out, err.count("\n")) == (1, alone, 1)
        assert "cut.png" in err


@pytest.mark.parametrize(
    "inputs", [["first.png"], ["film.gif", "first.png"], ["first.png", "holes.png", "late.png"]]
)
def test_the_transparent_color_is_that_of_the_first_picture(folder, run, inputs):
    """Whether animations come before it or after it, which are counted apart."""
    pixels = np.dstack([photo(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    pixels[0, 0] = (1, 2, 3, 0)
    Image.fromarray(pixels).save("first.png")
    pixels[0, 0] = (4, 5, 6, 0)
    save_film("late.png", [pixels, pixels[::-1]])
    assert "#01020300" in run("palette", *inputs, "-k", 4)[1].split()


def test_holes_of_a_later_frame_are_kept(folder, run):
    clear = np.dstack([photo(1), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    clear[:9, :9] = 0
    opaque = np.dstack([photo(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    save_film("late.png", [opaque, clear])
    for options in (["--palette", "gameboy"], ["-k", 4], ["--min-psnr", 15]):
        code, _, err = run("quantize", "late.png", *options, "-f", "-o", "out.png")
        assert (code, err) == (0, "")
        first, second = load_frames("out.png").images
        assert bool((first[3] == 255).all())
        assert torch.equal(second[3] == 0, torch.from_numpy(clear[..., 3] == 0))


def test_a_full_palette_gives_a_color_that_no_frame_uses(folder, run):
    pixels = np.full((2, 16, 16, 4), 255, np.uint8)
    pixels[..., :3] = np.arange(256).reshape(16, 16, 1)
    pixels[:, 0, 10:11] = 0, 0, 0, 255  # grey 10 is in neither
    pixels[0, 15] = 0, 0, 0, 0  # and the lightest ones in the second alone
    save_film("film.png", pixels)
    code, _, err = run("quantize", "film.png", "--palette", "grey-256", "-o", "out.gif")
    assert code == 0
    assert "colour 10 of the palette, #0a0a0a, gives its place" in err
    assert "0 pixels use it" in err
    assert torch.equal(
        load_frames("out.gif").images[1][:3, 15], torch.arange(240, 256).expand(3, 16)
    )


def test_colors_of_many_frames_are_those_of_all(folder, run):
    save_film("film.png", [photo(seed) for seed in range(3)])
    all_pixels = np.concatenate([photo(seed).reshape(-1, 3) for seed in range(3)])
    out = run("quantize", "film.png", "-k", 4, "-o", "out.webp", "--json")[1]
    assert json.loads(out)["colors_before"] == len(np.unique(all_pixels, axis=0))


@pytest.mark.parametrize("soft", [False, True])
def test_distinct_colors_are_counted_in_bands(monkeypatch, soft):
    monkeypatch.setattr(measures, "BAND_PIXELS", 50)
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 4, (5, 4, 9, 11)).astype(np.uint8)
    frames[:, 3] *= 85 if soft else 0
    found = measures.DistinctColors()
    for frame in frames:
        found.add(torch.from_numpy(frame))
    pixels = frames.transpose(0, 2, 3, 1).reshape(-1, 4)
    pixels[pixels[:, 3] == 0] = 0
    assert len(found) == len(np.unique(pixels, axis=0))


def test_a_curve_is_that_of_quantize(folder, run, monkeypatch):
    curves = []
    soft = np.dstack([photo(), photo(2)[..., 0] // 2 + 100])
    Image.fromarray(soft).save("soft.png")
    monkeypatch.setattr(
        "colorquant_nn.cli.palette.rate_distortion",
        lambda curve, _: curves.append(curve) or Image.new("RGB", (9, 9)),
    )
    for name in ("photo.png", "soft.png", "film.gif"):
        assert run("palette", name, "--plot", "curve.png", "-f")[0] == 0
        for colors in (4, 16):
            entry = json.loads(
                run("quantize", name, "-k", colors, "--dither", "none", "--json", "-f")[1]
            )
            assert curves[-1][colors] == pytest.approx(entry["psnr"], abs=1e-3)


# compare


def test_pictures_of_other_frames_are_refused(folder, run):
    save_film("two.gif", ["#f00", "#00f"])
    save_film("three.gif", ["#f00", "#00f", "#0f0"])
    check_error(run("compare", "two.gif", "three.gif"), "2 frames in two.gif", "3 frames in three")
    Image.new("RGB", (8, 8)).save("still.png")
    check_error(run("compare", "still.png", "two.gif"), "1 frame in still.png")


def test_pages_of_other_sizes_are_refused(folder, run):
    pages = [Image.fromarray(photo(seed)[: 20 + 10 * seed]) for seed in range(2)]
    for name, second in (("a.tif", pages[1]), ("b.tif", pages[0])):
        pages[0].save(name, save_all=True, append_images=[second])
    check_error(run("compare", "a.tif", "b.tif"), "56 x 30 in a.tif", "56 x 20 in b.tif (frame 2)")


def test_a_difference_is_of_all_frames(folder, run):
    save_film("a.png", ["#f00", "#000"], loop=0)
    save_film("b.png", ["#f00", "#fff"], loop=0)
    code, out, err = run("compare", "a.png", "b.png", "--json")
    entry = json.loads(out)
    assert (code, err, entry["frames"]) == (0, "", 2)
    assert entry["mse"] == pytest.approx(0.5)
    assert entry["ciede2000"] == pytest.approx(50, abs=0.1)
    assert entry["colors"] == [2, 2]
    assert entry["ssim"] == pytest.approx(0.5, abs=1e-3)
    assert entry["eye_error"] == pytest.approx(50, abs=1e-3)  # of equal frames, and black and white


def test_ssim_is_the_mean_of_the_frames(folder, run):
    save_film("a.png", [photo(0), photo(1)])
    save_film("b.png", [photo(0), photo(2)])
    found = json.loads(run("compare", "a.png", "b.png", "--json")[1])["ssim"]
    for seed, name in ((1, "c.png"), (2, "d.png")):
        Image.fromarray(photo(seed)).save(name)
    assert found == pytest.approx(
        (1 + json.loads(run("compare", "c.png", "d.png", "--json")[1])["ssim"]) / 2, rel=1e-5
    )


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"duration": [50, 100]}, "0.10 s once and 0.15 s once"),
        ({"duration": [60, 40]}, "0.10 s once and 0.10 s once, but not of each frame"),
        ({"loop": 3}, "0.10 s once and 0.10 s 3 times"),
        ({"loop": 0}, "0.10 s for ever"),
        ({}, ""),
    ],
)
def test_another_timing_is_said(folder, run, other, said):
    save_film("a.png", ["#f00", "#00f"], duration=50, loop=1)
    save_film("b.png", ["#f00", "#00f"], **{"duration": 50, "loop": 1, **other})
    code, out, _ = run("compare", "a.png", "b.png")
    assert code == 0
    assert said in out
    assert ("timing" in out) is bool(said)
    assert json.loads(run("compare", "a.png", "b.png", "--json")[1])["same_timing"] is not bool(
        said
    )


def test_an_opaque_picture_and_one_with_alpha_are_compared_over_white(folder, run):
    Image.new("RGB", (20, 20), "#fff").save("white.png")
    Image.new("RGBA", (20, 20), (9, 9, 9, 0)).save("clear.png")
    entry = json.loads(run("compare", "white.png", "clear.png", "--json")[1])
    assert (entry["mse"], entry["ssim"], entry["colors"]) == (0, pytest.approx(1), [1, 1])
    assert entry["eye_error"] == 0


def test_captions_tell_which_frame_they_show(folder, run, monkeypatch):
    captions = []
    draw = report.comparison
    monkeypatch.setattr(
        report, "comparison", lambda images, **more: captions.extend(images) or draw(images, **more)
    )
    name = "new\nline \x1b[2J.gif"
    save_film(name, ["#f00", "#00f"])
    assert run("quantize", name, "-k", 2, "--compare", "side.png", "-o", "out.gif")[0] == 0
    assert run("compare", name, "out.gif", "-o", "both.png")[0] == 0
    assert len(captions) == 4
    for caption in captions:
        assert caption.count("\n") == 1
        assert "\x1b" not in caption
        assert "first of 2 frames" in caption


# What is told


def test_results_are_told_as_they_are_done(folder, run, monkeypatch):
    told = []
    monkeypatch.setattr(quantize, "write_atomically", lambda files, **_: told.append("done"))
    monkeypatch.setattr(
        report, "print", lambda line, **_: told.append(json.loads(line)["input"]), raising=False
    )
    code, _, _ = run("quantize", "photo.png", "text.png", "other.jpg", "-k", 4, "--json")
    assert code == 1
    assert told == ["done", "photo.png", "done", "other.jpg"]


def test_json_is_a_line_each(folder, run):
    out = run("quantize", "photo.png", "other.jpg", "film.gif", "-k", 4, "--json")[1]
    entries = [json.loads(line) for line in out.splitlines()]
    assert [entry["input"] for entry in entries] == ["photo.png", "other.jpg", "film.gif"]
    for entry in entries:
        assert entry["bytes_before"] == Path(entry["input"]).stat().st_size
        assert entry["bytes_after"] == Path(entry["output"]).stat().st_size
        assert entry["skipped"] is False
    for command in (["palette", "photo.png", "-k", 4], ["compare", "photo.png", "photo.png"]):
        assert len(run(*command, "--json")[1].splitlines()) == 1


def test_summaries_add_up(folder, run):
    names = ["photo.png", "other.jpg", "text.png", "holes.png"]
    code, out, err = run("quantize", *names, "-k", 4, "--dither", "none")
    before = sum(Path(name).stat().st_size for name in names) - len("hello")
    after = sum(path.stat().st_size for path in Path().glob("*-quantized.png"))
    sizes = f"{before / 1000:.1f} kB -> {after} B ({100 * after / before:.1f} %)"
    assert (code, out.splitlines()[-1]) == (1, f"3 pictures, 1 failed: {sizes}")
    assert run("quantize", *names, "-k", 4, "-f", "-q") == (1, "", err)


def test_a_result_that_is_larger_is_said(folder, run):
    Image.fromarray(photo()).save("small.jpg", quality=20)
    code, out, _ = run("quantize", "small.jpg", "-k", 256)
    assert code == 0
    assert "%), larger\n" in out
    assert "B, larger, 256 colours" in run("quantize", "small.jpg", "photo.png", "-k", 256, "-f")[1]


def test_no_result_larger_than_its_input_is_written(folder, run):
    Image.fromarray(photo()).save("small.jpg", quality=20)
    before = contents(folder)
    arguments = ["small.jpg", "-k", 256, "--skip-if-larger", "--compare", "side.png", "-o", "x/"]
    code, out, err = run("quantize", *arguments)
    assert (code, err) == (0, "")
    assert "skipped" in out
    assert json.loads(run("quantize", *arguments, "--json")[1])["skipped"] is True
    assert contents(folder) == before
    out = run("quantize", "small.jpg", "film.gif", "-k", 256, "--skip-if-larger", "-o", "x/")[1]
    assert out.splitlines()[-1].startswith("2 pictures, 1 of them skipped: ")
    assert Path("x/film.gif").exists()
    totals = report.Totals()
    totals.add({"skipped": True, "bytes_before": 10, "bytes_after": 30})
    totals.add({"skipped": False, "bytes_before": 10, "bytes_after": 5})
    assert totals.line(0) == "2 pictures, 1 of them skipped: 20 B -> 15 B (75.0 %)"


def test_a_result_as_large_as_its_input_is_not_written_either(folder, run):
    assert run("quantize", "photo.png", "-k", 4, "-o", "few.png")[0] == 0
    entry = json.loads(run("quantize", "few.png", "-k", 4, "--skip-if-larger", "--json")[1])
    assert entry["bytes_after"] == entry["bytes_before"]
    assert entry["skipped"] is True


@pytest.mark.parametrize("skip", [[], ["--skip-if-larger"]])
def test_standard_output_has_the_picture_alone(folder, capsysbinary, skip):
    Image.fromarray(photo()).save("small.jpg", quality=20)
    assert main(["quantize", "small.jpg", "-k", "256", "-o", "-", *skip]) == 0
    out, err = capsysbinary.readouterr()
    assert b"small.jpg -> standard output" in err
    if skip:
        assert out == Path("small.jpg").read_bytes()
    else:
        Path("out.png").write_bytes(out)
        assert len(colors_of("out.png")) == 256


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_size_in_print_survives(folder, run, suffix):
    Image.fromarray(photo()).save("print.jpg", dpi=(300, 300))
    for strip, expected in (([], 300), (["--strip"], None)):
        assert run("quantize", "print.jpg", "-k", 4, "-o", f"out{suffix}", "-f", *strip)[0] == 0
        with Image.open(f"out{suffix}") as image:
            found = image.info.get("dpi")
        if expected:
            assert found == pytest.approx((300, 300), abs=1)
        else:
            assert found is None or found[0] == 1


def test_orientation_is_applied(folder, run):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo()).save("turned.jpg", exif=exif, quality=95)
    assert run("quantize", "turned.jpg", "-k", 4)[0] == 0
    with Image.open("turned-quantized.png") as image:
        assert image.size == (HEIGHT, WIDTH)
        assert image.getexif().get(0x0112, 1) == 1
