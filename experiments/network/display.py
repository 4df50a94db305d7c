"""A generator in front of a dithered display: trained through its dots, or dithered afterwards.

Run ``python -m experiments.network display``. A decoder makes a fixed set of photographs, each from
a code of its own, for the eye's error. After a first half that all share, the codes are trained on:
for the pictures as they are, through the dots of the display, or through its nearest colours, with
the same steps and rates. Judged are the dots. The pictures are all that the generator ever shows,
as the animations of a badge or a sign are: nothing is held out, and nothing is said of others.

Letters: B pictures, H rows, W columns.
"""

import argparse
import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import TypeAlias

import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from colorquant_nn import ColorQuantize, DitheredColorQuantize, comparison, load_palette
from colorquant_nn.functional import eye_error, psnr
from colorquant_nn.names import Dither
from experiments.data import ImageData
from experiments.figures import interval_text
from experiments.network.records import RECORDS, Record, record

Show: TypeAlias = Callable[[Tensor], Tensor]

AFTERWARDS = "no display in training, dithered afterwards"
UNDITHERED = "the same, not dithered"
THROUGH = "through the dots"
NEAREST = "the nearest colours in training, dithered afterwards"
TARGETS = "no generator: the photographs, dithered"
SPATIAL = "no generator: dots of direct search (`spatial`)"

RATE, FIRST_CODE_RATE = 3e-3, 0.03  # of Adam, the largest, of decoder and codes in the first half
CODE_RATE = 0.1  # of the codes in the second half
WARM_UP = 5


class Generator(nn.Module):
    """Makes a fixed set of pictures, each from a code of its own.

    Args:
        pictures: B.
        size: H and W.
        channels: features.
        code: numbers of a code at each pixel.

    Returns:
        (B, 3, H, W) in [0, 1], all pictures.

    Examples:
        >>> from experiments.network.display import Generator
        >>> Generator(pictures=2, size=16)().shape
        torch.Size([2, 3, 16, 16])
    """

    def __init__(self, pictures: int, size: int, channels: int = 48, code: int = 8) -> None:
        super().__init__()
        self.codes = nn.Parameter(0.1 * torch.randn(pictures, code, size, size))
        self.decoder = nn.Sequential(
            nn.Conv2d(code, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 1),
            nn.SiLU(),
            nn.Conv2d(channels, 3, 1),
        ).to(memory_format=torch.channels_last)

    def forward(self) -> Tensor:
        codes = self.codes.contiguous(memory_format=torch.channels_last)
        with torch.autocast(codes.device.type, torch.bfloat16):  # half of the time
            pictures = self.decoder(codes)
        # Where the limit is reached no gradient passes: a display shows no more than white.
        return (pictures.float() + 0.5).clamp(0, 1)


def as_it_is(pictures: Tensor) -> Tensor:
    """A display of all colours."""
    return pictures


def make_display(name: str, dither: Dither) -> DitheredColorQuantize:
    """A display by the name of its palette."""
    colors = ColorQuantize.from_palette(load_palette(name), space="oklab")
    return DitheredColorQuantize(colors, dither)


def load_targets(number: int, size: int) -> Tensor:
    """Crops of the installed photographs, (B, 3, size, size) in [0, 1], always the same."""
    data = ImageData(crop_size=size, train_crops=number, batch_size=number, seed=0)
    targets: Tensor = next(iter(data.train_dataloader()))[0]
    return targets


def train(generator: Generator, targets: Tensor, steps: int) -> Generator:
    """A copy of a generator, trained for what it makes: decoder and codes, each step sees all.

    Args:
        generator: where it begins.
        targets: (B, 3, H, W) in [0, 1].
        steps: of Adam.

    Returns:
        The copy.
    """
    generator = copy.deepcopy(generator)
    optimizer = torch.optim.Adam(generator.decoder.parameters(), lr=RATE)
    optimizer.add_param_group({"params": [generator.codes], "lr": FIRST_CODE_RATE})
    schedule = warm_up_and_fall(optimizer, steps)
    for _ in range(steps):
        error = eye_error(generator(), targets)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
    return generator


