"""A Lightning run on two processes of the CPU that writes down each rank's palette and batches."""

import os
import sys
import warnings

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from experiments.examples.own_module import Painter

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
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Painter()
    trainer.fit(model, DataLoader(images, batch_size=4, shuffle=True), DataLoader(images[:4]))
    layer = model.quantizer
    torch.save(
        {"centroids": layer.centroids, "counts": layer.counts, "batches": layer._batches},
        f"{sys.argv[1]}/{trainer.global_rank}.pt",
    )
