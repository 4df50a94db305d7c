"""What the tests of the experiments share: the command line in process, and a quiet Lightning."""

import io
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from PIL import Image

from experiments import ROOT
from experiments.train import ExperimentCLI, main

CONFIGS = ROOT / "configs"
HERE = Path(__file__).parent

# Lightning's advice about tiny runs, and its own use of what torch and Python have deprecated.
# Everything else stays an error.
LIGHTNING_NOISE = [
    "ignore:.*does not have many workers:UserWarning",
    "ignore:This DataLoader will create .* worker processes:UserWarning",  # on a single core
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


def noise_images(root: Path, train: int, test: int, size: int = 16) -> Path:
    """A folder of images of noise for both splits, so many for each of two classes."""
    for split, number in (("train", train), ("test", test)):
        for label in range(2):
            place = root / "data" / split / str(label)
            place.mkdir(parents=True)
            for index in range(number):
                noise = Image.effect_noise((size, size), 50 * (index % 4 + 1)).convert("RGB")
                noise.save(place / f"{index}.png")
    return root / "data"


Run = Callable[..., ExperimentCLI]


class Smoke(NamedTuple):
    """A run of the smallest config, and what it printed."""

    cli: ExperimentCLI
    printed: str
    checkpoint: str


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Smoke:
    """``fit`` as base.yaml and smoke.yaml say: two epochs. Nobody changes it."""
    with redirect_stdout(io.StringIO()) as printed:
        cli = run_in(tmp_path_factory.mktemp("smoke"), "fit", ["base", "smoke"])
    return Smoke(cli, printed.getvalue(), cli.trainer.checkpoint_callback.last_model_path)


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
