"""What a fresh process pays once: the import, and the first call of a kernel."""

import os
import subprocess
import sys
import tempfile
from functools import partial

from experiments.benchmark.case import CHECKOUT, Case, Options, Run, Seconds

IMPORT = "from colorquant_nn import ColorQuantize, fit_palette"
EMPTY, CACHED = "first call, empty cache", "first call, cached"
CALLS = {
    "assign": "kernels.assign(torch.rand(1, 5000, 3), torch.rand(1, 16, 3))",
    "a training step of ColorQuantize": (
        "layer(torch.rand(2, 3, 32, 32, requires_grad=True)).sum().backward()"
    ),
    "fit_palette": "colorquant_nn.fit_palette(torch.rand(3, 64, 64), 16, space='rgb')",
}
BEFORE = (
    "import numba, colorquant_nn; from colorquant_nn import kernels; "
    "layer = colorquant_nn.ColorQuantize(16)"
)


def cases(options: Options) -> list[Case]:
    """The import beyond torch's own, and first calls beyond numba's import."""
    found = [
        Case(
            "import, beyond torch's own",
            {IMPORT: partial(_prepare, "pass", IMPORT, False)},
            ours=(IMPORT,),
            limits={IMPORT: 0.15},
            once=True,
            most=5,
        )
    ]
    for name, call in list(CALLS.items())[: 1 if options.quick else None]:
        found.append(
            Case(
                f"first call in a process, {name}",
                {
                    EMPTY: partial(_prepare, BEFORE, call, True),
                    CACHED: partial(_prepare, BEFORE, call, False),
                },
                ours=(EMPTY, CACHED),
                limits={EMPTY: 5.0, CACHED: 0.3},
                once=True,
                most=3,
            )
        )
    return found


def _prepare(before: str, call: str, empty: bool) -> Run:
    """The clock runs inside of a process of its own, whose start does not count."""

    def run() -> Seconds:
        with tempfile.TemporaryDirectory() as folder:
            return _seconds(before, call, folder if empty else "")

    if not empty:
        run()  # fills the cache
    return run


def _seconds(before: str, call: str, cache: str) -> Seconds:
    code = f"import time, torch; {before}; t = time.perf_counter(); {call}; "
    done = subprocess.run(
        [sys.executable, "-c", code + "print(time.perf_counter() - t)"],
        cwd=CHECKOUT,
        env=dict(os.environ) | ({"NUMBA_CACHE_DIR": cache} if cache else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    return Seconds(done.stdout)
