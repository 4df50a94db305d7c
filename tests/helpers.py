"""What the tests share: numbers and pictures, states and files, commands and interpreters."""

import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing
from PIL import Image
from torch import Tensor, nn

from colorquant_nn import QuantizedImage, load_image

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("COLORQUANT_DATA", ROOT.parent / "shared" / "data"))
INTERPRETED = bool(os.environ.get("TRITON_INTERPRET"))
SPACES = ["rgb", "linear", "lab", "oklab"]
FEW = 3  # batches of a warm-up, where a test needs to go past it
HEIGHT, WIDTH = 40, 56  # of a photo

# Numbers and pictures, each by its seed


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers from 0 to 1."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def levels(*shape: int, count: int = 256, seed: int = 0) -> Tensor:
    """Bytes below a count."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(count, shape, generator=generator, dtype=torch.uint8)


def batch(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Squares of random numbers: darker than light, on the default device."""
    generator = torch.Generator("cpu").manual_seed(seed)
    numbers = torch.rand(*(shape or (4, 3, 16, 16)), generator=generator, device="cpu")
    return numbers.pow(2).to(torch.get_default_device(), dtype)


def picture(seed: int, channels: int = 3, height: int = 40, width: int = 50) -> Tensor:
    """Smooth blobs with noise, uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 5, 6, generator=generator)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    smooth += 0.05 * torch.randn(channels, height, width, generator=generator)
    return (smooth.clamp(0, 1) * 255).to(torch.uint8)


def photo(seed: int = 0) -> np.ndarray:
    """A smooth picture of many colours as Pillow takes it, (HEIGHT, WIDTH, 3) uint8."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT
    channels = [np.sin(3 * rows + seed), np.cos(4 * columns), np.sin(5 * rows * columns + seed)]
    return ((np.stack(channels, -1) + 1) * 127.5).astype(np.uint8)


def cifar(split: str, per_class: int | None = None) -> tuple[Tensor, Tensor]:
    """Images of CIFAR-10 (JPEG), (N, 3, 32, 32) uint8, and their classes; or skips."""
    archive = DATA / "cifar10-jpeg.zip"
    if not archive.exists():
        pytest.skip(f"needs {archive}, or COLORQUANT_DATA with its folder")
    with zipfile.ZipFile(archive) as opened:
        folders: dict[str, list[str]] = {}
        for name in sorted(opened.namelist()):
            if f"/{split}/" in name and name.endswith(".jpg"):
                folders.setdefault(name.split("/")[-2], []).append(name)
        chosen = {folder: names[:per_class] for folder, names in folders.items()}
        pictures = [
            np.asarray(Image.open(opened.open(name)).convert("RGB"))
            for names in chosen.values()
            for name in names
        ]
    sizes = torch.tensor([len(names) for names in chosen.values()])
    images = torch.from_numpy(np.stack(pictures)).movedim(-1, 1).contiguous()
    return images, torch.arange(len(chosen)).repeat_interleave(sizes)


def drawn(indices: Tensor, palette: Tensor) -> QuantizedImage:
    return QuantizedImage(palette[indices].permute(2, 0, 1), indices, palette)


def quantized(
    colors: int, channels: int = 3, height: int = 13, width: int = 17, seed: int = 0
) -> QuantizedImage:
    """A picture of as many colours, all different."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randperm(256 * 256, generator=generator)[:colors]
    palette = torch.stack([levels // 256, levels % 256, levels * 7 % 256], 1).float() / 255
    if channels == 4:
        alpha = torch.randint(0, 256, (colors, 1), generator=generator) / 255
        palette = torch.cat([palette, alpha], 1)
    indices = torch.arange(height * width) % colors
    indices = indices[torch.randperm(height * width, generator=generator)]
    return drawn(indices.view(height, width), palette)


def as_bytes(values: Tensor) -> Tensor:
    return (values * 255).round().to(torch.uint8)


# What is compared


def assert_same(found, expected) -> None:
    """Tensor by tensor, bit for bit."""
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


def state_of(layer: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in layer.state_dict().items()}


def assert_same_state(layer: nn.Module, state: dict[str, Tensor]) -> None:
    assert layer.state_dict().keys() == state.keys()
    assert_same(layer.state_dict().values(), state.values())


# Files


def bits_per_pixel(path) -> int:
    return Path(path).read_bytes()[24]  # IHDR


def mode_and_size(path) -> tuple[str, tuple[int, int]]:
    with Image.open(path) as image:
        return image.mode, image.size


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names(folder)}


def colors_of(path) -> set[tuple[int, ...]]:
    return set(map(tuple, load_image(path).flatten(1).T.tolist()))


# Commands


def check_error(outcome, *parts: str, code: int = 2) -> None:
    """One line on stderr that says all of it, and nothing else."""
    assert outcome[0] == code, outcome
    assert outcome[2].count("\n") == 1, outcome[2]
    assert outcome[2].startswith("colorquant")
    for part in parts:
        assert part in outcome[2]


def interpreter(*arguments, directory=ROOT, program=sys.executable, **environment):
    """What became of an interpreter of its own, for what a process does once."""
    return subprocess.run(
        [program, *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_ranks(work: Callable[..., None], world: int, *arguments) -> None:
    """``work(rank, *arguments)`` in processes of their own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        torch.multiprocessing.start_processes(work, arguments, world, start_method=start_method())


def start_method() -> str:
    """Forks import nothing anew; but neither threads of torch nor CUDA survive one."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return "fork" if alone else "spawn"


def run_python(code: str, directory=ROOT, **environment) -> str:
    """Standard output of code in an interpreter of its own."""
    done = interpreter("-W", "ignore", "-c", code, directory=directory, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout
