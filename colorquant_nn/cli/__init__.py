"""The command ``colorquant``: what a user may write, and how errors are told.

What the commands do is in `commands`, which is imported only when one runs: help and wrong options
need no torch.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import warnings
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn, TextIO, get_args

from colorquant_nn.cli.options import (
    EXIT_BAD_INPUT,
    EXIT_INTERRUPTED,
    TIMEOUT,
    TIMEOUT_VARIABLE,
    Drawing,
    Fitting,
    Output,
    is_one_of_several,
    print_error,
)
from colorquant_nn.named_palettes import NAMED_PALETTES
from colorquant_nn.names import Dither, Effort, Space
from colorquant_nn.palette_files import PALETTE_FORMATS, parse_colors

__all__ = ["main"]

DEFAULT_COLORS = 256
MOST_COLORS = 65536


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments, by default those of the process.

    Returns:
        the exit code: 0 all done; 1 some of several inputs failed, each named on stderr; 2 bad
        arguments, or every input failed; 130 interrupted.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("always", module="colorquant_nn")
        warnings.showwarning = _show_warning
        if not is_one_of_several():
            return _run(argv)
        from colorquant_nn.cli import ranks

        return ranks.run(partial(_run, argv))


def _run(argv: Sequence[str] | None) -> int:
    arguments = build_parser().parse_args(argv)
    try:
        if is_one_of_several() and arguments.run != _run_palette:
            raise ValueError("torchrun is for colorquant palette alone: run this without it")
        code = arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print_error("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError) as error:
        print_error(error)
        return EXIT_BAD_INPUT
    return code


def build_parser() -> argparse.ArgumentParser:
    """The options of all commands."""
    parser = _Parser(prog="colorquant", description="The best K colours for pictures.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_quantize(commands)
    _add_palette(commands)
    _add_compare(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """Wrong options are one line on stderr."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: {' '.join(message.split())}\n")


def _add_quantize(commands: Any) -> None:
    command = commands.add_parser(
        "quantize",
        help="reduce pictures to few colours",
        description="Reduce pictures to few colours, in files without loss. Animations and "
        "multi-page files keep their frames, with one palette.",
        epilog=f"Named palettes: {', '.join(NAMED_PALETTES)}.",
    )
    command.add_argument("inputs", nargs="+", metavar="IN", help="pictures, or folders of them")
    command.add_argument(
        "-o",
        "--output",
        metavar="OUT|DIR",
        help="a .png, .gif, .webp or .tif file, or a folder; default: NAME-quantized.png beside "
        "the input (animations keep their format)",
    )
    _add_fitting(command)
    command.add_argument("--dither", choices=get_args(Dither), default="none")
    command.add_argument(
        "--strength", type=_share, default=1.0, metavar="S", help="of the dither, 0 to 1"
    )
    command.add_argument(
        "--palette",
        metavar="NAME|LIST|FILE",
        help="use these colours: a named palette, a list such as '#000,white,#f00', or a file",
    )
    command.add_argument("--shared-palette", action="store_true", help="one palette for all inputs")
    command.add_argument(
        "--min-psnr", type=_decibels, metavar="DB", help="the fewest colours that reach this"
    )
    command.add_argument(
        "--compare", metavar="PNG|DIR", help="also a picture: original | quantized | palette"
    )
    _add_output(command)
    command.set_defaults(run=_run_quantize)


def _add_palette(commands: Any) -> None:
    command = commands.add_parser(
        "palette",
        help="find the palette of pictures",
        description="Find one palette for all the pictures. It is printed, in colour on a "
        "terminal, as one code a line elsewhere.",
        epilog="Several processes share the files: torchrun --nproc-per-node 8 -m colorquant_nn "
        "palette FOLDER -k 512 -o OUT. They wait for one that does not answer for "
        f"{TIMEOUT:g} minutes, or as many as {TIMEOUT_VARIABLE} says.",
    )
    command.add_argument(
        "inputs", nargs="+", metavar="IN", help="pictures, or folders of them and their subfolders"
    )
    command.add_argument(
        "-o", "--output", metavar="OUT", help=f"a palette file: {', '.join(PALETTE_FORMATS)}"
    )
    _add_fitting(command)
    command.add_argument(
        "--plot", metavar="PNG", help="also a picture: the error over the number of colours"
    )
    command.add_argument("--color", choices=("auto", "always", "never"), default="auto")
    _add_output(command)
    command.set_defaults(run=_run_palette)


def _add_compare(commands: Any) -> None:
    command = commands.add_parser(
        "compare", help="measure how two pictures differ", description="Measure how two differ."
    )
    command.add_argument("original", metavar="A")
    command.add_argument("other", metavar="B")
    command.add_argument("-o", "--output", metavar="PNG", help="a picture of both, side by side")
    _add_output(command)
    command.set_defaults(run=_run_compare)


def _add_fitting(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-k", "--colors", type=_count, metavar="K", help="how many colours; default: 256"
    )
    command.add_argument(
        "--space", choices=get_args(Space), default="rgb", help="where distances are measured"
    )
    command.add_argument("--effort", choices=get_args(Effort), default="balanced")
    command.add_argument(
        "--keep",
        type=_colors,
        action="extend",
        default=[],
        metavar="COLOR",
        help="a colour that is in the palette as it is, such as '#ffffff' or white; several: with "
        "commas",
    )
    command.add_argument("--seed", type=int, default=0, metavar="N")


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print the results as JSON")
    command.add_argument("-f", "--force", action="store_true", help="replace existing files")


def _run_quantize(given: Namespace) -> int:
    chosen = {"-k": given.colors, "--keep": given.keep, "--shared-palette": given.shared_palette}
    for option, value in {**chosen, "--min-psnr": given.min_psnr}.items():
        if given.palette is not None and value:
            raise ValueError(f"--palette fixes the colours: it does not go with {option}")
    for option, value in chosen.items():
        if given.min_psnr is not None and value:
            raise ValueError(f"--min-psnr chooses the colours: it does not go with {option}")
    from colorquant_nn.cli import commands

    return commands.quantize(
        given.inputs,
        _fitting(given),
        Drawing(given.space, given.dither, given.strength),
        Output(given.output, given.compare, given.json, given.force),
        palette=given.palette,
        shared=given.shared_palette,
        min_psnr=given.min_psnr,
    )


def _run_palette(given: Namespace) -> int:
    from colorquant_nn.cli import commands

    output = Output(given.output, given.plot, given.json, given.force)
    return commands.palette(given.inputs, _fitting(given), output, given.color)


def _run_compare(given: Namespace) -> int:
    from colorquant_nn.cli import commands

    output = Output(None, given.output, given.json, given.force)
    return commands.compare(given.original, given.other, output)


def _fitting(given: Namespace) -> Fitting:
    colors = given.colors or DEFAULT_COLORS
    return Fitting(colors, given.space, given.effort, tuple(given.keep), given.seed)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_COLORS:
        raise argparse.ArgumentTypeError(
            f"expected a number of colours from 1 to {MOST_COLORS}, got {text!r}"
        )
    return int(text)


def _share(text: str) -> float:
    return _number(text, 0, 1, "a strength from 0 to 1")


def _decibels(text: str) -> float:
    return _number(text, 0, 200, "a PSNR from 0 to 200 dB")


def _number(text: str, low: float, high: float, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"expected {what}, got {text!r}")
    return value


def _colors(text: str) -> list[tuple[int, ...]]:
    try:
        return parse_colors(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print_error(f"warning: {message}")
