"""The benchmark runs at toy size, with and without the peers, and its tables say what is true."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.benchmark import __main__, case, figure, pictures, report, worker
from experiments.benchmark.runner import run_suite
from experiments.benchmark.suite_images import LIBIMAGEQUANT, METHODS, ONE_START, mse
from experiments.benchmark.suite_large import mosaic

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
    (toy,) = worker.suite_cases("assign", QUICK)
    for name, make in toy.methods.items():
        if name != case.COPY:
            try:
                found[name] = torch.as_tensor(make()()).flatten()
            except ModuleNotFoundError:
                continue
    assert len(found) >= 3
    for indices in found.values():
        assert torch.equal(indices, found[case.OURS])

    (toy,) = worker.suite_cases("kmeans", QUICK)
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
def test_ours_runs_in_every_suite(suite: str) -> None:
    for toy in worker.suite_cases(suite, QUICK):
        make = next(iter(toy.methods.values()))
        result = make()()
        if suite == "cifar":
            assert toy.judge is not None
            assert 0 < toy.judge(result)["mse"] < 255**2 * 3


def test_palettes_are_judged_in_the_unit_of_the_literature() -> None:
    image = torch.randint(256, (3, 20, 30), dtype=torch.uint8)
    for name in METHODS:
        if "ours" in name or "Pillow" in name:
            palette = METHODS[name](image, 5)()
            distances = ((image.flatten(1).T.numpy()[:, None] - palette) ** 2).sum(-1)
            assert mse(image, palette) == pytest.approx(distances.min(1).mean(), rel=1e-4)


def test_memory_is_the_peak_of_the_run() -> None:
    worker.trim()
    peak = worker.watch_memory()
    block = np.ones(5_000_000)
    del block
    known = peak()
    if known is None:
        pytest.skip("this system does not tell the peak of a process")
    assert 39e6 < known < 45e6


def test_missing_and_failing_methods_are_skipped_aloud(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = [row("ours", 0.1), {**row("peer", 0.0), "skipped": "not installed: pip install peer"}]
    del rows[1]["seconds"]
    text = "\n".join(report.suite_section("assign", rows))
    assert "Skipped: peer: not installed: pip install peer." in text
    assert "| peer" not in text


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
    assert figure.draw([]).size == figure.draw([row("a", 1.0), row("b", 2.0, target=3)]).size


def test_mosaic_fills_its_size() -> None:
    pytest.importorskip("skimage")
    if not pictures.names(QUICK):
        pytest.skip("no pictures")
    assert mosaic(70, 90, QUICK).shape == (3, 70, 90)


@pytest.mark.slow
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        __main__.main(["nothing"])
    assert "expected suites of" in capsys.readouterr().err
    __main__.main(["assign", "--quick", "--results", str(tmp_path)])
    printed = capsys.readouterr().out
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".png"}
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
@pytest.mark.parametrize("suite", worker.SUITES)
def test_suite_runs_with_whatever_is_installed(suite: str, tmp_path: Path) -> None:
    found = run_suite(suite, QUICK._replace(slow=True), say=lambda _: None)
    rows = [row for case_rows in found for row in case_rows]
    assert rows
    assert not [r for r in rows if r.get("skipped", "").startswith("failed")]
    report.write(tmp_path, MACHINE, rows)
