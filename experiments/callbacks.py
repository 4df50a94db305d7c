"""What a run leaves behind for people: pictures, palettes, a curve, and a closing line."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from colorquant_nn import palette_swatch, save_palette
from experiments.figures import error_curve, image_grid
from experiments.tasks import QuantizerTask

Curve = list[tuple[int, float]]  # (step, MSE)


class Pictures(pl.Callback):
    """Saves, after each validation, images before and after, and the palette.

    In the run's folder, under ``pictures/``: ``comparison-003.png`` and, of a shared palette,
    ``palette-003.png`` and ``palette-003.gpl``, numbered by epoch. A TensorBoard logger gets them
    too.

    Args:
        num_images: How many of the first validation batch.
        every_n_epochs: Pause between the pictures; the last epoch always has one.
    """

    def __init__(self, num_images: int = 4, every_n_epochs: int = 1) -> None:
        self.num_images = num_images
        self.every_n_epochs = every_n_epochs
        self.images: Tensor | None = None

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx == 0 and not trainer.sanity_checking:
            self.images = batch[0][: self.num_images]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch
        last = trainer.state.fn != TrainerFn.FITTING or epoch + 1 == trainer.max_epochs
        due = last or (epoch + 1) % self.every_n_epochs == 0
        folder = pictures_folder(trainer)  # every rank asks: the answer comes from the first
        if trainer.sanity_checking or not due or self.images is None or not trainer.is_global_zero:
            return
        with torch.no_grad():
            columns = cast(QuantizerTask, pl_module).pictures(self.images)
        palette = shared_palette(pl_module)
        comparison = image_grid(columns, palette)
        folder.mkdir(parents=True, exist_ok=True)
        comparison.save(folder / f"comparison-{epoch:03}.png")
        show(trainer, "comparison", comparison)
        if palette is not None:
            save_palette(folder / f"palette-{epoch:03}.gpl", palette)
            swatch = palette_swatch(palette)
            swatch.save(folder / f"palette-{epoch:03}.png")
            show(trainer, "palette", swatch)


class History(pl.Callback):
    """Remembers the MSE over the run, also over a resume.

    Args:
        every_n_steps: Pause between the training batches that are looked at; on a GPU each look
            waits for the device.

    Attributes:
        steps: Of training batches.
        epochs: Of validation.
    """

    def __init__(self, every_n_steps: int = 5) -> None:
        self.every_n_steps = every_n_steps
        self.steps: Curve = []
        self.epochs: Curve = []

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        due = trainer.global_step % self.every_n_steps == 0
        mse = trainer.callback_metrics.get("train_mse_step") if due else None
        if mse is not None:
            self.steps.append((trainer.global_step, mse.item()))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        mse = trainer.callback_metrics.get("val_mse")
        if (
            mse is not None
            and trainer.state.fn == TrainerFn.FITTING
            and not trainer.sanity_checking
        ):
            self.epochs.append((trainer.global_step, mse.item()))

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps = list(state_dict["steps"])
        self.epochs = list(state_dict["epochs"])


class Summary(History):
    """Draws the MSE over the run, and prints a closing line: what came out, and where it is."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        folder = pictures_folder(trainer)
        if trainer.is_global_zero:
            references = {
                stage: trainer.callback_metrics[f"{stage}_kmeans_mse"].item()
                for stage in ("train", "val")
                if f"{stage}_kmeans_mse" in trainer.callback_metrics
            }
            folder.mkdir(parents=True, exist_ok=True)
            error_curve(self.steps, self.epochs, references).save(folder / "curve.png")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Later than the ends of fit, validate and test, after which Lightning prints its table.
        folder = pictures_folder(trainer)
        if trainer.is_global_zero:
            values = {name: value.item() for name, value in trainer.callback_metrics.items()}
            num_colors = cast(QuantizerTask, pl_module).quantizer.num_colors
            print(closing_line("test" if stage == "test" else "val", values, num_colors, folder))


def closing_line(stage: str, values: dict[str, float], num_colors: int, folder: Path) -> str:
    """One sentence on a run's outcome.

    Args:
        stage: ``"val"`` or ``"test"``.
        values: What was logged.
        num_colors: Of the palette.
        folder: Of the pictures.

    Example:
        >>> values = {"val_mse": 0.0031, "val_psnr": 25.09, "val_kmeans_mse": 0.003}
        >>> print(closing_line("val", values, 16, Path("runs")))
        validation MSE 0.00310 (25.09 dB) with 16 colours; \
full k-means on the same pixels: MSE 0.00300; pictures in runs
    """
    name = {"val": "validation", "test": "test"}[stage]
    parts = []
    if f"{stage}_mse" in values:
        mse, psnr = values[f"{stage}_mse"], values[f"{stage}_psnr"]
        parts.append(f"{name} MSE {mse:.5f} ({psnr:.2f} dB) with {num_colors} colours")
    if f"{stage}_kmeans_mse" in values:
        mse = values[f"{stage}_kmeans_mse"]
        parts.append(f"full k-means on the same pixels: MSE {mse:.5f}")
    if f"{stage}_top1" in values:
        parts.append(f"top-1 {100 * values[f'{stage}_top1']:.2f} %")
    return "; ".join([*parts, f"pictures in {folder}"])


def pictures_folder(trainer: pl.Trainer) -> Path:
    """Where a run's pictures go; to be asked on every rank, as Lightning broadcasts the answer."""
    return Path(trainer.log_dir or trainer.default_root_dir) / "pictures"


def shared_palette(pl_module: pl.LightningModule) -> Tensor | None:
    """The quantizer's palette, dark to light, or None if every image has its own."""
    palette = getattr(pl_module.quantizer, "palette", None)
    if palette is None:
        return None
    palette = palette.detach().float().cpu()
    luma = palette @ torch.tensor([0.299, 0.587, 0.114])
    return palette[luma.argsort()]  # type: ignore[no-any-return]


def show(trainer: pl.Trainer, name: str, picture: Image.Image) -> None:
    """Give a picture to the TensorBoard loggers."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            pixels = np.asarray(picture.convert("RGB"))
            logger.experiment.add_image(name, pixels, trainer.global_step, dataformats="HWC")
