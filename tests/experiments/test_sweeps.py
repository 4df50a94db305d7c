"""The sweeps, on a handful of images."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from colorquant_nn.functional import gradients
from experiments.figures import markdown_table
from experiments.models import ResNet20
from experiments.sweeps import bottleneck, classifier_colors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image folder of noise, with two classes of two images in each split."""
    for split in ("train", "test"):
        for label in range(2):
            place = tmp_path / "data" / split / str(label)
            place.mkdir(parents=True)
            for number in range(2):
                noise = Image.effect_noise((16, 16), 50 * (number + 1)).convert("RGB")
                noise.save(place / f"{number}.png")
    return tmp_path / "data"


def test_classifier_colors_writes_a_table_and_a_plot(folder: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": ResNet20().state_dict()}, tmp_path / "weights.pt")
    arguments = ["--data", folder, "--checkpoint", tmp_path / "weights.pt"]
    arguments += ["--colors", 2, 4, "--out", tmp_path / "out"]
    classifier_colors.main([*map(str, arguments)])
    values = json.loads((tmp_path / "out" / "classifier_colors.json").read_text())
    assert set(values) == {
        "original",
        *(f"{kind} {size}" for kind in ("shared", "per image", "full k-means") for size in (2, 4)),
    }
    for size in (2, 4):  # each of them knows more than the one before
        per_image, shared = values[f"per image {size}"]["mse"], values[f"shared {size}"]["mse"]
        assert per_image <= shared
    assert values["shared 4"]["mse"] < values["shared 2"]["mse"]
    table = (tmp_path / "out" / "classifier_colors.md").read_text()
    assert "CIFAR-10 (JPEG)" in table
    assert f"| 2 | {values['shared 2']['top1']:.2f} |" in table
    assert (tmp_path / "out" / "classifier_colors.png").stat().st_size < 300_000


def test_bottleneck_writes_a_table_and_plots(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--data", folder, "--seeds", 0, "--runs", tmp_path / "runs", "--out"]
    arguments += [tmp_path / "out"]
    tiny = [
        "--trainer.max_epochs=1",
        "--data.init_args.batch_size=2",
        "--data.init_args.train_crops=4",
        "--data.init_args.val_crops=2",
        "--model.init_args.encoder.init_args.channels=4",
        "--model.init_args.decoder.init_args.channels=4",
    ]
    for name in ("soft, no commitment", "cut, with commitment"):  # two show what four would
        assert hasattr(gradients, bottleneck.VARIANTS[name].estimator)
        monkeypatch.delitem(bottleneck.VARIANTS, name)
    bottleneck.main([*map(str, arguments), *tiny])
    table = (tmp_path / "out" / "bottleneck.md").read_text()
    values = json.loads((tmp_path / "out" / "bottleneck.json").read_text())
    for name, (run,) in values["runs"].items():
        assert f"| {name} | {run['val_mse']:.5f} |" in table
        assert values["curves"][name] == [[[2, run["val_mse"]]]]
    for picture in ("bottleneck.png", "bottleneck_pictures.png"):
        assert (tmp_path / "out" / picture).stat().st_size < 300_000


def test_table_needs_no_more_than_rows() -> None:
    assert markdown_table([{"a": 1.5, "b": None}]) == "| a | b |\n| --- | --- |\n| 1.5 | – |"
