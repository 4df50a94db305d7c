"""The command line of the experiments: Lightning's, with the data and the task by class path."""

import sys
import warnings
from collections.abc import Sequence

import pytorch_lightning as pl
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from experiments.datasets import UnknownDataset


class ExperimentCLI(LightningCLI):
    """`LightningCLI` in which the data's order and crops follow `seed_everything`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)


def main(arguments: Sequence[str] | None = None) -> ExperimentCLI:
    """Run ``fit``, ``validate``, ``test`` or ``predict`` as the arguments and configs say.

    Args:
        arguments: Those of the command line; by default the process's own.

    Returns:
        The finished command line, with its `trainer`, `model` and `datamodule`.
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
    except (FileNotFoundError, UnknownDataset) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
