"""``colorquant quantize`` for the disk: bytes and qualities that are promised are kept."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorquant_nn import compress_image, load_image
from colorquant_nn.cli import main, measures
from colorquant_nn.cli import quantize as quantize_command
from colorquant_nn.functional import visual_quality
from colorquant_nn.io import encode_frames
from tests.helpers import check_error, colors_of, contents, names, photo, picture

GOALS = [["--max-bytes", "1k"], ["--min-quality", "50"], ["--lossy", "30"]]
FEW = ["-k", "32"]  # colours, whose order is soon found


def quality_of(result: str, original: str = "photo.png") -> float:
    return float(visual_quality(load_image(result), load_image(original)))


@pytest.mark.parametrize(("written", "most"), [("3.2K", 3200), ("1500", 1500), ("0.0003M", 300)])
def test_a_budget_is_met_and_used(folder, run, written, most):
    Image.fromarray(picture(0, height=64, width=64).movedim(0, -1).numpy()).save("photo.png")
    code, out, err = run("quantize", "photo.png", "--max-bytes", written)
    assert (code, err) == (0, "")
    size = os.path.getsize("photo-quantized.png")
    assert 0.9 * most < size <= most
    with Image.open("photo-quantized.png") as stored:
        assert (stored.format, stored.mode) == ("PNG", "P")
    assert f"-> {size:,} bytes" in out
    assert f"-> {len(colors_of('photo-quantized.png'))}\n" in out
    assert f"  quality    {quality_of('photo-quantized.png'):.1f} (SSIMULACRA2)\n" in out


def test_a_budget_holds_the_size_in_print_too(folder, run):
    Image.fromarray(photo()).save("print.png", dpi=(300, 300))
    sizes = []
    for strip in ([], ["--strip"]):
        arguments = ("print.png", "--lossy", 50, *FEW, "-o", "out.png", "-f", *strip)
        assert run("quantize", *arguments)[0] == 0
        sizes.append(os.path.getsize("out.png"))
    assert sizes[0] - sizes[1] == quantize_command.RESOLUTION_BYTES
    for budget in range(600, 620, 5):
        arguments = ("print.png", "--max-bytes", budget, *FEW, "-o", "out.png", "-f")
        assert run("quantize", *arguments)[0] == 0
        assert os.path.getsize("out.png") <= budget
    with Image.open("out.png") as stored:
        assert stored.info["dpi"] == pytest.approx((300, 300), abs=1)
    outcome = run("quantize", "print.png", "--max-bytes", 30)
    check_error(
        outcome, "a file of 9 bytes", "to the bytes add 21 for the dots per inch, which --strip"
    )
    smallest = int(outcome[2].split("the smallest has ")[1].split(":")[0]) + 21
    arguments = ("print.png", "-o", "out.png", "-f", "--max-bytes")
    assert run("quantize", *arguments, smallest - 1)[0] == 2
    assert run("quantize", *arguments, smallest)[0] == 0


@pytest.mark.parametrize("quality", [30, 65, 80])
def test_a_quality_is_reached(folder, run, quality):
    assert run("quantize", "photo.png", "--min-quality", quality)[0] == 0
    assert quality <= quality_of("photo-quantized.png")


def test_a_lower_quality_and_a_higher_price_make_smaller_files(folder, run):
    for option, values in (("--min-quality", (40, 10)), ("--lossy", (1, 200))):
        sizes = []
        for value in values:
            assert run("quantize", "photo.png", option, value, *FEW, "-f")[0] == 0
            sizes.append(os.path.getsize("photo-quantized.png"))
        assert sizes[0] > sizes[1]


def test_both_goals_hold(folder, run):
    arguments = ("quantize", "photo.png", "--min-quality", 40, *FEW)
    assert run(*arguments, "--max-bytes", "3k")[0] == 0
    assert os.path.getsize("photo-quantized.png") <= 3000
    assert quality_of("photo-quantized.png") >= 40
    check_error(
        run(*arguments, "--max-bytes", 200, "-f"),
        "photo.png: a quality of 40 takes",
        "not 200",
        "(--max-bytes, --min-quality)",
    )


@pytest.mark.parametrize("goal", GOALS)
def test_options_are_handed_on(folder, run, goal):
    options = {"space": "rgb", "effort": "fast", "seed": 3}
    written = [f"--{name}={value}" for name, value in options.items()]
    code, out, _ = run("quantize", "photo.png", *goal, "-k", 100, *written, "--json")
    assert code == 0
    wanted = {"--max-bytes": 1000}.get(goal[0]) or float(goal[1])
    goals = {goal[0].strip("-").replace("-", "_"): wanted}
    expected = compress_image(load_image("photo.png"), num_colors=100, **goals, **options)
    assert load_image("photo-quantized.png").equal(expected.rgb)
    counts = expected.indices.flatten().bincount(minlength=len(expected.palette))
    assert json.loads(out)["counts"] == counts.tolist()


def test_a_file_is_the_one_whose_bytes_were_counted(folder, run):
    drawing = picture(0, height=64, width=64)
    Image.fromarray(drawing.movedim(0, -1).numpy()).save("photo.png")
    assert run("quantize", "photo.png", "--lossy", 5, *FEW)[0] == 0
    expected = encode_frames(
        "x.png", [compress_image(drawing, lossy=5, num_colors=32)], effort="balanced"
    )
    assert Path("photo-quantized.png").read_bytes() == expected


@pytest.mark.parametrize("goal", GOALS)
def test_json_has_bytes_and_judges(folder, run, goal):
    code, out, err = run("quantize", "photo.png", *goal, "-k", 64, "--json")
    assert (code, err) == (0, "")
    entry = json.loads(out)
    assert entry["bytes_before"] == os.path.getsize("photo.png")
    assert entry["bytes_after"] == os.path.getsize("photo-quantized.png")
    assert entry["visual_quality"] == pytest.approx(quality_of("photo-quantized.png"), abs=1e-3)
    assert entry["psnr"] > 10
    assert {"ciede2000", "eye_error", "mse"} <= entry.keys()
    assert entry["colors_after"] == len(entry["palette"]) <= 64


def test_judges_are_asked_where_somebody_is_told(folder, run, monkeypatch):
    asked = []
    for judge in measures.JUDGES:
        works = measures.JUDGES[judge]
        monkeypatch.setitem(
            measures.JUDGES,
            judge,
            lambda *pair, f=works, name=judge: asked.append(name) or f(*pair),
        )
    for options, expected in [
        (["-k", 4], set()),
        (["-k", 4, "--json"], {"visual_quality", "eye_error"}),
        (["--lossy", 50, *FEW], {"visual_quality"}),
        (["--lossy", 50, *FEW, "--json"], {"visual_quality", "eye_error"}),
    ]:
        asked.clear()
        assert run("quantize", "photo.png", *options, "-f")[0] == 0
        assert set(asked) == expected
    monkeypatch.setattr(quantize_command, "MOST_JUDGED", 100)
    asked.clear()
    entry = json.loads(run("quantize", "photo.png", "-k", 4, "--json", "-f")[1])
    assert not asked
    assert entry["visual_quality"] is entry["eye_error"] is None


@pytest.mark.parametrize("goal", GOALS)
def test_holes_stay_holes(folder, run, goal):
    icon = np.zeros((32, 32, 4), np.uint8)
    rows, columns = np.mgrid[:32, :32] - 15.5
    distance = np.hypot(rows, columns)
    icon[..., :3] = photo()[:32, :32]
    icon[..., 3] = (255 * np.clip(14 - distance, 0, 1)).astype(np.uint8)
    Image.fromarray(icon).save("icon.png")
    assert run("quantize", "icon.png", *goal, *FEW)[0] == 0
    found = load_image("icon-quantized.png")[3].numpy()
    assert (found[icon[..., 3] == 0] == 0).all()
    assert (found[icon[..., 3] == 255] == 255).all()


@pytest.mark.parametrize("goal", GOALS)
def test_a_pipe(folder, capsysbinary, monkeypatch, goal):
    assert main(["quantize", "photo.png", *goal, *FEW]) == 0
    capsysbinary.readouterr()
    with open("photo.png") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert main(["quantize", "-", *goal, *FEW]) == 0
    out, err = capsysbinary.readouterr()
    assert out == Path("photo-quantized.png").read_bytes()
    assert err.startswith(b"standard input -> standard output\n")
    assert main(["quantize", "photo.png", "-q", "-o", "-", *goal, *FEW]) == 0
    assert capsysbinary.readouterr() == (out, b"")


def test_results_go_where_others_go(folder, run):
    assert run("quantize", "photo.png", "--lossy", 30, *FEW, "--suffix=-small")[0] == 0
    arguments = ("photo.png", "--lossy", 30, *FEW, "-o", "x/", "--compare", "side.png")
    assert run("quantize", *arguments)[0] == 0
    assert Path("x/photo.png").read_bytes() == Path("photo-small.png").read_bytes()
    with Image.open("side.png") as side:
        assert side.format == "PNG"


def test_an_animation_in_a_batch_is_its_own_error(folder, run):
    Image.fromarray(photo()).save("still.gif")
    code, out, err = run(
        "quantize", "film.gif", "photo.png", "still.gif", "--max-bytes", "1k", *FEW
    )
    assert code == 1
    assert err.count("\n") == 1
    assert "film.gif" in err
    assert "stills: expected one frame, got 3" in err
    lines = out.splitlines()
    assert len(lines) == 3
    assert ", quality " in lines[0]
    assert {"photo-quantized.png", "still-quantized.png"} < names(folder)


def test_a_larger_file_is_said_or_skipped(folder, run):
    Image.fromarray(photo()).save("small.jpg", quality=10)
    arguments = ("quantize", "small.jpg", "--min-quality", 80)
    assert "%), larger\n" in run(*arguments)[1]
    before = contents(folder)
    code, out, _ = run(*arguments, "-f", "--skip-if-larger")
    assert code == 0
    assert "skipped" in out
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--max-bytes", "0"], ["a number of bytes", "60k", "'0'"]),
        (["--max-bytes", "-5"], ["--max-bytes"]),
        (["--max-bytes", "-5k"], ["--max-bytes"]),
        (["--max-bytes", "0.0001k"], ["a number of bytes"]),
        (["--max-bytes", "much"], ["'much'"]),
        (["--max-bytes", "nan"], ["'nan'"]),
        (["--max-bytes", "60KiB"], ["'60KiB'"]),
        (["--min-quality", "101"], ["from 0 to 100", "'101'"]),
        (["--min-quality", "nan"], ["from 0 to 100"]),
        (["--min-quality", "-1"], ["from 0 to 100"]),
        (["--lossy", "-1"], ["from 0 to"]),
        (["--lossy", "inf"], ["from 0 to"]),
        (["--lossy", "nan"], ["from 0 to"]),
        (["--lossy", "0", "--max-bytes", "1k"], ["--lossy", "--max-bytes"]),
        (["--lossy", "0", "--min-quality", "0"], ["--lossy", "--min-quality"]),
        (["--min-psnr", "0", "--lossy", "0"], ["--min-psnr", "--lossy"]),
        (["--min-psnr", "30", "--max-bytes", "1k"], ["--min-psnr", "--max-bytes"]),
        (["--palette", "cga", "--lossy", "0"], ["--palette", "--lossy"]),
        (["--palette", "cga", "--max-bytes", "1k"], ["--palette", "--max-bytes"]),
        (["--max-bytes", "1k", "-o", "x.gif"], ["photo.png", ".png stills", "got .gif"]),
        (["--min-quality", "9", "-o", "x.webp"], ["got .webp"]),
        (["--max-bytes", "5"], ["photo.png: no palette", "5 bytes", "the smallest has"]),
        (["--min-quality", "90.5", "-k", "2"], ["photo.png: 2 colours reach", "-k"]),
        *(
            ([*goal, *options], [goal[0], options[0]])
            for goal in GOALS
            for options in (
                ["--keep", "#fff"],
                ["--bits", "5"],
                ["--shared-palette"],
                ["--dither", "none"],
                ["--strength", "0"],
                ["-k", "257"],
            )
        ),
    ],
)
def test_what_is_refused(folder, run, arguments, parts):
    before = contents(folder)
    check_error(run("quantize", "photo.png", *arguments), *parts)
    assert contents(folder) == before


@pytest.mark.parametrize("goal", GOALS)
def test_an_animation_alone(folder, run, monkeypatch, goal):
    monkeypatch.setattr(quantize_command, "compress_image", None)  # nothing is begun
    before = contents(folder)
    check_error(run("quantize", "film.gif", *goal), "film.gif", "expected one frame, got 3")
    assert contents(folder) == before
