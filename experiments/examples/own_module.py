"""The layer inside a LightningModule of your own: a small autoencoder that paints in 8 colours.

Run ``python -m experiments.examples.own_module``. The palette is saved and restored with the
module, and learns in `training_step` alone, as BatchNorm's statistics do. With
``accumulate_grad_batches`` take `DeferredColorQuantize` and call ``commit()`` after each optimizer
step.
"""

import argparse
from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from colorquant_nn import ColorQuantize


class Painter(pl.LightningModule):
    """A convolution that prepares images for a palette which is learnt at the same time."""

    def __init__(self, num_colors: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.prepare = nn.Conv2d(3, 3, 3, padding=1)
        self.quantizer = ColorQuantize(num_colors)

    def forward(self, images: Tensor) -> Tensor:
        return self.quantizer(self.prepare(images))  # type: ignore[no-any-return]

    def training_step(self, images: Tensor, batch_idx: int) -> Tensor:
        result = self.quantizer.quantize(self.prepare(images))
        error = nn.functional.mse_loss(result.values, images)
        self.log("train_mse", error)
        return error + result.commitment  # holds the prepared colours to the palette's

    def validation_step(self, images: Tensor, batch_idx: int) -> None:
        self.log("val_mse", nn.functional.mse_loss(self(images), images))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def batches(images: Tensor, shuffle: bool = False) -> DataLoader[Tensor]:
    """Eight images at a time; a tensor is data set enough."""
    return DataLoader(images, batch_size=8, shuffle=shuffle)  # type: ignore[arg-type]


def main(arguments: Sequence[str] | None = None) -> pl.Trainer:
    """Train on random images; a real run takes a DataLoader of photographs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args(arguments)
    pl.seed_everything(0)
    images = torch.rand(64, 3, 16, 16).pow(2)
    trainer = pl.Trainer(
        max_epochs=options.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,  # there is nothing to validate before the palette has learnt
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    train, val = images[:48], images[48:]
    trainer.fit(Painter(), batches(train, shuffle=True), batches(val))
    print(f"validation MSE {trainer.callback_metrics['val_mse'].item():.5f}")
    return trainer


if __name__ == "__main__":
    main()