def refine(generator: Generator, show: Show, targets: Tensor, steps: int) -> Generator:
    """A copy of a generator, its codes trained for what is shown of its pictures.

    The decoder stays, so that each picture is on its own: its code is at last what it was when the
    picture's error was least, since through dots the error of single steps goes up and down.

    Args:
        generator: where it begins.
        show: pictures (B, 3, H, W) to what the display makes of them.
        targets: (B, 3, H, W) in [0, 1].
        steps: of Adam.

    Returns:
        The copy.
    """
    generator = copy.deepcopy(generator)
    optimizer = torch.optim.Adam([generator.codes], lr=CODE_RATE)
    schedule = warm_up_and_fall(optimizer, steps)
    least = torch.full((len(targets),), torch.inf)
    best = generator.codes.detach().clone()
    for step in range(steps):
        errors = eye_error(show(generator()), targets, per_image=True)
        better = errors.detach() < least
        least = torch.where(better, errors.detach(), least)
        best[better] = generator.codes.detach()[better]
        optimizer.zero_grad()
        errors.mean().backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step} of {steps}: eye error {errors.mean().item():.2f}", flush=True)
    with torch.no_grad():
        generator.codes.copy_(best)
    return generator


def warm_up_and_fall(optimizer: torch.optim.Optimizer, steps: int) -> LambdaLR:
    """Rates that rise within `WARM_UP` steps and fall to nothing."""
    return LambdaLR(optimizer, lambda step: min(1, (step + 1) / WARM_UP) * (1 - step / steps))


