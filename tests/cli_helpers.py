"""What the tests of the command share: a folder of pictures, and a way to run it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorquant_nn.cli import main
from colorquant_nn.io import load_image

HEIGHT, WIDTH = 40, 56


def photo(seed: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT
    channels = [np.sin(3 * rows + seed), np.cos(4 * columns), np.sin(5 * rows * columns + seed)]
    return ((np.stack(channels, -1) + 1) * 127.5).astype(np.uint8)


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
    frames[0].save(
        "film.gif", save_all=True, append_images=frames[1:], duration=[50, 120, 70], loop=0
    )
    Path("broken.png").write_bytes(Path("photo.png").read_bytes()[:700])
    Path("text.png").write_text("hello")
    Path("empty.png").write_bytes(b"")
    return tmp_path


@pytest.fixture
def run(capsys):
    """Run the command; returns exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def mode_and_size(path) -> tuple[str, tuple[int, int]]:
    with Image.open(path) as image:
        return image.mode, image.size


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names(folder)}


def colors_of(path) -> set[tuple[int, ...]]:
    return set(map(tuple, load_image(path).flatten(1).T.tolist()))


def check_error(outcome, *parts: str, code: int = 2) -> None:
    """One line on stderr that says all of it, and nothing else."""
    assert outcome[0] == code, outcome
    assert outcome[2].count("\n") == 1, outcome[2]
    assert outcome[2].startswith("colorquant")
    for part in parts:
        assert part in outcome[2]
