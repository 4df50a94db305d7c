"""The benchmark runs at toy size, with and without the peers, and its tables say what is true."""

import contextlib
import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from colorquant_nn import ColorQuantize, load_image, load_panel
from colorquant_nn.io import open_frames
from experiments.benchmark import case, command, figure, report, runner
from experiments.benchmark.runner import run_suite, suite_cases
from experiments.benchmark.suites import SUITES, eye, layer
from experiments.benchmark.suites.command import save_film, save_icon
from experiments.benchmark.suites.images import LIBIMAGEQUANT, METHODS, ONE_START, mse
from experiments.benchmark.suites.large import mosaic

QUICK = case.Options(quick=True)
MACHINE = {"processor": "abacus", "cores": 2}


def row(method: str, seconds: float, **more: Any) -> dict[str, Any]:
    return {"suite": "assign", "case": "c", "method": method, "points": 10, "times": [seconds]} | {
        "seconds": seconds,
        **more,
    }


def test_every_method_of_a_suite_does_the_same_work() -> None:
    """What needs no further process: prepare and run here, and compare the results."""
    found = {}
    (toy,) = suite_cases("assign", QUICK)
    for name, make in toy.methods.items():
        if name != case.COPY:
            try:
                found[name] = torch.as_tensor(make()()).flatten()
            except ModuleNotFoundError:
                continue
    assert len(found) >= 3
    for indices in found.values():
        assert torch.equal(indices, found[case.OURS])

    (toy,) = suite_cases("kmeans", QUICK)
    assert toy.judge is not None
    objectives = {}
    for name, make in toy.methods.items():
        try:
            result = make()()
        except ModuleNotFoundError:
            continue
        objectives |= {name: float(torch.tensor(list(toy.judge(result).values())).sum())}
    del objectives[case.COPY]
    assert len(objectives) >= 3
    for objective in objectives.values():
        assert objective == pytest.approx(objectives[case.OURS], rel=1e-4)


@pytest.mark.parametrize(
    "suite",
    [
        "layer",
        pytest.param("cifar", marks=pytest.mark.slow),
        pytest.param("curves", marks=pytest.mark.slow),
    ],
)
def test_ours_runs_in_every_suite(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer, "WARM_UP", 1)
    monkeypatch.setattr(layer, "STARTS", (1, 2))
    for toy in suite_cases(suite, QUICK):
        make = next(iter(toy.methods.values()))
        result = make()()
        if suite == "cifar":
            assert toy.judge is not None
            assert 0 < toy.judge(result)["mse"] < 255**2 * 3


def test_first_steps_are_those_of_a_new_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, Tensor]] = []

    class Watched(ColorQuantize):
        def forward(self, x: Tensor) -> Tensor:
            steps.append((int(self.batches), x))
            return super().forward(x)

    monkeypatch.setattr(layer, "ColorQuantize", Watched)
    monkeypatch.setattr(layer, "WARM_UP", 4)
    monkeypatch.setattr(layer, "STARTS", (1, 3))
    cases = {found.name.split(",")[0]: found for found in suite_cases("layer", QUICK)}
    for number in (1, 3):
        name = f"first {number} training steps" if number > 1 else "first training step"
        run = cases[f"{name} of a new layer"].methods[case.OURS]()
        for _ in range(2):  # the second run begins anew, too
            steps.clear()
            run()
            assert [step for step, _ in steps] == list(range(number))
            assert len({x.sum().item() for _, x in steps}) == number
    steps.clear()
    run = cases["training step"].methods[case.OURS]()
    before = len(steps)
    run()
    assert (before, len(steps)) == (4, 5)


def test_methods_that_are_ours_are_methods() -> None:
    for suite in SUITES:
        for found in suite_cases(suite, QUICK):
            assert set(found.ours) <= set(found.methods)


def test_palettes_are_judged_in_the_unit_of_the_literature() -> None:
    image = torch.randint(256, (3, 20, 30), dtype=torch.uint8)
    for name in METHODS:
        if "ours" in name or "Pillow" in name:
            palette = METHODS[name](image, 5)()
            distances = ((image.flatten(1).T.numpy()[:, None] - palette) ** 2).sum(-1)
            assert mse(image, palette) == pytest.approx(distances.min(1).mean(), rel=1e-4)


