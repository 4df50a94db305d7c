"""The estimators against slow obvious forms, and their comparison on a handful of images."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from colorquant_nn import ColorQuantize, LearnedPalette
from colorquant_nn.functional.gradients import Estimator
from experiments.figures import markdown_table
from experiments.models import ResNet20
from experiments.network import estimators, gradient_estimators
from experiments.network.gradient_estimators import (
    DecoupledStraightThrough,
    DiVeQ,
    GumbelStraightThrough,
    ReinMax,
    nsvq,
    rotation_trick,
)
from experiments.network.records import records
from tests.experiments.conftest import noise_images

SEED = 0
ALL: dict[str, Estimator] = {name: entry.estimator for name, entry in estimators.ESTIMATORS.items()}


def points(num_colors: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Twenty colours, the rows of the nearest, all colours, and a gradient that comes back."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.rand(20, 3, generator=generator, dtype=torch.float64).requires_grad_()
    palette = torch.rand(num_colors, 3, generator=generator, dtype=torch.float64).requires_grad_()
    nearest = torch.cdist(x, palette).argmin(1)
    upstream = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    return x, palette[nearest], palette, upstream


def slopes(estimator: Estimator) -> tuple[Tensor, Tensor, Tensor]:
    """What an estimator gives, and its gradients to the points and to the palette."""
    x, hard, palette, upstream = points()
    torch.manual_seed(SEED)
    values = estimator(x, hard, palette)
    gradients = torch.autograd.grad(values, (x, palette), upstream)
    return values.detach(), *gradients


def to_rows(each: Tensor) -> Tensor:
    """The sum of a gradient per point over the points of each colour."""
    x, _, palette, _ = points()
    nearest = torch.cdist(x, palette).argmin(1)
    return torch.stack([each[nearest == k].sum(0) for k in range(len(palette))])


@pytest.mark.parametrize("name", ALL)
def test_where_no_gradient_is_recorded_all_are_hard(name: str) -> None:
    x, hard, palette, _ = points()
    with torch.no_grad():
        assert torch.equal(ALL[name](x, hard, palette), hard)


@pytest.mark.parametrize("name", ALL)
def test_a_training_forward_is_what_the_table_says(name: str) -> None:
    x, hard, palette, _ = points(num_colors=64)  # near enough for a draw to matter
    torch.manual_seed(SEED)
    values = ALL[name](x, hard, palette).detach()
    of_palette = (values[:, None] == palette).all(-1).any(-1)
    assert torch.equal(values, hard) == (estimators.ESTIMATORS[name].forward == "hard")
    assert of_palette.all() == (estimators.ESTIMATORS[name].forward != "noise")


def test_the_rotation_trick_turns_a_gradient_as_its_point_is_turned_to_the_colour() -> None:
    x, hard, _, upstream = (tensor.detach() for tensor in points())
    _, to_x, to_palette = slopes(rotation_trick)
    for each, colour, back, found in zip(x, hard, upstream, to_x, strict=True):
        axis = torch.linalg.cross(each, colour)
        sine, cosine = axis.norm(), each @ colour
        angle = math.atan2(sine, cosine)
        a, b, c = axis / sine
        cross = torch.tensor([[0, -c, b], [c, 0, -a], [-b, a, 0]], dtype=torch.float64)
        turn = torch.linalg.matrix_exp(angle * cross)  # Rodrigues
        matrix = colour.norm() / each.norm() * turn
        torch.testing.assert_close(matrix @ each, colour)
        torch.testing.assert_close(found, matrix.T @ back)
    torch.testing.assert_close(to_palette, to_rows(upstream))


def test_the_rotation_trick_stays_finite_at_black() -> None:
    x = torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.1, 0.0], [-0.1, 0.0, 0.0]], requires_grad=True)
    hard = torch.tensor([[0.5, 0.5, 0.5], [0.0, 0.0, 0.0], [0.1, 0.0, 0.0]])
    rotation_trick(x, hard, hard).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_diveq_without_noise_shares_the_gradient_between_point_and_colour() -> None:
    x, hard, _, upstream = (tensor.detach() for tensor in points())
    values, to_x, to_palette = slopes(DiVeQ(variance=0))
    assert torch.equal(values, hard)
    direction = (hard - x) / (hard - x).norm(dim=1, keepdim=True)
    along = direction * (direction * upstream).sum(1, keepdim=True)
    torch.testing.assert_close(to_x, upstream - along)
    torch.testing.assert_close(to_palette, to_rows(along))


def test_diveq_and_nsvq_are_at_the_distance_of_the_colour_and_differ_in_the_direction() -> None:
    x, hard, _, _ = (tensor.detach() for tensor in points())
    distances = (hard - x).norm(dim=1)
    for estimator in (DiVeQ(variance=1e-3), nsvq):
        values, _, _ = slopes(estimator)
        torch.testing.assert_close((values - x).norm(dim=1), distances)
    near, _, _ = slopes(DiVeQ(variance=1e-10))
    torch.testing.assert_close(near, hard, atol=1e-3, rtol=0)
    away, _, _ = slopes(nsvq)
    assert (away - hard).norm(dim=1).mean() > distances.mean() / 2


@pytest.mark.parametrize("estimator", [nsvq, DiVeQ(variance=1e-3)])
def test_a_noisy_error_is_differentiated_as_a_length_in_a_fixed_direction(
    estimator: Estimator,
) -> None:
    x, hard, _, upstream = (tensor.detach() for tensor in points())
    values, to_x, to_palette = slopes(estimator)
    length = (hard - x).norm(dim=1, keepdim=True)
    direction = (values - x) / length

    def moved(x: Tensor, hard: Tensor) -> float:
        return float(((x + (hard - x).norm(dim=1, keepdim=True) * direction) * upstream).sum())

    step = 1e-6
    by_x, by_colour = torch.zeros_like(x), torch.zeros_like(x)
    for place in range(x.numel()):
        change = torch.zeros(x.numel(), dtype=x.dtype)
        change[place] = step
        change = change.view_as(x)
        by_x.view(-1)[place] = (moved(x + change, hard) - moved(x - change, hard)) / (2 * step)
        by_colour.view(-1)[place] = (moved(x, hard + change) - moved(x, hard - change)) / (2 * step)
    torch.testing.assert_close(to_x, by_x, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(to_palette, to_rows(by_colour), atol=1e-6, rtol=1e-4)


def test_noise_on_a_colour_itself_is_no_trap() -> None:
    for estimator in (nsvq, DiVeQ(), DiVeQ(variance=0)):
        x = torch.full((2, 3), 0.5, requires_grad=True)
        hard = torch.full((2, 3), 0.5, requires_grad=True)
        estimator(x, hard, hard).sum().backward()
        assert x.grad is not None
        assert hard.grad is not None
        assert x.grad.isfinite().all()
        assert hard.grad.isfinite().all()


def force(monkeypatch: pytest.MonkeyPatch, noise: Tensor) -> None:
    monkeypatch.setattr(gradient_estimators, "gumbel_noise", lambda like: noise.expand_as(like))


def distances(x: Tensor, palette: Tensor) -> Tensor:
    return (x[:, None] - palette).square().sum(-1)


def test_gumbel_is_the_softmax_of_the_noisy_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = torch.tensor([0.3, -0.5, 2.0, 0.1, 0.9], dtype=torch.float64)
    force(monkeypatch, noise)
    values, to_x, to_palette = slopes(GumbelStraightThrough(0.05))
    x, _, palette, upstream = points()
    noisy = -distances(x, palette) / 0.05 + noise
    assert torch.equal(values, palette[noisy.argmax(1)])
    # The choice is what multiplies the palette, its slope is the softmax's.
    one_hot = torch.nn.functional.one_hot(noisy.argmax(1), 5).double()
    worth = (upstream @ palette.T).detach()
    loss = (noisy.softmax(1) * worth).sum() + ((one_hot @ palette) * upstream).sum()
    expected_x, expected_palette = torch.autograd.grad(loss, (x, palette))
    torch.testing.assert_close(to_x, expected_x)
    torch.testing.assert_close(to_palette, expected_palette)


def test_decoupled_differentiates_the_other_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, torch.tensor([0.0, 0.0, 1e6, 0.0, 0.0], dtype=torch.float64))
    values, to_x, _ = slopes(DecoupledStraightThrough(0.001, 0.05))
    x, _, palette, upstream = points()
    assert torch.equal(values, palette[2].expand_as(values))
    mixed = (-distances(x, palette) / 0.05).softmax(1) @ palette
    (expected,) = torch.autograd.grad(mixed, x, upstream)
    torch.testing.assert_close(to_x, expected)


def test_draws_have_the_probabilities_of_the_softmax() -> None:
    palette = torch.tensor([[0.1, 0.2, 0.3], [0.2, 0.3, 0.2], [0.9, 0.9, 0.9]])
    x = torch.tensor([[0.15, 0.2, 0.3]]).expand(20_000, 3)
    expected = (-distances(x[:1], palette) / 0.02).softmax(1)[0]
    for estimator in (
        GumbelStraightThrough(0.02),
        ReinMax(0.02),
        DecoupledStraightThrough(0.02, 1),
    ):
        torch.manual_seed(SEED)
        values = estimator(x, palette[:1], palette)
        share = (values[:, None] == palette).all(-1).float().mean(0)
        torch.testing.assert_close(share, expected, atol=0.01, rtol=0)


def test_reinmax_is_exact_on_the_mean_where_the_loss_is_quadratic_and_straight_through_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mean over all draws, each by its probability, is the gradient of the expected loss."""
    x, _, palette, _ = points()
    x, palette = x.detach()[:1].requires_grad_(), palette.detach()
    target = torch.tensor([0.3, 0.8, 0.1], dtype=torch.float64)
    probability = (-distances(x, palette) / 0.1).softmax(1)[0]
    expected_loss = (probability * (palette - target).square().sum(1)).sum()
    (expected,) = torch.autograd.grad(expected_loss, x)

    def mean_over_draws(estimator: Estimator) -> Tensor:
        mean = torch.zeros_like(x)
        for draw, weight in enumerate(probability.detach()):
            noise = torch.zeros(5, dtype=torch.float64)
            noise[draw] = 1e6
            force(monkeypatch, noise)
            loss = (estimator(x, palette[:1], palette) - target).square().sum()
            mean += weight * torch.autograd.grad(loss, x)[0]
        return mean

    torch.testing.assert_close(mean_over_draws(ReinMax(0.1)), expected)
    straight = mean_over_draws(DecoupledStraightThrough(0.1, 0.1))
    assert (straight - expected).norm() > 0.05 * expected.norm()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Images of noise, two classes in each split, and weights of a ResNet-20."""
    noise_images(tmp_path, train=8, test=2, size=8)
    torch.save({"state_dict": ResNet20().state_dict()}, tmp_path / "weights.pt")
    return tmp_path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step at two rates, few estimators, small batches."""
    few = ("cut", "rows only", "straight-through", "ReinMax 0.01")
    entries = {name: estimators.ESTIMATORS[name] for name in few}
    tasks = {
        name: replace(task, sizes=task.sizes[:1], steps=1, rates=task.rates[:2])
        for name, task in estimators.TASKS.items()
    }
    tasks["shared"] = replace(tasks["shared"], sizes=(4, 3), same={"straight-through": "rows only"})
    monkeypatch.setattr(estimators, "ESTIMATORS", entries)
    monkeypatch.setattr(estimators, "TASKS", tasks)
    monkeypatch.setattr(estimators, "BATCH_SIZE", 4)


