"""Compiled kernels on disk: when they are found, when they are out of date, where they go."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.helpers import ROOT, run_python

LOOK_UP = """
import torch
from colorquant_nn.kernels import lookup  # whose kernel compiles fastest
assert torch.equal(lookup(torch.eye(3)[None], torch.tensor([[0, 2]])), torch.eye(3)[None, [0, 2]])
"""


# In one fork after the other, which need not import anew what does not change.
REPEATED = f"""
import os, sys
import numba, torch
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        exec({LOOK_UP!r})
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def package(tmp_path):
    """A copy, which a test may change."""
    shutil.copytree(
        ROOT / "colorquant_nn",
        tmp_path / "site" / "colorquant_nn",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    return tmp_path / "site" / "colorquant_nn"


def stored(folder):
    """The compiled kernels in a folder, and when they were written."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*.nbc")}


def test_kernels_are_stored_and_compiled_anew_when_any_of_their_files_changes(tmp_path, package):
    cache = tmp_path / "cache"
    environment = {"PYTHONPATH": str(package.parent), "NUMBA_CACHE_DIR": str(cache)}
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", REPEATED],
        cwd=tmp_path,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def look_up():
            print(file=process.stdin, flush=True)
            assert process.stdout.readline() == "0\n"

        check_stored(look_up, cache, package)


def check_stored(look_up, cache, package):
    look_up()
    first = stored(cache)
    assert first
    look_up()
    assert stored(cache) == first
    with (package / "kernels" / "cpu" / "grid.py").open("a") as other:
        other.write("# another file than the kernel's\n")
    look_up()
    second = stored(cache)
    assert second != first
    for file in second:  # damaged, it is compiled anew too
        file.write_bytes(file.read_bytes()[:20])
    look_up()
    assert any(file.stat().st_size > 20 for file in second)


@pytest.mark.parametrize("home", [pytest.param("can be written", marks=pytest.mark.slow), "cannot"])
def test_an_install_that_cannot_be_written(tmp_path, package, home):
    (package / "kernels" / "cpu" / "__pycache__").write_text("a file where a directory should be")
    elsewhere = tmp_path / "home"
    if home == "cannot":
        elsewhere.write_text("not a directory")
    else:
        elsewhere.mkdir()
    run_python(
        LOOK_UP,
        tmp_path,
        PYTHONPATH=str(package.parent),
        HOME=str(elsewhere),
        XDG_CACHE_HOME=str(elsewhere),
        PYTHONDONTWRITEBYTECODE="1",
        NUMBA_CACHE_DIR="",
    )
    assert bool(stored(elsewhere)) == (home == "can be written")


def test_without_a_compiler_the_reason_is_named():
    code = """
import torch
from colorquant_nn.kernels import lookup
try:
    lookup(torch.eye(3)[None], torch.tensor([[0, 2]]))
except ImportError as error:
    print(error)
"""
    assert "unset NUMBA_DISABLE_JIT" in run_python(code, NUMBA_DISABLE_JIT="1")