def test_what_people_see_is_drawn_in_the_colours_of_the_case_and_judged() -> None:
    photograph, *panels = suite_cases("eye", QUICK)
    assert [panel.labels["palette"] for panel in panels] == list(eye.PANELS)
    for toy in (photograph, panels[0]):
        found = {}
        for name, make in toy.methods.items():
            with contextlib.suppress(ModuleNotFoundError):
                found[name] = make()()
        assert set(toy.ours) <= set(found)
        for drawn in found.values():
            colors = {tuple(color) for color in drawn.flatten(1).T.tolist()}
            panel = (load_panel("acep7").measured * 255).round().int().tolist()
            assert len(colors) <= 4 or colors <= set(map(tuple, panel))
        assert toy.judge is not None
        verdicts = [toy.judge(found[name]) for name in (eye.NONE, "ours, floyd-steinberg, oklab")]
        assert {"eye", "psnr"} <= verdicts[0].keys()
        assert verdicts[0]["psnr"] > verdicts[1]["psnr"]


def test_dots_where_few_are_needed_are_judged_at_every_number_of_colours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(eye, "names", lambda options: ["any.png"])
    found = {toy.labels["palette"]: toy.methods for toy in eye.cases(case.Options())}
    assert {f"K={colors}" for colors in (4, 8, 16, 32, 64, 256)} | set(eye.PANELS) == set(found)
    assert all({eye.AUTO, eye.NONE} <= set(methods) for methods in found.values())
    assert all(eye.PNGQUANT in found[palette] for palette in ("K=8", "K=64", "K=256"))


def test_pictures_fill_a_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    for shape in ((3, 512, 768), (3, 768, 512)):
        monkeypatch.setattr(eye, "load", lambda name, quick, shape=shape: torch.ones(shape).byte())
        assert eye.picture("any", True, case.Options()).shape == (3, *eye.PANEL)
        assert eye.picture("any", False, case.Options()).shape == shape


def seen(palette: str, method: str, error: float, **more: Any) -> dict[str, Any]:
    judged = {"picture": "a", "palette": palette, "eye": error, "seconds": 1.0}
    return {"suite": "eye", "case": f"a, {palette}", "method": method, **judged, **more}


def test_targets_for_the_eye_are_told_of_what_was_run() -> None:
    rows = [
        seen("K=8", eye.PNGQUANT, 4.0, ssimulacra2=-50.0),
        seen("K=8", "ours, ordered, oklab", 3.0, ssimulacra2=0.0),
        seen("K=8", eye.NONE, 1.0),
        seen("K=8", eye.SPATIAL, 1.55, ssimulacra2=-45.0, limit=1.0),
        seen("acep7", eye.SEARCH, 2.0),
        seen("acep7", eye.SPATIAL, 1.0, limit=0.3),
        seen("K=256", eye.NONE, 0.2, ssimulacra2=77.0),
        seen("K=256", eye.EARLIER, 0.4, ssimulacra2=68.0),
    ]
    told = {line[""]: (line["found"], line["at most"]) for line in report.eye_targets(rows)}
    assert told == {
        f"K=8: spatial, eye error of that of {eye.PNGQUANT}": ("0.388", "0.4: met"),
        "K=8: spatial, eye error of that of ours, ordered, oklab": ("0.517", "0.5: **missed**"),
        "K=8: spatial, SSIMULACRA2 behind the best peer": ("-5", "-10: **missed**"),
        "K=8: spatial, seconds": ("1", "1: met"),
        f"acep7: spatial, eye error of that of {eye.SEARCH}": ("0.5", "1: met"),
        "acep7: spatial, seconds": ("1", "0.3: **missed**"),
        "K=256: no dither in oklab, SSIMULACRA2 behind that in rgb": ("-9", "-8: met"),
    }
    rows.append(seen("K=8", eye.PNGQUANT, 6.0, picture="b", ssimulacra2=-70.0))
    first = report.eye_tables(rows)[1].splitlines()
    assert "| K=8, 2 pictures |" in first[0]
    assert "| 5.00 (6.00 in b) | -60.00 (-70.00 in b) |" in first[2]
    assert report.eye_tables(rows[1:2])[2:] == []


