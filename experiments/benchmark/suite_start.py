"""What a fresh process pays once: the import, and the first call of a kernel."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from experiments.benchmark.case import Case, Options, Run

IMPORT = "import colorquant_nn"
FRESH, CACHED = "first call, empty cache", "first call, cached"
LIMITS = {IMPORT: 0.15, FRESH: 5.0, CACHED: 0.3}
CALLS = {
    "assign": "torch.ops.colorquant_nn.assign(torch.rand(1, 5000, 3), torch.rand(1, 16, 3), False)",
    "a training step of ColorQuantize": (
        "layer(torch.rand(2, 3, 32, 32, requires_grad=True)).sum().backward()"
    ),
    "fit_palette": "colorquant_nn.fit_palette(torch.rand(3, 64, 64), 16)",
}
ROOT = Path(__file__).parents[2]


def cases(options: Options) -> list[Case]:
    """The import beyond torch's own, and first calls beyond numba's import."""
    calls = {"assign": CALLS["assign"]} if options.quick else CALLS
    found = [_case("import, beyond torch's own", {IMPORT: partial(_seconds, "pass", IMPORT, "")})]
    for name, call in calls.items():
        before = "import numba, torch, colorquant_nn; torch.rand(9).sort()"
        if "layer" in call:
            before += "; layer = colorquant_nn.ColorQuantize(16)"
        found.append(
            _case(
                f"first call of {name}",
                {
                    FRESH: partial(_in_empty_cache, before, call),
                    CACHED: partial(_seconds, before, call, ""),
                },
            )
        )
    return found


def _case(name: str, methods: Mapping[str, Callable[[], float]]) -> Case:
    """The time is measured inside of a process of its own, so that its start does not count."""

    def make(measure: Callable[[], float]) -> Run:
        if measure.func is _seconds:  # type: ignore[attr-defined]
            measure()  # fills the cache
        return measure

    return Case(
        name,
        {method: partial(make, measure) for method, measure in methods.items()},
        judge=lambda seconds: {"inner": seconds},
        once=True,
        budget=1.0,
    )


def _seconds(before: str, call: str, cache: str) -> float:
    code = f"import time, torch; {before}; t = time.perf_counter(); {call}; "
    environment = dict(os.environ) | ({"NUMBA_CACHE_DIR": cache} if cache else {})
    done = subprocess.run(
        [sys.executable, "-c", code + "print(time.perf_counter() - t)"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def _in_empty_cache(before: str, call: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return _seconds(before, call, folder)
