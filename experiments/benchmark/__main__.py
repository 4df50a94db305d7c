"""``python -m experiments.benchmark``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from experiments.benchmark import report
from experiments.benchmark.case import Options
from experiments.benchmark.machine import describe
from experiments.benchmark.runner import run_suite
from experiments.benchmark.worker import SUITES
from experiments.results import RESULTS

DEFAULT = [suite for suite in SUITES if suite not in ("large", "cifar")]


def main(argv: Sequence[str] | None = None) -> None:
    """Run suites, print their tables, and write them beside what is there of the same machine."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmark", description=__doc__)
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; default: all but large"
    )
    parser.add_argument(
        "--large", action="store_true", help="add large: a picture of 24 megapixels"
    )
    parser.add_argument("--cifar", default="", help="add cifar: folder of the training images")
    parser.add_argument("--pictures", default="", help="folder for the suites images and large")
    parser.add_argument("--every", type=int, default=1, help="only each n-th picture")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--slow", action="store_true", help="images: the best of ten starts too")
    parser.add_argument("--quick", action="store_true", help="toy sizes, to see that all works")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    arguments = parser.parse_args(argv)
    suites = list(arguments.suites or DEFAULT)
    suites += ["large"] * (arguments.large and "large" not in suites)
    suites += ["cifar"] * (arguments.cifar != "" and "cifar" not in suites)
    unknown = set(suites) - set(SUITES)
    if unknown:
        parser.error(f"expected suites of {', '.join(SUITES)}, got {', '.join(sorted(unknown))}")
    options = Options(
        quick=arguments.quick,
        slow=arguments.slow,
        pictures=_absolute(arguments.pictures),
        cifar=_absolute(arguments.cifar),
        every=arguments.every,
    )
    machine = describe()
    for suite in suites:
        rows = []
        for found in run_suite(suite, options, arguments.only):
            rows = report.keep(arguments.results, machine, found)
        if rows:
            report.write(arguments.results, machine, rows)
            print("\n".join(report.suite_section(suite, rows)), flush=True)


def _absolute(folder: str) -> str:
    """The processes run in the root of the repository, wherever the user is."""
    return str(Path(folder).resolve()) if folder else ""


if __name__ == "__main__":
    main()
