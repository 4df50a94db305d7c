"""The tasks: what they learn, what they leave alone, what they log."""

import math
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from skimage.color import deltaE_ciede2000, rgb2lab
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from colorquant_nn import ColorQuantize, PerImageColorQuantize
from colorquant_nn.functional.gradients import cut
from experiments.models import UNet
from experiments.tasks import Autoencoder, Classifier, PaletteLearning, QuantizerTask
from tests.experiments.conftest import Run


def random_images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def loader(count: int = 8, seed: int = 0) -> DataLoader[Any]:
    labels = torch.arange(count) % 3
    return DataLoader(TensorDataset(random_images(count, seed), labels), batch_size=3)


def fit(task: QuantizerTask, **options: Any) -> pl.Trainer:
    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 2,
        "num_sanity_val_steps": 0,
    }
    trainer = pl.Trainer(**(quiet | options))
    trainer.fit(task, loader(), loader(seed=1))
    return trainer


def tiny_classifier() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 64, 3))


@pytest.mark.filterwarnings("ignore:this ColorQuantize has not learnt")
def test_sanity_check_leaves_the_palette_untouched() -> None:
    quantizer = ColorQuantize(4)
    before = {name: buffer.clone() for name, buffer in quantizer.named_buffers()}

    class StopBeforeTraining(pl.Callback):
        def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            for name, buffer in quantizer.named_buffers():
                assert torch.equal(buffer, before[name])
            self.seen = True

    callback = StopBeforeTraining()
    fit(PaletteLearning(quantizer), num_sanity_val_steps=2, callbacks=[callback])
    assert callback.seen
    assert not torch.equal(quantizer.centroids, before["centroids"])


def test_validation_and_test_leave_the_palette_untouched() -> None:
    task = PaletteLearning(ColorQuantize(4))
    trainer = fit(task)
    before = task.quantizer.state_dict()["centroids"].clone()  # type: ignore[attr-defined]
    trainer.validate(task, loader(seed=2), verbose=False)
    trainer.test(task, loader(seed=3), verbose=False)
    assert torch.equal(task.quantizer.state_dict()["centroids"], before)  # type: ignore[attr-defined]


def test_palette_learns_as_the_layer_alone_does() -> None:
    layer = ColorQuantize(4).train()
    for _ in range(2):
        for images, _ in loader():
            layer(images)
    task = PaletteLearning(ColorQuantize(4))
    fit(task)
    assert torch.equal(task.quantizer.palette, layer.palette)  # type: ignore[attr-defined]


def test_steps_are_counted_and_end_the_run_without_an_optimizer_of_its_own() -> None:
    task = PaletteLearning(ColorQuantize(4))
    trainer = fit(task, max_steps=2, max_epochs=-1)
    assert trainer.global_step == 2
    assert task.clock.item() == 0


def test_logged_values_are_those_of_the_images() -> None:
    task = PaletteLearning(ColorQuantize.from_palette(torch.tensor([[0.2] * 3, [0.7, 0.6, 0.5]])))
    logged = fit(task, max_epochs=1).callback_metrics
    for stage, seed in (("train", 0), ("val", 1)):
        images = random_images(8, seed)
        out = task.quantizer(images)
        mse = (images - out).square().mean().item()
        assert logged[f"{stage}_mse"].item() == pytest.approx(mse, rel=1e-5)
        assert logged[f"{stage}_psnr"].item() == pytest.approx(-10 * math.log10(mse), rel=1e-5)
        a, b = (rgb2lab(x.movedim(1, -1).double().numpy()) for x in (images, out))
        difference = np.mean(deltaE_ciede2000(a, b))
        assert logged[f"{stage}_ciede2000"].item() == pytest.approx(difference, rel=1e-3)
        share = (task.quantizer.quantize(images).indices == 0).double().mean().item()
        entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
        assert logged[f"{stage}_colors_used"].item() == 2
        assert logged[f"{stage}_perplexity"].item() == pytest.approx(math.exp(entropy), rel=1e-5)
    assert {"train_mse_step", "train_psnr_step", "train_ciede2000_step"} <= set(logged)


def test_autoencoder_trains_its_encoder_through_the_layer() -> None:
    def encoder_gradient(quantizer: nn.Module) -> float:
        torch.manual_seed(0)
        task = Autoencoder(quantizer, UNet(4), UNet(4))
        task.trainer = pl.Trainer(logger=False, accelerator="cpu")  # it logs
        task.log = lambda *a, **k: None  # type: ignore[method-assign,assignment]
        task.log_dict = lambda *a, **k: None  # type: ignore[method-assign,assignment]
        task.shared_step((random_images(2), torch.zeros(2)), "train").backward()
        assert task.decoder.head.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
        gradient = task.encoder.head.weight.grad  # type: ignore[union-attr]
        return 0.0 if gradient is None else gradient.abs().sum().item()

    for cls in (ColorQuantize, PerImageColorQuantize):
        assert encoder_gradient(cls(4, commitment_weight=0)) > 0
    assert encoder_gradient(ColorQuantize(4, estimator=cut, commitment_weight=0)) == 0
    assert encoder_gradient(ColorQuantize(4, estimator=cut, commitment_weight=0.1)) > 0


def test_autoencoder_without_a_decoder_returns_the_quantized_image() -> None:
    task = Autoencoder(ColorQuantize(4), nn.Identity())
    columns = task.eval().pictures(random_images(1))
    assert torch.equal(columns["rebuilt"], columns["4 colours"])


def test_frozen_classifier_changes_nothing_but_the_palette() -> None:
    task = Classifier(ColorQuantize(4), tiny_classifier(), num_classes=3)
    before = {name: value.clone() for name, value in task.classifier.state_dict().items()}
    palette = task.quantizer.palette.clone()  # type: ignore[attr-defined]
    logged = fit(task).callback_metrics
    for name, value in task.classifier.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not torch.equal(task.quantizer.palette, palette)  # type: ignore[attr-defined]
    assert {"train_top1", "val_top1", "train_mse", "val_mse", "val_loss"} <= set(logged)


def test_trained_classifier_changes() -> None:
    class Trained(Classifier):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    task = Trained(ColorQuantize(4), tiny_classifier(), num_classes=3, frozen=False)
    before = {name: value.clone() for name, value in task.classifier.state_dict().items()}
    fit(task)
    for name, value in task.classifier.state_dict().items():
        assert not torch.equal(value, before[name]), name


def test_classifier_sees_normalized_palette_colours() -> None:
    class Remember(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.seen = x
            return x.mean(dim=(2, 3))

    remember = Remember()
    palette = torch.tensor([[0.0, 0, 0], [1, 1, 1]])
    task = Classifier(
        ColorQuantize.from_palette(palette),
        remember,
        num_classes=3,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    logged = fit(task, max_epochs=1).callback_metrics
    assert set(remember.seen.unique().tolist()) == {-2.0, 2.0}
    logits = (random_images(8, 1) > 0.5).float().mean(dim=(2, 3))
    top1 = (logits.argmax(1) == torch.arange(8) % 3).float().mean()
    assert logged["val_top1"].item() == pytest.approx(top1.item())


def test_per_image_palettes_run_as_a_task(run: Run) -> None:
    cli = run(
        "validate",
        ["base", "smoke"],
        "--model.init_args.quantizer.class_path=colorquant_nn.PerImageColorQuantize",
        "--model.init_args.quantizer.init_args.num_colors=4",
    )
    logged = cli.trainer.callback_metrics
    assert logged["val_mse"] < logged["val_kmeans_mse"]
