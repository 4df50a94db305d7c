"""The command among other processes: signals, streams that close, two writers of one file.

Processes wait for each other at pipes, never for a time: a picture that is a named pipe holds the
command where it reads.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from colorquant_nn.cli import main, quantize, signals, streams
from colorquant_nn.cli.options import print_error
from tests.helpers import ROOT, check_error, contents, interpreter, names, photo

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and pipes are those of POSIX")
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def bare(tmp_path, monkeypatch) -> Path:
    """A working folder with one small picture."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo()[:8, :8]).save("a.png")
    return tmp_path


def interrupted_by(number: int):
    """A stand-in for a verb: the signal comes while it works."""

    def work(*_, **__):
        os.kill(os.getpid(), number)
        raise AssertionError("the signal was not heeded")

    return work


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_command(bare, run, monkeypatch, number):
    before = signal.getsignal(number)
    monkeypatch.setattr(quantize, "quantize", interrupted_by(number))
    signal.signal(number, signal.SIG_DFL)
    try:
        said = "colorquant: interrupted\n" if number == signal.SIGINT else ""
        assert run("quantize", "a.png") == (128 + number, "", said)
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_signal_that_a_library_swallows_ends_the_command_all_the_same(bare, run, monkeypatch):
    def work(*_, **__):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException:
            return 0

    monkeypatch.setattr(quantize, "quantize", work)
    assert run("quantize", "a.png") == (128 + signal.SIGTERM, "", "")


def test_signals_that_are_ignored_stay_ignored(bare, run, monkeypatch):
    def work(*_, **__):
        for number in SIGNALS:
            os.kill(os.getpid(), number)
        return 0

    monkeypatch.setattr(quantize, "quantize", work)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        assert run("quantize", "a.png") == (0, "", "")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_handlers_of_somebody_else_stay(bare, run, monkeypatch):
    came = []
    monkeypatch.setattr(quantize, "quantize", lambda *_, **__: os.kill(os.getpid(), 15) or 0)
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(1))
    try:
        assert run("quantize", "a.png")[0] == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [1]


def test_other_threads_have_no_signals(bare):
    from threading import Thread

    codes = []
    thread = Thread(target=lambda: codes.append(main(["quantize", "a.png", "-k", "4", "-q"])))
    thread.start()
    thread.join()
    assert codes == [0]


def test_a_second_signal_ends_at_once(monkeypatch):
    died = []
    monkeypatch.setattr(signals, "die", died.append)
    with signals.handled() as came:
        for _ in range(2):
            with pytest.raises(signals.Stopped):
                os.kill(os.getpid(), signal.SIGTERM)
    assert came == [signal.SIGTERM] * 2
    assert died == [signal.SIGTERM]


# Streams


class Broken:
    """A stream whose reader has gone, or whose disk is full."""

    encoding = "ascii"

    def __init__(self, error: OSError) -> None:
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        raise OSError("no file")


@pytest.mark.parametrize(
    "arguments", [["quantize", "a.png"], ["palette", "a.png", "-o", "a.hex"], ["--help"]]
)
@pytest.mark.parametrize("stream", [None, Broken(BrokenPipeError())], ids=["closed", "broken"])
def test_what_is_done_does_not_depend_on_who_listens(bare, run, monkeypatch, arguments, stream):
    before = names(bare)
    expected = run(*arguments)
    made = contents(bare)
    for name in names(bare) - before:
        Path(name).unlink()
    monkeypatch.setattr(sys, "stdout", stream)
    code, _, err = run(*arguments)
    assert (code, err) == (expected[0], "")
    assert contents(bare) == made


def test_a_full_disk_for_the_summary_is_told_at_the_end(bare, run, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(OSError(28, "No space left on device")))
    check_error(run("quantize", "a.png", "-k", 4), "standard output: No space left on device")
    assert Path("a-quantized.png").exists()


