"""The head of ColorCNN at our size: a peer of the palettes that we choose, built from its paper.

Letters: B images, K colours, H rows, W columns.

Hou, Zheng and Gould, Learning to structure an image with few colors (2020), train soft and test
hard: a softmax over K channels mixes each pixel of the K colours, and at the end the arg max takes
its place. Their U-Net of 13 million parameters is ours of a tenth of a million here.
"""

import argparse
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchvision.transforms.v2 import Normalize

from experiments.data import ImageData
from experiments.figures import interval_text
from experiments.models import UNet, load_weights, save_weights
from experiments.network.judges import (
    MEAN,
    STD,
    FrozenClassifier,
    accuracy,
    load_images,
    load_judge,
    reorder,
)
from experiments.network.records import RECORDS, Record, record
from experiments.network.training import fit, shifted

GAMMA, JITTER = 1.0, 1.0  # weights of regularization and jitter, as in the authors' program
CYCLES = 3  # of the learning rate, as in the authors' program: 60 epochs in three


class Recipe(NamedTuple):
    """What the trials at four colours choose from."""

    optimizer: str
    rate: float
    contrast: float  # of the colours in training


# The authors' optimizer, and Adam; the colours as they are, and as in the authors' program, which
# divides them by four in training (about the data's mean, for CIFAR) and not in the test.
RECIPES = {
    "sgd": Recipe("SGD", 0.01, 1.0),
    "sgd-quarter": Recipe("SGD", 0.01, 0.25),
    "adam": Recipe("Adam", 0.002, 1.0),
    "adam-quarter": Recipe("Adam", 0.002, 0.25),
}
TRIAL_COLORS = 4


class ColorCNN(nn.Module):
    """Images in the K colours that a small network has chosen for each of them.

    The features of a U-Net, two 1 x 1 convolutions and a softmax give each pixel its shares in the
    colours; a colour is the mean of the pixels by their shares.

    Args:
        num_colors: K; a model is made for one.

    Returns:
        Of images (B, 3, H, W) in [0, 1] the same shape, each pixel in the colour of which it has
        the largest share, which is the mean of such pixels.

    References:
        Hou et al., Learning to structure an image with few colors (2020).

    Examples:
        >>> import torch
        >>> from experiments.network.color_cnn import ColorCNN
        >>> few = ColorCNN(4)(torch.rand(2, 3, 32, 32))
        >>> few.shape, len(few[0].flatten(1).T.unique(dim=0)) <= 4
        (torch.Size([2, 3, 32, 32]), True)
    """

    def __init__(self, num_colors: int) -> None:
        super().__init__()
        channels, hidden = 16, 64  # four times as many in the head, as theirs
        self.num_colors = num_colors
        self.normalize = Normalize(MEAN, STD)
        self.backbone = UNet(channels)
        self.backbone.head = nn.Identity()  # type: ignore[assignment]
        self.head = nn.Sequential(
            nn.Conv2d(channels, hidden, kernel_size=1),
            nn.ReLU(),
            nn.Conv2d(hidden, num_colors, kernel_size=1, bias=False),
        )

    def forward(self, images: Tensor) -> Tensor:
        chosen = self.shares(images).argmax(1)
        return mixed(images, nn.functional.one_hot(chosen, self.num_colors).movedim(3, 1).float())

    def shares(self, images: Tensor) -> Tensor:
        """Of each pixel in each colour: (B, K, H, W), the sum over K is one."""
        normalized = self.normalize(images).contiguous(memory_format=torch.channels_last)
        return self.head(self.backbone.features(normalized)).float().softmax(1)

    def soft(self, images: Tensor) -> Tensor:
        """The images as the training mixes them, in more than K colours."""
        return mixed(images, self.shares(images))


def mixed(images: Tensor, shares: Tensor) -> Tensor:
    """Pixels mixed of K colours by their shares, each colour the mean of the pixels by the same.

    Args:
        images: (B, 3, H, W).
        shares: (B, K, H, W).
    """
    totals = shares.sum((2, 3)).clamp_min(1e-8)  # a colour of no pixel is black and in no pixel
    palettes = torch.einsum("bchw,bkhw->bkc", images, shares) / totals[..., None]
    return torch.einsum("bkc,bkhw->bchw", palettes, shares)


