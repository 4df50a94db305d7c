"""The layer in a LightningModule: on several devices, and under averaging of weights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_avg_fn
from torch.utils.data import DataLoader

from colorquant_nn import load_palette
from experiments import ROOT
from experiments.examples.own_module import Painter
from tests.experiments.conftest import CONFIGS


@pytest.mark.slow
def test_two_devices_have_one_palette(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "tests.experiments.two_devices", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 0, process.stderr
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, value in ranks[0].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(ranks[1][name], value), name
    # Counts are those of both devices: 36 images of 64 pixels in batches of 4, in 2 epochs, and
    # the decay is 0.99.
    steps = torch.tensor([8.0, 8.0, 8.0, 8.0, 4.0] * 2) * 64
    expected = (steps * 0.99 ** torch.arange(9, -1, -1)).sum()
    torch.testing.assert_close(ranks[0]["counts"].sum(), expected, rtol=1e-4, atol=0)


@pytest.mark.slow
def test_two_devices_run_and_write_once(tmp_path: Path) -> None:
    process = subprocess.run(
        [
            *(sys.executable, "-m", "experiments", "fit"),
            *(f"--config={CONFIGS / 'base.yaml'}", f"--config={CONFIGS / 'smoke.yaml'}"),
            *("--trainer.devices=2", "--trainer.strategy=ddp"),
            f"--trainer.logger.init_args.save_dir={tmp_path}",
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    lines = [line for line in process.stdout.splitlines() if line.startswith("validation MSE")]
    assert len(lines) == 1
    (picture,) = tmp_path.rglob("palette-001.gpl")
    assert load_palette(picture).shape == (16, 3)


class Watch(pl.Callback):
    """Notes the palette after each training batch, and that of validation."""

    def __init__(self) -> None:
        self.trained = self.validated = torch.empty(0)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Painter, *_: object) -> None:
        self.trained = pl_module.quantizer.palette

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: Painter, *_: object) -> None:
        self.validated = pl_module.quantizer.palette


@pytest.mark.parametrize("use_buffers", [False, True])
def test_weight_averaging_needs_use_buffers_false(use_buffers: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    images = torch.rand(32, 3, 8, 8)
    watch = Watch()
    averaging = WeightAveraging(use_buffers=use_buffers, avg_fn=get_ema_avg_fn(0.9))
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[averaging, watch],
    )
    model = Painter()
    trainer.fit(model, DataLoader(images, batch_size=4), DataLoader(images[:4]))
    # False: validated with, and left with, the palette of the last step; True, Lightning's
    # default: with a mean of palettes, in which a colour need be nobody's mean.
    assert torch.equal(watch.validated, watch.trained) != use_buffers
    assert torch.equal(model.quantizer.palette, watch.trained) != use_buffers
    trainer.save_checkpoint(tmp_path / "averaged.ckpt")
    loaded = Painter.load_from_checkpoint(tmp_path / "averaged.ckpt")
    assert loaded.quantizer.seeded
    assert torch.equal(loaded.quantizer.palette, model.quantizer.palette)