def test_memory_is_the_peak_of_the_run() -> None:
    runner.trim()
    peak = runner.watch_memory()
    block = np.ones(5_000_000)
    del block
    known = peak()
    if known is None:
        pytest.skip("this system does not tell the peak of a process")
    assert 39e6 < known < 45e6


def prepare(error: Exception | None) -> case.Run:
    if error is not None:
        raise error
    return lambda: 3


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite assign is one case, of which a method works, one is missing, and one fails."""
    missing = ModuleNotFoundError("no faiss", name="faiss")
    methods = {"ours": None, "missing": missing, "failing": RuntimeError("out of luck")}
    toy = case.Case(
        "sum",
        {name: partial(prepare, error) for name, error in methods.items()},
        ours=("ours",),
        judge=lambda result: {"result": result},
    )
    monkeypatch.setattr(runner, "PAUSE", 0)
    monkeypatch.setattr(runner, "suite_cases", lambda suite, options: [toy])
    monkeypatch.setattr(runner, "_process", lambda checkout: ThreadPoolExecutor(1))


@pytest.mark.usefixtures("sums")
def test_methods_run_in_turn_and_those_that_cannot_are_skipped_aloud() -> None:
    said: list[str] = []
    (rows,) = run_suite("assign", QUICK, say=said.append)
    assert said == ["assign: sum"]
    ours = rows[0]
    assert (ours["method"], ours["result"], len(ours["times"])) == ("ours", 3, 3)
    assert min(ours["times"]) <= ours["seconds"] <= max(ours["times"])
    text = "\n".join(report.suite_section("assign", rows))
    assert "Skipped: missing: not installed: pip install faiss-cpu." in text
    assert "Skipped: failing: failed: RuntimeError: out of luck." in text
    assert "| missing" not in text


@pytest.mark.usefixtures("sums")
def test_two_checkouts_run_ours_alone_side_by_side(tmp_path: Path) -> None:
    (rows,) = run_suite("assign", QUICK, against=tmp_path, say=lambda _: None)
    assert [row.get("checkout") for row in rows] == [None, str(tmp_path)]
    rows[0] |= {"seconds": 1.0, "times": [1.0, 0.5]}
    rows[1] |= {"seconds": 2.0, "times": [2.0, 2.0]}
    table = report.checkouts_table(rows).splitlines()
    assert table[2] == "| sum | ours | 1 s | 2 s | 0.500 | 0.250 |"


def test_a_process_of_methods_together_ends_with_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ThreadPoolExecutor] = []
    methods = {name: partial(prepare, None) for name in ("ours", "peer")}
    toys = [case.Case(name, methods, ours=("ours",), together=True) for name in "ab"]

    def process(checkout: Path | None) -> ThreadPoolExecutor:
        made.append(ThreadPoolExecutor(1))
        return made[-1]

    monkeypatch.setattr(runner, "PAUSE", 0)
    monkeypatch.setattr(runner, "suite_cases", lambda suite, options: toys)
    monkeypatch.setattr(runner, "_process", process)
    ended = [[one._shutdown for one in made] for _ in run_suite("assign", QUICK, say=str)]
    assert ended == [[False], [True, False]]
    assert all(one._shutdown for one in made)


def test_a_process_has_the_package_of_its_checkout(tmp_path: Path) -> None:
    (tmp_path / "colorquant_nn.py").write_text("VERSION = 'old'\n")
    process = runner._process(tmp_path)
    assert process.submit(eval, "__import__('colorquant_nn').VERSION").result() == "old"
    process.shutdown()


def test_table_tells_ratios_and_verdicts() -> None:
    rows = [
        row("ours", 0.001, memory=40),
        row("slow", 0.02, memory=400, target=10),
        row("fair", 0.004, target=5),
        row(case.COPY, 0.0001),
    ]
    table = report.suite_section("assign", rows)[1].splitlines()
    assert table[2] == "| c | ours | 1 ms |  |  | 10 | 4 |"
    assert table[3] == "|  | slow | 20 ms | 20 × | at least 10 ×: met | 200 | 40 |"
    assert "4 × | at least 5 ×: **missed**" in table[4]


def test_pictures_are_compared_on_those_that_both_have_done() -> None:
    rows: list[dict[str, Any]] = [
        {"method": method, "colors": 16, "picture": picture, "mse": error, "seconds": 1.0}
        for method, picture, error in [
            ("ours, fast", "a", 2.0),
            ("ours, fast", "b", 100.0),
            (ONE_START, "a", 4.0),
            (LIBIMAGEQUANT, "a", 4.0),
        ]
    ]
    assert report.ratio_of_means(rows, "ours, fast", ONE_START, 16, "mse") == 0.5
    assert report.ratio_of_means(rows, "ours, fast", ONE_START, 64, "mse") is None


def test_rows_merge_on_one_machine_alone(tmp_path: Path) -> None:
    report.keep(tmp_path, MACHINE, [row("ours", 1.0), row("peer", 2.0, target=1.5)])
    rows = report.keep(tmp_path, MACHINE, [row("peer", 3.0, target=1.5)])
    assert [r["seconds"] for r in rows] == [1.0, 3.0]
    kept = json.loads((tmp_path / "benchmark.json").read_text())
    assert [r["seconds"] for r in kept["rows"]] == [1.0, 3.0]
    report.write(tmp_path, MACHINE, rows)
    assert "abacus" in (tmp_path / "benchmark.md").read_text()
    rows = report.keep(tmp_path, MACHINE | {"cores": 4}, [row("ours", 5.0)])
    assert [r["seconds"] for r in rows] == [5.0]


def test_picture_is_drawn_of_whatever_there_is() -> None:
    assert figure.draw([row("a", 1.0)]) is None
    bars = figure.draw([row("a", 1.0), row("b", 20.0, target=3)])
    blue = (0, 0x72, 0xB2)
    assert blue in {color for _, color in bars.getcolors(1 << 20)}


def test_mosaic_fills_its_size() -> None:
    assert mosaic(70, 90, QUICK).shape == (3, 70, 90)


@pytest.mark.slow
def test_files_of_the_command_are_what_they_are_called(tmp_path: Path) -> None:
    for toy in suite_cases("command", QUICK):
        assert set(toy.methods) >= {*toy.ours, LIBIMAGEQUANT}
    icon = load_image(tmp_path / save_icon(QUICK, tmp_path))
    assert icon.shape == (4, 32, 32)
    assert bool((icon[3] == 0).any())
    film = open_frames(tmp_path / save_film(QUICK, tmp_path, frames=3, width=80, height=45))
    assert (len(film), film.plays) == (3, 0)
    first, _, last = (image for image, _ in film)
    assert first.shape == (3, 45, 80)
    assert not torch.equal(first, last)


def test_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_process", lambda checkout: ThreadPoolExecutor(1))
    with pytest.raises(SystemExit):
        command.main(["nothing"])
    assert "expected suites of" in capsys.readouterr().err
    command.main(["assign", "--quick", "--results", str(tmp_path)])
    printed = capsys.readouterr().out
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md"}
    kept = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    rows = {r["method"]: r for r in kept}
    ours = rows[case.OURS]
    assert min(ours["times"]) <= ours["seconds"] <= max(ours["times"])
    faiss = next(r for name, r in rows.items() if "faiss" in name)
    if importlib.util.find_spec("faiss") is None:
        assert "pip install faiss-cpu" in faiss["skipped"]
        assert "pip install faiss-cpu" in printed
    else:
        assert faiss["seconds"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES)
def test_suite_runs_with_whatever_is_installed(suite: str, tmp_path: Path) -> None:
    found = run_suite(suite, QUICK._replace(slow=True), say=lambda _: None)
    rows = [row for case_rows in found for row in case_rows]
    assert rows
    assert not [r for r in rows if r.get("skipped", "").startswith("failed")]
    report.write(tmp_path, MACHINE, rows)
