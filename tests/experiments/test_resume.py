"""A run that is killed and resumed reaches what the run that was not reaches, bit for bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.train import ExperimentCLI
from tests.experiments.conftest import CONFIGS, ROOT, Run, run_in

EPOCHS = "--trainer.max_epochs=4"


def state(cli: ExperimentCLI) -> dict[str, Any]:
    return {
        name: value
        for name, value in cli.model.state_dict().items()
        if isinstance(value, torch.Tensor)
    }


def assert_equal_states(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert set(one) == set(other)
    assert "quantizer.centroids" in one
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.fixture(scope="module")
def killed_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a run with two workers that is killed in the third of four epochs."""
    folder = tmp_path_factory.mktemp("killed")
    kill = folder / "kill.yaml"
    kill.write_text(
        "trainer:\n"
        "  callbacks+:\n"
        "    - class_path: tests.experiments.interruption.Kill\n"
        "      init_args: {epoch: 2}\n"
    )
    arguments = [
        *(sys.executable, "-m", "experiments", "fit"),
        *(f"--config={CONFIGS / 'base.yaml'}", f"--config={CONFIGS / 'smoke.yaml'}"),
        *(f"--config={kill}", EPOCHS, "--data.init_args.num_workers=2"),
        f"--trainer.logger.init_args.save_dir={folder / 'runs'}",
    ]
    log = folder / "log.txt"  # not a pipe, which the orphaned workers would keep open for a while
    with log.open("w") as stream:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.run(arguments, cwd=ROOT, env=environment, stdout=stream, stderr=stream)
    assert process.returncode == -signal.SIGKILL, log.read_text()
    (checkpoint,) = (folder / "runs").rglob("last.ckpt")
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 1
    return checkpoint


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> ExperimentCLI:
    """The same run, to its end, without workers."""
    return run_in(tmp_path_factory.mktemp("whole"), "fit", ["base", "smoke"], EPOCHS)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_killed_run_resumes_bit_exactly(
    num_workers: int, run: Run, killed_checkpoint: Path, uninterrupted: ExperimentCLI
) -> None:
    workers = f"--data.init_args.num_workers={num_workers}"
    resumed = run("fit", ["base", "smoke"], EPOCHS, workers, f"--ckpt_path={killed_checkpoint}")
    assert_equal_states(state(resumed), state(uninterrupted))
    for name in ("val_mse", "train_mse"):
        value = resumed.trainer.callback_metrics[name]
        assert value == uninterrupted.trainer.callback_metrics[name]


def test_network_and_optimizer_resume_bit_exactly(run: Run, tmp_path: Path) -> None:
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
    assert_equal_states(state(resumed), state(whole))


def test_run_without_weights_writes_a_checkpoint_that_restores_the_palette(run: Run) -> None:
    cli = run("fit", ["base", "smoke"])
    checkpoint = cli.trainer.checkpoint_callback.best_model_path
    restored = run("validate", ["base", "smoke"], f"--ckpt_path={checkpoint}")
    assert_equal_states(state(restored), state(cli))
    assert (
        restored.trainer.callback_metrics["val_mse"]
        == cli.trainer.checkpoint_callback.best_model_score
    )
