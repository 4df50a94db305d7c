"""What a run leaves behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from sklearn.cluster import KMeans
from torch import Tensor

from colorquant_nn import ColorHistogram, load_palette
from experiments import callbacks, datasets
from experiments.callbacks import (
    KMeansReference,
    Pictures,
    Summary,
    closing_line,
    kmeans_palette,
)
from experiments.tasks import Stage
from experiments.train import ExperimentCLI
from tests.experiments.conftest import Run, Smoke, run_in
from tests.experiments.test_resume import assert_equal_states

NOT_LEARNT = "ignore:this ColorQuantize has not learnt"  # judged without a checkpoint, on purpose


def test_fit_ends_with_the_errors_and_the_place_of_the_pictures(smoke: Smoke) -> None:
    line = smoke.printed.strip().splitlines()[-1]
    logged = smoke.cli.trainer.callback_metrics
    assert f"validation MSE {logged['val_mse']:.5f}" in line
    assert (
        "full k-means, fitted to the training images and judged on the same validation images: "
        f"MSE {logged['val_kmeans_mse']:.5f}"
    ) in line
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


def reference_of(cli: ExperimentCLI) -> KMeansReference:
    (reference,) = [c for c in cli.trainer.callbacks if isinstance(c, KMeansReference)]
    return reference


def palette_of_training(images: list[Tensor]) -> Tensor:
    """Full k-means of whole images."""
    return kmeans_palette(ColorHistogram().update(images), 16)


def training_photographs() -> list[Tensor]:
    return [image / 255 for image in datasets.Photographs("train").images]


@pytest.mark.filterwarnings(NOT_LEARNT)
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
    assert sorted(read) == ["train", "val"]
    assert torch.equal(reference_of(cli).palette, palette_of_training(training_photographs()))
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("validation MSE")


def test_reference_has_seen_all_that_a_run_of_any_length_sees(run: Run, smoke: Smoke) -> None:
    longer = run(
        "fit", ["base", "smoke"], "--trainer.max_epochs=3", f"--ckpt_path={smoke.checkpoint}"
    )
    anew = run("fit", ["base", "smoke"], "--trainer.max_epochs=3", "--data.init_args.batch_size=8")
    for cli in (longer, anew):
        assert torch.equal(reference_of(cli).palette, reference_of(smoke.cli).palette)
    assert longer.logged["val_kmeans_mse"] == smoke.cli.logged["val_kmeans_mse"]


FAKE = [
    "--data.init_args.name=FakeData",
    '--data.init_args.options={"size": 40, "image_size": [3, 16, 16]}',
    "--data.init_args.train_crops=null",
    "--data.init_args.val_crops=null",
    "--data.init_args.crop_size=null",
]


class Worsen(pl.Callback):
    """Spoils the palette in the second epoch, so that the first is the better one."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object
    ) -> None:
        if trainer.current_epoch == 1:
            pl_module.quantizer.centroids.fill_(0.5)


def test_fit_ends_with_the_test_of_the_epoch_that_validation_chose(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "worsen.yaml").write_text(
        "trainer:\n  callbacks+: [class_path: tests.experiments.test_callbacks.Worsen]\n"
    )
    cli = run("fit", ["base", "smoke"], *FAKE, f"--config={tmp_path / 'worsen.yaml'}")
    lines = [x for x in capsys.readouterr().out.splitlines() if "pictures in" in x]
    assert [line.split(" MSE ")[0] for line in lines] == ["validation", "test"]
    assert f"MSE {cli.logged['val_mse']:.5f}" in lines[0]
    assert f"MSE {cli.logged['test_mse']:.5f}" in lines[1]
    assert "weights of epoch=000.ckpt" in lines[1]
    assert "judged on the same test images" in lines[1]
    assert cli.logged["test_mse"] < cli.logged["val_mse"] / 2  # that of the last epoch is bad
    (summary,) = [c for c in cli.trainer.callbacks if isinstance(c, Summary)]
    assert len(summary.epochs) == 2  # the test of the first epoch's weights forgets nothing


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """What ``fit`` with images that are made up logs."""
    return run_in(tmp_path_factory.mktemp("fake"), "fit", ["base", "smoke"], *FAKE).logged


