"""What a run leaves behind."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.cluster import KMeans
from torch import Tensor

from colorquant_nn import ColorHistogram, load_palette
from experiments import callbacks, datasets
from experiments.callbacks import KMeansReference, Pictures, closing_line, kmeans_palette
from experiments.tasks import Stage
from experiments.train import ExperimentCLI
from tests.experiments.conftest import Run, Smoke, run_in
from tests.experiments.test_resume import assert_equal_states


def test_fit_ends_with_the_errors_and_the_place_of_the_pictures(smoke: Smoke) -> None:
    line = smoke.printed.strip().splitlines()[-1]
    logged = smoke.cli.trainer.callback_metrics
    assert f"validation MSE {logged['val_mse']:.5f}" in line
    assert f"full k-means on the same pixels: MSE {logged['val_kmeans_mse']:.5f}" in line
    folder = Path(line.rsplit("pictures in ", 1)[1])
    assert folder == Path(smoke.cli.trainer.log_dir) / "pictures"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("comparison-000.png", "comparison-001.png", "curve.png"),
        *("palette-000.gpl", "palette-000.png", "palette-001.gpl", "palette-001.png"),
    ]
    palette = load_palette(folder / "palette-001.gpl")
    assert palette.shape == (16, 3)
    distances = (palette[:, None] - smoke.cli.model.quantizer.palette).abs().amax(-1)
    assert distances.min(1).values.max() <= 0.5 / 255 + 1e-6  # rounded to 8 bits
    luminance = palette**2.2 @ palette.new_tensor([0.2126, 0.7152, 0.0722])
    assert (luminance.diff() > -2 / 255).all()  # dark to light
    with Image.open(folder / "comparison-001.png") as picture:
        assert picture.width > 400


@pytest.fixture(scope="module")
def validated(smoke: Smoke, tmp_path_factory: pytest.TempPathFactory) -> Smoke:
    """``validate`` from the checkpoint of the run, with a search for the reference that fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks, "kmeans_palette", None)
        folder = tmp_path_factory.mktemp("validated")
        checkpoint = f"--ckpt_path={smoke.checkpoint}"
        return smoke._replace(cli=run_in(folder, "validate", ["base", "smoke"], checkpoint))


def test_a_run_without_weights_writes_checkpoints_that_restore_it(
    smoke: Smoke, validated: Smoke
) -> None:
    assert_equal_states(validated.cli, smoke.cli)
    best = smoke.cli.trainer.checkpoint_callback.best_model_score
    assert validated.cli.trainer.callback_metrics["val_mse"] == best


def test_reference_is_restored_and_needs_no_second_search(smoke: Smoke, validated: Smoke) -> None:
    expected = smoke.cli.trainer.callback_metrics["val_kmeans_mse"]
    assert validated.cli.trainer.callback_metrics["val_kmeans_mse"] == expected


def test_pictures_are_of_the_first_validation_batch(validated: Smoke) -> None:
    (pictures,) = [c for c in validated.cli.trainer.callbacks if isinstance(c, Pictures)]
    batches = list(validated.cli.datamodule.val_dataloader())
    assert len(batches) > 1
    assert torch.equal(pictures.images, batches[0][0][: pictures.num_images])


def palette_of_training(cli: ExperimentCLI, batches: int | None) -> Tensor:
    """Full k-means on that many training batches of the first epoch."""
    loader = cli.datamodule.train_dataloader()
    loader.sampler.set_epoch(0)
    histogram = ColorHistogram().update(images for images, _ in islice(loader, batches))
    return kmeans_palette(histogram, 16)


