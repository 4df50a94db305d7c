"""What is trained: a palette alone, an autoencoder through a palette, a classifier behind one.

Every task has a `quantizer`, chosen by class path in the config, whose palette learns in its own
forward. The rest learns by gradient, with the optimizer and schedule of the config.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol, TypeAlias, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy
from torchvision.transforms.v2 import Normalize

from colorquant_nn import Quantized
from colorquant_nn.metrics import ImageError, PaletteUsage

Batch: TypeAlias = tuple[Tensor, Tensor]  # images (B, 3, H, W) in [0, 1], labels (B,)
Stage: TypeAlias = Literal["train", "val", "test"]
STAGES: tuple[Stage, ...] = ("train", "val", "test")


class Quantizer(Protocol):
    """What a task asks of its quantizer: `ColorQuantize` and `PerImageColorQuantize` have it."""

    @property
    def num_colors(self) -> int:
        """K."""

    def __call__(self, x: Tensor) -> Tensor:
        """The images in K colours."""

    def quantize(self, x: Tensor) -> Quantized:
        """The same with the indices, the palette and the MSE."""


class QuantizerTask(pl.LightningModule):
    """The common part: the quantizer, the image error and the palette's usage of every stage.

    A subclass says in `shared_step` what its loss is, which images to compare and which indices to
    count, and in `pictures` what to show.

    Lightning counts steps, and so writes checkpoints and ends at `max_steps`, by an optimizer's
    steps. `clock` is a parameter that no loss depends on and no step changes: an optimizer over it
    counts the batches of a task that has nothing else to optimize, and nothing more.
    """

    def __init__(self, quantizer: nn.Module) -> None:
        super().__init__()
        self.quantizer = cast(Quantizer, quantizer)
        self.clock = nn.Parameter(torch.zeros(()))
        self.metric_names: list[str] = []
        self.labels: list[str] = []
        self.on_bar: set[str] = set()
        num_colors = self.quantizer.num_colors
        label = f"MSE {{mse:.5f}} ({{psnr:.2f}} dB) with {num_colors} colours"
        self.add_metrics(
            "error", partial(ImageError, ("mse", "psnr", "ciede2000")), label, on_bar="mse"
        )
        self.add_metrics("usage", lambda: PaletteUsage(num_colors))

    def add_metrics(
        self, name: str, make: Callable[[], Metric], label: str = "", on_bar: str = ""
    ) -> None:
        """Have a metric for each stage, logged at the end of its epochs if it was updated.

        All of an epoch's values come by this way: computing them takes all devices at one time,
        and Lightning computes what is logged by batch when its first device's progress bar asks.

        Args:
            name: of the metric, and of its value if that is a single one.
            make: called once for each stage.
            label: how a run's closing line tells it, a format string of the values.
            on_bar: the value that the progress bar shows.
        """
        self.metric_names.append(name)
        self.labels += [label] * bool(label)
        self.on_bar.add(on_bar)
        for stage in STAGES:
            self.add_module(f"{stage}_{name}", make())

    def metric(self, stage: Stage, name: str) -> Metric:
        """What accumulates over an epoch of a stage."""
        return cast(Metric, self.get_submodule(f"{stage}_{name}"))

    def shared_step(self, batch: Batch, stage: Stage) -> Tensor:
        """The loss of a batch; a subclass calls `measure` on the way."""
        raise NotImplementedError

    def pictures(self, images: Tensor) -> dict[str, Tensor]:
        """Images to show side by side, by caption."""
        return {"original": images, f"{self.quantizer.num_colors} colours": self.quantizer(images)}

    def measure(self, stage: Stage, images: Tensor, others: Tensor, indices: Tensor) -> None:
        """Add a batch to the stage's error and usage, and log a training batch's own."""
        error, usage = self.metric(stage, "error"), self.metric(stage, "usage")
        if stage == "train":
            values = {**error(images, others), **usage(indices)}
            self.log_dict({f"train_{name}_step": value for name, value in values.items()})
        else:
            error.update(images, others)
            usage.update(indices)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.shared_step(batch, "train") + 0 * self.clock

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.shared_step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.shared_step(batch, "test")

    def on_train_epoch_end(self) -> None:
        self._log_epoch("train")

    def on_validation_epoch_end(self) -> None:
        self._log_epoch("val")

    def on_test_epoch_end(self) -> None:
        self._log_epoch("test")

    def _log_epoch(self, stage: Stage) -> None:
        for name in self.metric_names:
            metric = self.metric(stage, name)
            if metric.update_count == 0:
                continue
            values = metric.compute()
            if not isinstance(values, dict):
                values = {name: values}
            for key, value in values.items():
                self.log(f"{stage}_{key}", value, prog_bar=key in self.on_bar, sync_dist=True)
            metric.reset()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The counter of steps; an `optimizer` in the config takes this method's place."""
        return torch.optim.SGD([self.clock], lr=0.0)


