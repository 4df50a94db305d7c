"""A classifier of another architecture that no palette was made for: what transfers, it tells.

Letters: B images, H rows, W columns.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchvision.transforms.v2 import Normalize

from experiments.models import SmallVGG
from experiments.network.judges import MEAN, STD, FrozenClassifier, accuracy, load_images
from experiments.network.records import RECORDS, Record, record
from experiments.network.training import SHIFT, fit, shifted

SMOOTHING, RATE, DECAY = 0.1, 0.1, 5e-4


class UnseenTraining(pl.LightningModule):
    """The small VGG on CIFAR-10: stochastic gradient descent, one cycle of the learning rate.

    Args:
        seed: of the weights and the shifts.

    References:
        Smith and Topin, Super-convergence (2019), for the cycle; Szegedy et al., Rethinking the
        Inception architecture for computer vision (2016), section 7, for the smoothed labels.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = SmallVGG().to(memory_format=torch.channels_last)
        self.normalize = Normalize(MEAN, STD)
        self.seed = seed

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        # Of the step alone, so that a training that goes on sees what it would have seen.
        draws = torch.Generator().manual_seed(self.seed * 1_000_000 + self.global_step)
        inputs: Tensor = self.normalize(shifted(images, draws))
        with torch.autocast(inputs.device.type, torch.bfloat16):
            logits = self.network(inputs.contiguous(memory_format=torch.channels_last))
        return nn.functional.cross_entropy(logits.float(), labels, label_smoothing=SMOOTHING)

    def on_train_epoch_end(self) -> None:
        print(f"epoch {self.current_epoch + 1} of {self.trainer.max_epochs}", flush=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.SGD(
            self.parameters(), RATE, momentum=0.9, nesterov=True, weight_decay=DECAY
        )
        steps = int(self.trainer.estimated_stepping_batches)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def load_unseen(path: str | Path) -> FrozenClassifier:
    """The classifier that ``python -m experiments.network unseen`` has trained, frozen.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not of a `SmallVGG`.
    """
    return FrozenClassifier(SmallVGG(checkpoint=path))


def train(
    root: Path, out: Path, seed: int, *, epochs: int, batch_size: int, batches: int | None
) -> Record:
    """Train the classifier and write its weights; an interrupted training goes on.

    Args:
        root: a folder with ``train/`` and ``test/``.
        out: the file of the weights.
        seed: of weights, order and shifts.
        epochs: passes over the training images.
        batch_size: images in a batch.
        batches: of an epoch, all without it.

    Returns:
        Its top-1 in percent and the recipe.
    """
    data = load_images(root, seed, batch_size)
    task = UnseenTraining(seed)
    resume = out.with_name(f"{out.name}.resume")
    minutes = fit(task, data, epochs=epochs, batches=batches, folder=resume)
    partial = out.with_name(f"{out.name}.partial")
    torch.save({"state_dict": task.network.state_dict()}, partial)
    partial.replace(out)
    judge = load_unseen(out)
    top1 = {
        f"{split}_top1": accuracy(loader, judge, lambda images: images)["top1"]
        for split, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader()))
    }
    shutil.rmtree(resume, ignore_errors=True)
    return {
        "network": "SmallVGG",
        "parameters": sum(weights.numel() for weights in task.network.parameters()),
        **top1,
        "seed": seed,
        "training_minutes": minutes,
        "optimizer": f"SGD, Nesterov momentum 0.9, one cycle up to {RATE}, weight decay {DECAY}",
        "augmentation": f"mirrored, shifted by up to {SHIFT} pixels, labels smoothed {SMOOTHING}",
    }


def run(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.network unseen",
        description="Train a small VGG on CIFAR-10, which judges palettes made for another one.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--out", type=Path, required=True, help="file for the weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=40, help="a minute of one core each")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--batches", type=int, help="of an epoch; all without it")
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of what was found")
    options = parser.parse_args(argv)
    name = f"unseen-seed{options.seed}"
    kept = options.records / f"{name}.json"
    if kept.exists() and not options.out.exists():
        raise ValueError(
            f"{kept} tells of a training whose weights are not at {options.out}: "
            "name their file, or remove the record to train again"
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    record(
        options.records,
        name,
        lambda: train(
            options.data,
            options.out,
            options.seed,
            epochs=options.epochs,
            batch_size=options.batch_size,
            batches=options.batches,
        ),
        epochs=options.epochs,
        batch_size=options.batch_size,
        batches=options.batches,
    )