def undecided(shares: Tensor) -> Tensor:
    """The regularization: log2 K times how much the largest share in each colour lacks to one.

    Args:
        shares: (B, K, H, W).

    Returns:
        The mean over colours and images, in [0, log2 K].

    References:
        Hou et al., Learning to structure an image with few colors (2020): R.
    """
    return math.log2(shares.shape[1]) * (1 - shares.amax((2, 3)).mean())


class ColorCNNTraining(pl.LightningModule):
    """ColorCNN by the loss of a frozen classifier that sees its soft colours.

    Args:
        num_colors: K.
        judge: the classifier.
        recipe: optimizer, learning rate and contrast.
        seed: of the weights and the jitter.
        compiled: whether the network is, which saves a fifth of a step and takes half a minute.
    """

    def __init__(
        self,
        num_colors: int,
        judge: FrozenClassifier,
        recipe: Recipe,
        seed: int,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = ColorCNN(num_colors).to(memory_format=torch.channels_last)
        shares = self.model.shares
        self.shares: Callable[[Tensor], Tensor] = torch.compile(shares) if compiled else shares
        self.judge = judge
        self.recipe = recipe
        self.seed = seed

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        # Of the step alone, so that a training that goes on draws what it would have drawn.
        draws = torch.Generator().manual_seed(self.seed * 1_000_000 + self.global_step)
        images = shifted(images, draws)
        with torch.autocast(images.device.type, torch.bfloat16):
            shares = self.shares(images)
        mean, std = (torch.tensor(x, device=images.device)[:, None, None] for x in (MEAN, STD))
        few = mean + self.recipe.contrast * (mixed(images, shares) - mean)
        # One number for all, in the units of the normalized images: so the authors' program.
        jittered = few + JITTER * torch.randn((), generator=draws) * std
        loss = nn.functional.cross_entropy(self.judge.fast(jittered), labels)
        return loss + GAMMA * undecided(shares)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        weights = self.model.parameters()
        optimizer: torch.optim.Optimizer
        if self.recipe.optimizer == "SGD":
            optimizer = torch.optim.SGD(weights, self.recipe.rate, 0.5, weight_decay=5e-4)
        else:
            optimizer = torch.optim.Adam(weights, self.recipe.rate)
        period = math.ceil(self.trainer.estimated_stepping_batches / CYCLES)
        cosine = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, period)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}


def train(
    training: ColorCNNTraining,
    data: ImageData,
    epochs: int,
    batches: int | None,
    folder: Path | None = None,
) -> Record:
    """Train a model, and say what the validation images say of it.

    Args:
        training: the model and its recipe.
        data: the images.
        epochs: passes over the training images.
        batches: of an epoch, all without it.
        folder: of the state of an unfinished training.
    """
    minutes = fit(training, data, epochs=epochs, batches=batches, folder=folder)
    val = accuracy(data.val_dataloader(), training.judge, training.model)
    return {
        "num_colors": training.model.num_colors,
        "parameters": sum(weights.numel() for weights in training.model.parameters()),
        **training.recipe._asdict(),
        "training_minutes": minutes,
        "seed": training.seed,
        "val_top1": val["top1"],
    }


def train_and_judge(
    training: ColorCNNTraining, data: ImageData, epochs: int, batches: int | None, weights: Path
) -> Record:
    """Train a model, keep its weights, and say what the test images say of it.

    Args:
        training: the model and its recipe.
        data: the images.
        epochs: passes over the training images.
        batches: of an epoch, all without it.
        weights: the file to write.
    """
    unfinished = weights.with_suffix(".unfinished")
    found = train(training, data, epochs, batches, unfinished)
    model, judge = training.model, training.judge
    save_weights({"state_dict": model.state_dict()}, weights)
    found |= accuracy(data.test_dataloader(), judge, model)
    found["soft_top1"] = accuracy(data.test_dataloader(), judge, model.soft)["top1"]
    found["colors_used"] = colors_used(model, data)
    shutil.rmtree(unfinished, ignore_errors=True)
    return found


