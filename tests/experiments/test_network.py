"""The study of palettes for a network: its records, judges, palettes and the network."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from colorquant_nn import ColorQuantize, LearnedPalette, PerImageColorQuantize
from experiments.data import ImageData
from experiments.models import ResNet20, SmallVGG
from experiments.network import own, shared, transfer
from experiments.network.__main__ import PARTS, main, with_config
from experiments.network.color_cnn import ColorCNN
from experiments.network.judges import (
    FrozenClassifier,
    accuracy,
    load_images,
    load_judge,
    reorder,
)
from experiments.network.own import FIDELITIES, best_fidelity
from experiments.network.palette_network import SIZES, NeuralColorQuantize, assign
from experiments.network.records import record, records
from experiments.network.shared import PaletteForAClassifier
from experiments.network.training import fit
from experiments.network.unseen import load_unseen
from tests.experiments.conftest import CONFIGS, noise_images


def photographs(number: int = 3) -> Tensor:
    """Smooth images of noise (number, 3, 16, 16): k-means of noise alone has many minima."""
    noise = torch.rand(number, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(noise, scale_factor=4.0, mode="bilinear")


def moving_network() -> NeuralColorQuantize:
    """A network whose last layer is not zero any more."""
    torch.manual_seed(0)
    network = NeuralColorQuantize(width=8)
    for layer in (network.head, network.fine.ask):
        nn.init.normal_(layer.weight, std=0.3)
    return network.eval()


def test_a_run_that_is_there_is_not_run_again(tmp_path: Path) -> None:
    first = record(tmp_path, "part-a", lambda: {"top1": 1.0})
    assert first["minutes"] >= 0
    assert record(tmp_path, "part-a", pytest.fail) == first
    record(tmp_path, "other", lambda: {})
    assert records(tmp_path, "part-") == {"part-a": first}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other.json", "part-a.json"]


def test_a_run_that_fails_leaves_no_record(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        record(tmp_path, "part", lambda: {"top1": 1 / 0})
    assert not list(tmp_path.iterdir())


def test_the_judge_is_the_classifier_with_its_normalizations_folded() -> None:
    torch.manual_seed(0)
    classifier = ResNet20()
    for norm in (m for m in classifier.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    images = torch.rand(4, 3, 32, 32)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    expected = classifier.eval()((images - mean) / std)
    judge = FrozenClassifier(classifier).train()
    assert torch.allclose(judge(images), expected, atol=1e-4)
    assert torch.allclose(judge.fast(images), expected, atol=0.1, rtol=0.05)
    assert not any(parameter.requires_grad for parameter in judge.parameters())
    images.requires_grad_()
    judge.fast(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_accuracy_counts_images_and_not_batches() -> None:
    images = torch.zeros(3, 3, 4, 4)
    images[2] = 1
    labels = torch.tensor([0, 1, 1])

    def judge(images: Tensor) -> Tensor:  # dark is 0, light is 1
        light = images.mean((1, 2, 3))
        return torch.stack([1 - light, light], dim=1)

    batches = [(images[:2], labels[:2]), (images[2:], labels[2:])]
    found = accuracy(batches, judge, lambda few: few)
    assert found == {"top1": pytest.approx(200 / 3), "mse": 0, "eye_error": 0}
    grey = accuracy(batches, judge, lambda few: torch.full_like(few, 0.5))
    assert grey["mse"] == pytest.approx(0.25)
    assert grey["eye_error"] > 10


@pytest.mark.parametrize("num_colors", SIZES)
def test_before_training_it_is_kmeans_of_each_image(num_colors: int) -> None:
    images = photographs()
    few = NeuralColorQuantize(width=8)(images, num_colors)
    kmeans = PerImageColorQuantize(num_colors).quantize(images)
    assert torch.equal(few.indices, kmeans.indices)
    assert torch.allclose(few.values, kmeans.values, atol=1e-6)


@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("size", [(16, 16), (7, 10), (1, 3)])
def test_each_pixel_has_the_mean_of_those_of_its_index(
    size: tuple[int, int], learning: bool
) -> None:
    images = torch.rand(2, 3, *size)
    with torch.set_grad_enabled(learning):
        few = moving_network()(images, 4)
    assert few.values.requires_grad == learning
    for image, values, indices, palette in zip(images, *few, strict=True):
        assert torch.equal(values, palette[indices].movedim(-1, 0))
        for index in indices.unique():
            mean = image[:, indices == index].mean(1)
            assert torch.allclose(palette[index], mean, atol=1e-5)


def test_what_is_asked_for_changes_the_palette() -> None:
    network, images = moving_network(), photographs()
    free = network(images, 4, 0.0).values
    assert not torch.equal(free, network(images, 4, 1.0).values)
    each = network(images, 4, torch.tensor([0.0, 1.0, 0.0])).values
    assert torch.allclose(each[0], free[0])
    assert not torch.allclose(each[1], free[1])


def test_the_gradient_is_that_of_the_soft_assignment() -> None:
    images = photographs(2).double()
    moved = images.clone().requires_grad_()
    weights = torch.randn_like(images)
    (assign(images, moved, 3).values * weights).sum().backward()
    indices = PerImageColorQuantize(3).quantize(images.float()).indices
    hard = nn.functional.one_hot(indices, 3).double()  # (B, H, W, K)
    counts = hard.sum((1, 2))

    def soft(places: Tensor) -> tuple[Tensor, Tensor]:
        centers = torch.einsum("bhwk,bchw->bkc", hard, places) / counts[..., None]
        distances = (places[:, None] - centers[..., None, None]).square().sum(2)  # (B, K, H, W)
        return distances.movedim(1, -1), centers

    distances, _ = soft(images)
    spread = (hard * distances).sum((1, 2, 3)) / 256

    def surrogate(places: Tensor) -> Tensor:
        shares = soft(places)[0].div(-2 / 3 * spread[:, None, None, None]).softmax(-1)
        base = soft(images)[0].div(-2 / 3 * spread[:, None, None, None]).softmax(-1)
        mixed = hard + shares - base  # hard in value, soft in slope
        palette = torch.einsum("bhwk,bchw->bkc", mixed, images) / mixed.sum((1, 2))[..., None]
        return (torch.einsum("bhwk,bkc->bchw", mixed, palette) * weights).sum()

    direction = torch.randn_like(images)
    step = 1e-6
    slope = (surrogate(images + step * direction) - surrogate(images - step * direction)) / 2 / step
    assert moved.grad is not None
    assert float((moved.grad * direction).sum()) == pytest.approx(float(slope), rel=1e-3)


def test_weights_are_small_and_come_back(tmp_path: Path) -> None:
    network = NeuralColorQuantize()
    assert sum(parameter.numel() for parameter in network.parameters()) <= 130_000
    network.save(tmp_path / "weights.pt")
    assert (tmp_path / "weights.pt").stat().st_size < 300_000
    moving = moving_network()
    moving.save(tmp_path / "moving.pt")
    loaded = NeuralColorQuantize.load(tmp_path / "moving.pt")
    images = photographs()
    expected, _ = moving.move(images, 4)
    found, _ = loaded.move(images, 4)
    assert torch.allclose(found, expected, atol=1e-2)


def test_it_refuses_what_it_was_not_made_for(tmp_path: Path) -> None:
    network = NeuralColorQuantize(width=8)
    with pytest.raises(ValueError, match=r"expected one of .* colours.* got 3"):
        network(torch.rand(1, 3, 8, 8), 3)
    with pytest.raises(ValueError, match=r"expected floating point images .*uint8"):
        network(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 4)
    with pytest.raises(ValueError, match=r"expected floating point images .*\(1, 3, 0, 8\)"):
        network(torch.rand(1, 3, 0, 8), 4)
    with pytest.raises(FileNotFoundError, match="no weights"):
        NeuralColorQuantize.load(tmp_path / "none.pt")
    torch.save({"a": 1}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="expected the weights of a palette network"):
        NeuralColorQuantize.load(tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "usage: python -m experiments.network PART"),
        (["nothing"], "usage: python -m experiments.network PART"),
        (["own", "--data", "no", "--checkpoint", "no", "--weights", "no"], "no classifier checkpo"),
        (
            ["shared", "--data", "no", "--checkpoint", "{other}"],
            "expected a state_dict of ResNet20",
        ),
        (["shared", "--data", "no", "--checkpoint", "{right}"], "no image folder for the"),
        (["own", "--data", "no", "--checkpoint", "{right}", "--weights", "no"], "no image folder"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": ResNet20().state_dict()}, tmp_path / "right.pt")
    torch.save({"state_dict": nn.Linear(2, 2).state_dict()}, tmp_path / "other.pt")
    places = {"right": str(tmp_path / "right.pt"), "other": str(tmp_path / "other.pt")}
    with pytest.raises(SystemExit) as stopped:
        main([argument.format(**places) for argument in arguments])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert expected in message
    if arguments and arguments[0] != "nothing":
        assert message.startswith("error: ")
        assert len(message.splitlines()) == 1


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``data/`` of noise in two classes and weights in ``judge.pt``."""
    noise_images(tmp_path, train=12, test=2)
    torch.manual_seed(0)
    torch.save({"state_dict": ResNet20().state_dict()}, tmp_path / "judge.pt")
    monkeypatch.setattr(torch, "compile", lambda function: function)  # half a minute
    return tmp_path


