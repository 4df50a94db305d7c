"""The command as a user runs it: on real files, with exit codes, bytes and messages checked."""

import json
import math
import os
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from colorquant_nn import (
    apply_palette,
    fit_gamut,
    fit_palette,
    quantize_image,
    smallest_palette,
    spatial_palette,
)
from colorquant_nn import names as names_of
from colorquant_nn.cli import measures, report
from colorquant_nn.cli import palette as palette_command
from colorquant_nn.functional.fitting import round_to_bytes
from colorquant_nn.functional.metrics import eye_error, visual_quality
from colorquant_nn.functional.progress import progress
from colorquant_nn.io import load_frames, load_image
from colorquant_nn.palettes import load_palette, load_panel, save_palette
from tests.helpers import (
    HEIGHT,
    WIDTH,
    as_bytes,
    bits_per_pixel,
    check_error,
    colors_of,
    contents,
    interpreter,
    levels,
    mode_and_size,
    names,
    photo,
)


def test_one_picture(folder, run):
    before = contents(folder)
    code, out, err = run("quantize", "photo.png", "-k", 16, "--effort", "fast")
    assert (code, err) == (0, "")
    assert names(folder) - set(before) == {"photo-quantized.png"}
    assert {name: (folder / name).read_bytes() for name in before} == before
    with Image.open("photo-quantized.png") as stored:
        assert stored.mode == "P"
        colors = torch.tensor(stored.getpalette("RGB")).view(-1, 3)
    assert bits_per_pixel("photo-quantized.png") == 4
    assert len(colors) == 16
    lightness = colors.float() @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert lightness[:4].max() < lightness[-4:].min()
    size = (os.path.getsize("photo.png"), os.path.getsize("photo-quantized.png"))
    assert f"{size[0]:,} -> {size[1]:,} bytes" in out
    before_colors = len(np.unique(photo().reshape(-1, 3), axis=0))
    assert f"{before_colors:,} -> 16" in out
    for word in ("MSE", "PSNR", "CIEDE2000", " s\n"):
        assert word in out


