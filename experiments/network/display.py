"""An autoencoder in front of a dithered display: trained through its dots, or dithered afterwards.

Run ``python -m experiments.network display``. All networks have the same weights after a training
without a display; then each goes on for as many steps, with the same images, in its own way. They
are judged by the eye's error of the dots on photographs that none has seen.

Letters: B images, H rows, W columns, K colours.
"""

import argparse
import copy
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from colorquant_nn import (
    ColorQuantize,
    DitheredColorQuantize,
    comparison,
    fit_gamut,
    load_image,
    load_palette,
)
from colorquant_nn.functional import eye_error, psnr
from experiments import SHARED_DATA
from experiments.data import ImageData, crop
from experiments.figures import interval_text
from experiments.network.records import RECORDS, Record, record
from experiments.network.training import fit

Show: TypeAlias = Callable[[Tensor], Tensor]

AFTERWARDS = "no display in training, dithered afterwards"
UNDITHERED = "the same, not dithered"
NEAREST = "the nearest colours in training, dithered afterwards"
THROUGH = "through the dots"
ANCHORED = "through the dots, and what is in front of them"
ORIGINAL = "no network: the photograph, dithered"
FITTED = "no network: moved into the gamut, dithered"
SPATIAL = "no network: dots of direct search (`spatial`)"
PIXELS = "no network: each photograph's pixels, through the dots"

COLUMNS = 16  # numbers of the code for each square of 16 pixels: a third of the image's
SIZE = 64  # of the training images
BATCH = 8
FIRST_RATE, RATE = 2e-3, 2e-4  # the largest, of the training before and of those that follow
PIXEL_RATE = 1e-2
ANCHOR = 0.5