@pytest.mark.parametrize("changed", ["train", "test"])
def test_validation_and_the_choice_of_an_epoch_never_look_at_the_test(
    changed: str, fake: dict[str, float], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = datasets.find_source

    def other(name: str, root: Path, stage: Stage, **options: Any) -> Any:
        images = source(name, root, stage, **options)
        if stage == changed:
            return [(255 - datasets.to_pixels(image), label) for image, label in images]
        return images

    monkeypatch.setattr("experiments.data.find_source", other)
    again = run("fit", ["base", "smoke"], *FAKE)
    differs = {name for name in fake if fake[name] != again.logged[name]}
    if changed == "test":
        assert differs
        assert all(name.startswith("test_") for name in differs)
    else:
        assert {"train_mse", "val_mse", "val_kmeans_mse"} <= differs


@pytest.mark.filterwarnings(NOT_LEARNT)
def test_test_ends_with_a_line_too_and_the_data_has_the_runs_seed(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = run(
        "test", ["base", "smoke"], *FAKE, "--seed_everything=5", "--data.init_args.val_crops=6"
    )
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("test MSE")
    assert cli.datamodule.seed == 5
    (reference,) = [c for c in cli.trainer.callbacks if isinstance(c, KMeansReference)]
    batches = [images for images, _ in cli.datamodule.test_dataloader()]
    assert [len(images) for images in batches] == [4, 2]
    error = reference.quantizer.quantize(torch.cat(batches)).mse  # each image counts alike
    assert cli.trainer.callback_metrics["test_kmeans_mse"].item() == pytest.approx(error.item())


class Mine(pl.LightningModule):
    """A module that knows nothing of the experiments."""


@pytest.mark.parametrize(
    ("callback", "expected"),
    [
        (Pictures(), r"a method pictures\(images\) -> dict of captions to images.*got Mine"),
        (Summary(), "expected a QuantizerTask of experiments.tasks for Summary, got Mine"),
        (KMeansReference(), "expected a QuantizerTask .* for KMeansReference, got Mine"),
    ],
)
def test_a_module_that_a_callback_cannot_serve_is_told_what_is_expected(
    callback: pl.Callback, expected: str
) -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, callbacks=[callback])
    with pytest.raises(ValueError, match=expected):
        callback.setup(trainer, Mine(), "fit")


def test_pictures_ask_for_no_more_than_the_method(tmp_path: Path) -> None:
    module = Mine()
    module.pictures = lambda images: {"original": images, "half": images / 2}  # type: ignore[assignment]
    trainer = pl.Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, max_epochs=1)
    pictures = Pictures()
    pictures.setup(trainer, module, "fit")
    batch = torch.rand(2, 3, 8, 8), torch.zeros(2)
    pictures.on_validation_batch_end(trainer, module, None, batch, 0)
    pictures.on_validation_epoch_end(trainer, module)
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["comparison-000.png"]


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
        "    - {class_path: experiments.callbacks.KMeansReference, init_args: {max_images: 2}}\n"
    )
    delta = f"--config={tmp_path / 'two.yaml'}"
    cli = run("fit", ["base", "smoke", "tensorboard"], delta, "--trainer.max_epochs=3")
    events = EventAccumulator(cli.trainer.log_dir)
    events.Reload()
    assert set(events.Tags()["images"]) == {"comparison", "palette"}
    assert "val_mse" in events.Tags()["scalars"]
    made = (Path(cli.trainer.log_dir) / "pictures").glob("comparison*")
    assert sorted(path.name for path in made) == ["comparison-001.png", "comparison-002.png"]
    first_and_middle = training_photographs()[0::2][:2]
    assert torch.equal(reference_of(cli).palette, palette_of_training(first_and_middle))


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
