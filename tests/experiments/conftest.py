"""What the tests of the experiments share: the command line in process, and a quiet Lightning."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from experiments.train import ExperimentCLI, main

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
SHARED_DATA = Path(os.environ.get("COLORQUANT_DATA", ROOT.parent / "shared" / "data"))
HERE = Path(__file__).parent

# Lightning's advice about tiny runs, and its own use of what torch and Python have deprecated.
# Everything else stays an error.
LIGHTNING_NOISE = [
    "ignore:.*does not have many workers:UserWarning",
    "ignore:The number of training batches .* is smaller than the logging interval:UserWarning",
    "ignore:Checkpoint directory .* exists and is not empty:UserWarning",
    "ignore:You're resuming from a checkpoint that ended before the epoch ended:UserWarning",
    "ignore:.*isinstance.treespec, LeafSpec.* is deprecated:FutureWarning",
    "ignore:The dirpath has changed from:UserWarning",  # a resumed run has a folder of its own
    r"ignore:[\s\S]*JsonargparseDeprecationWarning:DeprecationWarning",
    r"ignore:[\s\S]* was deprecated in\s+v4\.:DeprecationWarning",  # jsonargparse's
    "ignore:.*use of fork.. may lead to deadlocks:DeprecationWarning",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            for noise in LIGHTNING_NOISE:
                item.add_marker(pytest.mark.filterwarnings(noise))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


Run = Callable[..., ExperimentCLI]


def run_in(folder: Path, command: str, configs: list[str], *arguments: str) -> ExperimentCLI:
    """The command line with the given configs and arguments, its runs under `folder`."""
    files = [f"--config={CONFIGS / name}.yaml" for name in configs]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    place = f"--trainer.logger.init_args.save_dir={folder / 'runs'}"
    return main([command, *files, *quiet, place, *arguments])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run_in` the test's own folder."""
    return partial(run_in, tmp_path)
