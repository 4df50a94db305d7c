"""Runs the methods of a suite in turn, each in its own process.

pyperf 2.11 was tried for the processes and is not used. It finishes one method before it starts the
next, so that what else the machine does meanwhile falls on one of them, and it cannot put two into
one process, which the network's target of 3 % needs. It tells the memory in the place of the times,
in a second run, by looking every 10 ms, imports and input included; a peer that is missing ends the
run, and what a method returned, to be judged, does not come back. Each value's process imports
and prepares anew: 305 s for "assign, K=64" where this takes 93 s, on a busy machine. What it would
replace are the 30 lines of `_process`, `_start` and `_do`.
"""

import contextlib
import ctypes
import gc
import importlib
import multiprocessing
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.benchmark.case import Case, Options

Row = dict[str, Any]
PAUSE = 0.1  # seconds, until the threads of the last method have stopped to wait busily
SHORT = 0.5  # seconds
BLOCK = 0.1
STATUS = Path("/proc/self/status")
PACKAGES = {  # what to install where a module is missing
    "vector_quantize_pytorch": "vector-quantize-pytorch",
    "faiss": "faiss-cpu",
    "sklearn": "scikit-learn",
    "cv2": "opencv-python-headless",
    "epaper_dithering": "epaper-dithering",
    "oxipng": "pyoxipng",
    "fast_pytorch_kmeans": "fast-pytorch-kmeans psutil",
}


def suite_cases(suite: str, options: "Options") -> "list[Case]":
    """The cases of a suite."""
    return importlib.import_module(f"experiments.benchmark.suites.{suite}").cases(options)  # type: ignore[no-any-return]


def run_suite(
    suite: str,
    options: "Options",
    only: str = "",
    against: Path | None = None,
    say: Callable[[str], object] = print,
) -> Iterator[list[Row]]:
    """Run the cases of a suite, one after the other.

    Args:
        suite: its name.
        options: what the user asked for.
        only: cases whose name contains this.
        against: another checkout: run ours alone, from here and from there.
        say: told the state.

    Yields:
        For each case a row for each method: its times in seconds, their median, the memory in
        bytes, what the case's judge found; or why it was skipped.
    """
    processes: dict[tuple[str, Path | None], ProcessPoolExecutor] = {}
    try:
        for number, case in enumerate(suite_cases(suite, options)):
            if only not in case.name:
                continue
            say(f"{suite}: {case.name}")
            mine = []
            for method in case.ours if against else case.methods:
                for checkout in (None, against) if against else (None,):
                    key = (case.name if case.together else method, checkout)
                    if key not in processes:
                        processes[key] = _process(checkout)
                    mine.append((method, checkout, processes[key]))
            yield _run_case(suite, number, case, options, mine)
            for checkout in (None, against) if case.together else ():  # no other case asks it
                if process := processes.pop((case.name, checkout), None):
                    process.shutdown()
    finally:
        for process in processes.values():
            process.shutdown()


def _process(checkout: Path | None) -> ProcessPoolExecutor:
    spawn = multiprocessing.get_context("spawn")
    start: Any = partial(_start, str(checkout.resolve()) if checkout else "")
    return ProcessPoolExecutor(1, spawn, start)


def _run_case(
    suite: str,
    number: int,
    case: "Case",
    options: "Options",
    methods: list[tuple[str, Path | None, ProcessPoolExecutor]],
) -> list[Row]:
    def ask(row: Row, process: ProcessPoolExecutor, step: str) -> None:
        try:
            row |= process.submit(_do, step, suite, number, row["method"], options).result()
        except BrokenProcessPool:
            row |= {"skipped": "failed: its process ended"}

    rows: list[Row] = []
    for method, checkout, process in methods:
        row = {"suite": suite, "case": case.name, "method": method, **case.labels}
        row |= {"points": case.points, "times": []}
        row |= {"target": case.targets.get(method), "limit": case.limits.get(method)}
        row |= {"checkout": str(checkout)} if checkout else {}
        rows.append(row)
        ask(row, process, "prepare")
        if "skipped" not in row and not case.once:
            ask(row, process, "watch")
    waiting = [index for index, row in enumerate(rows) if "skipped" not in row]
    while waiting:
        for index in list(waiting):
            row, times = rows[index], rows[index]["times"]
            time.sleep(PAUSE)
            ask(row, methods[index][2], "clock")
            times += [row.pop("seconds")] if "seconds" in row else []
            enough = sum(times) > case.budget and len(times) >= case.least
            most = case.least if options.quick else case.most
            if "skipped" in row or enough or len(times) == most:
                waiting.remove(index)
    for row, (_, _, process) in zip(rows, methods, strict=True):
        if "skipped" not in row:
            row["seconds"] = statistics.median(row["times"])
            ask(row, process, "judge")
    return rows


# What follows runs in the process of a method.


@dataclass
class Work:
    """One method of a case."""

    case: "Case"
    run: Callable[[], Any]
    result: Any = None
    seconds: float = SHORT
    """Of a run, about."""

    def watch(self) -> Row:
        """Run and watch the memory."""
        self.result = None
        trim()
        peak = watch_memory()
        start = time.perf_counter()
        self.result = self.run()
        self.seconds = time.perf_counter() - start
        return {"memory": peak()}

    def clock(self) -> Row:
        """Run and watch the clock; and the memory, where there is no other run for it.

        Short runs are repeated, after one that is not watched, and their mean is taken: what other
        processes left in the caches meanwhile would otherwise weigh more than the work.
        """
        from experiments.benchmark.case import Seconds

        self.result, repeats, once = None, 1, self.case.once
        if once:
            trim()
        elif self.seconds < SHORT:
            repeats = max(1, int(BLOCK / max(self.seconds, 1e-6)))
            self.run()
        peak = watch_memory() if once else None
        start = time.perf_counter()
        for _ in range(repeats):
            self.result = self.run()
        seconds = (time.perf_counter() - start) / repeats
        if isinstance(self.result, Seconds):
            return {"seconds": float(self.result)}
        return {"seconds": seconds} | ({"memory": peak()} if peak else {})

    def judge(self) -> Row:
        """Further numbers from the last result."""
        return {} if self.case.judge is None else dict(self.case.judge(self.result))


_works: dict[tuple[int, str], Work] = {}


def _start(checkout: str) -> None:
    warnings.simplefilter("ignore")
    if checkout:
        sys.path.insert(0, checkout)  # `experiments` is imported already: only the package is other


def _do(step: str, suite: str, number: int, method: str, options: "Options") -> Row:
    try:
        if step != "prepare":
            return getattr(_works[number, method], step)()  # type: ignore[no-any-return]
        for key in [key for key in _works if key[0] != number]:
            del _works[key]
        case = suite_cases(suite, options)[number]
        work = _works[number, method] = Work(case, case.methods[method]())
        if not case.once:
            work.run()
    except ModuleNotFoundError as missing:
        module = (missing.name or "").partition(".")[0]
        return {"skipped": f"not installed: pip install {PACKAGES.get(module, module)}"}
    except Exception as error:  # a peer that fails is a result too
        return {"skipped": f"failed: {type(error).__name__}: {error}"[:200]}
    return {}


def watch_memory() -> Callable[[], int | None]:
    """Start to watch, and return what tells the bytes held at the peak beyond those now.

    Linux alone knows; elsewhere it is None.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = _status("VmRSS")
    except OSError:
        return lambda: None
    return lambda: _status("VmHWM") - before


def trim() -> None:
    """Give back what earlier runs freed, so that no run has it for nothing."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc's


def _status(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024
