"""The command as a user runs it: on real files, with exit codes, bytes and messages checked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from colorquant_nn import cli
from colorquant_nn.cli import main
from colorquant_nn.functional.color import SPACES
from colorquant_nn.functional.dither import DITHERS
from colorquant_nn.functional.search import EFFORTS
from colorquant_nn.io import load_frames, load_image
from colorquant_nn.palettes import load_palette

HEIGHT, WIDTH = 40, 56


def photo(seed: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT
    channels = [np.sin(3 * rows + seed), np.cos(4 * columns), np.sin(5 * rows * columns + seed)]
    return ((np.stack(channels, -1) + 1) * 127.5).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with a picture of each kind."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo()).save("photo.png")
    Image.fromarray(photo(1)).save("other.jpg", quality=95)
    holes = np.dstack([photo(2), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    holes[:10, :20, 3] = 0
    Image.fromarray(holes).save("holes.png")
    frames = [Image.fromarray(photo(seed)).quantize(200) for seed in range(3)]
    frames[0].save(
        "film.gif", save_all=True, append_images=frames[1:], duration=[50, 120, 70], loop=0
    )
    Path("broken.png").write_bytes(Path("photo.png").read_bytes()[:700])
    Path("text.png").write_text("hello")
    Path("empty.png").write_bytes(b"")
    return tmp_path


@pytest.fixture
def run(capsys):
    """Run the command; returns exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def mode_and_size(path) -> tuple[str, tuple[int, int]]:
    with Image.open(path) as image:
        return image.mode, image.size


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names(folder)}


def colors_of(path) -> set[tuple[int, ...]]:
    return set(map(tuple, load_image(path).flatten(1).T.tolist()))


def check_error(outcome, *parts: str, code: int = 2) -> None:
    """One line on stderr that says all of it, and nothing else."""
    assert outcome[0] == code, outcome
    assert outcome[2].count("\n") == 1, outcome[2]
    assert outcome[2].startswith("colorquant")
    for part in parts:
        assert part in outcome[2]


def test_one_picture(folder, run):
    before = contents(folder)
    code, out, err = run("quantize", "photo.png", "-k", 16)
    assert (code, err) == (0, "")
    assert names(folder) - set(before) == {"photo-quantized.png"}
    assert {name: (folder / name).read_bytes() for name in before} == before
    with Image.open("photo-quantized.png") as stored:
        assert stored.mode == "P"
        colors = torch.tensor(stored.getpalette("RGB")).view(-1, 3)
    assert Path("photo-quantized.png").read_bytes()[24] == 4  # bits per pixel
    assert len(colors) == 16
    lightness = colors.float() @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert lightness[:4].max() < lightness[-4:].min()
    size = (os.path.getsize("photo.png"), os.path.getsize("photo-quantized.png"))
    assert f"{size[0]:,} -> {size[1]:,} bytes" in out
    before_colors = len(np.unique(photo().reshape(-1, 3), axis=0))
    assert f"{before_colors:,} -> 16" in out
    for word in ("MSE", "PSNR", "CIEDE2000", " s\n"):
        assert word in out


def test_json_tells_what_was_measured(folder, run):
    code, out, _ = run("quantize", "photo.png", "-k", 8, "--json")
    assert code == 0
    (entry,) = json.loads(out)
    result = load_image("photo-quantized.png").numpy().transpose(1, 2, 0)
    error = ((result / 255 - photo() / 255) ** 2).mean()
    assert entry["mse"] == pytest.approx(error, rel=1e-5)
    assert entry["psnr"] == pytest.approx(-10 * np.log10(error), rel=1e-5)
    assert entry["colors_after"] == 8
    assert sum(entry["counts"]) == HEIGHT * WIDTH
    assert entry["bytes_after"] == os.path.getsize("photo-quantized.png")
    used = {tuple(bytes.fromhex(color[1:])) for color in entry["palette"]}
    assert used == colors_of("photo-quantized.png")


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
    assert json.loads(out)[0]["psnr"] is None
    assert np.array_equal(load_image("flat-quantized.png").numpy().transpose(1, 2, 0), flat)
    assert Path("flat-quantized.png").read_bytes()[24] == 2


