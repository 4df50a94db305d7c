"""A callback that ends a run in the middle of an epoch."""

import os
import signal
from typing import Any

import pytorch_lightning as pl


class Kill(pl.Callback):
    """Kills its process, as a power cut would, at the second batch of the second epoch."""

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == (1, 1):
            os.kill(os.getpid(), signal.SIGKILL)