def load(num_colors: int, weights: Path) -> ColorCNN:
    """A trained model, frozen.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not of a `ColorCNN` of so many colours.
    """
    model = ColorCNN(num_colors)
    load_weights(model, weights)
    return model.eval()


@torch.no_grad()
def colors_used(model: ColorCNN, data: ImageData) -> float:
    """How many of its K colours a test image has, on average: some may be of no pixel."""
    numbers = [
        nn.functional.one_hot(model.shares(images).argmax(1), model.num_colors).amax((1, 2)).sum(1)
        for images, _ in data.test_dataloader()
    ]
    return torch.cat(numbers).float().mean().item()


def run(argv: Sequence[str] | None = None) -> None:
    """The command line: the trials at four colours, then the runs."""
    options = parse(argv)
    judge = load_judge(options.checkpoint, options.compiled)
    data = load_images(options.data)
    options.weights.mkdir(parents=True, exist_ok=True)

    def training(num_colors: int, recipe: Recipe, seed: int) -> ColorCNNTraining:
        return ColorCNNTraining(num_colors, judge, recipe, seed, options.compiled)

    trials: dict[str, float] = {}
    for name, recipe in RECIPES.items():
        task = training(TRIAL_COLORS, recipe, 0)
        trial = partial(train, task, data, options.trial_epochs, options.batches)
        settings = {"epochs": options.trial_epochs, "batches": options.batches}
        found = record(options.records, f"color_cnn-trial-{name}", trial, **settings)
        trials[name] = found["val_top1"]
    best = RECIPES[max(trials, key=lambda name: trials[name])]
    for seed in options.seeds:
        reorder(data, seed)
        for num_colors in options.colors:
            name = f"color_cnn-{num_colors}-seed{seed}"
            weights = options.weights / f"{name}.pt"
            task = training(num_colors, best, seed)
            run_once = partial(
                train_and_judge, task, data, options.epochs, options.batches, weights
            )
            settings = {"epochs": options.epochs, "batches": options.batches}
            record(options.records, name, run_once, **settings)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.network color_cnn",
        description="Train the head of ColorCNN at our size, a model for each number of colours.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--checkpoint", type=Path, required=True, help="of the ResNet-20")
    parser.add_argument("--weights", type=Path, required=True, help="folder for the models")
    parser.add_argument("--colors", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=12, help="20 minutes of one core for each K")
    parser.add_argument("--trial-epochs", type=int, default=3, help="of each of the four recipes")
    parser.add_argument("--batches", type=int, help="of an epoch; all without it")
    parser.add_argument("--compiled", action="store_true", help="faster steps after a slow start")
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of what was found")
    options = parser.parse_args(argv)
    if min(options.colors) < 2:
        raise ValueError(f"expected two colours or more, got {min(options.colors)}")
    return options


def rows(found: Mapping[str, Record]) -> list[dict[str, str]]:
    """The table of what was found, a row for each number of colours, over the seeds.

    Args:
        found: the records by name, as `experiments.network.records.records` reads them.

    Returns:
        For `experiments.figures.markdown_table`.
    """
    runs: dict[int, list[Record]] = {}
    for name, values in found.items():
        if name.startswith("color_cnn-") and "soft_top1" in values:
            runs.setdefault(values["num_colors"], []).append(values)
    columns = {
        "top-1 (%)": ("top1", 2),
        "top-1 of its soft colours (%)": ("soft_top1", 2),
        "MSE": ("mse", 5),
        "eye error": ("eye_error", 2),
        "colours used": ("colors_used", 2),
    }
    table = []
    for num_colors, seeds in sorted(runs.items()):
        row = {"colours": str(num_colors)}
        for column, (key, digits) in columns.items():
            known = [float(seed[key]) for seed in seeds if key in seed]
            row[column] = interval_text(known, digits) if known else "–"
        table.append(row | {"seeds": str(len(seeds))})
    return table
