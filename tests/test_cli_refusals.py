"""What the command refuses, and that nothing is lost by it."""

import os
import sys
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from colorquant_nn.cli import quantize, ranks
from colorquant_nn.io import load_image
from tests.helpers import (
    HEIGHT,
    WIDTH,
    check_error,
    colors_of,
    contents,
    interpreter,
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
    assert len(out.splitlines()) == 3
    assert "2 pictures, 4 failed: " in out.splitlines()[-1]
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
        (["-k", "9" * 5000], ["from 1 to 65536"]),
        (["--strength", "1.5"], ["from 0 to 1", "'1.5'"]),
        (["--strength", "nan"], ["from 0 to 1"]),
        (["--space", "hsv"], ["hsv", "oklab"]),
        (["--dither", "noise"], ["noise", "atkinson"]),
        (["--keep", "whitish"], ["#ff8000", "'whitish'"]),
        (["--keep", "fff"], ["short codes need a #: #fff"]),
        (["--keep", "255,255,255"], ["one colour of three numbers is rgb(255,255,255)"]),
        (["--min-psnr", "x"], ["dB", "'x'"]),
        (["--palette", "gamegirl"], ["gamegirl: no such palette", "gameboy"]),
        (["--palette", "text.png"], ["text.png: not an image"]),
        (["--palette", "#000,#ggg"], ["#000,#ggg: no such file, and no colours", "'#ggg'"]),
        (["--palette", "cga", "-k", "4"], ["--palette", "-k"]),
        (["--palette", "cga", "--min-psnr", "30"], ["--palette", "--min-psnr"]),
        (["--min-psnr", "30", "--keep", "#fff"], ["--min-psnr", "--keep"]),
        (["--palette", "#fff=#f"], ["#fff=#f: no such file, and no colours", "'#f'"]),
        (["--palette", "#fff=#0008,#000"], ["opaque colours of a panel"]),
        (["--palette", "cga", "--bits", "5"], ["--palette", "--bits"]),
        (["--min-psnr", "30", "--bits", "5"], ["--min-psnr", "--bits"]),
        (["--bits", "0"], ["1 to 8 each", "'0'"]),
        (["--bits", "5,6,9"], ["1 to 8 each", "'5,6,9'"]),
        (["--bits", "5,6"], ["1 to 8 each", "'5,6'"]),
        (["--bits", "rgb565"], ["5,6,5", "'rgb565'"]),
        (["--bits", "5,6,5", "--keep", "#800000"], ["#800000", "the nearest is #840000"]),
        (["--fit-gamut"], ["--fit-gamut", "--palette"]),
        (["--fit-lightness", "-k", "4"], ["--fit-lightness", "--palette"]),
        (
            ["--fit-gamut", "--fit-lightness", "--palette", "cga"],
            ["--fit-gamut", "--fit-lightness"],
        ),
        (["--fit-gamut", "--palette", "#fff,#fff"], ["two different visible colours", "got 1"]),
        (["--fit-lightness", "--palette", "#fff"], ["two different visible colours", "got 1"]),
        (["--seed", "-1"], ["--seed", "expected"]),
        (["--seed", str(1 << 64)], ["from 0 to", str(1 << 64)]),
        (["--max-pixels", "0"], ["pixels", "'0'"]),
        (["--max-pixels", "4T"], ["400M", "'4T'"]),
        (["--suffix", "a/b"], ["--suffix", "'a/b'"]),
        (["--suffix", "-x", "-o", "result.png"], ["--suffix", "-o result.png"]),
        (["-o", ""], ["-o", "empty"]),
        (["--palette", ""], ["--palette", "empty"]),
        (["--compare", ""], ["--compare", "empty"]),
        (["--suffix", ""], ["--suffix", "''"]),
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
    assert Path("there.png/photo.png").exists()
    check_error(run("palette", "photo.png", "-o", "there.png"), "got a folder")
    check_error(run("quantize", "photo.png", "-o", os.devnull, "-f"), os.devnull)
    assert not Path(os.devnull).is_file()


def test_a_failing_disk_leaves_nothing(folder, run, monkeypatch):
    def no_space(*_):
        raise OSError(28, "No space left on device")

    before = contents(folder)
    monkeypatch.setattr(os, "replace", no_space)
    monkeypatch.setattr(os, "link", no_space)
    for force in ([], ["--force"]):
        outcome = run("quantize", "photo.png", *force)
        check_error(outcome, "photo-quantized.png", "No space left")
        assert contents(folder) == before


@pytest.mark.parametrize("calls", [["open"], ["link", "replace"]])
@pytest.mark.parametrize("failing", [1, 2])
def test_a_disk_that_fails_in_between_leaves_nothing(folder, run, monkeypatch, failing, calls):
    """Of two files that belong together, the first is not there without the second."""
    begun = []

    def no_space(works, path, *more, **options):
        if ".partial" in str(path) and path not in begun:
            begun.append(path)
        if ".partial" in str(path) and len(begun) >= failing:
            raise OSError(28, "No space left on device")
        return works(path, *more, **options)

    before = contents(folder)
    for arguments in (
        ("quantize", "photo.png", "-k", 4, "--compare", "side.png"),
        ("palette", "photo.png", "-k", 4, "-o", "photo.gpl", "--plot", "curve.png"),
    ):
        begun.clear()
        with monkeypatch.context() as patch:
            for call in calls:
                patch.setattr(os, call, partial(no_space, getattr(os, call)))
            check_error(run(*arguments), "No space left")
        assert contents(folder) == before


def test_folders_are_made_for_results_alone(folder, run):
    check_error(run("quantize", "text.png", "-o", "new/"), "text.png: not an image")
    assert not Path("new").exists()
    assert run("quantize", "photo.png", "text.png", "-k", 4, "-o", "new/deep")[0] == 1
    assert names(folder) & {"new/deep/photo.png"}


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        (["quantize", "photo.png", "--compare"], "there.png"),
        (["palette", "photo.png", "-k", "4", "--plot"], "there.png"),
        (["palette", "photo.png", "-k", "4", "-o"], "there.gpl"),
        (["compare", "photo.png", "holes.png", "-o"], "there.png"),
    ],
)
def test_no_command_replaces_a_file_without_force(folder, run, arguments, target):
    Path(target).write_bytes(b"mine")
    before = contents(folder)
    check_error(run(*arguments, target), f"{target}: exists; --force replaces it")
    assert contents(folder) == before
    assert run(*arguments, target, "--force")[0] == 0
    assert Path(target).read_bytes() != b"mine"


