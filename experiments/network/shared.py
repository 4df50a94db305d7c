"""One palette for all images, moved by the loss of a frozen classifier.

Run ``python -m experiments.network shared --data FOLDER --checkpoint FILE``.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from colorquant_nn import ColorQuantize, LearnedPalette
from colorquant_nn.functional.gradients import Soft
from experiments.data import ImageData
from experiments.network.judges import (
    FrozenClassifier,
    accuracy,
    load_images,
    load_judge,
    reorder,
)
from experiments.network.palette_network import SIZES
from experiments.network.records import RECORDS, Record, record
from experiments.network.training import fit

FIDELITIES = (0.0, 0.1, 0.3, 0.6, 0.9)
NUM_STARTS = 4
TRIAL_STEPS = 150
EPOCHS = 2
RATE = 0.2  # of Adam, in root mean squared errors of k-means


class PaletteForAClassifier(pl.LightningModule):
    """Moves a palette towards what a classifier recognises, what the eye sees, or between.

    The loss is ``(1 - fidelity) * cross-entropy + fidelity * MSE / scale``. The temperature of the
    soft assignment behind the gradient is ``2 * scale``, as of Gaussian clusters of that variance.

    Args:
        palette: the layer.
        judge: the classifier.
        fidelity: weight of the squared error, 0 to 1.
        scale: MSE of k-means; it weighs as much as a cross-entropy of 1.
        steps: of the whole training, over which the learning rate falls to 0.
    """

    def __init__(
        self,
        palette: LearnedPalette,
        judge: FrozenClassifier,
        fidelity: float,
        scale: float,
        steps: int,
    ) -> None:
        super().__init__()
        self.palette, self.judge = palette, judge
        self.fidelity, self.scale, self.steps = fidelity, scale, steps

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        few = self.palette(images)
        task = nn.functional.cross_entropy(self.judge.fast(few), labels)
        error = nn.functional.mse_loss(few, images) / self.scale
        return (1 - self.fidelity) * task + self.fidelity * error

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.palette.parameters(), RATE * self.scale**0.5)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def starts(data: ImageData, num_colors: int, seed: int) -> Iterator[Tensor]:
    """Palettes (K, 3) to begin with: that of k-means, then colours of random pixels."""
    batches = data.train_dataloader()
    yield ColorQuantize(num_colors).fit(images for images, _ in batches).palette
    pixels = next(iter(batches))[0].movedim(1, -1).reshape(-1, 3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(NUM_STARTS - 1):
        yield pixels[torch.randint(len(pixels), (num_colors,), generator=generator)]


def learn(
    data: ImageData, judge: FrozenClassifier, num_colors: int, fidelity: float, seed: int = 0
) -> LearnedPalette:
    """The palette of K colours that a classifier wants.

    Several are tried for some steps, and the one that is best on the validation images is trained
    for good: the loss has many minima.

    Args:
        data: the images.
        judge: the classifier.
        num_colors: K.
        fidelity: weight of the squared error, 0 to 1.
        seed: of the starts; the data has its own.

    Returns:
        The layer, in evaluation mode.
    """
    batches = data.train_dataloader()
    beginnings = list(starts(data, num_colors, seed))
    kmeans = ColorQuantize.from_palette(beginnings[0]).eval()
    scale = accuracy(data.val_dataloader(), judge, kmeans)["mse"]
    soft = Soft(2 * scale)
    best, most = beginnings[0], -math.inf
    for palette in beginnings:
        layer = LearnedPalette.from_palette(palette, estimator=soft)
        task = PaletteForAClassifier(layer, judge, fidelity, scale, TRIAL_STEPS)
        fit(task, data, batches=TRIAL_STEPS)
        kept = accuracy(data.val_dataloader(), judge, layer.eval())
        # The share of the images that are known, where the loss has a cross-entropy: that of images
        # which a classifier is sure to be something else says little about how many they are.
        worth = (1 - fidelity) * kept["top1"] / 100 - fidelity * kept["mse"] / scale
        if worth > most:
            best, most = layer.palette.detach(), worth
    layer = LearnedPalette.from_palette(best, estimator=soft)
    task = PaletteForAClassifier(layer, judge, fidelity, scale, EPOCHS * len(batches))
    fit(task, data, epochs=EPOCHS)
    return layer.eval()


def run(argv: Sequence[str] | None = None) -> None:
    """Learn the palettes of all sizes with the first fidelity, then those of the curve."""
    parser = argparse.ArgumentParser(prog="python -m experiments.network shared")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights of the ResNet-20")
    parser.add_argument("--colors", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--fidelities", type=float, nargs="+", default=list(FIDELITIES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--records", type=Path, default=RECORDS)
    options = parser.parse_args(argv)
    judge = load_judge(options.checkpoint, compiled=True)
    data = load_images(options.data)
    for fidelity in options.fidelities:
        for seed in options.seeds:
            for size in options.colors:

                def once(size: int = size, seed: int = seed, weight: float = fidelity) -> Record:
                    reorder(data, seed)
                    layer = learn(data, judge, size, weight, seed)
                    return {
                        "num_colors": size,
                        "seed": seed,
                        "fidelity": weight,
                        "palette": layer.palette.tolist(),
                        "val": accuracy(data.val_dataloader(), judge, layer),
                        "test": accuracy(data.test_dataloader(), judge, layer),
                    }

                record(options.records, f"shared-{size}-fidelity{fidelity:g}-seed{seed}", once)
