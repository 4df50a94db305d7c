"""Runs code in an interpreter of its own."""

import os
import subprocess
import sys
from pathlib import Path

import colorquant_nn.kernels

ROOT = Path(colorquant_nn.kernels.__file__).parents[2]


def run_python(code, directory=ROOT, **environment):
    """Standard output of a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
