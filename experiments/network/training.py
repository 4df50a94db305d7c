"""A training of the study: Lightning's loop, which goes on where it was stopped."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, Timer
from torch import Tensor
from torch.nn import functional

from experiments.data import ImageData

SHIFT = 4  # pixels


def fit(
    task: pl.LightningModule,
    data: ImageData,
    *,
    epochs: int = 1,
    batches: int | None = None,
    folder: Path | None = None,
) -> float:
    """Train a task on the training images; what it logs is the task's own affair.

    Args:
        task: with a ``training_step`` and its optimizer.
        data: of the order that its seed gives.
        epochs: passes over the training images.
        batches: of an epoch, all without it.
        folder: where the state of the last whole epoch is kept while the training goes on; a
            training with the same folder goes on from there. Without it nothing is written.

    Returns:
        The minutes that it took, those before it was stopped, too.
    """
    timer = Timer()
    callbacks: list[pl.Callback] = [timer]
    if folder is not None:
        callbacks.append(ModelCheckpoint(folder, filename="last", enable_version_counter=False))
    last = None if folder is None else folder / "last.ckpt"
    with quiet():
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            limit_train_batches=batches,
            limit_val_batches=0,
            logger=False,
            callbacks=callbacks,
            enable_checkpointing=folder is not None,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty(),
        )
        resumed = str(last) if last is not None and last.exists() else None
        trainer.fit(task, data.train_dataloader(), ckpt_path=resumed)
    return round(timer.time_elapsed() / 60, 2)


def shifted(images: Tensor, draws: torch.Generator, together: bool = False) -> Tensor:
    """Images moved by up to `SHIFT` pixels; what moves in is a reflection.

    Args:
        images: (B, 3, H, W).
        draws: of the shifts.
        together: all by the same shift, and not each by its own.

    Returns:
        The same shape.
    """
    height, width = images.shape[-2:]
    padded = functional.pad(images, (SHIFT,) * 4, mode="reflect")
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    number = 1 if together else len(images)
    top, left = torch.randint(2 * SHIFT + 1, (2, number), generator=draws)
    return windows[torch.arange(len(images)), :, top, left]


@contextmanager
def quiet() -> Iterator[None]:
    """Without what Lightning says of machines, workers and checkpoints at each of many runs."""
    log = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for noise in (
                ".*does not have many workers.*",
                ".*This DataLoader will create .* worker.*",
                ".*Checkpoint directory .* exists and is not empty.*",
                ".*isinstance.treespec, LeafSpec.*",
                ".*is smaller than the logging interval.*",
                ".*in eval mode at the start of training.*",  # a frozen classifier is, on purpose
            ):
                warnings.filterwarnings("ignore", noise)
            yield
    finally:
        log.setLevel(level)