def arguments(place: Path) -> list[str]:
    return [
        f"--data={place / 'data'}",
        f"--checkpoint={place / 'judge.pt'}",
        f"--records={place / 'records'}",
    ]


def test_no_test_images_are_missed_before_a_training(place: Path) -> None:
    shutil.rmtree(place / "data" / "test")
    with pytest.raises(ValueError, match="has no test split"):
        load_images(place / "data")


def test_the_order_is_that_of_the_seed(place: Path) -> None:
    def images(data: ImageData) -> Tensor:
        return torch.cat([batch for batch, _ in data.train_dataloader()])

    data = load_images(place / "data", seed=0)
    first = images(data)
    reorder(data, 1)
    assert not torch.equal(images(data), first)
    assert torch.equal(images(data), images(load_images(place / "data", seed=1)))


def test_a_shared_palette_moves_from_that_of_kmeans(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "TRIAL_STEPS", 1)
    monkeypatch.setattr(shared, "NUM_STARTS", 2)
    more = ["--colors", "4", "--fidelities", "0", "1", "--seeds", "0"]
    shared.run([*arguments(place), *more])
    found = records(place / "records", "shared-")
    assert list(found) == ["shared-4-fidelity0-seed0", "shared-4-fidelity1-seed0"]
    free, faithful = found.values()
    assert free["palette"] != faithful["palette"]
    for run in found.values():
        palette = torch.tensor(run["palette"])
        assert palette.shape == (4, 3)
        assert ((palette >= 0) & (palette <= 1)).all()
        assert 0 < run["test"]["mse"] < 0.2


