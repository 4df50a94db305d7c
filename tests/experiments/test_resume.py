"""A run that is killed and resumed reaches what the run that was not reaches, bit for bit."""

import multiprocessing
import signal
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.callbacks import Summary
from experiments.train import ExperimentCLI
from tests.experiments.conftest import Run, Smoke, run_in
from tests.helpers import start_method


def assert_equal_states(one: ExperimentCLI, other: ExperimentCLI) -> None:
    states = [cli.model.state_dict() for cli in (one, other)]
    assert states[0].keys() == states[1].keys()
    assert "quantizer.centroids" in states[0]
    for name, value in states[0].items():
        if isinstance(value, Tensor):
            assert torch.equal(value, states[1][name]), name


def summary(cli: ExperimentCLI) -> Summary:
    (callback,) = [c for c in cli.trainer.callbacks if isinstance(c, Summary)]
    return callback


@pytest.fixture(scope="module")
def killed_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a run with two workers that is killed in the second of two epochs."""
    folder = tmp_path_factory.mktemp("killed")
    kill = folder / "kill.yaml"
    kill.write_text("trainer:\n  callbacks+: [class_path: tests.experiments.kill.Kill]\n")
    arguments = [f"--config={kill}", "--data.init_args.num_workers=2"]
    process = multiprocessing.get_context(start_method()).Process(
        target=run_in, args=(folder, "fit", ["base", "smoke"], *arguments)
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (checkpoint,) = (folder / "runs").rglob("last.ckpt")
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 0
    return checkpoint


@pytest.mark.parametrize("num_workers", [0, 2])
def test_killed_run_resumes_bit_exactly(
    num_workers: int, run: Run, killed_checkpoint: Path, smoke: Smoke
) -> None:
    workers = f"--data.init_args.num_workers={num_workers}"
    resumed = run("fit", ["base", "smoke"], workers, f"--ckpt_path={killed_checkpoint}")
    assert_equal_states(resumed, smoke.cli)
    for name in ("val_mse", "train_mse"):
        value = resumed.trainer.callback_metrics[name]
        assert value == smoke.cli.trainer.callback_metrics[name]
    assert len(summary(resumed).epochs) == 2
    assert summary(resumed).epochs == summary(smoke.cli).epochs
    assert summary(resumed).steps == summary(smoke.cli).steps


def test_network_and_optimizer_resume_bit_exactly(run: Run) -> None:
    configs = ["base", "autoencoder", "smoke"]
    tiny = (
        "--model.init_args.encoder.init_args.channels=4",
        "--model.init_args.decoder.init_args.channels=4",
        "--data.init_args.crop_size=8",
        "--data.init_args.val_crop_size=8",
        "--data.init_args.train_crops=8",
    )
    half = run("fit", configs, *tiny, "--trainer.max_epochs=1")
    checkpoint = half.trainer.checkpoint_callback.last_model_path
    resumed = run("fit", configs, *tiny, f"--ckpt_path={checkpoint}")
    whole = run("fit", configs, *tiny)
    assert_equal_states(resumed, whole)
