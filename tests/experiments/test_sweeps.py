"""The sweeps, on a handful of images."""

import json
from pathlib import Path
from statistics import fmean

import pytest
import scipy.stats
import torch

from colorquant_nn.functional import gradients
from experiments.figures import interval_text, markdown_table, mean_interval
from experiments.models import ResNet20
from experiments.sweeps import bottleneck, classifier_colors
from tests.experiments.conftest import noise_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image folder of noise, with two classes of two images in each split."""
    return noise_images(tmp_path, train=2, test=2)


def test_classifier_colors_writes_a_table_and_a_plot(folder: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": ResNet20().state_dict()}, tmp_path / "weights.pt")
    arguments = ["--data", folder, "--checkpoint", tmp_path / "weights.pt"]
    arguments += ["--colors", 2, 4, "--seeds", 0, 1, 2, "--out", tmp_path / "out"]
    classifier_colors.main([*map(str, arguments)])
    values = json.loads((tmp_path / "out" / "classifier_colors.json").read_text())
    kinds = [f"{kind} {size}" for kind in classifier_colors.KINDS for size in (2, 4)]
    assert set(values) == {"original", *kinds}
    for name, seeds in values.items():
        assert len(seeds) == (3 if name.startswith("one palette") else 1)
    means = {name: fmean(seed["mse"] for seed in seeds) for name, seeds in values.items()}
    assert means["original"] == 0
    for size in (2, 4):  # each of them knows more than the one before
        assert means[f"per image {size}"] <= means[f"{classifier_colors.SHARED} {size}"]
        assert means[f"per image {size}"] <= means[f"median cut {size}"]
    for kind in classifier_colors.KINDS:
        assert means[f"{kind} 4"] < means[f"{kind} 2"]
    table = (tmp_path / "out" / "classifier_colors.md").read_text()
    assert "CIFAR-10 (JPEG)" in table
    shared = [seed["top1"] for seed in values[f"{classifier_colors.SHARED} 2"]]
    assert f"| one palette, `ColorQuantize` | top-1 (%) | {interval_text(shared, 2)} |" in table
    (cut,) = values["median cut 2"]
    assert f"Pillow's median cut | MSE | {cut['mse']:.5f} |" in table
    assert (tmp_path / "out" / "classifier_colors.png").stat().st_size < 300_000


def test_palettes_of_a_pass_differ_with_the_order_and_pillow_has_few_colours() -> None:
    images = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    chunks = [(chunk,) for chunk in images.split(4)]
    batches = {0: chunks, 1: chunks[::-1]}
    quantizers = classifier_colors.build_quantizers(batches, [8])
    one, other = quantizers[f"{classifier_colors.SHARED} 8"]
    assert not torch.equal(one.palette, other.palette)  # type: ignore[attr-defined]
    for kind in classifier_colors.PILLOW:
        (few,) = quantizers[f"{kind} 8"]
        for image in few(images[:4]):
            assert len(image.flatten(1).T.unique(dim=0)) <= 8


def test_bottleneck_writes_a_table_and_plots(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--data", folder, "--seeds", 0, 1, "--runs", tmp_path / "runs", "--out"]
    arguments += [tmp_path / "out"]
    tiny = [
        "--trainer.max_epochs=2",
        "--data.init_args.batch_size=2",
        "--data.init_args.train_crops=4",
        "--model.init_args.encoder.init_args.channels=4",
        "--model.init_args.decoder.init_args.channels=4",
    ]
    for name in ("soft, no commitment", "cut, with commitment"):  # two show what four would
        assert hasattr(gradients, bottleneck.VARIANTS[name].estimator)
        monkeypatch.delitem(bottleneck.VARIANTS, name)
    bottleneck.main([*map(str, arguments), *tiny])
    table = (tmp_path / "out" / "bottleneck.md").read_text()
    values = json.loads((tmp_path / "out" / "bottleneck.json").read_text())
    for name, runs in values["runs"].items():
        mses = [run["test_mse"] for run in runs]  # what is told is the test, what is drawn is not
        assert f"| {name} | {interval_text(mses, 5)} |" in table
        assert mses[0] != runs[0]["val_mse"]
        curve = values["curves"][name][0]
        assert len(curve) == 2
        assert runs[0]["val_mse"] == curve[-1][1]
    assert "1 validation images" in table
    assert "4 test images" in table
    for picture in ("bottleneck.png", "bottleneck_pictures.png"):
        assert (tmp_path / "out" / picture).stat().st_size < 300_000


def test_table_needs_no_more_than_rows() -> None:
    assert markdown_table([{"a": 1.5, "b": None}]) == "| a | b |\n| --- | --- |\n| 1.5 | – |"


def test_intervals_are_students() -> None:
    values = [50.1, 50.9, 51.4]
    mean, half = mean_interval(values)
    low, high = scipy.stats.t.interval(0.95, 2, loc=mean, scale=scipy.stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert interval_text([0.123], 2) == "0.12"  # of one value nothing is known
