"""The command line of the experiments: Lightning's, with the data and the task by class path."""

import sys
import warnings
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from experiments.data import ImageData


class ExperimentCLI(LightningCLI):
    """`LightningCLI` in which the data's order and crops follow `seed_everything`.

    After ``fit`` follows the test, if the data set has test images, of the checkpoint that the
    validation chose (of the last weights, where none was written).

    Attributes:
        logged: after ``fit``, the values of training, validation and test, by stage and name.
    """

    logged: dict[str, float]

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Without ``predict``: a task has nothing to predict that its pictures do not show."""
        known = LightningCLI.subcommands()
        return {name: known[name] for name in ("fit", "validate", "test")}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        super().parse_arguments(parser, args)
        check_checkpoint(self.config[self.config.subcommand].get("ckpt_path"))

    def after_fit(self) -> None:
        self.logged = logged_values(self.trainer)
        if isinstance(self.datamodule, ImageData) and self.datamodule.has_test():
            best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
            self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best or None)
            self.logged |= logged_values(self.trainer)


def logged_values(trainer: pl.Trainer) -> dict[str, float]:
    """What the trainer's last call logged, by name."""
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def check_checkpoint(path: str | None) -> None:
    """Refuse a file that is no checkpoint of a run; a missing one Lightning names itself."""
    if path is None or not Path(path).is_file():
        return
    expected = f"expected a checkpoint of a run (such as checkpoints/last.ckpt), got {path}"
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{expected}, which torch.save has not written")
    with suppress(UnpicklingError):  # of more than tensors: Lightning's to judge
        if "pytorch-lightning_version" not in torch.load(path, "cpu", weights_only=True):
            raise ValueError(f"{expected}, which holds something else")


def main(arguments: Sequence[str] | None = None) -> ExperimentCLI:
    """Run ``fit``, ``validate`` or ``test`` as the arguments and configs say.

    Args:
        arguments: those of the command line; by default the process's own.

    Returns:
        The finished command line, with its `trainer`, `model` and `datamodule`.

    Raises:
        ValueError: an argument is out of range, or the data or a checkpoint is not what it says.
        OSError: data or a file is missing.
        ModuleNotFoundError: a package is, which the configs ask for.
    """
    with warnings.catch_warnings():
        # A task without weights counts its steps itself; an optimizer in the config replaces that.
        warnings.filterwarnings("ignore", ".*configure_optimizers` will be overridden by.*")
        # Arguments are given on purpose, whatever the process's own are.
        warnings.filterwarnings("ignore", "LightningCLI's args parameter is intended to run.*")
        # Lightning with the newest torch: its own affair.
        warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
        return ExperimentCLI(
            pl.LightningModule,
            pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            args=None if arguments is None else list(arguments),
        )


def run() -> None:
    """`main` for people: what a user got wrong is one line on stderr, and exit code 2."""
    try:
        main()
    except (ValueError, OSError, ModuleNotFoundError, MisconfigurationException) as error:
        lines = [line.strip() for line in str(error).strip().splitlines()]
        if "Traceback" in str(error):  # from a worker of the data loader: the error comes last
            lines = lines[-1:]
        elif "Errors:" in lines:  # from a class in a config: jsonargparse tells all around it
            lines = [lines[lines.index("Errors:") + 1].removeprefix("- ")]
        print("error:", " ".join(lines), file=sys.stderr)
        sys.exit(2)