@cache
def beginning(seed: int, steps: int, number: int, size: int) -> tuple[Generator, Generator]:
    """The generator after the half that all share, and after as many steps more of the same."""
    targets = load_targets(number, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = Generator(number, size)
    shared = train(generator, targets, steps)
    return shared, refine(shared, as_it_is, targets, steps)


def judge(shown: Tensor, targets: Tensor) -> dict[str, float]:
    """Eye error and PSNR of what a display shows."""
    return {"eye_error": eye_error(shown, targets).item(), "psnr": psnr(shown, targets).item()}


@torch.no_grad()
def without_generator(name: str, dither: Dither, number: int, size: int) -> Record:
    """What a display shows of the photographs themselves.

    Args:
        name: of the display's palette.
        dither: of its dots.
        number: of crops.
        size: their side.

    Returns:
        A record: by variant, what `judge` says.
    """
    targets = load_targets(number, size)
    ways = {TARGETS: make_display(name, dither), SPATIAL: make_display(name, "spatial")}
    variants = {way: judge(show(targets), targets) for way, show in ways.items()}
    return {"display": name, "dither": dither, "variants": variants}


def with_generator(
    name: str, dither: Dither, *, seed: int, steps: int, number: int, size: int, drawn: Path | None
) -> Record:
    """What a display shows of generators trained for it, and of one that was not.

    Args:
        name: of the display's palette.
        dither: of its dots.
        seed: of weights and codes.
        steps: of each half of a training.
        number: of crops.
        size: their side.
        drawn: a file for `picture`, if there is to be one.

    Returns:
        A record: by variant, what `judge` says.
    """
    targets, display = load_targets(number, size), make_display(name, dither)
    shared, afterwards = beginning(seed, steps, number, size)
    own = {
        AFTERWARDS: afterwards,
        THROUGH: refine(shared, display, targets, steps),
        NEAREST: refine(shared, display.quantizer, targets, steps),
    }
    with torch.no_grad():
        shown = {way: display(generator()) for way, generator in own.items()}
        shown[UNDITHERED] = afterwards()
    if drawn is not None:
        drawn.parent.mkdir(parents=True, exist_ok=True)
        picture(targets, shown).save(drawn, optimize=True)
    return {
        "display": name,
        "dither": dither,
        "seed": seed,
        "weights": sum(weight.numel() for weight in afterwards.decoder.parameters()),
        "code_numbers": afterwards.codes.numel() // number,
        "variants": {way: judge(few, targets) for way, few in shown.items()},
    }


def picture(targets: Tensor, shown: Mapping[str, Tensor]) -> Image.Image:
    """Four photographs of the brighter half, and the dots that the display shows of them.

    Args:
        targets: (B, 3, H, W) in [0, 1].
        shown: by variant, the same shape.

    Returns:
        Three columns, each pixel four times as wide, with the eye's error of the four.
    """
    captions = {"dithered afterwards": AFTERWARDS, THROUGH: THROUGH}
    brightest = targets.mean((1, 2, 3)).argsort(descending=True)  # panels show little of dark ones
    four = brightest[: max(4, len(targets) // 2)][:: max(1, len(targets) // 8)]
    panels = {"photographs": targets[four]}
    for text, way in captions.items():
        error = eye_error(shown[way][four], targets[four]).item()
        panels[f"{text}\neye error {error:.2f}"] = shown[way][four]
    large = nn.Upsample(scale_factor=4)
    return comparison({text: torch.cat([*large(x)], 1) for text, x in panels.items()})


def rows(records: Mapping[str, Record]) -> list[dict[str, str]]:
    """A table of all displays: a row for each variant, means over seeds with intervals.

    Args:
        records: of this part, by name.

    Returns:
        As `experiments.figures.markdown_table` takes them.
    """
    table = []
    places = dict.fromkeys((found["display"], found["dither"]) for found in records.values())
    for name, dither in places:
        runs = [x for x in records.values() if (x["display"], x["dither"]) == (name, dither)]
        base = [x["variants"][AFTERWARDS]["eye_error"] for x in runs if AFTERWARDS in x["variants"]]
        for way in (UNDITHERED, AFTERWARDS, THROUGH, NEAREST, TARGETS, SPATIAL):
            values = [x["variants"][way] for x in runs if way in x["variants"]]
            if not values:
                continue
            errors = [value["eye_error"] for value in values]
            row = {
                "display": name,
                "dither": dither,
                "variant": way,
                "eye error": interval_text(errors, 2),
                "PSNR (dB)": interval_text([value["psnr"] for value in values], 1),
            }
            if base and way not in (AFTERWARDS, UNDITHERED):
                # Of the same seed, or of all, where a variant has none.
                references = base if len(errors) == len(base) else [fmean(base)]
                gains = [100 * (1 - a / b) for a, b in zip(errors, references, strict=True)]
                row["below dithering afterwards (%)"] = interval_text(gains, 1)
            table.append(row)
    return table


def run(argv: Sequence[str] | None = None) -> None:
    """Train in front of each display, judge, and keep what was found."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.network display", description=__doc__
    )
    parser.add_argument("--displays", nargs="+", default=["acep7", "spectra6", "epaper-bwry"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=500, help="of each half of a training")
    parser.add_argument("--crops", type=int, default=16, help="of photographs")
    parser.add_argument("--size", type=int, default=48, help="their side")
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of what was found")
    options = parser.parse_args(argv)
    dots: Sequence[tuple[str, Dither]] = [(x, "floyd-steinberg") for x in options.displays]
    dots = [*dots, (options.displays[0], "ordered")]
    crops = {"number": options.crops, "size": options.size}
    folder: Path = options.records
    for seed in options.seeds:
        for name, dither in dots if seed == 0 else dots[:-1]:
            file = f"display-{name}-{dither}-seed{seed}"
            drawn = folder / f"{file}.png" if seed == 0 else None
            measure = partial(with_generator, name, dither, seed=seed, steps=options.steps)
            run_once = partial(measure, drawn=drawn, **crops)
            record(folder, file, run_once, steps=options.steps, **crops)
    for name, dither in dots:
        file = f"display-{name}-{dither}-no-generator"
        record(folder, file, partial(without_generator, name, dither, **crops), **crops)
