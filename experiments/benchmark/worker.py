"""The process of a method: ``python -m experiments.benchmark.worker SUITE OPTIONS``.

Lines come in, a verb and a method's place J in its case; a line of JSON goes out for each:
``prepare I J`` of case I, ``memory J`` (a run that is watched), ``time J`` (a run that is timed),
``judge J``.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.benchmark.case import Case, Options, Run, Seconds

SUITES = ("start", "layer", "assign", "kmeans", "images", "curves", "large", "cifar")
PACKAGES = {  # what to install where a module is missing
    "vector_quantize_pytorch": "vector-quantize-pytorch",
    "faiss": "faiss-cpu",
    "sklearn": "scikit-learn",
    "cv2": "opencv-python-headless",
    "fast_pytorch_kmeans": "fast-pytorch-kmeans psutil",
}
SHORT = 0.5  # seconds
BLOCK = 0.1
STATUS = Path("/proc/self/status")


def suite_cases(suite: str, options: Options) -> list[Case]:
    """The cases of a suite."""
    return importlib.import_module(f"experiments.benchmark.suite_{suite}").cases(options)


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


@dataclass
class Work:
    """One method of a case."""

    run: Run
    result: Any = None
    seconds: float = SHORT
    """Of a run, about."""


class Worker:
    """Does methods of a suite's cases, one case after the other."""

    def __init__(self, cases: list[Case]) -> None:
        self.cases = cases
        self.case = cases[0]
        self.works: dict[str, Work] = {}

    def prepare(self, number: str, place: str) -> dict[str, Any]:
        """Import, make the input, run for the first time."""
        if self.case is not self.cases[int(number)]:
            self.works.clear()
        self.case = self.cases[int(number)]
        self.works.pop(place, None)
        self.works[place] = Work(list(self.case.methods.values())[int(place)]())
        if not self.case.once:
            self.works[place].run()
        return {}

    def memory(self, place: str) -> dict[str, Any]:
        """Run and watch the memory."""
        work = self.works[place]
        work.result = None
        trim()
        peak = watch_memory()
        start = time.perf_counter()
        work.result = work.run()
        work.seconds = time.perf_counter() - start
        return {"memory": peak()}

    def time(self, place: str) -> dict[str, Any]:
        """Run and watch the clock; and the memory, where there is no other run for it.

        Short runs are repeated, after one that is not watched, and their mean is taken: what other
        processes left in the caches meanwhile would otherwise weigh more than the work.
        """
        work = self.works[place]
        work.result = None
        if self.case.once:
            trim()
        repeats = 1
        if work.seconds < SHORT and not self.case.once:
            repeats = max(1, int(BLOCK / max(work.seconds, 1e-6)))
            work.run()
        peak = watch_memory() if self.case.once else None
        start = time.perf_counter()
        for _ in range(repeats):
            work.result = work.run()
        seconds = (time.perf_counter() - start) / repeats
        if isinstance(work.result, Seconds):
            return {"seconds": work.result}
        return {"seconds": seconds} | ({"memory": peak()} if peak else {})

    def judge(self, place: str) -> dict[str, Any]:
        """Further numbers from the last result."""
        return {} if self.case.judge is None else dict(self.case.judge(self.works[place].result))


def main() -> None:
    """Answer until the input ends."""
    suite, options = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print what they like
    warnings.simplefilter("ignore")
    worker = Worker(suite_cases(suite, Options(**json.loads(options))))
    for line in sys.stdin:
        verb, *arguments = line.split()
        try:
            answer = getattr(worker, verb)(*arguments)
        except ModuleNotFoundError as missing:
            module = (missing.name or "").partition(".")[0]
            answer = {"skipped": f"not installed: pip install {PACKAGES.get(module, module)}"}
        except Exception as error:  # a peer that fails is a result too
            answer = {"skipped": f"failed: {type(error).__name__}: {error}"[:200]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
