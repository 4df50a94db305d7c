"""The command line of the benchmark."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from experiments.benchmark import report
from experiments.benchmark.case import Options
from experiments.benchmark.runner import Row, run_suite
from experiments.benchmark.suites import SUITES
from experiments.figures import RESULTS

EPILOG = """
With --against, ours alone is run, of this checkout and of another one in turn, whatever its age as
long as it has what the suites call: so two versions are compared under the same load. The table is
printed; nothing is written."""

LONG = ("large", "eye", "bytes", "cifar")  # minutes and more: they run when they are asked for


def main(argv: Sequence[str] | None = None) -> None:
    """Run suites, print their tables, and write them beside what is there of the same machine."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmark",
        description="Ours beside what users would pick instead.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "suites",
        nargs="*",
        metavar="SUITE",
        help=f"of {', '.join(SUITES)}; default: all but {', '.join(LONG)}",
    )
    parser.add_argument("--large", action="store_true", help="add large")
    parser.add_argument("--cifar", type=Path, help="add cifar: folder of the training images")
    parser.add_argument("--pictures", type=Path, help="folder for images, large, eye, bytes")
    parser.add_argument("--every", type=int, default=1, help="only each n-th picture")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--slow", action="store_true", help="images: the best of ten starts too")
    parser.add_argument("--quick", action="store_true", help="toy sizes, to see that all works")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="see below")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    arguments = parser.parse_args(argv)
    suites = arguments.suites or [suite for suite in SUITES if suite not in LONG]
    asked = {"large": arguments.large, "cifar": arguments.cifar is not None}
    suites += [suite for suite, wanted in asked.items() if wanted and suite not in suites]
    if unknown := set(suites) - set(SUITES):
        parser.error(f"expected suites of {', '.join(SUITES)}, got {', '.join(sorted(unknown))}")
    for folder in (arguments.cifar, arguments.pictures, arguments.against):
        if folder is not None and not folder.is_dir():
            parser.error(f"there is no folder {folder}")
    options = Options(
        quick=arguments.quick,
        slow=arguments.slow,
        pictures=arguments.pictures,
        cifar=arguments.cifar,
        every=arguments.every,
    )
    machine = report.describe()
    for suite in suites:
        rows: list[Row] = []
        for found in run_suite(suite, options, arguments.only, arguments.against):
            if arguments.against:
                rows += found
            else:
                rows = report.keep(arguments.results, machine, found)
        if rows and arguments.against:
            print(report.checkouts_table(rows), flush=True)
        elif rows:
            report.write(arguments.results, machine, rows)
            print("\n\n".join(report.suite_section(suite, rows)), flush=True)
