"""Every operation on every backend that is there."""

import os

import pytest
import torch
from torch.utils import _pytree as pytree

from colorquant_nn import kernels
from colorquant_nn.kernels.ops import OPS, implementation

INTERPRETED = bool(os.environ.get("TRITON_INTERPRET"))
MOST_STEPS = 400  # of the interpreter, which takes a tile of 512 points to a centroid in one


def pytest_generate_tests(metafunc):
    if "backend" in metafunc.fixturenames:
        backends = ["reference", "cpu"]
        if INTERPRETED or metafunc.config.getoption("--device") == "cuda":
            backends.append("cuda")
        metafunc.parametrize("backend", backends, indirect=True)


@pytest.fixture
def backend(request, device, monkeypatch):
    """Calls of `colorquant_nn.kernels` go to each backend; what it does not have is skipped.

    The CUDA backend is there with ``--device cuda``, and on the CPU in Triton's interpreter.
    """
    backend = request.param
    on_device = backend == "cuda" and device.type == "cuda"

    def call(name, *arguments):
        if on_device:
            moved = pytree.tree_map_only(torch.Tensor, lambda x: x.to(device), arguments)
            found = getattr(torch.ops.colorquant_nn, name)(*moved)
            return pytree.tree_map_only(torch.Tensor, torch.Tensor.cpu, found)
        if getattr(OPS[name], backend) is None:
            pytest.skip(f"{backend} has no {name}")
        if backend == "cuda" and tiles(arguments[0]) * arguments[1].shape[1] > MOST_STEPS:
            pytest.skip("takes long in the interpreter")
        found = implementation(name, backend)(*arguments)
        if found is NotImplemented:
            found = implementation(name, "reference")(*arguments)
        return found

    monkeypatch.setattr(kernels, "call", call)
    return backend


def tiles(points):
    return -(-points.shape[0] * points.shape[1] // 512)


@pytest.fixture
def threads():
    """Set torch's number of threads, until the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
