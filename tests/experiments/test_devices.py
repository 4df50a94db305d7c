"""Several devices: here two processes on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from colorquant_nn import load_palette
from tests.experiments.conftest import CONFIGS, ROOT


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
    pictures = list(tmp_path.rglob("palette-001.gpl"))
    assert len(pictures) == 1
    assert load_palette(pictures[0]).shape == (16, 3)