class Autoencoder(nn.Module):
    """Images to a code of a third of their numbers and back; at first, of the means of squares.

    Args:
        channels: features at the full resolution; twice as many at each halving.

    Returns:
        Of images (B, 3, H, W) the same shape, in [0, 1]; H and W are multiples of 4.

    Examples:
        >>> import torch
        >>> from experiments.network.display import Autoencoder
        >>> flat = torch.full((1, 3, 8, 12), 0.25)
        >>> torch.equal(Autoencoder()(flat), flat)
        True
    """

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        fine, middle, coarse = channels, 2 * channels, 4 * channels
        self.encoder = nn.Sequential(
            nn.Conv2d(3, middle, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(middle, coarse, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(coarse, COLUMNS - 3, 3, padding=1),
        )
        layers: list[nn.Module] = []
        for before, after, scale in (
            (COLUMNS, coarse, 1),
            (coarse, coarse, 2),
            (coarse, middle, 2),
            (middle, fine, 1),
            (fine, fine, 1),
        ):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.SiLU()]
            layers += [nn.Upsample(scale_factor=scale)] if scale > 1 else []
        self.decoder = nn.Sequential(*layers)
        self.head = nn.Conv2d(fine, 3, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        means = functional.avg_pool2d(images, 4)
        with torch.autocast(images.device.type, torch.bfloat16):  # half of the time
            code = torch.cat([means, self.encoder(images - 0.5)], 1)
            detail = self.head(self.decoder(code))
        smooth = functional.interpolate(means, scale_factor=4, mode="bilinear")
        # Where the limit is reached no gradient passes: a display shows no more than white.
        return (smooth + detail.float()).clamp(0, 1)


class DisplayTraining(pl.LightningModule):
    """The eye's error of what a display shows of a network's images.

    Args:
        network: images to images.
        show: images (B, 3, H, W) to what the display makes of them.
        anchor: how much the eye's error of the network's own images counts beside it.
        rate: the largest of Adam's, which rises to it and falls to nothing.
    """

    def __init__(self, network: nn.Module, show: Show, anchor: float, rate: float) -> None:
        super().__init__()
        self.network = network
        self.show = show
        self.anchor = anchor
        self.rate = rate

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, _ = batch
        own = self.network(images)
        error = eye_error(self.show(own), images)
        return error + self.anchor * eye_error(own, images) if self.anchor else error

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.rate)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.rate, total_steps=max(steps, 2), pct_start=0.1
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def as_it_is(images: Tensor) -> Tensor:
    """A display of all colours."""
    return images


def train(
    network: nn.Module, show: Show, *, steps: int, seed: int, anchor: float = 0.0, rate: float
) -> nn.Module:
    """A copy of a network, trained on crops of the installed photographs.

    Args:
        network: where it begins.
        show: see `DisplayTraining`.
        steps: of `BATCH` crops.
        seed: of the crops.
        anchor: see `DisplayTraining`.
        rate: see `DisplayTraining`.

    Returns:
        The copy, in evaluation mode.
    """
    task = DisplayTraining(copy.deepcopy(network), show, anchor, rate)
    data = ImageData(
        crop_size=SIZE, train_crops=steps * BATCH, batch_size=BATCH, mirror=True, seed=seed
    )
    fit(task, data)
    return task.network.eval()


@cache
def beginning(seed: int, steps: int) -> tuple[nn.Module, nn.Module]:
    """The network after the training that all share, and after as many steps more of the same."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: nn.Module = Autoencoder()
    network = train(network, as_it_is, steps=steps, seed=1000 + seed, rate=FIRST_RATE)
    return network, train(network, as_it_is, steps=steps, seed=seed, rate=RATE)


def load_pictures(folder: Path, size: int) -> list[Tensor]:
    """The centres of a folder's photographs, (1, 3, size, size) in [0, 1].

    Raises:
        FileNotFoundError: there are none.
    """
    files = sorted(path for path in folder.glob("*") if path.suffix in (".png", ".jpg"))
    if not files:
        raise FileNotFoundError(
            f"no photographs (.png, .jpg) in {folder.absolute()}; --data is a folder of them, "
            "such as the 24 of Kodak"
        )
    whole = [load_image(file) for file in files]
    return [crop(picture[:3], size, (0.5, 0.5))[None].float() / 255 for picture in whole]


@torch.no_grad()
def judge(pictures: Sequence[Tensor], show: Show) -> dict[str, float]:
    """Mean eye error and PSNR of what is shown of pictures."""
    shown = [(show(picture), picture) for picture in pictures]
    return {
        "eye_error": statistics.fmean(eye_error(a, b).item() for a, b in shown),
        "psnr": statistics.fmean(psnr(a, b).item() for a, b in shown),
    }


def optimize_pixels(picture: Tensor, display: nn.Module, steps: int) -> Tensor:
    """The dots of one picture whose pixels follow the gradient through them.

    Args:
        picture: (1, 3, H, W) in [0, 1].
        display: to dots.
        steps: at least 1, of Adam.

    Returns:
        The best dots on the way, (1, 3, H, W): first it gets worse.
    """
    least, best = float("inf"), picture
    with torch.enable_grad():
        pixels = picture.clone().requires_grad_()
        optimizer = torch.optim.Adam([pixels], lr=PIXEL_RATE)
        for _ in range(steps):
            dots = display(pixels)
            error = eye_error(dots, picture)
            if error.item() < least:
                least, best = error.item(), dots.detach()
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            with torch.no_grad():
                pixels.clamp_(0, 1)
    return best


def make_display(name: str, dither: str) -> DitheredColorQuantize:
    """A display by the name of its palette."""
    colors = ColorQuantize.from_palette(load_palette(name), space="oklab")
    return DitheredColorQuantize(colors, dither)  # type: ignore[arg-type]


def without_network(pictures: Sequence[Tensor], name: str, dither: str, steps: int) -> Record:
    """What a display shows of photographs without a network, by some ways.

    Args:
        pictures: see `load_pictures`.
        name: of the display's palette.
        dither: of its dots.
        steps: of `optimize_pixels`.

    Returns:
        A record: by variant, what `judge` says.
    """
    display, palette = make_display(name, dither), load_palette(name)
    search = make_display(name, "spatial")
    ways: dict[str, Show] = {
        ORIGINAL: display,
        FITTED: lambda picture: display(fit_gamut(picture, palette)),
        SPATIAL: search,
        PIXELS: lambda picture: optimize_pixels(picture, display, steps),
    }
    return {
        "display": name,
        "dither": dither,
        "pixel_steps": steps,
        "variants": {way: judge(pictures, show) for way, show in ways.items()},
    }


def with_network(
    pictures: Sequence[Tensor], name: str, dither: str, *, steps: int, seed: int, drawn: Path | None
) -> Record:
    """What a display shows of photographs by networks trained for it, and by one that was not.

    Args:
        pictures: see `load_pictures`.
        name: of the display's palette.
        dither: of its dots.
        steps: of each of the two halves of a training.
        seed: of the weights and the crops.
        drawn: a file for `pictures_side_by_side`.

    Returns:
        A record: by variant, what `judge` says.
    """
    display = make_display(name, dither)
    begun, afterwards = beginning(seed, steps)
    networks = {AFTERWARDS: afterwards}
    for way, show, anchor in (
        (ANCHORED, display, ANCHOR),
        (THROUGH, display, 0.0),
        (NEAREST, display.quantizer, 0.0),
    ):
        networks[way] = train(begun, show, steps=steps, seed=seed, anchor=anchor, rate=RATE)
    shown: dict[str, Show] = {UNDITHERED: afterwards}
    shown |= {way: nn.Sequential(network, display) for way, network in networks.items()}
    variants = {way: judge(pictures, show) for way, show in shown.items()}
    if drawn is not None:
        drawn.parent.mkdir(parents=True, exist_ok=True)
        columns = {"afterwards": AFTERWARDS, "through": THROUGH, "with an anchor": ANCHORED}
        picture = pictures_side_by_side(
            pictures[:: max(1, len(pictures) // 3)][:3],
            {caption: shown[way] for caption, way in columns.items()},
        )
        picture.quantize(128, dither=Image.Dither.NONE).save(drawn, optimize=True)
    return {
        "display": name,
        "dither": dither,
        "seed": seed,
        "steps": 2 * steps,
        "parameters": sum(p.numel() for p in afterwards.parameters()),
        "variants": variants,
    }


@torch.no_grad()
def pictures_side_by_side(
    pictures: Sequence[Tensor], ways: Mapping[str, Show], size: int = 112
) -> Image.Image:
    """Photographs and what a display shows of them, a row each, with the eye's error.

    Args:
        pictures: see `load_pictures`.
        ways: by caption.
        size: of the middle that is drawn, its pixels enlarged.

    Returns:
        The picture.
    """
    rows = []
    for picture in pictures:
        panels = {"original": crop(picture[0], size, (0.5, 0.5))}
        for caption, show in ways.items():
            dots = show(picture)
            error = eye_error(dots, picture).item()
            panels[f"{caption}\neye error {error:.2f}"] = crop(dots[0], size, (0.5, 0.5))
        rows.append(comparison(panels))
    whole = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)))
    for place, row in enumerate(rows):
        whole.paste(row, (0, place * rows[0].height))
    return whole


def rows(found: Mapping[str, Record]) -> list[dict[str, str]]:
    """A table of all displays: a row for each variant, means over seeds with intervals.

    Args:
        found: the records of this part, by name.

    Returns:
        As `experiments.figures.markdown_table` takes them.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for one in found.values():
        groups.setdefault((one["display"], one["dither"]), []).append(one)
    table = []
    for (name, dither), group in groups.items():
        runs: dict[str, list[tuple[int, dict[str, float]]]] = {}
        for one in group:
            for way, values in one["variants"].items():
                runs.setdefault(way, []).append((one.get("seed", 0), values))
        base = {seed: values["eye_error"] for seed, values in runs.get(AFTERWARDS, [])}
        for way, values_of in runs.items():
            errors = [values["eye_error"] for _, values in values_of]
            row = {
                "display": name,
                "dither": dither,
                "variant": way,
                "eye error": interval_text(errors, 2),
                "PSNR (dB)": interval_text([values["psnr"] for _, values in values_of], 1),
            }
            if base and way not in (AFTERWARDS, UNDITHERED):
                mean = statistics.fmean(base.values())
                seeded = len(values_of) > 1
                below = [
                    100 * (1 - values["eye_error"] / (base[seed] if seeded else mean))
                    for seed, values in values_of
                ]
                row["below dithering afterwards (%)"] = interval_text(below, 1)
            table.append(row)
    return table


def run(argv: Sequence[str] | None = None) -> None:
    """Train in front of each display, judge, and keep what was found."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.network display", description=__doc__
    )
    parser.add_argument(
        "--data", type=Path, default=SHARED_DATA / "kodak", help="folder of test photographs"
    )
    parser.add_argument("--displays", nargs="+", default=["acep7", "epaper-bwry", "spectra6"])
    parser.add_argument("--dither", default="floyd-steinberg")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=700, help="of each half of a training")
    parser.add_argument("--pixel-steps", type=int, default=40)
    parser.add_argument("--test-size", type=int, default=256, help="side of the test pictures")
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of what was found")
    options = parser.parse_args(argv)
    pictures = load_pictures(options.data, options.test_size)
    names = {display: f"display-{display}-{options.dither}" for display in options.displays}
    for seed in options.seeds:
        for display, name in names.items():
            drawn = options.records / f"{name}.png" if seed == options.seeds[0] else None
            record(
                options.records,
                f"{name}-seed{seed}",
                lambda display=display, seed=seed, drawn=drawn: with_network(  # type: ignore[misc]
                    pictures, display, options.dither, steps=options.steps, seed=seed, drawn=drawn
                ),
            )
    for display, name in names.items():
        record(
            options.records,
            f"{name}-no-network",
            lambda display=display: without_network(  # type: ignore[misc]
                pictures, display, options.dither, options.pixel_steps
            ),
        )
