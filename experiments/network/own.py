"""A palette for each image, chosen by a small network for a frozen classifier.

Run ``python -m experiments.network own --data FOLDER --checkpoint FILE --weights FOLDER``.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from colorquant_nn import PerImageColorQuantize
from experiments.data import ImageData
from experiments.network.judges import (
    NUM_CLASSES,
    FrozenClassifier,
    accuracy,
    load_images,
    load_judge,
    reorder,
)
from experiments.network.palette_network import SIZES, NeuralColorQuantize, assign
from experiments.network.records import RECORDS, Record, record
from experiments.network.training import fit, shifted

SHARES = (0.35, 0.3, 0.15, 0.12, 0.08)  # of the batches, for each of SIZES
FIDELITIES = (0.0, 0.05, 0.2, 0.5, 1.0)  # of the curve
FREE = 0.4  # share of the images that the classifier alone judges
HINT = 0.5  # weight of the network's own guess of the class
RATE = 2e-3
EPOCHS = 40
EPOCHS_TO_RECOGNISE = 2  # for each of those: a step takes a fifth of the time


class Lesson(pl.LightningModule):
    """What both parts of a training share: what each batch is asked for, and how steps are made.

    Each batch has one K and each image a fidelity.

    Args:
        network: what learns.
        guess: the class of an image from the network's coarse features.
        steps: of the whole training.
        seed: of the sizes, fidelities and shifts.
    """

    def __init__(
        self, network: NeuralColorQuantize, guess: nn.Linear, steps: int, seed: int = 0
    ) -> None:
        super().__init__()
        self.network, self.guess = network.to(memory_format=torch.channels_last), guess
        self.steps, self.seed = steps, seed
        self.draws = torch.Generator()

    def on_train_epoch_start(self) -> None:
        # A function of the epoch, so that a training that goes on draws what it would have drawn.
        self.draws.manual_seed(1000 * self.seed + self.current_epoch)

    def drawn(self, number: int) -> tuple[int, Tensor]:
        """The place in `SIZES` of a K for a batch, and fidelities (number,)."""
        which = int(torch.multinomial(torch.tensor(SHARES), 1, generator=self.draws))
        free, fidelity = torch.rand(2, number, generator=self.draws)
        return which, torch.where(free < FREE, 0, fidelity.square())  # more of the small ones

    def guessed(self, features: Tensor, labels: Tensor) -> Tensor:
        """How far the network is from the class of the images, by its coarse features."""
        return functional.cross_entropy(self.guess(features.mean((2, 3))).float(), labels)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        nn.utils.clip_grad_norm_(self.parameters(), 1.0)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), RATE, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, self.steps, pct_start=0.1)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class ToRecognise(Lesson):
    """The first part: what images are of, which the network has to know to show it."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        which, fidelity = self.drawn(len(images))
        images = shifted(images, self.draws, together=True)
        with torch.autocast(self.device.type, torch.bfloat16):
            features = self._coarse(images, SIZES[which], fidelity)
            loss = self.guessed(features, labels)
        if batch_idx % 100 == 0:
            self.print(f"recognise: epoch {self.current_epoch} loss {loss:.3f}", flush=True)
        return loss

    def on_train_start(self) -> None:
        self._coarse = torch.compile(self.network.coarse_features)


class ToQuantize(Lesson):
    """The second part: palettes of all sizes and fidelities, for a classifier.

    The loss of an image with fidelity f is
    ``(1 - f) * cross-entropy of the classifier + f * MSE / MSE of k-means``, beside the network's
    own guess of the class.

    Args:
        network: what learns.
        guess: the class of an image from the network's coarse features.
        steps: of the whole training.
        seed: of the sizes, fidelities and shifts.
        judge: the classifier.
        scales: MSE of k-means for each of `SIZES`.
    """

    def __init__(
        self,
        network: NeuralColorQuantize,
        guess: nn.Linear,
        steps: int,
        seed: int = 0,
        *,
        judge: FrozenClassifier,
        scales: Sequence[float],
    ) -> None:
        super().__init__(network, guess, steps, seed)
        self.judge, self.scales = judge, tuple(scales)

    def on_train_start(self) -> None:
        self._move = torch.compile(self.network.move)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        which, fidelity = self.drawn(len(images))
        images = shifted(images, self.draws, together=True)
        with torch.autocast(self.device.type, torch.bfloat16):
            moved, features = self._move(images, SIZES[which], fidelity)
            hint = self.guessed(features, labels)
        few = assign(images, moved, SIZES[which]).values
        task = functional.cross_entropy(self.judge.fast(few), labels, reduction="none")
        error = (few - images).square().mean((1, 2, 3)) / self.scales[which]
        if batch_idx % 100 == 0:
            self.print(
                f"quantize: epoch {self.current_epoch} K {SIZES[which]} "
                f"task {task[fidelity == 0].mean():.3f} error {error.mean():.2f} hint {hint:.3f}",
                flush=True,
            )
        return ((1 - fidelity) * task + fidelity * error).mean() + HINT * hint