@pytest.mark.parametrize("suffix", [".png", ".gif", ".webp", ".tif"])
def test_output_formats(folder, run, suffix):
    assert run("quantize", "photo.png", "-k", 16, "-o", f"result{suffix}")[0] == 0
    assert len(colors_of(f"result{suffix}")) == 16


def test_more_than_256_colors(folder, run):
    assert run("quantize", "photo.png", "-k", 300)[0] == 0
    assert mode_and_size("photo-quantized.png")[0] == "RGB"
    check_error(run("quantize", "photo.png", "-k", 300, "-o", "a.gif"), "a.gif", "256")
    assert not Path("a.gif").exists()


@pytest.mark.parametrize("dither", ["ordered", "floyd-steinberg", "atkinson"])
def test_dither_is_not_ignored(folder, run, dither):
    arguments = ("quantize", "photo.png", "--palette", "c64")
    assert run(*arguments, "-o", "plain.png")[0] == 0
    assert run(*arguments, "-o", "dithered.png", "--dither", dither)[0] == 0
    assert run(*arguments, "-o", "none.png", "--dither", dither, "--strength", 0)[0] == 0
    assert Path("plain.png").read_bytes() == Path("none.png").read_bytes()
    assert Path("plain.png").read_bytes() != Path("dithered.png").read_bytes()


@pytest.mark.parametrize("space", ["linear", "lab", "oklab"])
def test_spaces(folder, run, space):
    assert run("quantize", "photo.png", "-k", 6, "--space", space)[0] == 0
    assert len(colors_of("photo-quantized.png")) == 6


def test_palettes_by_name_and_file(folder, run):
    assert run("quantize", "photo.png", "--palette", "gameboy")[0] == 0
    gameboy = {tuple(row) for row in (load_palette("gameboy") * 255).round().int().tolist()}
    assert colors_of("photo-quantized.png") <= gameboy
    assert Path("photo-quantized.png").read_bytes()[24] == 2
    Path("mine.hex").write_text("ff0000\n00ff00\n")
    assert run("quantize", "photo.png", "--palette", "mine.hex", "-f")[0] == 0
    assert colors_of("photo-quantized.png") == {(255, 0, 0), (0, 255, 0)}


def test_kept_colors_are_in_the_palette(folder, run):
    arguments = ("quantize", "photo.png", "-k", 6, "--keep", "#ffffff,#102030", "--keep", "f0f")
    code, out, _ = run(*arguments, "--json")
    assert code == 0
    palette = json.loads(out)[0]["palette"]
    assert len(palette) == 6
    assert {"#ffffff", "#102030", "#ff00ff"} <= set(palette)
    check_error(run("quantize", "photo.png", "-k", 1, "--keep", "#fff,#000", "-f"), "at most 1")


