"""Compiled kernels on disk: when they are found, when they are out of date, where they go."""

import shutil

import pytest

from tests.helpers import ROOT, run_python

LOOK_UP = """
import torch
from colorquant_nn.kernels import lookup  # whose kernel compiles fastest
assert torch.equal(lookup(torch.eye(3)[None], torch.tensor([[0, 2]])), torch.eye(3)[None, [0, 2]])
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
    run_python(LOOK_UP, tmp_path, **environment)
    first = stored(cache)
    assert first
    run_python(LOOK_UP, tmp_path, **environment)
    assert stored(cache) == first
    with (package / "kernels" / "cpu" / "grid.py").open("a") as other:
        other.write("# another file than the kernel's\n")
    run_python(LOOK_UP, tmp_path, **environment)
    second = stored(cache)
    assert second != first
    for file in second:  # damaged, it is compiled anew too
        file.write_bytes(file.read_bytes()[:20])
    run_python(LOOK_UP, tmp_path, **environment)
    assert any(file.stat().st_size > 20 for file in second)


@pytest.mark.parametrize("home", ["can be written", "cannot"])
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