def test_folders_are_searched_with_their_subfolders(folder, run):
    Path("data/class").mkdir(parents=True)
    for seed, name in enumerate(["one.png", "class/two.png"]):
        Image.fromarray(photo(seed)).save(f"data/{name}")
    code, out, err = run("palette", "data", "-k", 4, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["inputs"] == ["data/class/two.png", "data/one.png"]
    assert run("quantize", "data", "-k", 4)[0] == 0
    assert Path("data/class/two-quantized.png").exists()


def test_json_tells_what_was_measured(folder, run):
    code, out, _ = run("quantize", "photo.png", "-k", 8, "--json")
    assert code == 0
    entry = json.loads(out)
    result = load_image("photo-quantized.png").numpy().transpose(1, 2, 0)
    error = ((result / 255 - photo() / 255) ** 2).mean()
    assert entry["mse"] == pytest.approx(error, rel=1e-5)
    assert entry["psnr"] == pytest.approx(-10 * np.log10(error), rel=1e-5)
    pair = load_image("photo-quantized.png"), load_image("photo.png")
    assert entry["visual_quality"] == pytest.approx(float(visual_quality(*pair)), abs=1e-3)
    assert entry["eye_error"] == pytest.approx(float(eye_error(*pair)), rel=1e-5)
    assert entry["colors_after"] == 8
    assert sum(entry["counts"]) == HEIGHT * WIDTH
    assert entry["bytes_after"] == os.path.getsize("photo-quantized.png")
    used = {tuple(bytes.fromhex(color[1:])) for color in entry["palette"]}
    assert used == colors_of("photo-quantized.png")


def test_effort_makes_smaller_files_with_the_order_of_colors_that_were_named(folder, run):
    def palette_and_size(*arguments):
        assert run("quantize", "photo.png", "-f", "-q", "--dither", "none", *arguments)[0] == 0
        with Image.open("photo-quantized.png") as stored:
            colors = stored.getpalette("RGB")
        return np.reshape(colors, (-1, 3)).tolist(), os.path.getsize("photo-quantized.png")

    colors, size = palette_and_size("-k", 32)
    assert run("palette", "photo.png", "-k", 32, "-o", "named.hex", "-q")[0] == 0
    named, larger = palette_and_size("--palette", "named.hex")
    assert named == as_bytes(load_palette("named.hex")).tolist() != colors
    assert sorted(named) == sorted(colors)
    assert size <= larger < palette_and_size("--palette", "named.hex", "--effort", "fast")[1]


def entry_of(run, *arguments) -> dict:
    """What ``quantize --json`` tells of one input."""
    code, out, err = run("quantize", *arguments, "--json", "-f")
    assert (code, err) == (0, "")
    return json.loads(out)


def over_white(path) -> np.ndarray:
    pixels = np.asarray(Image.open(path).convert("RGBA")) / 255
    return pixels[..., :3] * pixels[..., 3:] + 1 - pixels[..., 3:]


def test_errors_are_those_over_white(folder, run):
    half = np.dstack([photo(2), np.full((HEIGHT, WIDTH), 128, np.uint8)])
    Image.fromarray(half).save("half.png")
    Path("mine.hex").write_text("000000ff\n808080ff\n")
    found = entry_of(run, "half.png", "--palette", "mine.hex")
    error = ((over_white("half.png") - over_white("half-quantized.png")) ** 2).mean()
    assert found["mse"] == pytest.approx(error, rel=1e-3)


def test_transparent_pixels_are_one_color(folder, run):
    Image.fromarray(np.dstack([photo(3), photo(2)[..., 0] // 128 * 255])).save("clear.png")
    pixels = np.asarray(Image.open("clear.png")).reshape(-1, 4)
    visible = len(np.unique(pixels[pixels[:, 3] > 0], axis=0))
    assert entry_of(run, "clear.png", "-k", 8)["colors_before"] == visible + 1
    frame = load_image("clear.png")
    found = measures.DistinctColors()
    for image in (frame, frame.flip(1)):
        found.add(image)
    assert len(found) == visible + 1  # of both together


def test_the_pixels_that_are_sampled_are_no_pattern_of_a_dither(monkeypatch):
    monkeypatch.setattr(measures, "SAMPLED_PIXELS", 16)
    monkeypatch.setattr(measures, "LEAST_SAMPLED", 16)
    errors, image = measures.Errors(), torch.zeros(3, 8, 8, dtype=torch.uint8)
    other = image.clone()
    other[:, :, 1::2] = 255
    errors.add(image, other)
    assert errors.ciede2000 == pytest.approx(100 / 3)  # columns 0, 3 and 6


@pytest.mark.parametrize("name", ["photo.png", "film.gif"])
def test_large_pictures_are_measured_in_bands(folder, run, monkeypatch, name):
    whole = entry_of(run, name, "-k", 8)
    monkeypatch.setattr(measures, "BAND_PIXELS", 300)
    bands = entry_of(run, name, "-k", 8)
    for what in ("mse", "psnr", "ciede2000"):
        assert bands[what] == pytest.approx(whole[what], rel=1e-4)
    monkeypatch.setattr(measures, "SAMPLED_PIXELS", 1000)
    assert entry_of(run, name, "-k", 8)["mse"] == pytest.approx(whole["mse"], rel=1e-4)
    sampled = entry_of(run, name, "-k", 8)["ciede2000"]
    assert sampled != whole["ciede2000"]
    assert sampled == pytest.approx(whole["ciede2000"], rel=0.1)


def test_the_error_of_an_animation_is_that_of_all_frames(folder, run):
    found = entry_of(run, "film.gif", "-k", 6)
    films = [load_frames(name).images for name in ("film.gif", "film-quantized.gif")]
    errors = [(((a.double() - b) / 255) ** 2).mean() for a, b in zip(*films, strict=True)]
    assert found["mse"] == pytest.approx(float(sum(errors) / 3), rel=1e-4)
    assert found["frames"] == 3
    assert found["visual_quality"] is found["eye_error"] is None  # one picture's alone


def test_what_is_seen_of_frames_is_their_mean():
    errors, pixels, total, liked = measures.Errors(2, list(measures.JUDGES)), 0, 0.0, 0.0
    for seed, size in enumerate([(4, 8, 9), (3, 5, 6), (4, 12, 3)]):
        pair = levels(*size, seed=seed), levels(*size, seed=seed + 9)
        errors.add(*pair)
        pixels += size[1] * size[2]
        seen = eye_error(*(measures.over_white(each) for each in pair))
        total += float(seen) * size[1] * size[2]
        liked += float(visual_quality(*reversed(pair))) * size[1] * size[2]
    assert errors.judged["eye_error"] == pytest.approx(total / pixels)
    assert errors.judged["visual_quality"] == pytest.approx(liked / pixels)


def test_the_same_command_gives_the_same_bytes(folder, run):
    assert run("quantize", "photo.png", "-k", 16, "--dither", "floyd-steinberg")[0] == 0
    first = Path("photo-quantized.png").read_bytes()
    assert run("quantize", "photo.png", "-k", 16, "--dither", "floyd-steinberg", "-f")[0] == 0
    assert Path("photo-quantized.png").read_bytes() == first


def test_few_colors_come_back_exactly(folder, run):
    flat = np.array([[0, 0, 0], [255, 1, 2], [17, 200, 9]], np.uint8)[photo()[..., 1] // 86]
    Image.fromarray(flat).save("flat.png")
    code, out, _ = run("quantize", "flat.png", "-k", 16, "--json")
    assert code == 0
    assert json.loads(out)["psnr"] is None
    assert np.array_equal(load_image("flat-quantized.png").numpy().transpose(1, 2, 0), flat)
    assert bits_per_pixel("flat-quantized.png") == 2


@pytest.mark.parametrize("suffix", [".png", ".gif", ".webp", ".tif"])
def test_output_formats(folder, run, suffix):
    assert run("quantize", "photo.png", "-k", 16, "-o", f"result{suffix}")[0] == 0
    assert len(colors_of(f"result{suffix}")) == 16


def test_more_than_256_colors(folder, run):
    assert run("quantize", "photo.png", "-k", 300)[0] == 0
    assert mode_and_size("photo-quantized.png")[0] == "RGB"
    check_error(run("quantize", "photo.png", "-k", 300, "-o", "a.gif"), "a.gif", "256")
    assert not Path("a.gif").exists()


@pytest.mark.parametrize("dither", ["ordered", "floyd-steinberg", "atkinson", "spatial", "auto"])
def test_dither_is_not_ignored(folder, run, dither):
    arguments = ("quantize", "photo.png", "--palette", "c64")
    assert run(*arguments, "-o", "plain.png", "--dither", "none")[0] == 0
    assert run(*arguments, "-o", "dithered.png", "--dither", dither)[0] == 0
    assert run(*arguments, "-o", "none.png", "--dither", dither, "--strength", 0)[0] == 0
    assert Path("plain.png").read_bytes() == Path("none.png").read_bytes()
    assert Path("plain.png").read_bytes() != Path("dithered.png").read_bytes()


def test_dots_are_where_they_are_needed_unless_a_psnr_is(folder, run):
    for options, dither in ((["-k", 8], "auto"), (["--min-psnr", 20], "none")):
        for output, more in (("default.png", []), ("named.png", ["--dither", dither])):
            outcome = run("quantize", "photo.png", *options, "-o", output, "-f", *more)
            assert outcome[0] == 0
            assert not outcome[2]
        assert Path("default.png").read_bytes() == Path("named.png").read_bytes()


def test_a_palette_for_dots_is_that_of_the_library(folder, run):
    keep = torch.tensor([[255, 0, 255]], dtype=torch.uint8)
    options = ["-k", 5, "--keep", "#f0f", "--dither", "spatial", "--strength", 0.4, "-f"]
    for sources in (["photo.png"], ["photo.png", "other.jpg"]):
        images = [load_image(source) for source in sources]
        palette = round_to_bytes(fit_palette(images, 5, keep=keep))
        expected = spatial_palette(images, palette, strength=0.4, keep=keep)
        assert run("quantize", *sources, "--shared-palette", *options)[0] == 0
        for source in sources:
            found = colors_of(f"{source[:5]}-quantized.png")
            assert found <= set(map(tuple, as_bytes(expected).tolist()))
        if len(sources) == 1:
            assert entry_of(run, *sources, *options)["palette"] == report.hex_codes(expected)


def test_a_full_palette_makes_room_for_holes_where_a_file_holds_no_more(folder, run):
    save_palette("full.hex", levels(256, 3, seed=2) / 255)
    for suffix in (".gif", ".png"):
        code, _, err = run("quantize", "holes.png", "--palette", "full.hex", "-o", f"full{suffix}")
        assert code == 0
        assert "gives its place to the transparent one" in err
        assert ((load_image(f"full{suffix}")[3] == 0) == (load_image("holes.png")[3] == 0)).all()


@pytest.mark.parametrize("dither", get_args(names_of.Dither))
@pytest.mark.parametrize("space", get_args(names_of.Space))
def test_options_are_those_of_the_library(folder, run, space, dither):
    options = {"space": space, "effort": "fast", "seed": 3}
    written = [f"--{name}={value}" for name, value in options.items()]
    drawing = {"dither": dither, "strength": 0.7}
    written += [f"--{name}={value}" for name, value in drawing.items()]
    assert run("quantize", "photo.png", "-k", 24, *written)[0] == 0
    expected = quantize_image(load_image("photo.png"), 24, **options, **drawing).rgb
    assert load_image("photo-quantized.png").equal(expected)


def test_options_of_a_palette_are_those_of_the_library(folder, run):
    outcomes = set()
    for space, effort, seed in [("rgb", "fast", 0), ("rgb", "fast", 1), ("rgb", "best", 0)]:
        arguments = ("--space", space, "--effort", effort, "--seed", seed)
        out = run("palette", "photo.png", "-k", 24, *arguments)[1]
        image = load_image("photo.png")
        expected = fit_palette(image, 24, space=space, effort=effort, seed=seed)
        assert out.split() == report.hex_codes(expected)
        outcomes.add(out)
    assert len(outcomes) == 3


def test_soft_edges_take_no_colors_from_opaque_pictures(folder, run):
    """A mean of opaque and nearly opaque pixels is a colour for both."""
    soft = np.dstack(
        [photo(), np.linspace(250, 255, WIDTH).astype(np.uint8)[None].repeat(HEIGHT, 0)]
    )
    Image.fromarray(soft).save("soft.png")
    assert run("quantize", "photo.png", "soft.png", "-k", 6, "--shared-palette")[0] == 0
    assert len(colors_of("photo-quantized.png")) == 6
    faint = np.dstack([photo(), np.full((HEIGHT, WIDTH), 9, np.uint8)])
    Image.fromarray(faint).save("faint.png")
    code, out, err = run("palette", "photo.png", "faint.png", "-k", 1, "--plot", "curve.png")
    assert (code, err, len(out.split())) == (0, "", 1)


def test_palettes_by_name_and_file(folder, run):
    assert run("quantize", "photo.png", "--palette", "gameboy")[0] == 0
    gameboy = {tuple(row) for row in as_bytes(load_palette("gameboy")).tolist()}
    assert colors_of("photo-quantized.png") <= gameboy
    assert bits_per_pixel("photo-quantized.png") == 2
    Path("mine.hex").write_text("ff0000\n00ff00\n")
    assert run("quantize", "photo.png", "--palette", "mine.hex", "-f")[0] == 0
    assert colors_of("photo-quantized.png") == {(255, 0, 0), (0, 255, 0)}
    found = entry_of(run, "photo.png", "--palette", "web-safe")
    assert found["colors_after"] == len(colors_of("photo-quantized.png")) < 216


@pytest.mark.parametrize("options", [[], ["--fit-gamut"]])
def test_a_panel_is_drawn_as_it_looks_and_written_as_the_device_wants_it(folder, run, options):
    measured, device = load_panel("spectra6")
    save_palette("mine.gpl", measured, device=device)
    options = [*options, "--dither", "floyd-steinberg"]
    entries = [
        entry_of(run, "photo.png", "-o", f"{name}.png", "--palette", name, *options)
        for name in ("spectra6", "mine.gpl")
    ]
    assert Path("spectra6.png").read_bytes() == Path("mine.gpl.png").read_bytes()
    assert colors_of("spectra6.png") <= set(map(tuple, as_bytes(device).tolist()))
    entry = entries[0]
    assert entry["palette"] == report.hex_codes(measured)
    assert entry["device"] == report.hex_codes(device)
    image = load_image("photo.png")
    fitted = fit_gamut(image, measured) if "--fit-gamut" in options else image
    seen = apply_palette(fitted, measured, dither="floyd-steinberg")
    assert entry["mse"] == pytest.approx(float(((seen.rgb - image.float()) / 255).square().mean()))
    assert entry["counts"] == seen.indices.flatten().bincount(minlength=6).tolist()
    written = apply_palette(fitted, measured, dither="floyd-steinberg", device=device)
    assert load_image("spectra6.png").equal(written.rgb)
    assert (
        run("quantize", "photo.png", "-f", "--palette", "spectra6", "--compare", "side.png")[0] == 0
    )
    assert tuple(as_bytes(measured[1]).tolist()) in colors_of("side.png")
    assert entry_of(run, "photo.png", "-f", "--palette", "cga")["device"] is None


def test_holes_stay_holes_on_a_panel(folder, run):
    entry = entry_of(run, "holes.png", "-o", "panel.png", "--palette", "spectra6", "--fit-gamut")
    alpha = load_image("holes.png")[3]
    result = load_image("panel.png")
    assert ((result[3] == 0) == (alpha == 0)).all()
    assert len(entry["palette"]) == len(entry["counts"]) == 7
    assert entry["device"][-1] == entry["palette"][-1] == "#00000000"


def test_lightness_is_fitted_over_all_frames(folder, run):
    save_film("film.gif", ["#333333", "#666666", "#999999"])
    entry = entry_of(run, "film.gif", "--palette", "gameboy", "--fit-lightness")
    greens = load_palette("gameboy")
    frames = load_frames("film-quantized.gif").images
    assert frames[0][:, 0, 0].equal(as_bytes(greens[0]))
    assert frames[2][:, 0, 0].equal(as_bytes(greens[3]))
    assert entry["counts"][0] == entry["counts"][3] == 64


@pytest.mark.parametrize("bits", ["5,6,5", "2"])
def test_displays_of_few_bits(folder, run, bits):
    levels = [2 ** int(count) - 1 for count in (bits.split(",") * 3)[:3]]
    code, out, err = run("palette", "photo.png", "-k", 9, "--bits", bits)
    assert (code, err) == (0, "")
    palette = [tuple(bytes.fromhex(code[1:])) for code in out.split()]
    assert len(set(palette)) == len(palette) == 9
    for color in palette:
        for value, most in zip(color, levels, strict=True):
            assert round(round(value * most / 255) * 255 / most) == value
    assert run("quantize", "photo.png", "-k", 9, "--bits", bits)[0] == 0
    assert colors_of("photo-quantized.png") == set(palette)
    drawing = ("--dither", "spatial", "--force")
    assert run("quantize", "photo.png", "-k", 9, "--bits", bits, *drawing)[0] == 0
    moved = colors_of("photo-quantized.png")
    assert moved != set(palette)
    for color in moved:
        for value, most in zip(color, levels, strict=True):
            assert round(round(value * most / 255) * 255 / most) == value


def test_quiet_hides_the_progress_of_dots(folder, run, monkeypatch):
    hidden = []

    def bar(steps, *_, disable, **__):
        hidden.append(disable)
        return steps

    monkeypatch.setattr("tqdm.tqdm", bar)
    for options in ((), ("--quiet",)):
        command = ("quantize", "photo.png", "-k", 3, "--dither", "spatial", "--force")
        assert run(*command, *options)[0] == 0
    progress(1, "dots", "sweep")
    assert hidden == [None, True, None]  # of the command alone


def test_an_opaque_picture_is_drawn_in_opaque_colors(folder, run):
    Path("mine.hex").write_text("00000000\nff0000ff\n0000ffff\n")
    Image.new("RGB", (4, 4), (1, 1, 1)).save("dark.png")
    assert run("quantize", "dark.png", "--palette", "mine.hex")[0] == 0
    assert colors_of("dark-quantized.png") <= {(255, 0, 0), (0, 0, 255)}


def test_kept_colors_are_in_the_palette(folder, run):
    arguments = ("quantize", "photo.png", "-k", 6, "--keep", "white,#102030", "--keep", "#f0f")
    code, out, _ = run(*arguments, "--json")
    assert code == 0
    palette = json.loads(out)["palette"]
    assert len(palette) == 6
    assert {"#ffffff", "#102030", "#ff00ff"} <= set(palette)
    check_error(run("quantize", "photo.png", "-k", 1, "--keep", "#fff,#000", "-f"), "at most 1")


def test_minimal_psnr(folder, run):
    code, out, _ = run("quantize", "photo.png", "--min-psnr", 30, "--json")
    assert code == 0
    entry = json.loads(out)
    assert entry["psnr"] >= 30
    fewer = str(max(1, len(entry["palette"]) // 2))
    code, out, _ = run("quantize", "photo.png", "-k", fewer, "--json", "-f")
    assert json.loads(out)["psnr"] < 30
    options = {"space": "oklab", "effort": "fast", "seed": 3}
    written = [f"--{name}={value}" for name, value in options.items()]
    found = entry_of(run, "photo.png", "--min-psnr", 30, *written)
    expected = smallest_palette(load_image("photo.png"), 30, **options)
    assert found["palette"] == report.hex_codes(expected)


def test_a_psnr_that_is_out_of_reach_writes_nothing(folder, run):
    before = contents(folder)
    check_error(run("quantize", "photo.png", "--min-psnr", 30, "-k", 4), "4 colours reach", "30")
    assert contents(folder) == before
    assert run("quantize", "photo.png", "other.jpg", "--min-psnr", 15, "-k", 6)[0] == 0


def test_a_psnr_with_a_dither_is_said_to_be_of_the_colors(folder, run):
    code, _, err = run("quantize", "photo.png", "--min-psnr", 20, "--dither", "atkinson")
    assert (code, err.count("\n")) == (0, 1)
    assert "warning: --min-psnr" in err
    options = ("--min-psnr", 20, "--dither", "atkinson", "--strength", 0, "-f")
    assert run("quantize", "photo.png", *options)[2] == ""


def test_transparent_pixels_stay_transparent(folder, run):
    assert run("quantize", "holes.png", "-k", 16)[0] == 0
    result = load_image("holes-quantized.png")
    assert result[3].equal(load_image("holes.png")[3])
    assert len({color[:3] for color in colors_of("holes-quantized.png") if color[3]}) >= 15
    for palette in ("pico-8", "grey-256"):
        assert run("quantize", "holes.png", "--palette", palette, "-f")[0] == 0
        assert load_image("holes-quantized.png")[3].equal(load_image("holes.png")[3])
    assert run("quantize", "holes.png", "photo.png", "--shared-palette", "-f")[0] == 0
    assert load_image("holes-quantized.png")[3].equal(load_image("holes.png")[3])
    assert mode_and_size("holes-quantized.png")[0] == "P"


def test_several_inputs_and_a_folder(folder, run):
    Path("in").mkdir()
    for name in ("photo.png", "other.jpg"):
        Path(name).rename(f"in/{name}")
    Path("in/notes.txt").write_text("no picture")
    Path("in/old-quantized.png").write_bytes(b"a result of before")
    code, out, err = run("quantize", "in", "holes.png", "-k", 8, "-o", "out")
    assert (code, err) == (0, "")
    assert set(os.listdir("out")) == {"photo.png", "other.png", "holes.png"}
    *lines, total = out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "out/other.png",
        "out/photo.png",
        "out/holes.png",
    ]
    assert total.startswith("3 pictures: ")


def test_one_palette_for_several_pictures(folder, run):
    run("quantize", "photo.png", "other.jpg", "-k", 12, "--shared-palette")
    union = colors_of("photo-quantized.png") | colors_of("other-quantized.png")
    assert len(union) == 12
    code, _, err = run(
        "quantize", "photo.png", "text.png", "other.jpg", "-k", 5, "--shared-palette", "-f"
    )
    assert code == 1
    assert "text.png" in err
    assert len(colors_of("photo-quantized.png") | colors_of("other-quantized.png")) == 5
    check_error(run("quantize", "text.png", "--shared-palette"), "text.png")


def test_animations_keep_frames_and_timing(folder, run):
    code, out, err = run("quantize", "film.gif", "-k", 10)
    assert (code, err) == (0, "")
    assert "3 frames" in out
    film = load_frames("film-quantized.gif")
    assert film.durations == [50, 120, 70]
    assert film.plays == 0
    colors = set()
    for frame in film.images:
        colors |= set(map(tuple, frame.flatten(1).T.tolist()))
    assert len(colors) == 10
    assert run("quantize", "film.gif", "-k", 10, "-o", "film.png")[0] == 0
    assert load_frames("film.png").durations == [50, 120, 70]


@pytest.mark.parametrize("big", [False, True])
def test_pages(folder, run, big):
    pages = [Image.fromarray(photo(seed)[: 20 + 10 * seed]) for seed in range(2)]
    pages[0].save("pages.tif", save_all=True, append_images=pages[1:], big_tiff=big)
    assert run("quantize", "pages.tif", "-k", 6)[0] == 0
    result = load_frames("pages-quantized.tif").images
    assert [image.shape for image in result] == [(3, 20, WIDTH), (3, 30, WIDTH)]
    assert run("quantize", "pages.tif", "--min-psnr", 25, "--force")[0] == 0


def test_side_by_side(folder, run):
    assert run("quantize", "photo.png", "-k", 8, "--compare", "side.png")[0] == 0
    assert mode_and_size("side.png")[1][0] > 3 * 300
    code, _, err = run("quantize", "photo.png", "-k", 8, "--compare", "side.png", "-f")
    assert (code, err) == (0, "")
    check_error(
        run("quantize", "photo.png", "-o", "new.png", "--compare", "side.png"), "side.png: exists"
    )
    assert run("quantize", "holes.png", "other.jpg", "-k", 4, "--compare", "sides")[0] == 0
    assert set(os.listdir("sides")) == {"holes-compare.png", "other-compare.png"}


def test_palette_command(folder, run):
    code, out, err = run("palette", "photo.png", "-k", 5, "-o", "photo.gpl")
    assert (code, err) == (0, "")
    codes = out.split()
    saved = as_bytes(load_palette("photo.gpl")).tolist()
    assert codes == [f"#{bytes(row).hex()}" for row in saved]
    assert len(codes) == 5
    check_error(run("palette", "photo.png", "-o", "photo.gpl"), "exists")
    check_error(run("palette", "photo.png", "-o", "photo.xyz"), ".gpl, .pal, .hex")
    _, colored, _ = run("palette", "photo.png", "-k", 5, "--color", "always")
    red, green, blue = saved[0]
    assert f"\x1b[48;2;{red};{green};{blue}m" in colored
    assert codes[0] in colored
    code, out, _ = run("palette", "photo.png", "other.jpg", "-k", 9, "--json")
    assert len(json.loads(out)["palette"]) == 9
    code, out, err = run("palette", "photo.png", "text.png", "-k", 3)
    assert code == 1
    assert "text.png" in err
    assert len(out.split()) == 3


def test_colors_in_a_terminal(folder, run, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert "\x1b[48;2;" in run("palette", "photo.png", "-k", 4)[1]
    assert "\x1b" not in run("palette", "photo.png", "-k", 4, "--color", "never")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run("palette", "photo.png", "-k", 4)[1]


def test_plot(folder, run):
    code, _, err = run("palette", "photo.png", "-k", 4, "--plot", "curve.png")
    assert (code, err) == (0, "")
    assert mode_and_size("curve.png")[1] == (1120, 720)


def save_film(name: str, colors: list[str], size: tuple[int, int] = (8, 8)) -> None:
    """An animation of one flat colour after the other."""
    frames = [Image.new("RGB", size, color) for color in colors]
    frames[0].save(name, save_all=True, append_images=frames[1:], duration=50)


@pytest.mark.parametrize("inputs", [["flat.gif"], ["flat.gif", "flat.gif"], ["flat.gif", "a.png"]])
def test_a_palette_is_of_all_frames(folder, run, inputs):
    save_film("flat.gif", ["#ff0000", "#0000ff"])
    Image.new("RGB", (4, 4), "#ff0000").save("a.png")
    code, out, _ = run("palette", *inputs, "-k", 4)
    assert (code, set(out.split())) == (0, {"#ff0000", "#0000ff"})


def test_near_colors_of_several_pictures_stay_apart(folder, run):
    for name, color in (("a.png", "#000000"), ("b.png", "#010101")):
        Image.new("RGB", (4, 4), color).save(name)
    assert run("palette", "a.png", "b.png", "-k", 4)[1].split() == ["#000000", "#010101"]
    assert run("quantize", "a.png", "b.png", "-k", 4, "--shared-palette")[0] == 0
    for name in ("a", "b"):
        assert load_image(f"{name}-quantized.png").equal(load_image(f"{name}.png"))


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (200, 3)])
def test_small_pictures_can_be_compared(folder, run, size):
    Image.fromarray(photo()).resize(size).save("icon.png")
    Image.fromarray(photo(1)).resize(size).save("other.png")
    code, out, err = run("compare", "icon.png", "other.png", "-o", "both.png")
    assert (code, err) == (0, "")
    assert "SSIM" in out
    assert Path("both.png").exists()


def curve_of(run, monkeypatch, *arguments) -> dict[int, float]:
    """What ``palette --plot`` measured."""
    curves = []
    draw = palette_command.rate_distortion
    monkeypatch.setattr(
        palette_command,
        "rate_distortion",
        lambda curve, *more: curves.append(curve) or draw(curve, *more),
    )
    assert run("palette", *arguments, "--plot", "curve.png", "-f")[0] == 0
    return curves[-1]


def test_a_plot_is_of_all_visible_pixels(folder, run, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 4), np.uint8)
    noise[..., 3] = 0
    noise[:4, :, :] = (255, 0, 0, 255)
    noise[4:8, :, :] = (0, 0, 255, 255)
    Image.fromarray(noise).save("clear.png")
    curve = curve_of(run, monkeypatch, "clear.png")
    assert list(curve) == [2, 3]  # red, blue and transparent
    assert curve[3] == math.inf
    save_film("flat.gif", ["#ff0000", "#0000ff", "#00ff00"])
    curve = curve_of(run, monkeypatch, "flat.gif")
    assert curve[2] < 20
    assert curve[3] == math.inf


@pytest.mark.parametrize("colors", [1, 2, 3, 5])
def test_a_plot_of_few_colors(folder, run, colors):
    flat = np.linspace(0, 255, colors).astype(np.uint8).repeat(9).reshape(1, -1)
    Image.fromarray(flat).save("flat.png")
    code, out, err = run("palette", "flat.png", "-o", "flat.hex", "--plot", "curve.png")
    assert (code, err, len(out.split())) == (0, "", colors)
    assert {"flat.hex", "curve.png"} <= names(folder)


@pytest.mark.parametrize("name", ["flat.act", "flat.ase"])
def test_a_palette_that_cannot_be_written_leaves_nothing(folder, run, name):
    """A format that is too small for the palette, found before the plot is there."""
    keep = ["--keep", "#ff000080"] if name == "flat.ase" else []
    image = "holes.png" if name == "flat.ase" else "photo.png"
    before = contents(folder)
    check_error(run("palette", image, "-k", 300, "-o", name, "--plot", "curve.png", *keep), name)
    assert contents(folder) == before


def test_compare_command(folder, run):
    run("quantize", "photo.png", "-k", 8)
    code, out, _ = run("compare", "photo.png", "photo-quantized.png", "-o", "both.png")
    assert code == 0
    for word in (
        "MSE",
        "PSNR",
        "SSIM",
        "CIEDE2000",
        "eye error  ",
        "through dots",
        "quality  ",
        "bytes",
    ):
        assert word in out
    assert mode_and_size("both.png")[1][0] > 600
    code, out, _ = run("compare", "photo.png", "photo.png", "--json")
    entry = json.loads(out)
    assert (entry["mse"], entry["psnr"], entry["ciede2000"], entry["eye_error"]) == (0, None, 0, 0)
    assert (entry["ssim"], entry["visual_quality"]) == (pytest.approx(1), 100)
    Image.fromarray(photo()[:9]).save("small.png")
    check_error(run("compare", "photo.png", "small.png"), "56 x 40", "56 x 9")
    check_error(run("compare", "photo.png", "missing.png"), "missing.png: no such file")


def test_a_broken_profile_is_a_warning_of_one_line(folder, run):
    Image.fromarray(photo()).save("profile.png", icc_profile=b"nonsense")
    code, _, err = run("quantize", "profile.png", "-k", 4)
    assert code == 0
    assert err.count("\n") == 1
    assert "warning: profile.png" in err


def test_help_and_wrong_options_need_no_torch():
    """Each in a process of its own, which must not have waited for torch."""
    code = (
        "import sys; from colorquant_nn.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: assert 'numpy' in sys.modules and 'torch' not in sys.modules"
    )
    for arguments, exit_code in ((["--help"], 0), (["palette", "-h"], 0), (["quantize", "-k"], 2)):
        done = interpreter("-c", code, *arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (exit_code, False)


def test_help(run):
    code, out, _ = run("--help")
    assert code == 0
    assert all(command in out for command in ("quantize", "palette", "compare"))
    assert "gameboy" in run("quantize", "--help")[1]
    assert run()[0] == 2


def test_as_a_module_in_a_pipe(folder):
    """The one check in a process of its own: nothing but the result is printed."""
    command = ["quantize", "photo.png", "other.jpg", "-k", "4"]
    done = interpreter("-m", "colorquant_nn", *command, directory=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3
    assert load_image("photo-quantized.png").shape == (3, HEIGHT, WIDTH)
