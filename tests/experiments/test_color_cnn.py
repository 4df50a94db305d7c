"""ColorCNN's head at our size: what its paper says of it, and the study on a handful of images."""

import json
from pathlib import Path

import pytest
import torch

from experiments.figures import interval_text
from experiments.models import ResNet20, SmallVGG
from experiments.network import color_cnn
from experiments.network.color_cnn import (
    RECIPES,
    ColorCNN,
    ColorCNNTraining,
    Recipe,
    load,
    mixed,
    rows,
    run,
    undecided,
)
from experiments.network.judges import (
    MEAN,
    STD,
    FrozenClassifier,
    accuracy,
    load_images,
    load_judge,
)
from experiments.network.records import records
from tests.experiments.conftest import noise_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image folder of noise, with two classes of four images in each split."""
    return noise_images(tmp_path, train=4, test=4)


def test_it_is_of_our_size_for_every_number_of_colors() -> None:
    for num_colors in (2, 16):
        assert sum(weights.numel() for weights in ColorCNN(num_colors).parameters()) < 130_000


def test_hard_colors_are_the_means_of_their_pixels() -> None:
    model, images = ColorCNN(4), torch.rand(2, 3, 16, 12)
    few = model(images)
    chosen = model.shares(images).argmax(1)
    for image, result, index in zip(images, few, chosen, strict=True):
        for color in index.unique():
            pixels = image[:, index == color]
            mean = pixels.mean(1, keepdim=True).expand_as(pixels)
            torch.testing.assert_close(result[:, index == color], mean, rtol=0, atol=1e-5)


def test_soft_colors_are_a_mixture_of_weighted_means() -> None:
    shares = torch.tensor([[[[0.75, 0.5]], [[0.25, 0.5]]]])
    images = torch.tensor([[[[0.0, 1.0]]] * 3]).reshape(1, 3, 1, 2)
    one, other = 0.5 / 1.25, 0.5 / 0.75
    expected = torch.tensor([0.75 * one + 0.25 * other, 0.5 * one + 0.5 * other])
    torch.testing.assert_close(mixed(images, shares), expected.expand(1, 3, 1, 2))


def test_regularization_is_nothing_where_each_color_has_a_pixel_of_its_own() -> None:
    sure = torch.eye(4).reshape(1, 4, 2, 2)
    assert undecided(sure).item() == 0
    assert undecided(torch.full((1, 4, 2, 2), 0.25)).item() == pytest.approx(2 * 0.75)


def test_a_step_moves_all_weights_and_never_the_classifier() -> None:
    judge = FrozenClassifier(ResNet20())
    kept = [weights.clone() for weights in judge.parameters()]
    training = ColorCNNTraining(2, judge, RECIPES["sgd"], seed=0)
    training.training_step((torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 3])), 0).backward()
    assert all(
        weights.grad is not None and weights.grad.abs().sum() > 0
        for weights in training.model.parameters()
    )
    assert all(weights.grad is None for weights in judge.parameters())
    assert all(torch.equal(a, b) for a, b in zip(kept, judge.parameters(), strict=True))


def test_jitter_is_one_number_for_all_and_contrast_shrinks_towards_the_mean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge, seen = FrozenClassifier(ResNet20()), []
    monkeypatch.setattr(judge, "fast", lambda images: seen.append(images) or judge(images))
    batch = torch.rand(2, 3, 16, 16), torch.tensor([0, 1])
    for contrast, jitter in ((1.0, 0.0), (1.0, 1.0), (0.25, 0.0)):
        monkeypatch.setattr(color_cnn, "JITTER", jitter)
        ColorCNNTraining(2, judge, Recipe("SGD", 0.01, contrast), seed=0).training_step(batch, 0)
    plain, jittered, quarter = seen
    noise = (jittered - plain) / torch.tensor(STD)[:, None, None]
    assert noise.std() < 1e-4 < noise.mean().abs()
    mean = torch.tensor(MEAN)[:, None, None]
    torch.testing.assert_close(quarter - mean, (plain - mean) / 4)


def test_a_study_is_kept_judged_and_told(folder: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": ResNet20().state_dict()}, tmp_path / "resnet.pt")
    places = ["--data", folder, "--checkpoint", tmp_path / "resnet.pt"]
    places += ["--weights", tmp_path / "weights", "--records", tmp_path / "records"]
    arguments = [*map(str, places), "--colors=4", "--epochs=1", "--trial-epochs=1"]
    done = {"sgd-quarter": 20, "adam": 200, "adam-quarter": 30}  # best above all that can be
    for name, top1 in done.items():
        file = tmp_path / "records" / f"color_cnn-trial-{name}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"val_top1": top1, "epochs": 1}))
    run(arguments)
    found = records(tmp_path / "records", "color_cnn-")
    assert found["color_cnn-trial-sgd"]["num_colors"] == 4
    run_of_four = found["color_cnn-4-seed0"]
    assert {key: run_of_four[key] for key in Recipe._fields} == RECIPES["adam"]._asdict()
    assert 1 <= run_of_four["colors_used"] <= 4
    run(arguments)  # what is there is not done again
    assert records(tmp_path / "records", "color_cnn-") == found
    (four,) = rows(found)
    assert float(four["MSE"]) == pytest.approx(run_of_four["mse"], abs=1e-5)
    model = load(4, tmp_path / "weights" / "color_cnn-4-seed0.pt")
    test = load_images(folder).test_dataloader()
    judged = accuracy(test, load_judge(tmp_path / "resnet.pt"), model)
    assert {key: run_of_four[key] for key in judged} == pytest.approx(judged)
    assert not list((tmp_path / "weights").glob("*.unfinished"))


def test_a_row_is_of_all_seeds_of_a_number_of_colors() -> None:
    kept = dict.fromkeys(("soft_top1", "mse", "eye_error", "colors_used"), 1.0)
    found = {
        f"color_cnn-{num_colors}-seed{seed}": {"num_colors": num_colors, "top1": seed, **kept}
        for num_colors in (16, 2)
        for seed in (0, 1, 2)
    }
    table = rows(found)
    assert [(row["colours"], row["seeds"]) for row in table] == [("2", "3"), ("16", "3")]
    assert table[0]["top-1 (%)"] == interval_text([0, 1, 2], 2)


def test_one_color_or_another_classifier_is_refused(folder: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": SmallVGG().state_dict()}, tmp_path / "vgg.pt")
    arguments = ["--data", folder, "--checkpoint", tmp_path / "vgg.pt", "--weights", tmp_path]
    with pytest.raises(ValueError, match="expected a state_dict of ResNet20"):
        run([*map(str, arguments)])
    with pytest.raises(ValueError, match="two colours or more, got 1"):
        run([*map(str, arguments), "--colors", "1"])