def test_minimal_psnr(folder, run):
    code, out, _ = run("quantize", "photo.png", "--min-psnr", 30, "--json")
    assert code == 0
    entry = json.loads(out)[0]
    assert entry["psnr"] >= 30
    fewer = str(max(1, len(entry["palette"]) // 2))
    code, out, _ = run("quantize", "photo.png", "-k", fewer, "--json", "-f")
    assert json.loads(out)[0]["psnr"] < 30


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
    assert set(os.listdir("out")) == {
        "photo-quantized.png",
        "other-quantized.png",
        "holes-quantized.png",
    }
    assert len(out.splitlines()) == 3


def test_one_bad_file_does_not_stop_the_others(folder, run):
    inputs = ["photo.png", "broken.png", "text.png", "empty.png", "missing.png", "other.jpg"]
    code, out, err = run("quantize", *inputs, "-k", 4)
    assert code == 1
    assert len(err.splitlines()) == 4
    for name, reason in [
        ("broken.png", "truncated"),
        ("text.png", "not an image"),
        ("empty.png", "empty"),
        ("missing.png", "no such file"),
    ]:
        (line,) = [line for line in err.splitlines() if name in line]
        assert reason in line
    assert len(out.splitlines()) == 2
    made = {name for name in names(folder) if "quantized" in name or "partial" in name}
    assert made == {"photo-quantized.png", "other-quantized.png"}
    assert run("quantize", "text.png", "empty.png")[0] == 2


@pytest.mark.parametrize("name", ["broken.png", "text.png", "empty.png", "missing.png"])
@pytest.mark.parametrize("command", ["quantize", "palette"])
def test_a_bad_file_alone(folder, run, name, command):
    before = contents(folder)
    check_error(run(command, name), name)
    assert contents(folder) == before


def test_a_decompression_bomb(folder, run, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    check_error(run("quantize", "photo.png"), "photo.png", "too large")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["-k", "0"], ["from 1 to 65536", "'0'"]),
        (["-k", "-3"], ["colors"]),
        (["-k", "many"], ["'many'"]),
        (["-k", "99999999999"], ["from 1 to 65536"]),
        (["--strength", "1.5"], ["from 0 to 1", "'1.5'"]),
        (["--strength", "nan"], ["from 0 to 1"]),
        (["--space", "hsv"], ["hsv", "oklab"]),
        (["--dither", "noise"], ["noise", "atkinson"]),
        (["--keep", "white"], ["#ff8000", "'white'"]),
        (["--min-psnr", "x"], ["dB", "'x'"]),
        (["--palette", "gamegirl"], ["gamegirl: no such palette", "gameboy"]),
        (["--palette", "text.png"], ["text.png: not an image"]),
        (["--palette", "cga", "-k", "4"], ["--palette", "-k"]),
        (["--palette", "cga", "--min-psnr", "30"], ["--palette", "--min-psnr"]),
        (["--min-psnr", "30", "-k", "4"], ["--min-psnr", "-k"]),
        (["-o", "result.jpg"], ["result.jpg", ".png"]),
        (["-o", "no/such/folder.png"], ["folder", "no/such", "does not exist"]),
        (["-o", "photo.png", "--force"], ["photo.png: is an input"]),
        (["-o", "other.jpg.png", "--compare", "other.jpg.png"], ["different files"]),
        (["--compare", "side.xyz"], ["side.xyz"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_bad_arguments(folder, run, arguments, parts):
    before = contents(folder)
    check_error(run("quantize", "photo.png", *arguments), *parts)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("bad.gpl", b"GIMP Palette\n1 2", "bad.gpl, line 2"),
        ("bad.hex", b"red", "bad.hex, line 1"),
        ("bad.act", b"abc", "772 bytes"),
    ],
)
def test_corrupt_palette_files(folder, run, name, data, message):
    Path(name).write_bytes(data)
    check_error(run("quantize", "photo.png", "--palette", name), message)
    assert not Path("photo-quantized.png").exists()


def test_existing_targets_are_refused_without_force(folder, run):
    Path("photo-quantized.png").write_bytes(b"mine")
    check_error(run("quantize", "photo.png"), "photo-quantized.png: exists; --force replaces it")
    assert Path("photo-quantized.png").read_bytes() == b"mine"
    assert run("quantize", "photo.png", "--force")[0] == 0
    assert load_image("photo-quantized.png").shape == (3, HEIGHT, WIDTH)


def test_results_do_not_replace_each_other(folder, run):
    Image.fromarray(photo(3)).save("photo.bmp")
    code, _, err = run("quantize", "photo.png", "photo.bmp", "-k", 4)
    assert code == 1
    assert "photo.bmp: would replace" in err
    assert len(colors_of("photo-quantized.png")) == 4


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder(folder, run):
    Path("locked").mkdir(mode=0o500)
    check_error(run("quantize", "photo.png", "-o", "locked/a.png"), "cannot be written to")


def test_a_target_that_is_no_file(folder, run):
    Path("there.png").mkdir()
    assert run("quantize", "photo.png", "-o", "there.png")[0] == 0  # a folder, whatever its name
    assert Path("there.png/photo-quantized.png").exists()
    check_error(run("palette", "photo.png", "-o", "there.png"), "got a folder")
    check_error(run("quantize", "photo.png", "-o", os.devnull, "-f"), os.devnull)
    assert not Path(os.devnull).is_file()


def test_a_failing_disk_leaves_nothing(folder, run, monkeypatch):
    def no_space(*_):
        raise OSError(28, "No space left on device")

    before = contents(folder)
    monkeypatch.setattr(os, "replace", no_space)
    check_error(run("quantize", "photo.png"), "photo-quantized.png", "No space left")
    assert contents(folder) == before


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
    assert film.loop == 0
    colors = set()
    for frame in film.images:
        colors |= set(map(tuple, frame.flatten(1).T.tolist()))
    assert len(colors) == 10
    assert run("quantize", "film.gif", "-k", 10, "-o", "film.png")[0] == 0
    assert load_frames("film.png").durations == [50, 120, 70]


def test_pages(folder, run):
    pages = [Image.fromarray(photo(seed)[: 20 + 10 * seed]) for seed in range(2)]
    pages[0].save("pages.tif", save_all=True, append_images=pages[1:])
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
    saved = (load_palette("photo.gpl") * 255).round().int().tolist()
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


def test_plot(folder, run):
    code, _, err = run("palette", "photo.png", "-k", 4, "--plot", "curve.png")
    assert (code, err) == (0, "")
    assert mode_and_size("curve.png")[1] == (1120, 720)


def test_compare_command(folder, run):
    run("quantize", "photo.png", "-k", 8)
    code, out, _ = run("compare", "photo.png", "photo-quantized.png", "-o", "both.png")
    assert code == 0
    for word in ("MSE", "PSNR", "SSIM", "CIEDE2000", "bytes"):
        assert word in out
    assert mode_and_size("both.png")[1][0] > 600
    code, out, _ = run("compare", "photo.png", "photo.png", "--json")
    entry = json.loads(out)
    assert (entry["mse"], entry["psnr"], entry["ciede2000"]) == (0, None, 0)
    assert entry["ssim"] == pytest.approx(1)
    Image.fromarray(photo()[:9]).save("small.png")
    check_error(run("compare", "photo.png", "small.png"), "56 x 40", "56 x 9")
    check_error(run("compare", "photo.png", "missing.png"), "missing.png: no such file")


def test_a_broken_profile_is_a_warning_of_one_line(folder, run):
    Image.fromarray(photo()).save("profile.png", icc_profile=b"nonsense")
    code, _, err = run("quantize", "profile.png", "-k", 4)
    assert code == 0
    assert err.count("\n") == 1
    assert "warning: profile.png" in err


def test_choices_are_those_of_the_library():
    """The command repeats the names so that its help need not import torch."""
    assert tuple(DITHERS) == cli.DITHERS
    assert set(SPACES) == set(cli.SPACES)
    assert tuple(EFFORTS) == cli.EFFORTS


def test_help(run):
    code, out, _ = run("--help")
    assert code == 0
    assert all(command in out for command in ("quantize", "palette", "compare"))
    assert "gameboy" in run("quantize", "--help")[1]
    assert run()[0] == 2


def test_as_a_module_in_a_pipe(folder):
    """The one check in a process of its own: nothing but the result is printed."""
    command = [
        sys.executable,
        "-m",
        "colorquant_nn",
        "quantize",
        "photo.png",
        "other.jpg",
        "-k",
        "4",
    ]
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2
    assert load_image("photo-quantized.png").shape == (3, HEIGHT, WIDTH)
