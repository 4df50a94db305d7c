"""The report of the study: what its tables and plots say of the records."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from experiments.models import ResNet20
from experiments.network import report
from experiments.network.judges import FrozenClassifier
from experiments.network.own import FIDELITIES
from experiments.network.palette_network import SIZES, NeuralColorQuantize
from experiments.network.records import record
from experiments.network.report import top1_rows, transfer_rows
from experiments.network.transfer import KMEANS_OWN, OWN


def judged(method: str, top1: float, unseen: float, seed: int = 0) -> dict[str, Any]:
    return {"method": method, "num_colors": 4, "seed": seed, "top1": top1, "unseen": unseen}


FOUND = {
    "transfer-original": {"top1": 88.0, "unseen": 87.0, "minutes": 1.0},
    "transfer-a": judged(KMEANS_OWN, 60.0, 50.0),
    "transfer-b": judged(OWN, 70.0, 54.0, seed=0),
    "transfer-c": judged(OWN, 72.0, 58.0, seed=1),
    "color_cnn-trial-sgd": {"val_top1": 60.0},
}


def test_a_table_has_means_and_intervals_over_seeds() -> None:
    table = {row["top-1 (%)"]: row["K = 4"] for row in top1_rows(FOUND, "top1", 1)}
    assert table[report.METHODS[OWN]] == "71.0 ± 12.7"  # half of 2 over the root of 2, 12.7 times
    assert table[report.METHODS[KMEANS_OWN]] == "60.0"
    assert table[report.METHODS["octree"]] == "–"


def test_what_is_kept_is_the_share_of_the_top1_of_the_original_images() -> None:
    rows = {row["kept (%), ResNet-20 / VGG"]: row["K = 4"] for row in report.retention_rows(FOUND)}
    assert rows[report.METHODS[OWN]] == "80.7 / 64.4"  # 71 of 88, 56 of 87
    assert rows[report.METHODS["octree"]] == "–"


def test_what_transfers_is_the_share_of_the_gain_that_another_sees() -> None:
    rows = {row["gain over k-means, in points"]: row for row in transfer_rows(FOUND)}
    row = rows[report.METHODS[OWN]]
    assert row["K = 4"] == "11.0 ± 12.7 / 6.0 ± 25.4, 55%"
    assert row["K = 2"] == "–"


def runs(seed: int) -> dict[str, Any]:
    """A record of the palette network."""
    values = {
        f"{size} {f:g}": {"top1": 50.0 + size + seed, "mse": 0.01 * (2 - f), "eye_error": 2 - f}
        for size in SIZES
        for f in FIDELITIES
    }
    return {"seed": seed, "val": values, "test": values, "minutes": 60.0}


def test_pictures_and_curves_are_drawn() -> None:
    own = {f"own-seed{seed}": runs(seed) for seed in (0, 1)}
    shared = {
        f"shared-{f}": {"num_colors": 4, "fidelity": f, "test": runs(0)["test"]["4 0"]}
        for f in (0.0, 0.5)
    }
    assert report.curves(own | shared, "mse").size == (1200, 504)
    assert report.curves(own | shared, "mse") != report.curves(own | shared, "eye_error")
    kmeans = {"transfer-a": judged(KMEANS_OWN, 60.0, 50.0) | {"mse": 0.01, "eye_error": 1.0}}
    assert report.curves(own | shared, "mse") != report.curves(own | shared | kmeans, "mse")
    judge = FrozenClassifier(ResNet20())
    few = report.pictures(
        torch.rand(2, 3, 16, 16), list("abcdefghij"), NeuralColorQuantize(8), runs(0), judge
    )
    assert few.width > few.height


def test_the_network_that_is_pictured_is_the_one_that_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split, number in (("train", 2), ("test", 1)):
        for label in range(10):
            folder = tmp_path / split / str(label)
            folder.mkdir(parents=True)
            for index in range(number):
                Image.effect_noise((8, 8), 50).convert("RGB").save(folder / f"{index}.png")
    monkeypatch.setattr(report, "load_judge", lambda path: FrozenClassifier(ResNet20()))
    for seed in (0, 1):
        record(tmp_path / "records", f"own-seed{seed}", lambda seed=seed: runs(seed))  # type: ignore[misc]
        NeuralColorQuantize(8).save(tmp_path / f"own-seed{seed}.pt")
    places = {"data": "", "weights": "", "records": "records", "out": "out"}
    report.run(
        ["--checkpoint=none", *(f"--{name}={tmp_path / place}" for name, place in places.items())]
    )
    published = tmp_path / "out" / "network" / "palette_network.pt"
    assert published.read_bytes() == (tmp_path / "own-seed0.pt").read_bytes()
    text = (tmp_path / "out" / "network.md").read_text()
    for name in ("pictures", "curve_mse", "curve_eye_error"):
        assert f"(network/{name}.png)" in text
        assert (tmp_path / "out" / "network" / f"{name}.png").is_file()


def test_the_report_says_what_is_there_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "load_judge", lambda path: FrozenClassifier(ResNet20()))
    records = tmp_path / "records"
    records.mkdir()
    unfinished = {"bytes": 1.0, "minutes": 1.0}
    for name, found in {**FOUND, "packed-own-02": unfinished}.items():
        (records / f"{name}.json").write_text(json.dumps({"minutes": 2.0} | found))
    arguments = ["--data", "none", "--checkpoint", "none", "--weights", "none"]
    report.run([*arguments, "--records", str(records), "--out", str(tmp_path)])
    text = (tmp_path / "network.md").read_text()
    assert "| palette network, own palettes | – | 71.00 ± 12.71 | – | – | – |" in text
    assert "(88.00 % without quantization)" in text
    assert "| transfer |" in text
    assert "## ColorCNN's" not in text  # of which there is a trial alone
    assert json.loads((tmp_path / "network.json").read_text()).keys() == {*FOUND, "packed-own-02"}
    assert "\n\n*Learnt from the loss*" in text  # a paragraph of its own
    assert "![" not in text
    assert not list((tmp_path / "network").iterdir())