def test_validate_alone_finds_the_reference_on_the_training_pixels_and_reads_them_once(
    smoke: Smoke, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read: list[Stage] = []

    def photographs(root: Path, stage: Stage) -> datasets.Photographs:
        read.append(stage)
        return datasets.Photographs(stage)

    monkeypatch.setitem(datasets.SOURCES, "Photographs", photographs)
    cli = run("validate", ["base", "smoke"])
    alone = cli.trainer.callback_metrics["val_kmeans_mse"]
    assert alone == smoke.cli.trainer.callback_metrics["val_kmeans_mse"]
    (reference,) = [c for c in cli.trainer.callbacks if isinstance(c, KMeansReference)]
    assert sorted(read) == ["train", "val"]
    assert torch.equal(reference.palette, palette_of_training(cli, None))
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("validation MSE")


def test_test_ends_with_a_line_too_and_the_data_has_the_runs_seed(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = run("test", ["base", "smoke"], "--seed_everything=5", "--data.init_args.val_crops=6")
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("test MSE")
    assert cli.datamodule.seed == 5
    (reference,) = [c for c in cli.trainer.callbacks if isinstance(c, KMeansReference)]
    batches = [images for images, _ in cli.datamodule.test_dataloader()]
    assert [len(images) for images in batches] == [4, 2]
    error = reference.quantizer.quantize(torch.cat(batches)).mse  # each image counts alike
    assert cli.trainer.callback_metrics["test_kmeans_mse"].item() == pytest.approx(error.item())


def test_closing_line_tells_what_the_task_labels_and_the_run_logged() -> None:
    values = {"val_mse": 0.01, "val_top1": 0.5, "test_kmeans_mse": 0.1}
    labels = ["MSE {mse:.5f}", "k-means {kmeans_mse}", "top-1 {top1:.2%}"]
    line = closing_line("val", labels, values, Path("there"))
    assert line == "validation MSE 0.01000; top-1 50.00%; pictures in there"


def test_callbacks_follow_their_options_and_pictures_reach_tensorboard(
    run: Run, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "two.yaml").write_text(
        "trainer:\n"
        "  callbacks:\n"
        "    - {class_path: experiments.callbacks.Pictures, init_args: {every_n_epochs: 2}}\n"
        "    - {class_path: experiments.callbacks.KMeansReference, init_args: {max_batches: 2}}\n"
    )
    delta = f"--config={tmp_path / 'two.yaml'}"
    cli = run("fit", ["base", "smoke", "tensorboard"], delta, "--trainer.max_epochs=3")
    events = EventAccumulator(cli.trainer.log_dir)
    events.Reload()
    assert set(events.Tags()["images"]) == {"comparison", "palette"}
    assert "val_mse" in events.Tags()["scalars"]
    made = (Path(cli.trainer.log_dir) / "pictures").glob("comparison*")
    assert sorted(path.name for path in made) == ["comparison-001.png", "comparison-002.png"]
    (reference,) = [c for c in cli.trainer.callbacks if isinstance(c, KMeansReference)]
    assert torch.equal(reference.palette, palette_of_training(cli, 2))


def test_reference_is_nearly_kmeans_on_all_pixels() -> None:
    torch.manual_seed(0)
    images = (torch.rand(4, 3, 1, 1) + 0.1 * torch.randn(4, 3, 32, 32)).clamp(0, 1)
    pixels = images.movedim(1, -1).reshape(-1, 3).numpy()
    best = KMeans(4, n_init=10, random_state=0).fit(pixels).inertia_
    palette = kmeans_palette(ColorHistogram().update(images), 4).numpy()
    error = ((pixels[:, None] - palette) ** 2).sum(-1).min(1).sum()
    assert best <= error * (1 + 1e-5)
    assert error < best * 1.002


def test_reference_weighs_colours_by_their_pixels() -> None:
    black_and_white = torch.tensor([0.0] * 9 + [1.0]).expand(3, 1, 10)
    palette = kmeans_palette(ColorHistogram().update(black_and_white), 1)
    torch.testing.assert_close(palette, torch.full((1, 3), 0.1))


def test_reference_follows_its_seed_and_takes_the_best_of_its_starts() -> None:
    images = torch.rand(3, 1, 300, generator=torch.Generator().manual_seed(0))
    histogram = ColorHistogram().update(images)
    pixels = images.flatten(1).T.numpy()

    def error(num_starts: int, seed: int) -> float:
        palette = kmeans_palette(histogram, 20, num_starts, seed).numpy()
        return float(np.square(pixels[:, None] - palette).sum(-1).min(1).sum())

    first = [error(1, seed) for seed in range(4)]
    assert len(set(first)) > 1
    assert error(20, 0) < first[0]
