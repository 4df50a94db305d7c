"""Bytes at equal quality are read off curves, and drawings are what they are called."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import colorquant_nn
from colorquant_nn import QuantizedImage, quantize_image
from experiments.benchmark import case, rates, rates_figure, report
from experiments.benchmark.rates import bytes_at, compare, running_best
from experiments.benchmark.suites import bytes as suite
from experiments.benchmark.suites import drawings

QUICK = case.Options(quick=True)


def test_only_files_than_which_no_smaller_one_is_as_good_count() -> None:
    files = [(30.0, 100), (30.0, 90), (70.0, 400), (60.0, 500), (70.0, 390), (50.0, 200)]
    assert running_best(files) == [(30, 90), (50, 200), (70, 390)]
    assert running_best([]) == []


def test_bytes_are_interpolated_on_a_logarithm_between_the_ends_of_a_curve() -> None:
    curve = [(40.0, 100), (60.0, 400), (55.0, 500), (80.0, 800)]
    assert bytes_at(curve, 50) == pytest.approx(200)
    assert bytes_at(curve, 65) == pytest.approx(400 * 2**0.25)
    assert [bytes_at(curve, verdict) for verdict, _ in curve if verdict != 55] == [100, 400, 800]
    assert bytes_at(curve, 39.9) is None
    assert bytes_at(curve, 80.1) is None
    assert bytes_at(curve[:1], 40) == 100
    assert bytes_at([], 40) is None


def test_an_exponential_curve_is_read_exactly() -> None:
    curve = [(q, 1000 * math.exp(q / 20)) for q in (-20.0, 10.0, 35.0, 90.0)]
    for verdict in (-20, 0, 34.5, 60, 90):
        assert bytes_at(curve, verdict) == pytest.approx(1000 * math.exp(verdict / 20))


def test_what_a_curve_does_not_reach_is_named_and_does_not_count() -> None:
    ours = {"a": [(40.0, 100.0), (60.0, 400.0)], "b": [(40.0, 100.0), (60.0, 100.0)]}
    theirs = {
        "a": [(50.0, 400.0), (60.0, 100.0), (61.0, 1.0)],
        "b": [(39.0, 1.0)],
        "c": [(50.0, 1.0)],  # ours was not run
    }
    found = compare(ours, theirs)
    assert found.ratios == {"a": pytest.approx(math.sqrt(0.5 * 4))}
    assert (found.better, found.worse) == (["a"], ["b"])


def curve(picture: str, kind: str, method: str, sizes: list[int], **more: Any) -> dict[str, Any]:
    found = {
        "picture": picture, "kind": kind, "method": method, "suite": "bytes", "megapixels": 0.5,
        "setting": list(suite.COUNTS[: len(sizes)]), "bytes": sizes, "clock": [0.5] * len(sizes),
        "psnr": [30.0 + i for i in range(len(sizes))],
        "ssimulacra2": [40.0 + 10 * i for i in range(len(sizes))],
    }  # fmt: skip
    return found | more


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Ours takes three quarters of the bytes of pngquant for a photograph, all for a drawing."""
    found = []
    for picture, kind, part in (("hats", "photographs", 0.75), ("drawn logo", "drawings", 1.0)):
        sizes = [8000 * 2**i for i in range(6)]
        smaller = [round(size * part) for size in sizes]
        found += [curve(picture, kind, peer, sizes) for peer in rates.PEERS]
        found += [curve(picture, kind, method, smaller, saved=smaller) for method in rates.PLAIN]
        found += [curve(picture, kind, x, smaller) for x in (suite.LOSSY, suite.LOSSY_RGB)]
        budgets = [int(part * smaller[-1]) for part in suite.BUDGETS]
        used = [budgets[0], budgets[1] - 1, budgets[2] + (kind == "drawings")]
        within = {"setting": list(suite.BUDGETS), "saved": used}
        found.append(curve(picture, kind, suite.MAX_BYTES, used) | within)
    return found


def test_tables_tell_the_mean_the_worst_and_whether_it_is_met(rows: list[dict[str, Any]]) -> None:
    text = "\n".join(report.suite_section("bytes", rows))
    mean = f"{math.sqrt(0.75):.3f} | 0.750 | 1.000 | 1.000 in drawn logo"
    for colors in (16, 64, 256):
        at = f"K={colors} | PSNR | {suite.LOSSY_RGB}"
        assert f"| pngquant --nofs, {at} | {mean} |  | 0.8: **missed** |" in text
    assert "1 photographs and 1 drawings" in text
    assert "| drawn logo | 1.0000 | 0 better, 0 worse | met | 1.0000 |" in text
    assert "| drawn logo | 16 | 16.00, 50.0, 31.0 | 16.00, 50.0, 31.0 |" in text
    assert "| 0.5, photographs | 1.000 | 1.000 in hats | 1.000 in hats | 0 | met |" in text
    assert text.count("in drawn logo | 0 | **missed** |") == 1  # a byte above the budget
    assert f"| {suite.LOSSY} | 1 | 1 in hats | met |" in text
    photographs = [row for row in rows if row["kind"] == "photographs"]
    assert "0.750 in hats |  | 0.8: met |" in "\n".join(rates.tables(photographs))


def test_tables_say_as_much_as_there_are_rows(rows: list[dict[str, Any]]) -> None:
    for some in (rows[:1], rows[2:3], [row | {"ssimulacra2": []} for row in rows[:0]]):
        text = "\n".join(rates.tables(some))
        assert "0.8: " not in text
    without = [{key: x for key, x in row.items() if key != "ssimulacra2"} for row in rows]
    assert "SSIMULACRA2 | the best" not in "\n".join(rates.tables(without))
    assert rates_figure.draw(without) is None


def test_the_plot_has_a_panel_for_each_kind_and_a_line_for_each_method(
    rows: list[dict[str, Any]],
) -> None:
    one = rates_figure.draw([row for row in rows if row["kind"] == "drawings"])
    both = rates_figure.draw(rows)
    assert one is not None
    assert both is not None
    assert both.width > 1.5 * one.width
    colors = {color for _, color in one.getcolors(1 << 24)}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colors
    assert (0x00, 0x9E, 0x73) not in colors  # Pillow was not run


def colors_of(image: Tensor) -> int:
    red, green, blue = image.int()
    return len((red << 16 | green << 8 | blue).unique())


def test_budgets_that_no_file_keeps_are_counted(rows: list[dict[str, Any]]) -> None:
    refused = suite.judge("drawn pixels", case.Options(), [])
    for row in rows:
        if row["method"] == suite.MAX_BYTES and row["kind"] == "photographs":
            row |= {key: values[:1] for key, values in row.items() if isinstance(values, list)}
        if row["method"] == suite.MAX_BYTES and row["kind"] == "drawings":
            row |= refused
    text = "\n".join(rates.tables(rows))
    assert "| 0.5, photographs | 1.000 | 1.000 in hats | 1.000 in hats | 0 | met |" in text
    assert "| 0.25, photographs | – | – | – | 1 | – |" in text
    assert "| 0.5, drawings | – | – | – | 1 | – |" in text


@pytest.mark.parametrize("name", ["drawn pixels", "drawn sky", "drawn icon"])
def test_drawings_are_the_same_every_time(name: str) -> None:
    first = drawings.load(name)
    assert torch.equal(first, drawings.load(name))
    assert first.dtype == torch.uint8
    assert all(256 <= side <= 1024 for side in first.shape[1:])


def test_drawings_are_of_the_kinds_that_they_are_called() -> None:
    pixels, sky, icon = (drawings.load(f"drawn {name}") for name in ("pixels", "sky", "icon"))
    assert colors_of(pixels) == 16
    assert torch.equal(pixels[:, ::4, ::4].repeat_interleave(4, 1).repeat_interleave(4, 2), pixels)
    assert (sky.float().diff(dim=2).abs() <= 4).all()
    assert colors_of(sky) > 20_000
    assert icon.shape[0] == 4
    alphas = icon[3].unique()
    assert alphas[0] == 0
    assert alphas[-1] == 255
    assert len(alphas) > 100  # of soft edges and of the shadow


@pytest.mark.slow
def test_all_drawings_have_the_sizes_of_pictures_and_alpha_where_they_say_so() -> None:
    for name in drawings.DRAWINGS:
        image = drawings.load(name)
        assert (len(image) == 4) == (name in drawings.WITH_ALPHA)
        assert all(256 <= side <= 1024 for side in image.shape[1:])
        assert torch.equal(image, drawings.load(name))


def test_pictures_with_alpha_are_seen_over_white_and_over_black() -> None:
    half = torch.tensor([200, 0, 0, 51], dtype=torch.uint8).view(4, 1, 1)
    white, black = suite.over(half)
    assert white.flatten().tolist() == [244, 204, 204]
    assert black.flatten().tolist() == [40, 0, 0]
    assert len(suite.over(half[:3])) == 1


@pytest.mark.parametrize("alpha", [False, True])
def test_files_hold_the_pixels_that_were_drawn(
    alpha: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("oxipng")
    image = drawings.load("drawn icon")[: 4 if alpha else 3, 40:72, :48].contiguous()
    drawn = quantize_image(image, 8)
    file = suite.encode(drawn)
    assert file == suite.encode(drawn)
    name, points = "any", [suite.Point(8, drawn, 0.1), suite.Point(0, suite.to_pillow(image), 0.2)]
    monkeypatch.setattr(suite, "picture", lambda name, options: image)
    monkeypatch.setattr(suite.eye, "ssimulacra2", lambda drawn, original: None)  # takes longest
    found = suite.judge(name, QUICK, points[:1])
    exact = suite.judge(name, QUICK, points[1:])
    shown = suite.over(drawn.rgb)
    expected = [
        10 * np.log10(255**2 / ((a.double() - b.double()) ** 2).mean().item())
        for a, b in zip(shown, suite.over(image), strict=True)
    ]
    assert found["psnr"] == [pytest.approx(np.mean(expected), abs=1e-3)]
    assert found["bytes"] == [len(file)]
    assert found["saved"][0] > 0
    assert (exact["psnr"], exact["eye"]) == ([suite.EQUAL], [0])


def test_losses_and_budgets_are_asked_of_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def compress_image(image: Tensor, **how: Any) -> QuantizedImage:
        asked.append(how)
        if how.get("max_bytes", 999) < 80:
            raise ValueError("no palette of this picture has a file of so few bytes")
        return quantize_image(image, 4)

    pytest.importorskip("oxipng")
    monkeypatch.setattr(colorquant_nn, "compress_image", compress_image, raising=False)
    image = torch.zeros(3, 9, 9, dtype=torch.uint8)
    loss = suite.curves()[suite.LOSSY_RGB].method(image)(20)
    assert isinstance(loss, QuantizedImage)
    assert asked == [{"lossy": 20, "space": "rgb"}]
    whole = len(suite.encode(quantize_image(image, 256)))
    budgets = suite.curves()[suite.MAX_BYTES].method(image)
    assert isinstance(budgets(100), QuantizedImage)
    assert budgets(0.5) is None
    assert asked[1:] == [{"max_bytes": 100 * whole}, {"max_bytes": whole // 2}]


def test_every_curve_is_a_row_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, at toy sizes: what is missing is left out, as the runner does."""
    pytest.importorskip("oxipng")
    photograph, drawn = suite.cases(QUICK)
    assert (photograph.labels["kind"], drawn.labels["kind"]) == ("photographs", "drawings")
    assert photograph.methods.keys() - drawn.methods.keys() == {suite.PILLOW_DITHER, suite.JPEG}
    tried = (suite.PNGQUANT, suite.PILLOW, suite.NONE, suite.WEBP, suite.PNG)
    monkeypatch.setattr(suite.eye, "ssimulacra2", lambda drawn, original: None)  # takes longest
    for method in tried:
        try:
            points = drawn.methods[method]()()
        except ModuleNotFoundError:
            continue
        assert drawn.judge is not None
        found = drawn.judge(points)
        settings = suite.curves()[method].settings
        assert found["setting"] == list(dict.fromkeys((settings[0], settings[-1])))
        assert all(size > 0 for size in found["bytes"])
        assert min(found["psnr"]) > 10
