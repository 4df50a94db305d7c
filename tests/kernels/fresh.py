"""Interpreters of their own, for what a process does once."""

import os
import subprocess
import sys
from pathlib import Path

import colorquant_nn.kernels

ROOT = Path(colorquant_nn.kernels.__file__).parents[2]


def run(*arguments, directory=ROOT, **environment):
    """What became of an interpreter of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_python(code, directory=ROOT, **environment):
    """Standard output of code in an interpreter of its own."""
    done = run("-W", "ignore", "-c", code, directory=directory, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout
