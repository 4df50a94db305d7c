"""A classifier of another architecture that no palette was made for: what transfers, it tells."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from experiments.models import SmallVGG, save_weights
from experiments.network.classifier import RECIPE, ClassifierTraining
from experiments.network.judges import FrozenClassifier, accuracy, load_images
from experiments.network.records import RECORDS, Record, record
from experiments.network.training import fit


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
    task = ClassifierTraining(SmallVGG, seed)
    resume = out.with_name(f"{out.name}.resume")
    minutes = fit(task, data, epochs=epochs, batches=batches, folder=resume)
    save_weights({"state_dict": task.network.state_dict()}, out)
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
        "recipe": RECIPE,
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