class PaletteLearning(QuantizerTask):
    """The quantizer alone: its palette follows the images by k-means.

    Args:
        quantizer: such as `ColorQuantize`.
    """

    def shared_step(self, batch: Batch, stage: Stage) -> Tensor:
        images, _ = batch
        quantized = self.quantizer.quantize(images)
        self.measure(stage, images, quantized.values, quantized.indices)
        return quantized.mse.detach()


class Autoencoder(QuantizerTask):
    """An image, recoloured so that a few colours carry more of it, and rebuilt from those.

    ``reconstruction = decoder(quantizer(encoder(image)))``. The logged error is the
    reconstruction's; ``bottleneck_mse`` is that of the few-coloured image on the way.

    Args:
        quantizer: the bottleneck; its ``commitment_weight`` says how much it holds the encoder.
        encoder: recolours: images to images of the same shape.
        decoder: rebuilds: images to images of the same shape; None takes the quantized image.

    References:
        van den Oord et al., Neural discrete representation learning (2017), for the commitment.
    """

    def __init__(
        self,
        quantizer: nn.Module,
        encoder: nn.Module,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__(quantizer)
        self.encoder = encoder
        self.decoder = nn.Identity() if decoder is None else decoder
        self.add_metrics("bottleneck_mse", MeanMetric)

    def shared_step(self, batch: Batch, stage: Stage) -> Tensor:
        images, _ = batch
        quantized = self.quantizer.quantize(self.encoder(images))
        reconstruction = self.decoder(quantized.values)
        self.measure(stage, images, reconstruction, quantized.indices)
        bottleneck_mse = nn.functional.mse_loss(quantized.values.detach(), images)
        self.metric(stage, "bottleneck_mse").update(bottleneck_mse, len(images))
        mse = nn.functional.mse_loss(reconstruction, images)
        return mse + quantized.commitment

    def pictures(self, images: Tensor) -> dict[str, Tensor]:
        recoloured = self.encoder(images)
        quantized = self.quantizer(recoloured)
        return {
            "original": images,
            "recoloured": recoloured,
            f"{self.quantizer.num_colors} colours": quantized,
            "rebuilt": self.decoder(quantized),
        }


class Classifier(QuantizerTask):
    """A classifier that sees the world in few colours: ``quantizer -> normalize -> classifier``.

    Args:
        quantizer: the bottleneck.
        classifier: normalized images to logits (B, num_classes).
        num_classes: of the data.
        frozen: leave the classifier's weights and running statistics as they are.
        mean: what the classifier was trained to have subtracted, per channel.
        std: and divided by. Both default to ImageNet's.
    """

    def __init__(
        self,
        quantizer: nn.Module,
        classifier: nn.Module,
        num_classes: int = 10,
        frozen: bool = True,
        mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
        std: tuple[float, float, float] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__(quantizer)
        self.classifier = classifier.requires_grad_(not frozen)
        self.frozen = frozen
        self.normalize = Normalize(list(mean), list(std))
        accuracy = partial(MulticlassAccuracy, num_classes, average="micro")
        self.add_metrics("top1", accuracy, "top-1 {top1:.2%}", on_bar="top1")
        self.add_metrics("loss", MeanMetric)

    def on_train_start(self) -> None:
        self.train()  # not before: Lightning warns of a part that starts in eval mode

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        if self.frozen:
            self.classifier.eval()
        return self

    def shared_step(self, batch: Batch, stage: Stage) -> Tensor:
        images, labels = batch
        quantized = self.quantizer.quantize(images)
        self.measure(stage, images, quantized.values, quantized.indices)
        logits = self.classifier(self.normalize(quantized.values))
        loss = nn.functional.cross_entropy(logits, labels)
        self.metric(stage, "top1").update(logits, labels)
        self.metric(stage, "loss").update(loss.detach(), len(images))
        if stage == "train":
            self.log("train_loss_step", loss)
        return loss
