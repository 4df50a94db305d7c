"""``colorquant palette`` in several processes: the palette of one, and everything said once."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorquant_nn.cli.options import RankLostError, boundary
from tests.helpers import ROOT, check_error, names


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def environment(**more: object) -> dict[str, str]:
    given = {"PYTHONPATH": ROOT, "OMP_NUM_THREADS": 1, "GLOO_SOCKET_IFNAME": "lo", **more}
    return {**os.environ, **{name: str(value) for name, value in given.items()}}


def torchrun(world: int, *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of all of them."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(world)]
    launcher += ["--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    command = [*launcher, "-m", "colorquant_nn", *map(str, arguments)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


def heed_interrupts() -> None:
    """Whoever runs the tests in the background may have had them ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def start(world: int, *arguments: object, **more: object) -> list[subprocess.Popen[str]]:
    """The processes that torchrun starts, without it: each by itself."""
    place = {"WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), **more}
    command = [sys.executable, "-m", "colorquant_nn", *map(str, arguments)]
    return [
        subprocess.Popen(
            command,
            env=environment(RANK=rank, **place),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heed_interrupts,
        )
        for rank in range(world)
    ]


def outcome(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, out, err


def outcomes(world: int, *arguments: object, **more: object) -> list[tuple[int, str, str]]:
    return [outcome(process) for process in start(world, *arguments, **more)]


@pytest.fixture
def pictures(tmp_path, monkeypatch) -> Path:
    """A working folder with a folder of a dozen: with alpha and holes, frames, in a subfolder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    random = np.random.default_rng(0)
    for seed in range(12):
        pixels = random.integers(0, 256, (12, 10, 3 + (seed % 4 == 3)), np.uint8)
        if pixels.shape[2] == 4:
            pixels[:3, :3, 3] = 0
        name = f"more/{seed}.png" if seed < 5 else f"{seed}.png"
        Image.fromarray(pixels).save(folder / name)
    frames = [Image.fromarray(random.integers(0, 256, (9, 9), np.uint8)) for _ in range(3)]
    frames[0].save(folder / "film.gif", save_all=True, append_images=frames[1:])
    return tmp_path


def check_same_palette(world: int, run) -> None:
    for folder in ("one", "several"):
        Path(folder).mkdir()
    arguments = "palette", "pictures", "-k", 24, "-o"
    code, out, err = run(*arguments, "one/colours.hex")
    assert (code, err) == (0, "")
    assert torchrun(world, *arguments, "several/colours.hex") == (0, out, "")
    assert names(Path("several")) == {"colours.hex"}
    assert Path("several/colours.hex").read_bytes() == Path("one/colours.hex").read_bytes()


def test_two_processes_find_the_palette_of_one(pictures, run):
    check_same_palette(2, run)


def test_a_lost_process_is_no_matter_of_one_file():
    with pytest.raises(RankLostError), boundary("a.png"):
        raise RankLostError("it hangs")


@pytest.mark.slow
def test_four_processes_find_the_palette_of_one(pictures, run):
    check_same_palette(4, run)


@pytest.mark.slow
def test_each_process_tells_of_its_own_files(pictures, run):
    """Of three files, rank 0 has the first and the last; the one of rank 1 is broken."""
    Path("text.png").write_text("hello")
    Path("other.png").write_text("hello")
    good = "pictures/9.png"
    first, second = outcomes(2, "palette", good, "text.png", "other.png", "-k", 4, "--json")
    alone = run("palette", good, "-k", 4, "--json")
    colors = [out.partition('"palette"')[2].partition("]")[0] for out in (first[1], alone[1])]
    assert colors[0] == colors[1]
    assert json.loads(first[1])["inputs"] == [good]
    check_error(first, "other.png", code=1)
    check_error(second, "text.png", code=1)
    assert second[1] == ""


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(
            ["palette", "pictures", "-k", "0"], id="a wrong option", marks=pytest.mark.slow
        ),
        pytest.param(["palette", "bare"], id="an empty folder", marks=pytest.mark.slow),
        pytest.param(
            ["palette", "pictures", "-o", "there.hex"],
            id="an output that exists",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["palette", "pictures", "-o", "none/colours.hex"],
            id="an output in no folder",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["palette", "pictures", "-k", "1", "--keep", "#fff,#000"],
            id="colours that do not fit",
            marks=pytest.mark.slow,
        ),
        pytest.param(["quantize", "pictures/9.png"], id="quantize", marks=pytest.mark.slow),
        pytest.param(
            ["compare", "pictures/9.png", "pictures/9.png"],
            id="compare",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_cannot_be_done_is_said_once(pictures, arguments):
    Path("there.hex").write_text("as it was")
    Path("bare").mkdir()
    before = names(pictures)
    first, second = outcomes(2, *arguments)
    check_error(first)
    assert first[1] == ""
    assert second == (2, "", "")
    assert names(pictures) == before
    assert Path("there.hex").read_text() == "as it was"


@pytest.mark.slow
def test_an_output_that_fails_late_is_said_once(pictures):
    """The folder of the output disappears while rank 1 reads."""
    Path("out").mkdir()
    os.mkfifo("slow.png")
    processes = start(2, "palette", "pictures/9.png", "slow.png", "-o", "out/colours.hex")
    with open("slow.png", "wb") as file:
        Path("out").rmdir()
        file.write(Path("pictures/9.png").read_bytes())
    first, second = map(outcome, processes)
    check_error(first, "the folder", "does not exist")
    assert second == (2, "", "")


@pytest.mark.slow
def test_fewer_files_than_processes(pictures, run):
    first, *others = outcomes(3, "palette", "pictures/9.png", "-k", 4)
    assert first == run("palette", "pictures/9.png", "-k", 4)
    assert others == [(0, "", "")] * 2


@pytest.mark.slow
def test_no_file_can_be_read(pictures):
    Path("text.png").write_text("hello")
    first, second = outcomes(2, "palette", "none.png", "text.png")
    check_error(first, "none.png: no such file")
    check_error(second, "text.png")


def reading(world: int, **more: object) -> tuple[list[subprocess.Popen[str]], list]:
    """Processes that all read a file which does not end, and these files."""
    pipes = [f"{rank}.png" for rank in range(world)]
    for pipe in pipes:
        os.mkfifo(pipe)
    processes = start(world, "palette", *pipes, "-o", "colours.hex", **more)
    return processes, [open(pipe, "wb") for pipe in pipes]  # waits for the reader


def test_interrupted_processes_end_and_say_so_once(pictures):
    processes, pipes = reading(2)
    for process in processes:
        process.send_signal(signal.SIGINT)
    first, second = map(outcome, processes)
    check_error(first, "interrupted", code=130)
    assert second == (130, "", "")
    assert not Path("colours.hex").exists()
    for pipe in pipes:
        pipe.close()


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_is_killed_ends_the_others(pictures, lost):
    processes, pipes = reading(2)
    processes[lost].kill()
    outcome(processes[lost])
    for pipe in pipes:
        pipe.close()
    code, out, err = outcome(processes[1 - lost])
    assert (code, out) == (2, "")
    empty, *rest = err.splitlines()
    assert "the file is empty" in empty
    assert len(rest) == lost  # rank 0 speaks for all
    if lost == 1:
        assert "another process ended, or did not answer in 120 minutes" in rest[0]


@pytest.mark.slow
@pytest.mark.parametrize(("minutes", "said"), [(0.01, "0.01 minutes"), ("soon", "got 'soon'")])
def test_the_time_out_is_that_of_the_variable(pictures, minutes, said):
    processes = start(2, "palette", "pictures", COLORQUANT_TIMEOUT=minutes)
    if minutes != "soon":
        processes[1].kill()
    first, _ = map(outcome, processes)
    check_error(first, "COLORQUANT_TIMEOUT", said)
