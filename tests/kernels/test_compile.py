"""Compiled kernels on disk: when they are found, when they are out of date, where they go."""

import shutil

import pytest

from colorquant_nn.kernels import _tiles
from tests.kernels.fresh import ROOT, run_python


def test_stored_kernels_load_without_what_only_compiling_needs():
    code = """
import sys, torch
from colorquant_nn import fit_palette, PerImageColorQuantize
from colorquant_nn.functional.dither import floyd_steinberg
from tests.kernels.test_threads import everything
everything()
image = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
fit_palette(image, 5, space="oklab")
fit_palette((255 * image).byte(), 5)
PerImageColorQuantize(4)(image)
floyd_steinberg(image.permute(1, 2, 0), torch.rand(5, 3))
print("numba.np.arraymath" in sys.modules)
"""
    run_python(code)
    assert run_python(code) == "False\n"


def copy_of_the_package(folder):
    shutil.copytree(
        ROOT / "colorquant_nn",
        folder / "colorquant_nn",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    return folder / "colorquant_nn"


def test_a_change_in_any_file_of_the_kernels_compiles_anew(tmp_path):
    package = copy_of_the_package(tmp_path)
    code = """
import torch
from colorquant_nn.kernels import cpu_lookup
cpu_lookup.lookup(torch.rand(1, 3, 3), torch.tensor([[0, 2]]))
print(sum(cpu_lookup._write_blocks.stats.cache_hits.values()))
"""
    environment = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert run_python(code, tmp_path, **environment) == "0\n"
    assert run_python(code, tmp_path, **environment) == "1\n"
    with (package / "kernels" / "_simd.py").open("a") as other:
        other.write("# another file than the kernel's\n")
    assert run_python(code, tmp_path, **environment) == "0\n"


def test_a_damaged_file_is_compiled_anew(tmp_path):
    code = """
import torch
from colorquant_nn.kernels import lookup
assert torch.equal(lookup(torch.eye(3)[None], torch.tensor([[0, 2]])), torch.eye(3)[None, [0, 2]])
"""
    cache = tmp_path / "cache"
    run_python(code, NUMBA_CACHE_DIR=str(cache))
    for ending in ("nbc", "nbi"):
        files = list(cache.rglob(f"*.{ending}"))
        assert files
        for file in files:
            file.write_bytes(file.read_bytes()[:20])
        run_python(code, NUMBA_CACHE_DIR=str(cache))
        assert all(len(file.read_bytes()) > 20 for file in cache.rglob("*write_blocks*"))


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


@pytest.mark.parametrize("cache", ["elsewhere", "nowhere"])
def test_an_install_that_cannot_be_written(tmp_path, cache):
    package = copy_of_the_package(tmp_path / "site")
    for folder in ("kernels", "functional"):
        (package / folder / "__pycache__").write_text("a file where a directory should be")
    home = tmp_path / "home"
    if cache == "elsewhere":
        home.mkdir()
    else:
        home.write_text("not a directory")
    code = """
import torch
from colorquant_nn.kernels import histogram
assert histogram(torch.rand(1, 100, 3), 2).sum(0)[0] == 100
from colorquant_nn.functional import dither_loops
from colorquant_nn.kernels import cpu_histogram
print(cpu_histogram._finish.stats.cache_path)
"""
    found = run_python(
        code,
        tmp_path,
        PYTHONPATH=str(package.parent),
        HOME=str(home),
        XDG_CACHE_HOME=str(home),
        PYTHONDONTWRITEBYTECODE="1",
        NUMBA_CACHE_DIR="",
    )
    assert str(home) in found if cache == "elsewhere" else found == "None\n"


def test_python_is_told_that_it_cannot_call_a_subroutine():
    with pytest.raises(TypeError, match="only kernels can call load_tile"):
        _tiles.load_tile()
