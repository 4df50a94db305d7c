"""The command ``colorquant``: what a user may write, and how errors are told.

What the commands do is in `quantize`, `palette` and `compare`, which are imported only when one
runs: help and wrong options need no torch.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import sys
import warnings
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TextIO, get_args

from colorquant_nn import __version__
from colorquant_nn.cli import signals, streams
from colorquant_nn.cli.options import (
    EXIT_BAD_INPUT,
    EXIT_INTERRUPTED,
    TIMEOUT,
    TIMEOUT_VARIABLE,
    Drawing,
    Fitting,
    Given,
    Goal,
    Output,
    RankLostError,
    is_one_of_several,
    print_error,
    shown,
)
from colorquant_nn.files import discard_partials
from colorquant_nn.image_files import MAX_PIXELS
from colorquant_nn.named_palettes import NAMED_PALETTES
from colorquant_nn.names import Dither, Effort, Space
from colorquant_nn.palette_files import PALETTE_FORMATS, parse_colors

__all__ = ["main"]

DEFAULT_COLORS = 256
MOST_COLORS = 65536
LARGEST_SEED = 2**63 - 1
INPUTS = "pictures, or folders, searched with their subfolders; - is standard input"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments; None: those of the process, which then dies by a signal that ends it.

    Returns:
        the exit code: 0 all done; 1 some of several inputs failed, each named on stderr; 2 bad
        arguments, or every input failed; 128 and the number of a signal, so 130 interrupted.
    """
    with warnings.catch_warnings(), streams.guarded() as lost:
        warnings.filterwarnings("always", category=UserWarning, module="colorquant_nn")
        warnings.showwarning = _show_warning
        if is_one_of_several():
            return _run_as_rank(argv)
        with signals.handled(dies=argv is None) as came:
            try:
                code = _run(argv)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and not came:
                    came.append(signal.SIGINT)
                if not came:
                    raise
        if came:
            discard_partials()
            code = 128 + came[0]
            if code == EXIT_INTERRUPTED:
                print_error("interrupted")
        sys.stdout.flush()
        if lost and not came:
            print_error(f"standard output: {lost[0].strerror}")
            code = EXIT_BAD_INPUT
    if came and argv is None:
        signals.die(came[0])
    return code


def _run(argv: Sequence[str] | None) -> int:
    arguments = build_parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    try:
        if is_one_of_several() and arguments.run != _run_palette:
            raise ValueError("torchrun is for colorquant palette alone: run this without it")
        return arguments.run(arguments)
    except RankLostError:
        raise
    except Exception as error:
        print_error(error)
        return EXIT_BAD_INPUT


