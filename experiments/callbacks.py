"""What a run leaves behind for people: pictures, palettes, a curve, a reference, a closing line."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn
from sklearn.cluster import KMeans
from torch import Tensor
from torchmetrics import MeanMetric

from colorquant_nn import ColorHistogram, ColorQuantize, palette_swatch, save_palette
from colorquant_nn.functional.fitting import dark_to_light
from experiments.data import ImageData
from experiments.figures import STAGE_NAMES, error_curve, image_grid
from experiments.tasks import QuantizerTask, Stage

Curve = list[tuple[int, float]]  # (step, MSE)
KMEANS = "kmeans_mse"
KMEANS_LABEL = (
    f"full k-means, fitted to the training images and judged on the same {{stage}} images: "
    f"MSE {{{KMEANS}:.5f}}"
)


class Pictures(pl.Callback):
    """Saves, after each validation, images before and after, and the palette.

    In the run's folder, under ``pictures/``: ``comparison-003.png`` and, of a shared palette,
    ``palette-003.png`` and ``palette-003.gpl``, numbered by epoch. A TensorBoard logger gets them
    too.

    Args:
        num_images: how many of the first validation batch.
        every_n_epochs: pause between the pictures; the last epoch always has one.

    Raises:
        ValueError: at the start of a run, if the module has no method ``pictures``.
    """

    def __init__(self, num_images: int = 4, every_n_epochs: int = 1) -> None:
        self.num_images = num_images
        self.every_n_epochs = every_n_epochs
        self.images: Tensor | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if not callable(getattr(pl_module, "pictures", None)):
            raise ValueError(
                "expected a module with a method pictures(images) -> dict of captions to images "
                f"(B, 3, H, W), the originals first, got {type(pl_module).__name__} without one"
            )

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
            columns = cast(QuantizerTask, pl_module).pictures(self.images)  # as setup has seen
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


class Summary(pl.Callback):
    """Remembers the MSE over the run, also over a resume, draws it, and prints a closing line.

    Args:
        every_n_steps: pause between the training batches that are looked at; on a GPU each look
            waits for the device.

    Attributes:
        steps: of training batches.
        epochs: of validation.

    Raises:
        ValueError: at the start of a run, if the module is no `QuantizerTask`.
    """

    def __init__(self, every_n_steps: int = 5) -> None:
        self.every_n_steps = every_n_steps
        self.steps: Curve = []
        self.epochs: Curve = []
        self.fitting = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        as_task(pl_module, self)
        self.fitting = stage == "fit"

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if trainer.global_step % self.every_n_steps == 0:
            mse = trainer.callback_metrics["train_mse_step"].item()
            self.steps.append((trainer.global_step, mse))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self.epochs.append((trainer.global_step, trainer.callback_metrics["val_mse"].item()))

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.fitting:  # the test of an earlier checkpoint turns nothing back
            self.steps = list(state_dict["steps"])
            self.epochs = list(state_dict["epochs"])

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        folder = pictures_folder(trainer)
        if trainer.is_global_zero:
            logged = trainer.callback_metrics
            names = {stage: f"{stage}_{KMEANS}" for stage in ("train", "val")}
            references = {s: logged[name].item() for s, name in names.items() if name in logged}
            folder.mkdir(parents=True, exist_ok=True)
            error_curve(self.steps, self.epochs, references).save(folder / "curve.png")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Later than the ends of fit, validate and test, after which Lightning prints its table.
        folder = pictures_folder(trainer)
        if trainer.is_global_zero:
            ends: Stage = "test" if stage == "test" else "val"
            values = {name: value.item() for name, value in trainer.callback_metrics.items()}
            labels = list(as_task(pl_module, self).labels)
            if trainer.ckpt_path and not self.fitting:
                labels.append(f"weights of {Path(trainer.ckpt_path).name}")
            print(closing_line(ends, labels, values, folder))


class KMeansReference(pl.Callback):
    """Logs, next to the task's own MSE, that of full k-means of the training images.

    The palette is scikit-learn's k-means on all pixels of the images that a training epoch takes,
    whole and each once: what the task's crops of any number of epochs are cut from, so that neither
    a longer run nor a resume shows the task more than the reference has seen. It is found before
    the first batch and kept in the checkpoints. It is measured on the very batches that the task
    sees: ``train_kmeans_mse``, ``val_kmeans_mse`` and ``test_kmeans_mse``. Of another data module
    than `ImageData`, it is fitted to the batches of one epoch.

    Args:
        num_starts: how many starts the best of is taken.
        max_images: look at no more training images than these, spread evenly.
        seed: of the starts.

    Raises:
        ValueError: at the start of a run, if the module is no `QuantizerTask`.
    """

    def __init__(self, num_starts: int = 3, max_images: int | None = None, seed: int = 0) -> None:
        self.num_starts = num_starts
        self.max_images = max_images
        self.seed = seed
        self.palette: Tensor | None = None
        self.quantizer: ColorQuantize | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        task = as_task(pl_module, self)
        if KMEANS not in task.metric_names:
            task.add_metrics(KMEANS, MeanMetric, KMEANS_LABEL)

    def _prepare(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.sanity_checking or self.quantizer is not None:
            return
        if self.palette is None:
            if data is None:  # bare loaders: there may be no training data to look at
                return
            if isinstance(data, ImageData):
                images = data.whole_images(self.max_images)
            else:
                data.setup("fit")  # validate and test have set up their own split only
                images = (images for images, *_ in data.train_dataloader())
            histogram = ColorHistogram().update(images)
            if trainer.world_size > 1:  # every rank has seen its own images
                histogram.all_reduce()
            num_colors = as_task(pl_module, self).quantizer.num_colors
            self.palette = kmeans_palette(histogram, num_colors, self.num_starts, self.seed)
        self.quantizer = ColorQuantize.from_palette(self.palette).to(pl_module.device).eval()

    @torch.no_grad()
    def _measure(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self.quantizer is not None and not trainer.sanity_checking:
            assert trainer.state.stage is not None
            stage = cast(Stage, trainer.state.stage.dataloader_prefix)
            mse = self.quantizer.quantize(batch[0]).mse
            as_task(pl_module, self).metric(stage, KMEANS).update(mse, len(batch[0]))

    on_train_start = on_validation_start = on_test_start = _prepare
    on_train_batch_end = on_validation_batch_end = on_test_batch_end = _measure

    def state_dict(self) -> dict[str, Any]:
        return {"palette": self.palette}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.palette = state_dict["palette"]


def kmeans_palette(
    histogram: ColorHistogram, num_colors: int, num_starts: int = 3, seed: int = 0
) -> Tensor:
    """scikit-learn's k-means on the weighted means of a histogram's occupied cells.

    Args:
        histogram: of the pixels.
        num_colors: rows of the palette; fewer where fewer cells are occupied.
        num_starts: the best of these is taken.
        seed: of the starts.

    Returns:
        (num_colors, 3) float32 palette.

    Examples:
        >>> import torch
        >>> from colorquant_nn import ColorHistogram
        >>> from experiments.callbacks import kmeans_palette
        >>> black_and_white = torch.tensor([0.0, 1.0]).expand(3, 1, 2)
        >>> kmeans_palette(ColorHistogram().update(black_and_white), 2).sort(dim=0).values
        tensor([[0., 0., 0.],
                [1., 1., 1.]])
    """
    cells = histogram.colors()
    means, weights = cells.colors.double().numpy(), cells.weights.numpy()
    search = KMeans(min(num_colors, len(means)), n_init=num_starts, random_state=seed)
    palette = search.fit(means, sample_weight=weights).cluster_centers_
    return torch.from_numpy(np.clip(palette, 0, 1).astype(np.float32))


def closing_line(
    stage: Stage, labels: Sequence[str], values: Mapping[str, float], folder: Path
) -> str:
    """One sentence on a run's outcome.

    Args:
        stage: that the run ended with.
        labels: of the task's metrics, with ``{stage}`` for its name; those whose values were not
            logged are left out.
        values: what was logged, by stage and name.
        folder: of the pictures.

    Examples:
        >>> from pathlib import Path
        >>> from experiments.callbacks import closing_line
        >>> labels = ["MSE {mse:.5f} with 16 colours", "k-means: MSE {kmeans_mse:.5f}"]
        >>> values = {"train_mse": 0.2, "val_mse": 0.0031, "val_kmeans_mse": 0.003}
        >>> closing_line("val", labels, values, Path("runs"))
        'validation MSE 0.00310 with 16 colours; k-means: MSE 0.00300; pictures in runs'
    """
    own: dict[str, float | str] = {
        name.removeprefix(f"{stage}_"): v for name, v in values.items() if name.startswith(stage)
    }
    own["stage"] = STAGE_NAMES[stage]
    parts = []
    for label in labels:
        with suppress(KeyError):
            parts.append(label.format_map(own))
    return f"{STAGE_NAMES[stage]} " + "; ".join([*parts, f"pictures in {folder}"])


def as_task(pl_module: pl.LightningModule, callback: pl.Callback) -> QuantizerTask:
    """The module, if it is a task of the experiments, whose metrics and labels a callback needs."""
    if not isinstance(pl_module, QuantizerTask):
        raise ValueError(
            f"expected a QuantizerTask of experiments.tasks for {type(callback).__name__}, "
            f"got {type(pl_module).__name__}"
        )
    return pl_module


def pictures_folder(trainer: pl.Trainer) -> Path:
    """Where a run's pictures go; to be asked on every rank, as Lightning broadcasts the answer."""
    return Path(trainer.log_dir or trainer.default_root_dir) / "pictures"


def shared_palette(pl_module: pl.LightningModule) -> Tensor | None:
    """The palette of a module's `quantizer`, dark to light, or None if it has no such palette."""
    palette = getattr(getattr(pl_module, "quantizer", None), "palette", None)
    if palette is None:
        return None
    return dark_to_light(palette.detach().float().cpu())


def show(trainer: pl.Trainer, name: str, picture: Image.Image) -> None:
    """Give a picture to the TensorBoard loggers."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            pixels = np.asarray(picture.convert("RGB"))
            logger.experiment.add_image(name, pixels, trainer.global_step, dataformats="HWC")