def learn(
    data: ImageData, judge: FrozenClassifier, folder: Path, seed: int = 0, epochs: int = EPOCHS
) -> tuple[NeuralColorQuantize, float]:
    """The network that chooses palettes for a classifier.

    Args:
        data: the images.
        judge: the classifier.
        folder: of the state of an unfinished training, which goes on from there.
        seed: of weights, sizes, fidelities and shifts; the data has its own.
        epochs: passes over the training images in the second part.

    Returns:
        The network, in evaluation mode, and the minutes that its training took.
    """
    torch.manual_seed(seed)
    batches = data.train_dataloader()
    scales = []
    for size in SIZES:
        kmeans = PerImageColorQuantize(size)
        mse = [kmeans.quantize(images).mse for images, _ in data.val_dataloader()]
        scales.append(float(torch.stack(mse).mean()))
    network = NeuralColorQuantize()
    guess = nn.Linear(network.num_features, NUM_CLASSES)
    steps = epochs * len(batches)
    first = ToRecognise(network, guess, EPOCHS_TO_RECOGNISE * steps, seed)
    second = ToQuantize(network, guess, steps, seed, judge=judge, scales=scales)
    minutes = fit(first, data, epochs=EPOCHS_TO_RECOGNISE * epochs, folder=folder / "first")
    minutes += fit(second, data, epochs=epochs, folder=folder / "second")
    return network.eval(), minutes


def judged(data: ImageData, judge: FrozenClassifier, network: NeuralColorQuantize) -> Record:
    """What validation and test images keep, by stage and ``"K fidelity"``, as of `accuracy`."""
    loaders = {"val": data.val_dataloader, "test": data.test_dataloader}
    return {
        stage: {
            f"{size} {fidelity:g}": accuracy(loader(), judge, network.quantizer(size, fidelity))
            for size in SIZES
            for fidelity in FIDELITIES
        }
        for stage, loader in loaders.items()
    }


def best_fidelity(run: Record, num_colors: int) -> float:
    """The fidelity at which the validation images are best recognised."""
    return max(FIDELITIES, key=lambda f: run["val"][f"{num_colors} {f:g}"]["top1"])


def run(argv: Sequence[str] | None = None) -> None:
    """Learn one network for each seed, and judge it at all K and fidelities."""
    parser = argparse.ArgumentParser(prog="python -m experiments.network own")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights of the ResNet-20")
    parser.add_argument("--weights", type=Path, required=True, help="folder of what is learnt")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--records", type=Path, default=RECORDS)
    options = parser.parse_args(argv)
    judge = load_judge(options.checkpoint, compiled=True)
    data = load_images(options.data)
    for seed in options.seeds:

        def once(seed: int = seed) -> Record:
            reorder(data, seed)
            folder = options.weights / f"own-seed{seed}"
            network, minutes = learn(data, judge, folder, seed, options.epochs)
            network.save(folder.with_suffix(".pt"))
            network = NeuralColorQuantize.load(folder.with_suffix(".pt"))  # in half precision
            found = {"seed": seed, "training_minutes": minutes} | judged(data, judge, network)
            shutil.rmtree(folder, ignore_errors=True)  # of the training, which is at its end
            return found

        record(options.records, f"own-seed{seed}", once, epochs=options.epochs)