def test_the_start_that_is_best_on_the_validation_images_is_the_one_that_is_trained(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_images(place / "data")
    kmeans, *others = shared.starts(data, 4, seed=0)
    far = torch.ones_like(kmeans)
    assert not any(torch.equal(kmeans, other) for other in others)
    for starts in ([kmeans, far], [far, kmeans], [far, kmeans, far]):
        monkeypatch.setattr(shared, "starts", lambda *_, starts=starts: iter(starts))
        monkeypatch.setattr(shared, "fit", lambda *_, **__: None)
        learnt = shared.learn(data, load_judge(place / "judge.pt"), 4, fidelity=1.0)
        assert torch.equal(learnt.palette, kmeans)


def test_a_network_is_trained_judged_and_kept(place: Path) -> None:
    more = ["--epochs", "3", "--seeds", "0", "--weights", str(place / "weights")]
    own.run([*arguments(place), *more])
    (run,) = records(place / "records", "own-").values()
    assert set(run["test"]) == {f"{size} {f:g}" for size in SIZES for f in FIDELITIES}
    assert [file.name for file in (place / "weights").iterdir()] == ["own-seed0.pt"]
    network = NeuralColorQuantize.load(place / "weights" / "own-seed0.pt")
    assert network.head.weight.abs().sum() > 0
    data = load_images(place / "data")
    again = own.judged(data, load_judge(place / "judge.pt"), network)
    assert again == {stage: run[stage] for stage in again}  # what is kept is what was judged


def test_a_network_whose_training_was_stopped_is_what_it_would_have_been(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, begun = load_judge(place / "judge.pt"), []
    start = own.Lesson.on_train_epoch_start

    def learnt(folder: Path, stop_at: tuple[type, int] | None) -> NeuralColorQuantize:
        def starting(task: own.Lesson) -> None:
            if (type(task), task.current_epoch) == stop_at:
                raise InterruptedError
            begun.append((type(task), task.current_epoch))
            start(task)

        monkeypatch.setattr(own.Lesson, "on_train_epoch_start", starting)
        network, minutes = own.learn(load_images(place / "data"), judge, folder, epochs=2)
        assert minutes >= 0
        return network

    whole = learnt(place / "whole", stop_at=None).state_dict()
    stops = [(own.ToRecognise, 1), (own.ToQuantize, 1)]
    for stop_at in stops:
        with pytest.raises(InterruptedError):
            learnt(place / "stopped", stop_at)
    again = learnt(place / "stopped", stop_at=None).state_dict()
    every = [(own.ToRecognise, epoch) for epoch in range(2 * own.EPOCHS_TO_RECOGNISE)]
    every += [(own.ToQuantize, epoch) for epoch in (0, 1)]
    assert begun == 2 * every  # nothing is done twice
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_a_run_with_other_settings_is_not_taken_for_the_one_that_is_asked_for(
    tmp_path: Path,
) -> None:
    record(tmp_path, "a", lambda: {"top1": 50.0}, epochs=1, batches=None)
    assert record(tmp_path, "a", lambda: {}, epochs=1, batches=None)["top1"] == 50.0
    with pytest.raises(
        ValueError, match=r"a\.json tells of a run with epochs 1, asked for is epochs 2"
    ):
        record(tmp_path, "a", lambda: {}, epochs=2, batches=None)


def test_the_minutes_of_a_training_count_those_before_it_was_stopped(place: Path) -> None:
    data, folder = load_images(place / "data"), place / "state"
    for epochs in (1, 2):
        task = PaletteForAClassifier(LearnedPalette(4), load_judge(place / "judge.pt"), 0, 1, 4)
        first = fit(task, data, epochs=epochs, folder=folder)
        if epochs == 1:
            state = torch.load(folder / "last.ckpt", weights_only=False)
            state["callbacks"]["Timer"]["time_elapsed"]["train"] = 3600.0
            torch.save(state, folder / "last.ckpt")
            assert first < 1
    assert 60 <= first < 61


def test_all_methods_are_judged_by_both_classifiers(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "SIZES", (2, 4))
    torch.save({"state_dict": SmallVGG().state_dict()}, place / "vgg.pt")
    palette = torch.rand(4, 3)
    kept = {"num_colors": 4, "seed": 1, "palette": palette.tolist()}
    for fidelity in (0.0, 0.5):  # the second is of the curve alone
        name = f"shared-4-fidelity{fidelity:g}-seed1"
        record(place / "records", name, lambda f=fidelity: kept | {"fidelity": f})  # type: ignore[misc]
    val = {f"{k} {f:g}": {"top1": 10.0 * (f == 0.2)} for k in (2, 4) for f in FIDELITIES}
    record(place / "records", "own-seed0", lambda: {"seed": 0, "val": val})
    network, peer = moving_network(), ColorCNN(2).eval()
    network.save(place / "own-seed0.pt")
    torch.save({"state_dict": peer.state_dict()}, place / "color_cnn-2-seed0.pt")
    about_peer = {"num_colors": 2, "seed": 0, "soft_top1": 50.0}
    record(place / "records", "color_cnn-2-seed0", lambda: about_peer)
    record(place / "records", "color_cnn-trial-sgd", lambda: {"num_colors": 4, "seed": 0})
    moving_network().save(place / "own-seed1.pt")  # not judged yet: no record
    transfer.run([*arguments(place), f"--unseen={place / 'vgg.pt'}", f"--weights={place}"])
    found = records(place / "records", "transfer-")
    assert found["transfer-original"]["mse"] == 0
    assert len(found) == 1 + 2 * (2 + 1 + 1 + 1) + 2
    data, judge = load_images(place / "data"), load_judge(place / "judge.pt")
    network = NeuralColorQuantize.load(place / "own-seed0.pt")
    shared_palette = ColorQuantize.from_palette(palette).eval()
    ways = {"learnt_one_palette-4-seed1": shared_palette}
    ways["ColorCNN_own_palettes-2-seed0"] = peer
    ways["network_own_palettes-4-seed0"] = network.quantizer(
        4, 0.2
    )  # as the validation images chose
    for name, way in ways.items():
        expected = accuracy(data.test_dataloader(), judge, way)
        expected["unseen"] = accuracy(data.test_dataloader(), load_unseen(place / "vgg.pt"), way)[
            "top1"
        ]
        assert {key: found[f"transfer-{name}"][key] for key in expected} == pytest.approx(expected)


def test_the_best_fidelity_is_that_of_the_validation_images() -> None:
    val = {f"4 {f:g}": {"top1": 10.0 * (f == 0.2)} for f in FIDELITIES}
    test = {f"4 {f:g}": {"top1": 10.0 * (f == 0.5)} for f in FIDELITIES}
    assert best_fidelity({"val": val, "test": test}, 4) == 0.2


def test_what_a_training_draws_is_a_function_of_its_seed_and_epoch() -> None:
    network, judge = NeuralColorQuantize(width=8), FrozenClassifier(ResNet20())

    def losses(seed: int) -> list[float]:
        guess = nn.Linear(network.num_features, 10)
        scales = [0.01] * len(SIZES)
        task = own.ToQuantize(network, guess, 10, seed, judge=judge, scales=scales)
        task._move = network.move
        task.on_train_epoch_start()
        batch = photographs(4), torch.tensor([0, 1, 2, 3])
        return [task.training_step(batch, 1).item() for _ in range(2)]

    torch.manual_seed(0)
    first = losses(0)
    torch.manual_seed(0)
    assert losses(0) == first
    torch.manual_seed(0)
    assert losses(1) != first


def test_a_config_comes_before_what_is_given(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("own:\n  seeds: [0, 1]\n  data: here\n  compiled: true\n  train: false\n")
    given = with_config("own", ["--seeds", "2", "--config", str(file), "--epochs", "1"])
    assert given == [
        *["--seeds", "0", "1", "--data", "here", "--compiled", "--seeds", "2", "--epochs", "1"]
    ]
    assert with_config("own", ["--seeds", "2"]) == ["--seeds", "2"]
    with pytest.raises(ValueError, match="expected a section 'shared'"):
        with_config("shared", ["--config", str(file)])
    file.write_text("own: [")
    with pytest.raises(ValueError, match="expected YAML"):
        with_config("own", ["--config", str(file)])
    with pytest.raises(FileNotFoundError, match="no config at"):
        with_config("own", ["--config", str(tmp_path / "none.yaml")])


@pytest.mark.parametrize("part", PARTS)
def test_the_config_of_the_study_is_what_a_part_takes(
    part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([part, "--config", str(CONFIGS / "network.yaml"), "--help"])
    assert stopped.value.code == 0
    assert f"python -m experiments.network {part}" in capsys.readouterr().out
