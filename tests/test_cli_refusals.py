"""What the command refuses, and that nothing is lost by it."""

import os
from pathlib import Path

import pytest
from PIL import Image

from colorquant_nn.io import load_image
from tests.cli_helpers import (
    HEIGHT,
    WIDTH,
    check_error,
    colors_of,
    contents,
    names,
    photo,
)


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
