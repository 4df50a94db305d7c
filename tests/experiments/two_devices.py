"""A Lightning run on two processes of the CPU that writes down each rank's state."""

import os
import sys
import warnings

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from experiments.examples.own_module import Painter


class Save(pl.Callback):
    """Writes the quantizer's state to ``<rank>.pt``."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        state = pl_module.quantizer.state_dict()
        torch.save(state, f"{sys.argv[1]}/{trainer.global_rank}.pt")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    pl.seed_everything(0, verbose=False)
    images = torch.rand(36, 3, 8, 8) * torch.linspace(0.2, 1, 36)[:, None, None, None]
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork",  # one import for both
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[Save()],
    )
    trainer.fit(Painter(), DataLoader(images, batch_size=4, shuffle=True), DataLoader(images[:4]))