def _run_as_rank(argv: Sequence[str] | None) -> int:
    """All ranks end with one exit code: ``torchrun`` is who heeds signals."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    from colorquant_nn.cli import ranks

    def command() -> int:
        try:
            return _run(argv)
        except KeyboardInterrupt:
            print_error("interrupted")
            return EXIT_INTERRUPTED

    return ranks.run(command)


def _joined(argv: Sequence[str]) -> list[str]:
    """Arguments in which a suffix may begin with a dash, as most do."""
    joined: list[str] = []
    for argument in argv:
        if joined[-1:] == ["--suffix"] and "--" not in joined:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def build_parser() -> argparse.ArgumentParser:
    """The options of all commands."""
    parser = _Parser(prog="colorquant", description="The best K colours for pictures.")
    parser.add_argument("--version", action="version", version=f"colorquant {__version__}")
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
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: {shown(' '.join(message.split()))}\n")


def _add_quantize(commands: Any) -> None:
    command = commands.add_parser(
        "quantize",
        help="reduce pictures to few colours",
        description="Reduce pictures to few colours, in files without loss. Animations and "
        "multi-page files keep their frames, with one palette. Inputs are never replaced.",
        epilog=f"Named palettes: {', '.join(NAMED_PALETTES)}.",
    )
    command.add_argument("inputs", nargs="+", type=_path, metavar="IN", help=INPUTS)
    command.add_argument(
        "-o",
        "--output",
        type=_path,
        metavar="OUT|DIR",
        help="a .png, .gif, .webp, .tif or .bmp file; or a folder, which gets the same names and "
        "subfolders; - is standard output; default: NAME-quantized.png beside the input "
        "(animations keep their format)",
    )
    command.add_argument(
        "--suffix",
        type=_suffix,
        metavar="S",
        help="ends the names of results, before the dot; default: -quantized beside the input, "
        "nothing in a folder of -o",
    )
    _add_fitting(command, "better colours and a smaller .png")
    command.add_argument(
        "--dither",
        choices=get_args(Dither),
        help="mix colours that the palette lacks from dots: auto does where bands would show, and "
        "leaves flat areas, edges and text alone; default: auto, with --min-psnr none",
    )
    command.add_argument(
        "--strength",
        type=_share,
        metavar="S",
        help="of the dither, 0 to 1; default: 1",
    )
    command.add_argument(
        "--palette",
        type=_path,
        metavar="NAME|LIST|FILE",
        help="use these colours: a named palette, a list such as '#000,white,#f00', or a file; of "
        "a display, '#b21318=#ff0000' is what is seen, and what the file is to say",
    )
    command.add_argument(
        "--fit-gamut",
        action="store_true",
        help="move the pictures' colours to where dots of --palette can show them; for panels "
        "whose white is grey",
    )
    command.add_argument(
        "--fit-lightness",
        action="store_true",
        help="stretch the pictures' lightness to that of --palette; for a few greys or greens",
    )
    command.add_argument("--shared-palette", action="store_true", help="one palette for all inputs")
    command.add_argument(
        "--min-psnr",
        type=_decibels,
        metavar="DB",
        help="the fewest colours that reach this PSNR, at most as many as -k says",
    )
    command.add_argument(
        "--compare",
        type=_path,
        metavar="PNG|DIR",
        help="also a picture: original | quantized | palette",
    )
    command.add_argument(
        "--skip-if-larger", action="store_true", help="write no picture larger than its input"
    )
    command.add_argument(
        "--strip", action="store_true", help="drop metadata, such as dots per inch"
    )
    _add_output(command)
    _add_goals(
        command.add_argument_group(
            "small files",
            "Colours and pixels are chosen by their bytes, too, for .png stills; -k says how many "
            "colours at most, and there are no dots.",
        )
    )
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
    command.add_argument("inputs", nargs="+", type=_path, metavar="IN", help=INPUTS)
    command.add_argument(
        "-o",
        "--output",
        type=_path,
        metavar="OUT",
        help=f"a palette file: {', '.join(PALETTE_FORMATS)}",
    )
    _add_fitting(command, "better colours")
    command.add_argument(
        "--plot",
        type=_path,
        metavar="PNG",
        help="also a picture: the error over the number of colours",
    )
    command.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="print the palette in colour; default: auto, on a terminal",
    )
    _add_output(command)
    command.set_defaults(run=_run_palette)


def _add_compare(commands: Any) -> None:
    command = commands.add_parser(
        "compare",
        help="measure how two pictures differ",
        description="Measure how two pictures or animations of one size differ: MSE, PSNR, SSIM, "
        "CIEDE2000, and the eye error, what is seen at arm's length.",
    )
    command.add_argument("original", type=_path, metavar="A", help="a picture; - is standard input")
    command.add_argument("other", type=_path, metavar="B", help="another, of the same size")
    command.add_argument(
        "-o", "--output", type=_path, metavar="PNG", help="a picture of both, side by side"
    )
    _add_output(command)
    command.set_defaults(run=_run_compare)


def _add_fitting(command: argparse.ArgumentParser, searched: str) -> None:
    command.add_argument(
        "-k", "--colors", type=_count, metavar="K", help="how many colours; default: 256"
    )
    command.add_argument(
        "--space",
        choices=get_args(Space),
        default="oklab",
        help="where distances are measured; default: oklab",
    )
    command.add_argument(
        "--effort",
        choices=get_args(Effort),
        default="balanced",
        help=f"how long {searched} are searched for; default: balanced",
    )
    command.add_argument(
        "--keep",
        type=_colors,
        action="extend",
        default=[],
        metavar="COLOR",
        help="a colour that is in the palette as it is, such as '#ffffff' or white; several: with "
        "commas",
    )
    command.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="another one, other colours; default: 0"
    )
    command.add_argument(
        "--bits",
        type=_bits,
        metavar="R,G,B",
        help="of a display's colours, such as 5,6,5, or one number for all: only those are used",
    )


def _add_goals(group: Any) -> None:
    group.add_argument(
        "--max-bytes",
        type=_bytes,
        metavar="N",
        help="the best picture of at most so many bytes, such as 60000, 60k or 1.5M, where k is "
        "1000; with --min-quality both hold",
    )
    group.add_argument(
        "--min-quality",
        type=_quality,
        metavar="Q",
        help="the smallest file of this quality, 0 to 100, in units of SSIMULACRA2: 90 is hard to "
        "tell from the original, 70 is high, 50 medium",
    )
    group.add_argument(
        "--lossy",
        type=_price,
        metavar="L",
        help="instead of these: the more, the smaller; 5 is hardly seen, 100 is",
    )


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print the results as JSON")
    command.add_argument("-f", "--force", action="store_true", help="replace existing files")
    command.add_argument(
        "-q", "--quiet", action="store_true", help="no summary, no progress; errors are told"
    )
    command.add_argument(
        "--max-pixels",
        type=_pixels,
        default=MAX_PIXELS,
        metavar="N",
        help="refuse frames of more, such as 400M; eight times as many in all frames of a file; "
        f"default: {MAX_PIXELS / 1e6:.0f}M",
    )


def _drawing(given: Namespace) -> Drawing:
    """A PSNR that is asked for is that without dots, unless somebody names some."""
    dither: Dither = given.dither or ("auto" if given.min_psnr is None else "none")
    return Drawing(given.space, dither, 1.0 if given.strength is None else given.strength)


def _goal(given: Namespace) -> Goal:
    """What is asked for, if nothing else speaks against it."""
    goal = Goal(given.min_psnr, given.max_bytes, given.min_quality, given.lossy)
    names = ["--min-psnr", "--max-bytes", "--min-quality", "--lossy"]
    goals = {name: value is not None for name, value in zip(names, goal, strict=True)}
    chosen = {
        "--keep": bool(given.keep),
        "--shared-palette": given.shared_palette,
        "--bits": given.bits is not None,
    }
    dots = {"--dither": given.dither is not None, "--strength": given.strength is not None}
    if given.palette is not None:
        taken = {**chosen, "-k": given.colors is not None, **goals}
        _refuse("--palette fixes the colours", taken)
    if goals.pop("--min-psnr"):
        _refuse("--min-psnr chooses the colours", {**chosen, **goals})
    if goals.pop("--lossy"):
        _refuse("--lossy says how much is lost", goals)
    if goal.compresses:
        name = next(name for name, is_given in {**goals, "--lossy": True}.items() if is_given)
        _refuse(f"{name} chooses colours and pixels by their bytes", {**chosen, **dots})
        if (given.colors or 0) > DEFAULT_COLORS:
            raise ValueError(f"{name} writes files of at most 256 colours, got -k {given.colors}")
    return goal


def _refuse(reason: str, options: Mapping[str, bool]) -> None:
    for option, is_given in options.items():
        if is_given:
            raise ValueError(f"{reason}: it does not go with {option}")


def _run_quantize(given: Namespace) -> int:
    if given.fit_gamut and given.fit_lightness:
        raise ValueError("--fit-gamut fits lightness, too: it does not go with --fit-lightness")
    fit = "gamut" if given.fit_gamut else "lightness" if given.fit_lightness else None
    if fit and given.palette is None:
        raise ValueError(f"--fit-{fit} needs the colours to fit to: a --palette")
    goal = _goal(given)
    from colorquant_nn.cli.quantize import quantize
    from colorquant_nn.functional.progress import hidden_progress

    output = _output(given, given.output, given.compare)
    with hidden_progress(given.quiet):
        return quantize(
            given.inputs,
            _fitting(given),
            _drawing(given),
            output._replace(
                suffix=given.suffix, skip_if_larger=given.skip_if_larger, strip=given.strip
            ),
            given=None if given.palette is None else Given(given.palette, fit),
            shared=given.shared_palette,
            goal=goal,
            max_pixels=given.max_pixels,
        )


def _run_palette(given: Namespace) -> int:
    from colorquant_nn.cli.palette import palette

    output = _output(given, given.output, given.plot)
    return palette(given.inputs, _fitting(given), output, given.color, max_pixels=given.max_pixels)


def _run_compare(given: Namespace) -> int:
    from colorquant_nn.cli.compare import compare

    output = _output(given, None, given.output)
    return compare(given.original, given.other, output, max_pixels=given.max_pixels)


def _output(given: Namespace, file: str | None, picture: str | None) -> Output:
    return Output(file, picture, given.json, given.force, given.quiet)


def _fitting(given: Namespace) -> Fitting:
    colors = given.colors or DEFAULT_COLORS
    return Fitting(colors, given.space, given.effort, tuple(given.keep), given.seed, given.bits)


def _count(text: str) -> int:
    return _whole(text, 1, MOST_COLORS, "a number of colours")


def _seed(text: str) -> int:
    return _whole(text, 0, LARGEST_SEED, "a seed")


def _bits(text: str) -> tuple[int, int, int]:
    if not re.fullmatch("[1-8](,[1-8],[1-8])?", text):
        raise argparse.ArgumentTypeError(
            f"expected bits of red, green and blue, 1 to 8 each, such as 5,6,5, got {text!r:.80}"
        )
    red, green, blue = map(int, text.split(",") if "," in text else 3 * text)
    return red, green, blue


def _whole(text: str, low: int, high: int, what: str) -> int:
    if not re.fullmatch("[0-9]{1,99}", text) or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"expected {what} from {low} to {high}, got {text!r:.80}")
    return int(text)


def _pixels(text: str) -> int:
    return _many(text, "a number of pixels, such as 400000000 or 400M")


def _bytes(text: str) -> int:
    return _many(text, "a number of bytes, such as 60000 or 60k")


def _many(text: str, what: str) -> int:
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([kmg]?)", text, re.IGNORECASE)
    number = 0
    if found is not None:
        number = int(float(found[1]) * {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}[found[2].lower()])
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected {what}, got {text!r:.80}")
    return number


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected a name, got an empty one")
    return text


def _suffix(text: str) -> str:
    if not text or {"/", os.sep, os.altsep} & set(text):
        raise argparse.ArgumentTypeError(f"expected the end of a name, such as -8, got {text!r}")
    return text


def _share(text: str) -> float:
    return _number(text, 0, 1, "a strength from 0 to 1")


def _decibels(text: str) -> float:
    return _number(text, 0, 200, "a PSNR from 0 to 200 dB")


def _quality(text: str) -> float:
    return _number(text, 0, 100, "a quality from 0 to 100")


def _price(text: str) -> float:
    return _number(text, 0, 1e6, "a price of a bit from 0 to 1000000")


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