def command(files: Path, *more: object) -> None:
    given = ["--data", files / "data", "--checkpoint", files / "weights.pt"]
    estimators.run([*map(str, [*given, "--records", files / "records", *more])])


@pytest.mark.slow
def test_all_are_run_once_and_told_in_a_table(files: Path, small: None) -> None:
    command(files, "--seeds", 0, "--tasks", "shared", "autoencoder")
    before = {file: file.stat().st_mtime_ns for file in (files / "records").iterdir()}
    command(files, "--seeds", 0, 1)
    for file, time in before.items():
        assert file.stat().st_mtime_ns == time
    found = records(files / "records", "estimators-")
    assert len(found) == 2 * (3 + 3 + 4 + 3)  # estimators that differ, at each task and K
    tuned = found["estimators-shared-4-rows_only-seed0"]
    assert list(tuned["validation"]) == ["0.003", "0.01"]
    assert str(tuned["rate"]) == max(tuned["validation"], key=tuned["validation"].get)
    for name in ("shared-4-rows_only-seed1", "shared-3-rows_only-seed0"):
        later = found[f"estimators-{name}"]
        assert (later["rate"], later["validation"]) == (tuned["rate"], {})
    lowest = found["estimators-autoencoder-8-cut-seed0"]
    assert str(lowest["rate"]) == min(lowest["validation"], key=lowest["validation"].get)
    table = estimators.rows(found)
    cells = {row["estimator"]: row for row in table}
    column = "shared palette, top-1 (%), K = 4"
    assert cells["straight-through"][column] == cells["rows only"][column]
    assert "±" in str(cells["cut"][column])
    assert "| estimator | forward |" in markdown_table(table)
    usage = estimators.usage_rows(found)
    assert all(row["classifier, of 4"] for row in usage)
    assert estimators.draw(found).width > 1000


