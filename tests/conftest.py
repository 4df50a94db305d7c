"""Fixtures of more than one file, and the option that says which device the tests use."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # a worker has one core; its own threads would wait for it
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils import _pytree as pytree

from colorquant_nn import kernels
from colorquant_nn.cli import main
from colorquant_nn.kernels.ops import OPS, implementation
from tests.helpers import HEIGHT, INTERPRETED, WIDTH, photo

MANY = 1000  # tests; fewer compile what they use
MOST_STEPS = 400  # of the interpreter, which takes a tile of 512 points to a centroid in one


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="of the tests that can use any: cpu, cuda")


def pytest_collection(session: pytest.Session) -> None:
    gc.disable()  # of a million objects that imports make, none is garbage


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()
    gc.enable()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        backends = ["reference", "cpu"]
        if INTERPRETED or metafunc.config.getoption("--device") == "cuda":
            backends.append("cuda")
        metafunc.parametrize("backend", backends, indirect=True)


@pytest.fixture(scope="session", autouse=True)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The workers of a long run share the work of compiling kernels before their first tests.

    Without it each compiles, at about the same time as the others, most of what all of them use.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ or len(request.session.items) < MANY:
        return
    from tests.kernels.test_ops import EXAMPLES

    taken = tmp_path_factory.getbasetemp().parent  # the workers' common folder
    for number, (name, arguments) in enumerate(EXAMPLES):
        if OPS[name].cpu is None:
            continue
        try:
            (taken / f"compiling-{number}").touch(exist_ok=False)
        except FileExistsError:  # by another one
            continue
        copies = pytree.tree_map_only(torch.Tensor, torch.Tensor.clone, arguments)
        implementation(name, "cpu")(*copies)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device of ``--device``."""
    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def on_device(device: torch.device) -> Iterator[None]:
    """What is made without a device is made on that of ``--device``."""
    before = torch.get_default_device()
    torch.set_default_device(device)
    yield
    torch.set_default_device(before)


@pytest.fixture
def backend(request, device, monkeypatch) -> str:
    """Calls of `colorquant_nn.kernels` go to each backend; what it does not have is skipped.

    The CUDA backend is there with ``--device cuda``, and on the CPU in Triton's interpreter.
    """
    backend = request.param
    on_device = backend == "cuda" and device.type == "cuda"

    def call(name, *arguments):
        if on_device:
            moved = pytree.tree_map_only(torch.Tensor, lambda x: x.to(device), arguments)
            found = getattr(torch.ops.colorquant_nn, name)(*moved)
            for given, its in zip(arguments, moved, strict=True):
                if isinstance(given, torch.Tensor):  # an operation may change it
                    given.copy_(its)
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


def tiles(points: torch.Tensor) -> int:
    return -(-points.shape[0] * points.shape[1] // 512)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Set torch's number of threads, until the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with a picture of each kind."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo()).save("photo.png")
    Image.fromarray(photo(1)).save("other.jpg", quality=95)
    holes = np.dstack([photo(2), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    holes[:10, :20, 3] = 0
    Image.fromarray(holes).save("holes.png")
    frames = [Image.fromarray(photo(seed)).quantize(200) for seed in range(3)]
    timing = {"duration": [50, 120, 70], "loop": 0}
    frames[0].save("film.gif", save_all=True, append_images=frames[1:], **timing)
    Path("broken.png").write_bytes(Path("photo.png").read_bytes()[:700])
    Path("text.png").write_text("hello")
    Path("empty.png").write_bytes(b"")
    return tmp_path


@pytest.fixture
def run(capsys) -> Callable[..., tuple[int, str, str]]:
    """Run the command; returns exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