@pytest.mark.parametrize("command", [["palette"], ["quantize", "--shared-palette"]])
def test_several_bad_files(folder, run, command):
    code, out, err = run(*command, "text.png", "empty.png", "-k", 4)
    assert (code, out) == (2, "")
    assert [line.split(":")[1] for line in err.splitlines()] == [" text.png", " empty.png"]


def test_several_inputs_into_one_file_name(folder, run):
    for option in ("-o", "--compare"):
        outcome = run("quantize", "photo.png", "other.jpg", option, "one.png")
        check_error(outcome, "one.png: expected a folder for several inputs, got a file name")


def test_a_folder_without_pictures(folder, run):
    Path("bare").mkdir()
    check_error(run("quantize", "bare"), "bare: no pictures in this folder")
    assert run("palette", "bare", "photo.png", "-k", 4)[0] == 1


def test_colors_that_do_not_fit(folder, run):
    check_error(run("palette", "photo.png", "-k", 1, "--keep", "#fff,#000"), "at most 1", "got 2")
    keep = ("--keep", "#ff000080")
    check_error(run("palette", "photo.png", *keep), "colours to keep")
    assert "#ff000080" in run("palette", "photo.png", "holes.png", "-k", 4, *keep)[1].split()


def test_an_interruption(folder, run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(quantize, "FrameStream", interrupted)
    assert run("quantize", "photo.png") == (130, "", "colorquant: interrupted\n")


@pytest.mark.slow
def test_a_reader_that_stops_early_is_no_error(folder):
    """``colorquant ... | true``, with more output than the buffers between hold."""
    code = (
        "import sys; from colorquant_nn.cli import main, report\n"
        "report.hex_codes = lambda _: ['x' * 99] * 9999\n"
        "sys.exit(main(['palette', 'photo.png', '-k', '4']))"
    )
    shell = '"$0" -c "$1" | true; exit ${PIPESTATUS[0]}'
    done = interpreter("-c", shell, sys.executable, code, directory=folder, program="bash")
    assert (done.returncode, done.stderr) == (0, "")


def test_who_allows_more_pixels_allows_more_bytes(folder, run, monkeypatch):
    monkeypatch.setattr(ranks, "MAX_BYTES", 100)
    check_error(run("quantize", "photo.png", "--max-pixels", 20), "larger than 120 bytes")
    assert run("quantize", "photo.png", "--max-pixels", "1M")[0] == 0