def test_a_learnt_palette_learns_and_a_cut_one_stays(files: Path, small: None) -> None:
    command(files, "--seeds", 0, "--tasks", "shared")
    found = records(files / "records", "estimators-shared-4-")
    cut, rows = (found[f"estimators-shared-4-{name}-seed0"] for name in ("cut", "rows_only"))
    assert cut["palette"] != rows["palette"]
    assert cut["validation"]["0.003"] == cut["validation"]["0.01"]


def test_a_training_that_ends_without_numbers_is_an_outcome(
    files: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bad(x: Tensor, hard: Tensor, palette: Tensor) -> Tensor:
        return hard * math.nan if torch.is_grad_enabled() else hard

    monkeypatch.setattr(estimators, "ESTIMATORS", {"bad": estimators.Entry(bad)})
    tasks = {"shared": replace(estimators.TASKS["shared"], sizes=(4,), same={})}
    monkeypatch.setattr(estimators, "TASKS", tasks)
    command(files, "--seeds", 0, 1)
    found = records(files / "records", "estimators-")
    assert [one["failed"] for one in found.values()] == [True, True]
    (row,) = estimators.rows(found)
    assert row["shared palette, top-1 (%), K = 4"] == "failed 2 of 2"


def test_without_records_the_table_has_dashes() -> None:
    table = estimators.rows({})
    assert len(table) == len(estimators.ESTIMATORS)
    assert set(table[0].values()) == {"cut", "hard", None}
    assert estimators.draw({}).width > 1000


def test_bold_is_the_best_mean_and_what_is_not_surely_worse_on_the_same_seeds() -> None:
    def seeds(*figures: float) -> list[dict[str, object]]:
        return [
            {"figure": figure, "failed": False, "seed": seed} for seed, figure in enumerate(figures)
        ]

    by_name = {
        "best": seeds(1, 5, 9),
        "not surely worse": seeds(2, 2, 9),
        "worse by as much on each": seeds(0.9, 4.9, 8.9),
        "least": seeds(-9, -9, -8),
        "of one seed": seeds(4),
        "none": [],
    }
    assert estimators.best(by_name, higher_is_better=True) == {"best", "not surely worse"}
    assert estimators.best(by_name, higher_is_better=False) == {"least"}


def test_each_task_has_the_layer_of_its_gradient() -> None:
    images, judge = torch.rand(4, 3, 8, 8), torch.nn.Identity()
    entry = estimators.ESTIMATORS["straight-through"]
    kinds = {
        task: type(estimators.build(task, 4, entry, images, judge, 0.01).quantizer)
        for task in estimators.TASKS
    }
    assert kinds == {
        "shared": LearnedPalette,
        "classifier": LearnedPalette,
        "autoencoder": ColorQuantize,
    }


def test_a_missing_checkpoint_is_named(files: Path) -> None:
    (files / "weights.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"weights\.pt"):
        command(files)
