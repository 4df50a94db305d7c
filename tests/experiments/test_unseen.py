"""The classifier that no palette was made for, on a handful of images."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from experiments.models import ResNet20, SmallVGG
from experiments.network.judges import FrozenClassifier
from experiments.network.training import SHIFT, shifted
from experiments.network.unseen import load_unseen, run
from tests.experiments.conftest import noise_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image folder of noise, with two classes of four images in each split."""
    return noise_images(tmp_path, train=4, test=4)


def arguments(folder: Path, tmp_path: Path) -> list[str]:
    places = ["--data", folder, "--out", tmp_path / "vgg.pt", "--records", tmp_path / "records"]
    return [*map(str, places), "--epochs=2", "--batch-size=4"]


def test_small_vgg_is_small_and_plain() -> None:
    model = SmallVGG().eval()
    assert 300_000 < sum(weights.numel() for weights in model.parameters()) < 1_200_000
    kinds = {type(module) for module in model.features}
    assert kinds == {nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.AdaptiveMaxPool2d}
    images = torch.rand(2, 3, 32, 32)
    judge = FrozenClassifier(model)
    folded = judge(images)  # normalization and all
    assert torch.allclose(folded, model(judge.normalize(images)), atol=1e-4)


def test_a_trained_classifier_is_kept_and_never_trained_again(folder: Path, tmp_path: Path) -> None:
    run(arguments(folder, tmp_path))
    kept = tmp_path / "records" / "unseen-seed0.json"
    found = json.loads(kept.read_text())
    assert 0 <= found["val_top1"] <= 100
    assert 0 <= found["test_top1"] <= 100
    weights = (tmp_path / "vgg.pt").read_bytes()
    assert load_unseen(tmp_path / "vgg.pt")(torch.rand(2, 3, 16, 16)).shape == (2, 10)
    assert [path.name for path in tmp_path.glob("vgg.pt*")] == ["vgg.pt"]
    run(arguments(folder, tmp_path))
    assert (tmp_path / "vgg.pt").read_bytes() == weights
    (tmp_path / "vgg.pt").unlink()
    with pytest.raises(ValueError, match="remove the record to train again"):
        run(arguments(folder, tmp_path))


def test_another_layout_or_no_data_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": ResNet20().state_dict()}, tmp_path / "resnet.pt")
    with pytest.raises(ValueError, match="expected a state_dict of SmallVGG"):
        load_unseen(tmp_path / "resnet.pt")
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "none")):
        run(arguments(tmp_path / "none", tmp_path))


def test_a_shift_moves_the_whole_image_by_at_most_four_pixels() -> None:
    images = torch.rand(32, 3, 24, 20)
    moved = shifted(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    places = set()
    for image, other in zip(images, moved, strict=True):
        # The pixel in the middle is there once, not so far away; all that stays moved as it did.
        ((row, column),) = (other == image[:, 12:13, 10:11]).all(0).nonzero().tolist()
        down, right = row - 12, column - 10
        assert max(abs(down), abs(right)) <= SHIFT
        places.add((down, right))
        inner = image[:, SHIFT:-SHIFT, SHIFT:-SHIFT]
        height, width = inner.shape[1:]
        assert torch.equal(other[:, SHIFT + down :, SHIFT + right :][:, :height, :width], inner)
    assert len(places) > 16
    assert torch.equal(moved, shifted(images, torch.Generator().manual_seed(0)))
    same = images[:1].expand_as(images)
    together = shifted(same, torch.Generator().manual_seed(0), together=True)
    assert torch.equal(together, together[:1].expand_as(images))
    assert not torch.equal(together, same)
