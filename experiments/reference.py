"""Full k-means on the training pixels: the line that a learnt palette is held against."""

from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torchmetrics import MeanMetric

from colorquant_nn import ColorQuantize
from experiments.tasks import QuantizerTask, Stage

LEVELS = 64  # 6 bits per channel
NAME = "kmeans_mse"


class KMeansReference(pl.Callback):
    """Logs the MSE of full k-means on the pixels of each epoch, next to the task's own.

    The palette is scikit-learn's k-means on the training pixels of one epoch, found before the
    first batch and kept in the checkpoints. It is measured on the very batches that the task sees:
    ``train_kmeans_mse``, ``val_kmeans_mse`` and ``test_kmeans_mse``.

    Args:
        num_starts: How many starts the best of is taken.
        max_batches: Look at no more training batches than these.
        seed: Of the starts.
    """

    def __init__(self, num_starts: int = 3, max_batches: int | None = None, seed: int = 0) -> None:
        self.num_starts = num_starts
        self.max_batches = max_batches
        self.seed = seed
        self.palette: Tensor | None = None
        self.quantizer: ColorQuantize | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        task = cast(QuantizerTask, pl_module)
        if NAME not in task.metric_names:
            task.add_metrics(NAME, MeanMetric)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._prepare(trainer, pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._prepare(trainer, pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._prepare(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
    ) -> None:
        self._measure(pl_module, batch[0], "train")

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not trainer.sanity_checking:
            self._measure(pl_module, batch[0], "val")

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._measure(pl_module, batch[0], "test")

    def state_dict(self) -> dict[str, Any]:
        return {"palette": self.palette}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.palette = state_dict["palette"]

    def _prepare(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.quantizer is not None:
            return
        if self.palette is None:
            data = trainer.datamodule  # type: ignore[attr-defined]
            if data is None:  # bare loaders: there may be no training data to look at
                return
            data.setup("fit")  # validate and test have set up their own split only
            histogram = color_histogram(data.train_dataloader(), self.max_batches)
            # Every rank has seen its own batches; their sum is the same everywhere.
            histogram = trainer.strategy.reduce(histogram.to(pl_module.device), reduce_op="sum")
            self.palette = kmeans_palette(
                histogram.cpu(),
                cast(QuantizerTask, pl_module).quantizer.num_colors,
                num_starts=self.num_starts,
                seed=self.seed,
            )
        self.quantizer = ColorQuantize.from_palette(self.palette).to(pl_module.device).eval()

    @torch.no_grad()
    def _measure(self, pl_module: pl.LightningModule, images: Tensor, stage: Stage) -> None:
        if self.quantizer is not None:
            mse = self.quantizer.quantize(images).mse
            cast(QuantizerTask, pl_module).metric(stage, NAME).update(mse, len(images))


def color_histogram(batches: Any, max_batches: int | None = None) -> Tensor:
    """Counts and sums of the colours in 64 x 64 x 64 cells.

    Args:
        batches: An iterable of ``(images, ...)``, images ``(B, 3, H, W)`` in [0, 1].
        max_batches: Stop after these.

    Returns:
        ``(262144, 4)`` float64: per cell the number of pixels, and their summed red, green, blue.
    """
    histogram = torch.zeros(LEVELS**3, 4, dtype=torch.float64)
    for number, (images, *_) in enumerate(batches):
        if number == max_batches:
            break
        colors = images.movedim(1, -1).reshape(-1, 3).double()
        levels = (colors * LEVELS).long().clamp_(0, LEVELS - 1)
        cells = (levels[:, 0] * LEVELS + levels[:, 1]) * LEVELS + levels[:, 2]
        histogram[:, 0] += torch.bincount(cells, minlength=LEVELS**3)
        for channel in range(3):
            histogram[:, 1 + channel] += torch.bincount(cells, colors[:, channel], LEVELS**3)
    return histogram


def kmeans_palette(
    histogram: Tensor, num_colors: int, *, num_starts: int = 3, seed: int = 0
) -> Tensor:
    """scikit-learn's k-means on the weighted means of the occupied cells.

    Args:
        histogram: As `color_histogram` gives it.
        num_colors: Rows of the palette; fewer where fewer cells are occupied.
        num_starts: The best of these is taken.
        seed: Of the starts.

    Returns:
        ``(num_colors, 3)`` float32 palette.

    Example:
        >>> black_and_white = torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2)
        >>> kmeans_palette(color_histogram([(black_and_white,)]), 2).sort(dim=0).values
        tensor([[0., 0., 0.],
                [1., 1., 1.]])
    """
    occupied = histogram[histogram[:, 0] > 0].numpy()
    counts, means = occupied[:, 0], occupied[:, 1:] / occupied[:, :1]
    search = KMeans(min(num_colors, len(means)), n_init=num_starts, random_state=seed)
    palette = search.fit(means, sample_weight=counts).cluster_centers_
    return torch.from_numpy(np.clip(palette, 0, 1).astype(np.float32))
