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
from experiments.network.training import fit

SHARES = (0.35, 0.3, 0.15, 0.12, 0.08)  # of the batches, for each of SIZES
FIDELITIES = (0.0, 0.05, 0.2, 0.5, 1.0)  # of the curve
FREE = 0.4  # share of the images that the classifier alone judges
DISTILLED = 4.0  # temperature of the classifier's logits
HINT = 0.5  # weight of the network's own guess of the class
RATE = 2e-3
EPOCHS = 40
SHIFT = 4  # pixels


class PaletteNetworkForAClassifier(pl.LightningModule):
    """Teaches a network palettes of all sizes and fidelities at once.

    Each batch has one K and each image a fidelity f; its loss is
    ``(1 - f) * task + f * MSE / MSE of k-means``. The task is half the cross-entropy of the label,
    half the divergence from what the classifier says of the original image, at a high temperature,
    so that images which it is sure of teach something, too. Beside it the network guesses the class
    from its coarse features, which it has to know to show it: that is learnt faster by itself.

    Args:
        network: what learns.
        judge: the classifier.
        scales: MSE of k-means for each of `SIZES`.
        steps: of the whole training.
        seed: of the sizes, fidelities and shifts.

    References:
        Hinton, Vinyals and Dean, Distilling the knowledge in a neural network (2015), section 2.
    """

    def __init__(
        self,
        network: NeuralColorQuantize,
        judge: FrozenClassifier,
        scales: Sequence[float],
        steps: int,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network, self.judge = network.to(memory_format=torch.channels_last), judge
        self.scales, self.steps, self.seed = tuple(scales), steps, seed
        self.guess = nn.Linear(network.num_features, NUM_CLASSES)
        self.draws = torch.Generator()
        self._move = torch.compile(network.move)

    def on_train_epoch_start(self) -> None:
        # A function of the epoch, so that a training that goes on draws what it would have drawn.
        self.draws.manual_seed(1000 * self.seed + self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        images = self._shifted(images)
        which = int(torch.multinomial(torch.tensor(SHARES), 1, generator=self.draws))
        free, fidelity = torch.rand(2, len(images), generator=self.draws)
        fidelity = torch.where(free < FREE, 0, fidelity.square())  # more of the small ones
        with torch.autocast(self.device.type, torch.bfloat16):
            moved, features = self._move(images, SIZES[which], fidelity)
            guess = self.guess(features.mean((2, 3)))
        few = assign(images, moved, SIZES[which]).values
        task = self._task(few, images, labels)
        error = (few - images).square().mean((1, 2, 3)) / self.scales[which]
        hint = functional.cross_entropy(guess.float(), labels)
        loss = ((1 - fidelity) * task + fidelity * error).mean() + HINT * hint
        if batch_idx % 50 == 0:
            self.print(
                f"epoch {self.current_epoch} batch {batch_idx} K {SIZES[which]:>2} "
                f"task {task[fidelity == 0].mean():.3f} error {error.mean():.2f} hint {hint:.3f}",
                flush=True,
            )
        return loss

    def _task(self, few: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """How little the classifier knows of each image in few colours, (B,)."""
        logits = self.judge.fast(few)
        with torch.no_grad():
            original = (self.judge.fast(images) / DISTILLED).log_softmax(1)
        soft = (logits / DISTILLED).log_softmax(1)
        divergence = functional.kl_div(soft, original, reduction="none", log_target=True).sum(1)
        label = functional.cross_entropy(logits, labels, reduction="none")
        return (label + DISTILLED**2 * divergence) / 2

    def _shifted(self, images: Tensor) -> Tensor:
        """The batch, moved by some pixels, its border mirrored."""
        top, left = torch.randint(2 * SHIFT + 1, (2,), generator=self.draws).tolist()
        height, width = images.shape[-2:]
        padded = functional.pad(images, (SHIFT,) * 4, mode="reflect")
        return padded[..., top : top + height, left : left + width]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        nn.utils.clip_grad_norm_(self.parameters(), 1.0)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), RATE, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, self.steps, pct_start=0.1)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def learn(
    data: ImageData, judge: FrozenClassifier, folder: Path, seed: int = 0, epochs: int = EPOCHS
) -> tuple[NeuralColorQuantize, float]:
    """The network that chooses palettes for a classifier.

    Args:
        data: the images.
        judge: the classifier.
        folder: of the state of an unfinished training, which goes on from there.
        seed: of weights, sizes, fidelities and shifts; the data has its own.
        epochs: passes over the training images.

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
    task = PaletteNetworkForAClassifier(network, judge, scales, epochs * len(batches), seed)
    minutes = fit(task, data, epochs=epochs, folder=folder)
    return network.eval(), minutes


def judged(data: ImageData, judge: FrozenClassifier, network: NeuralColorQuantize) -> Record:
    """What validation and test images keep, by stage and ``"K fidelity"``, as of `accuracy`."""
    loaders = {"val": data.val_dataloader, "test": data.test_dataloader}
    return {
        stage: {
            f"{size} {fidelity:g}": accuracy(loader(), judge, network.of(size, fidelity))
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