def test_errors_go_nowhere_where_stderr_is_closed(bare, run, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert run("quantize", "none.png", "a.png", "-k", 4, "-q")[:2] == (1, "")


def test_what_a_stream_cannot_show_is_escaped(bare, monkeypatch):
    with open("out", "w", encoding="ascii") as out, open("err", "w", encoding="ascii") as err:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        with streams.guarded():
            print("café \udce9")
            print_error("日本")
    assert Path("out").read_text() == "caf\\xe9 \\udce9\n"
    assert Path("err").read_text() == "colorquant: \\u65e5\\u672c\n"


# Processes


def start(*arguments: str, shell: str | None = None, code: str | None = None) -> subprocess.Popen:
    """The command, or a shell that runs it as "$@", with signals as on a terminal."""

    def heed() -> None:
        os.setpgid(0, 0)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    program = [sys.executable, *(["-c", code] if code else ["-m", "colorquant_nn"]), *arguments]
    return subprocess.Popen(
        ["bash", "-c", shell, "bash", *program] if shell else program,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed,
    )


def outcome(process: subprocess.Popen) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, out, err


# While a partial file is written: it says so through one pipe, and waits at another.
HELD_WRITING = """
import os, sys
from colorquant_nn import files
from colorquant_nn.cli import main
fill = files._fill
def hold(partial, data):
    fill(partial, data[:10])
    open('said', 'w').close()
    open('wait').close()
files._fill = hold
sys.exit(main())
"""


@pytest.fixture
def held(bare):
    """A process that has begun to write a result."""
    os.mkfifo("said")
    os.mkfifo("wait")
    process = start("quantize", "a.png", "-k", "4", code=HELD_WRITING)
    open("said").close()
    yield process
    process.kill()
    process.wait()


def partials() -> list[str]:
    return [name for name in os.listdir() if "partial" in name]


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_process_dies_by_its_signal_and_leaves_nothing(held, number):
    assert len(partials()) == 1
    held.send_signal(number)
    said = "colorquant: interrupted\n" if number == signal.SIGINT else ""
    assert outcome(held) == (-number, "", said)
    assert partials() == []
    assert not Path("a-quantized.png").exists()


@pytest.mark.slow
def test_a_killed_process_leaves_what_the_next_removes(held, run):
    assert run("quantize", "a.png", "-k", 4, "-o", "b.png")[0] == 0
    assert len(partials()) == 1  # of a process that lives
    held.kill()
    assert outcome(held)[0] == -signal.SIGKILL
    assert len(partials()) == 1
    assert run("quantize", "a.png", "-k", 4, "-o", "c.png")[0] == 0
    assert partials() == []


@pytest.mark.slow
def test_of_two_writers_of_one_file_the_second_is_told(held, run):
    assert run("quantize", "a.png", "-k", 4)[0] == 0
    mine = Path("a-quantized.png").read_bytes()
    open("wait", "w").close()
    check_error(outcome(held), "a-quantized.png: exists")
    assert Path("a-quantized.png").read_bytes() == mine
    assert partials() == []


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_process_that_waits_for_its_input_can_be_stopped(bare, number):
    os.mkfifo("slow.png")
    process = start("quantize", "slow.png")
    with open("slow.png", "wb"):
        process.send_signal(number)
        assert outcome(process)[0] == -number


@pytest.mark.slow
def test_an_interrupt_ends_the_loop_of_a_shell(bare):
    os.mkfifo("slow.png")
    shell = 'for i in 1 2; do "$@"; echo "after $i"; done; echo end'
    process = start("quantize", "slow.png", shell=shell)
    with open("slow.png", "wb"):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        code, out, err = outcome(process)
    assert (code, out) == (-signal.SIGINT, "")
    assert err.startswith("colorquant: interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize("module", ["numpy", "torch"])
def test_a_signal_during_an_import(bare, module):
    """It comes as the module is looked for, in code that what is raised would abort."""
    code = f"""
import os, runpy, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == {module!r}:
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except BaseException:
                os.abort()
sys.meta_path.insert(0, Finder())
runpy.run_module('colorquant_nn', run_name='__main__')
"""
    returned, out, err = outcome(start("quantize", "a.png", code=code))
    assert (returned, out) == (-signal.SIGINT, "")
    assert err in ("", "colorquant: interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "shell",
    [
        '"$@" | true; exit ${PIPESTATUS[0]}',
        '"$@" | head -1 >/dev/null; exit ${PIPESTATUS[0]}',
        '"$@" >&-',
        '"$@" >&- 2>&- <&-',
        'nohup "$@" </dev/null >/dev/null 2>&1',
    ],
)
def test_shells_may_close_what_they_like(bare, shell):
    for number in range(3):
        Image.fromarray(photo(number)[:8, :8]).save(f"{number}.png")
    command = [sys.executable, "-u", "-m", "colorquant_nn", "quantize", "-k", "4"]
    command += ["0.png", "1.png", "2.png"]
    done = interpreter("-c", shell, "bash", *command, directory=bare, program="bash")
    assert (done.returncode, done.stderr) == (0, "")
    for number in range(3):
        with Image.open(f"{number}-quantized.png") as image:
            assert image.size == (8, 8)


@pytest.mark.slow
def test_pipes_of_a_shell(bare):
    shell = '"$@" - -o - -k 4 <a.png >b.png && "$@" <(cat a.png) -o c.png -k 4 -q'
    command = [sys.executable, "-m", "colorquant_nn", "quantize"]
    done = interpreter("-c", shell, "bash", *command, directory=bare, program="bash")
    assert (done.returncode, done.stdout) == (0, "")
    assert "PSNR" in done.stderr
    assert Path("b.png").read_bytes() == Path("c.png").read_bytes()


@pytest.mark.slow
def test_a_reader_of_a_picture_may_stop_early(bare):
    Image.effect_noise((500, 500), 99).save("noise.png")
    shell = '"$@" | head -c 4 | tail -c 3; exit ${PIPESTATUS[0]}'
    command = [sys.executable, "-m", "colorquant_nn", "quantize", "noise.png", "-q", "-o", "-"]
    done = interpreter("-c", shell, "bash", *command, directory=bare, program="bash")
    assert (done.returncode, done.stdout, done.stderr) == (0, "PNG", "")


@pytest.mark.slow
def test_a_full_disk_leaves_nothing(bare):
    """A limit on the size of files stands for it."""
    before = contents(bare)
    Image.effect_noise((64, 64), 99).save("noise.png")
    shell = 'ulimit -f 0; "$@"'
    command = [sys.executable, "-B", "-m", "colorquant_nn", "quantize", "noise.png", "-k", "64"]
    cache = os.environ.get("NUMBA_CACHE_DIR", "")
    done = interpreter(
        "-c", shell, "bash", *command, directory=bare, program="bash", NUMBA_CACHE_DIR=cache
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "noise-quantized.png: cannot be written (File too large)" in done.stderr
    Path("noise.png").unlink()
    assert contents(bare) == before


@pytest.mark.slow
def test_without_a_compiler_one_line_says_so(bare):
    done = interpreter(
        "-m", "colorquant_nn", "quantize", "a.png", directory=bare, NUMBA_DISABLE_JIT="1"
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "NUMBA_DISABLE_JIT" in done.stderr
