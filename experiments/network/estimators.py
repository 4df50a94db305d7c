"""The atlas of estimators: how the gradient best passes a palette, at three dimensions, K <= 256.

Three tasks, each with a gradient to something else:

- ``shared``: a learnt palette in front of the frozen ResNet-20: to the palette alone.
- ``classifier``: recolouring, a learnt palette, a classifier, all from scratch: to both.
- ``autoencoder``: recolouring, a palette that follows by k-means, rebuilding: to the input alone.

All begin with the k-means palette of the same images, with the same weights and batches, and train
with Adam, whose rate falls linearly to 0, for the same number of steps. Every estimator has the
same tuning: at a task's first K and with the first seed it is trained at three rates, and the
validation images choose one, which all its other runs take. They are judged hard.

Letters: B images, K colours.
"""

import argparse
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypeAlias, cast

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LinearLR

from colorquant_nn import ColorQuantize, LearnedPalette
from colorquant_nn.functional import gradients
from colorquant_nn.functional.gradients import Estimator, Soft
from experiments.data import ImageData
from experiments.figures import BLUE, ORANGE, as_picture, interval_text, mean_interval
from experiments.models import UNet
from experiments.network.gradient_estimators import (
    DecoupledStraightThrough,
    DiVeQ,
    GumbelStraightThrough,
    ReinMax,
    nsvq,
    rotation_trick,
)
from experiments.network.judges import (
    NUM_CLASSES,
    FrozenClassifier,
    load_images,
    load_judge,
    reorder,
)
from experiments.network.records import RECORDS, Record, record
from experiments.network.training import fit

Layer: TypeAlias = ColorQuantize | LearnedPalette
Place: TypeAlias = tuple[str, int]  # a task and its K

BATCH_SIZE = 32
NUM_FITTED = 2048  # images of the k-means palette that all begin with
CUT, ROWS = "cut", "rows only"


class Entry(NamedTuple):
    """An estimator, and what goes with it."""

    estimator: Estimator
    commitment: float = 0.0
    """Weight of the commitment term, for those whose input would run away without."""
    forward: str = "hard"
    """What a training forward gives: colours of the palette, nearest or drawn, or noise."""


ESTIMATORS = {
    CUT: Entry(gradients.cut),
    ROWS: Entry(gradients.through_palette),
    "straight-through": Entry(gradients.straight_through_both, commitment=1.0),
    "rotation trick": Entry(rotation_trick, commitment=1.0),
    "soft 0.003": Entry(Soft(0.003)),
    "soft 0.01": Entry(Soft(0.01)),
    "soft 0.03": Entry(Soft(0.03)),
    "soft 0.1": Entry(Soft(0.1)),
    "DiVeQ": Entry(DiVeQ(), forward="noise"),
    "DiVeQ, detached": Entry(DiVeQ(variance=0)),
    "NSVQ": Entry(nsvq, forward="noise"),
    "Gumbel 0.003": Entry(GumbelStraightThrough(0.003), forward="drawn"),
    "Gumbel 0.01": Entry(GumbelStraightThrough(0.01), forward="drawn"),
    "ReinMax 0.003": Entry(ReinMax(0.003), forward="drawn"),
    "ReinMax 0.01": Entry(ReinMax(0.01), forward="drawn"),
    "decoupled 0.003, 0.03": Entry(DecoupledStraightThrough(0.003, 0.03), forward="drawn"),
}
"""By name; temperatures are squared distances in units of [0, 1] colours."""


@dataclass(frozen=True)
class Task:
    """What is trained, how long, and what it is judged by."""

    sizes: tuple[int, ...]
    """K, the one that is tuned first."""
    rates: tuple[float, ...]
    """Learning rates of Adam to choose from."""
    steps: int
    label: str
    """Of the column, with the unit."""
    digits: int
    higher_is_better: bool = True
    same: Mapping[str, str] = field(default_factory=dict)
    """Estimators that are another one here, by name: not trained again."""


TASKS = {
    "shared": Task(
        (4, 16),
        (0.003, 0.01, 0.03),
        steps=200,
        label="shared palette, top-1 (%)",
        digits=1,
        same={"straight-through": ROWS, "rotation trick": ROWS},
    ),
    "classifier": Task(
        (4,),
        (0.001, 0.003, 0.01),
        steps=400,
        label="classifier from scratch, top-1 (%)",
        digits=1,
    ),
    "autoencoder": Task(
        (8, 256),
        (0.001, 0.003, 0.01),
        steps=160,
        label="autoencoder, MSE x 1000",
        digits=3,
        higher_is_better=False,
        same={ROWS: CUT},
    ),
}

STEPS = ", ".join(f"{task.steps} ({name})" for name, task in TASKS.items())

NOTES = f"""
All begin with the same k-means palette and weights, see the same batches, and train with Adam,
whose rate falls linearly to 0, for {STEPS} steps of {BATCH_SIZE} images. Each estimator has the
same tuning: at a task's first K and with the first seed it is trained at three rates, of which the
5 000 validation images choose one for all its other runs. Networks and palette have one rate. Dead
colours of a learnt palette move, whatever the estimator.

Rows: `cut` trains what is behind the palette alone, so that under the shared palette it is k-means.
`rows only`, straight-through and the rotation trick differ in the gradient of the input alone:
under the shared palette, which has no input to move, they are one. In the autoencoder, where no
gradient moves the palette, `rows only` is `cut`. Straight-through and rotation trick have a
commitment term of weight 1, the others none. Where a palette is learnt, straight-through gives its
rows the gradient as well, which Huh et al. (2023) call synchronized. DiVeQ's noise has the variance
0.001, as in its paper; its authors' program takes that number for the standard deviation, which is
nearly no noise. Its detached variant has none. Numbers are temperatures: squared distances in units
of [0, 1] colours.

Forward: in training most estimators give the nearest colour; those marked `drawn` a colour drawn by
its likelihood, those marked `noise` no colour of the palette at all. All are judged with the
nearest.

Left out, with the reason: SF-DiVeQ (Vali et al. 2026) gives a point between two colours, in use,
too. GRIT-VQ (You et al. 2026) is an estimator together with a transform that all codes share. SimVQ
(Zhu et al. 2024) and FVQ's bridge (Chang et al. 2025) change what the codes are functions of, for
the thousands that would die. Index backpropagation (Shi et al. 2024) is close to `soft`, with inner
products for distances. ReinMax-Rao and ReinMax-CV (Wang and Bui 2026) and Gumbel-Rao (Paulus et al.
2021) lower the variance of ReinMax and Gumbel, which stand for them. ReDGE (Gourevitch et al. 2026)
runs a diffusion for each choice. Gaussian Quant (Xu et al. 2025) converts a Gaussian autoencoder
and trains no quantizer. Soft forwards (annealed soft-to-hard, convex combinations) train another
network than the one that is judged.
"""
"""What network.md says of the table."""


def small_classifier(channels: int = 16) -> nn.Sequential:
    """Three convolutions, (B, 3, H, W) in [0, 1] to logits (B, 10)."""
    layers: list[nn.Module] = []
    widths = (3, channels, 2 * channels, 4 * channels)
    for level, (wide, wider) in enumerate(pairwise(widths)):
        layers += [nn.MaxPool2d(2)] * (level > 0)
        layers += [nn.Conv2d(wide, wider, 3, padding=1, bias=False), nn.BatchNorm2d(wider)]
        layers += [nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * channels, NUM_CLASSES)]
    return nn.Sequential(*layers)


class Bottleneck(pl.LightningModule):
    """``after(quantizer(before(images)))``, and its loss: cross entropy of logits, else the MSE.

    Args:
        before: images to images of the same shape.
        quantizer: a layer of the package.
        after: images to logits (B, 10) or to images.
        rate: of Adam at the beginning; it falls to 0.
        steps: of the training.
    """

    def __init__(
        self, before: nn.Module, quantizer: Layer, after: nn.Module, rate: float, steps: int
    ) -> None:
        super().__init__()
        self.before, self.quantizer, self.after = before, quantizer, after
        self.rate, self.steps = rate, steps

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        result = self.quantizer(self.before(images), returns="all")
        frozen = isinstance(self.after, FrozenClassifier)
        out = (self.after.fast if frozen else self.after)(result.values)  # type: ignore[operator]
        if out.dim() == 2:
            loss = functional.cross_entropy(out, labels)
        else:
            loss = functional.mse_loss(out, images)
        return cast(Tensor, loss + result.commitment)

    def configure_optimizers(self) -> Any:
        moved = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(moved, self.rate)
        fall = LinearLR(optimizer, 1.0, 1 / self.steps, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": fall, "interval": "step"}}


def build(
    task: str, num_colors: int, entry: Entry, images: Tensor, judge: nn.Module, rate: float
) -> Bottleneck:
    """The untrained network of a task; its palette is the k-means of the images."""
    arguments: Any = {"estimator": entry.estimator, "commitment_weight": entry.commitment}
    steps = TASKS[task].steps
    if task == "autoencoder":
        follows = ColorQuantize(num_colors, **arguments).fit(images)
        return Bottleneck(UNet(8, 1), follows, UNet(8, 1), rate, steps)
    layer = LearnedPalette(num_colors, **arguments).fit(images)
    layer.requires_grad_(entry.estimator is not gradients.cut)
    if task == "shared":
        return Bottleneck(nn.Identity(), layer, judge, rate, steps)
    return Bottleneck(UNet(8, 1), layer, small_classifier(), rate, steps)


@torch.no_grad()
def evaluate(model: Bottleneck, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """The task's figure, and how the colours are used.

    Returns:
        ``figure``: top-1 in percent, or MSE x 1000; ``colors``: the perplexity of the palette, from
        1 to K.
    """
    model.eval()
    total, count = 0.0, 0
    used = torch.zeros(model.quantizer.num_colors)
    for images, labels in batches:
        result = model.quantizer(model.before(images), returns="all")
        out = model.after(result.values)
        if out.dim() == 2:
            total += 100 * (out.argmax(1) == labels).sum().item()
        else:
            total += 1000 * functional.mse_loss(out, images).item() * len(images)
        count += len(images)
        used += result.indices.flatten().bincount(minlength=len(used))
    share = used / used.sum()
    return {"figure": total / count, "colors": torch.special.entr(share).sum().exp().item()}


def trained(model: Bottleneck, data: ImageData) -> bool:
    """Train, and say whether all weights are still numbers."""
    if any(parameter.requires_grad for parameter in model.parameters()):
        fit(model, data, batches=model.steps)
    return all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def measure(
    task: str,
    num_colors: int,
    name: str,
    seed: int,
    rates: Sequence[float],
    data: ImageData,
    judge: nn.Module,
) -> Record:
    """Train at each rate, choose by the validation images, judge on the test images.

    Args:
        task: of `TASKS`.
        num_colors: K.
        name: of `ESTIMATORS`.
        seed: of the weights and the noise; the data has its own.
        rates: to choose from.
        data: the images.
        judge: the frozen classifier of the shared palette.

    Returns:
        What is recorded. A training whose weights or figure end as no numbers is left out of the
        choice; if none is left, that is the outcome: ``failed``, without a ``figure``.
    """
    num_batches = max(1, NUM_FITTED // BATCH_SIZE)
    images = torch.cat([batch for batch, _ in islice(data.train_dataloader(), num_batches)])
    validation: dict[float, float] = {}
    kept: tuple[float, Bottleneck] | None = None
    for rate in rates:
        torch.manual_seed(seed)
        model = build(task, num_colors, ESTIMATORS[name], images, judge, rate)
        if not trained(model, data):
            continue
        score = 0.0  # with one rate there is nothing to choose
        if len(rates) > 1:
            figure = evaluate(model, data.val_dataloader())["figure"]
            if not math.isfinite(figure):
                continue
            validation[rate] = figure
            score = figure if TASKS[task].higher_is_better else -figure
        if kept is None or score > kept[0]:
            kept = score, model
    what = {"task": task, "num_colors": num_colors, "estimator": name, "seed": seed}
    found: Record = what | {"validation": {str(rate): validation[rate] for rate in validation}}
    failed = found | {"rate": rates[0], "failed": True}
    if kept is None:
        return failed
    model = kept[1]
    judged = evaluate(model, data.test_dataloader())
    if not math.isfinite(judged["figure"]):
        return failed
    found |= judged | {"rate": model.rate, "failed": False}
    if isinstance(model.quantizer, LearnedPalette):
        found["palette"] = model.quantizer.palette.detach().mul(255).round().int().tolist()
    return found


def run(argv: Sequence[str] | None = None) -> None:
    """Run what is missing: all estimators with one seed before the next."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.network estimators", description=__doc__
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--checkpoint", type=Path, required=True, help="of the ResNet-20")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the results")
    options = parser.parse_args(argv)
    judge = load_judge(options.checkpoint)
    data = load_images(options.data, batch_size=BATCH_SIZE)
    rates: dict[tuple[str, str], float] = {}
    for seed in options.seeds:
        reorder(data, seed)
        for task in options.tasks:
            for num_colors in TASKS[task].sizes:
                for name in ESTIMATORS:
                    if name in TASKS[task].same:
                        continue
                    known = rates.get((task, name))
                    choice = TASKS[task].rates if known is None else (known,)
                    once = partial(measure, task, num_colors, name, seed, choice, data, judge)
                    slug = name.replace(",", "").replace(" ", "_")
                    file = f"estimators-{task}-{num_colors}-{slug}-seed{seed}"
                    rates[task, name] = record(options.records, file, once)["rate"]


def found_at(found: Mapping[str, Record]) -> dict[Place, dict[str, list[Record]]]:
    """The records of the study by task and K, and by estimator: one per seed, as far as they are.

    An estimator that is another one in a task has that one's.
    """
    places: dict[Place, dict[str, list[Record]]] = {
        (task, size): {name: [] for name in ESTIMATORS}
        for task, what in TASKS.items()
        for size in what.sizes
    }
    for one in found.values():
        places[one["task"], one["num_colors"]][one["estimator"]].append(one)
    for (task, _), by_name in places.items():
        by_name |= {name: by_name[other] for name, other in TASKS[task].same.items()}
    return places


def figures(seeds: Sequence[Record], key: str = "figure") -> list[float]:
    """One per seed, without those that failed."""
    return [one[key] for one in seeds if not one["failed"]]


def best(by_name: Mapping[str, list[Record]], higher_is_better: bool) -> set[str]:
    """The estimator of the best mean, and those that it is not surely better than.

    Seeds share weights and batches, so that what counts is the interval of their differences.
    """
    means = {name: fmean(those) for name, runs in by_name.items() if (those := figures(runs))}
    if not means:
        return set()
    first = (max if higher_is_better else min)(means, key=lambda name: means[name])
    known = {
        name: {run["seed"]: run["figure"] for run in runs if not run["failed"]}
        for name, runs in by_name.items()
    }
    chosen = {first}
    for name in means:
        gaps = [
            known[first][seed] - known[name][seed] for seed in known[first].keys() & known[name]
        ]
        if len(gaps) > 1:
            mean, half = mean_interval(gaps)
            chosen |= {name} if abs(mean) <= half else set()
    return chosen


def rows(found: Mapping[str, Record]) -> list[dict[str, str | None]]:
    """The table: a row for each estimator, a column for each task and K.

    Bold is the best mean, and all whose differences from it, seed by seed, have an interval around
    nothing. A dash is a run that is not there.

    Args:
        found: `experiments.network.records.records` with the prefix ``"estimators-"``.

    Returns:
        Cells by column, as `experiments.figures.markdown_table` takes them.
    """
    places = found_at(found)
    bold = {
        place: best(by_name, TASKS[place[0]].higher_is_better) for place, by_name in places.items()
    }
    table: list[dict[str, str | None]] = []
    for name, entry in ESTIMATORS.items():
        row: dict[str, str | None] = {"estimator": name, "forward": entry.forward}
        for (task, size), by_name in places.items():
            seeds, values = by_name[name], figures(by_name[name])
            text = interval_text(values, TASKS[task].digits) if values else ""
            text = f"**{text}**" if name in bold[task, size] else text
            if len(values) < len(seeds):
                text += f" failed {len(seeds) - len(values)} of {len(seeds)}"
            row[f"{TASKS[task].label}, K = {size}"] = text.strip() or None
        table.append(row)
    return table


def usage_rows(found: Mapping[str, Record]) -> list[dict[str, str | None]]:
    """The same table of the colours in use: the perplexity of the palette on the test images."""
    table: list[dict[str, str | None]] = []
    places = found_at(found)
    for name in ESTIMATORS:
        row: dict[str, str | None] = {"estimator": name}
        for (task, size), by_name in places.items():
            values = figures(by_name[name], "colors")
            row[f"{task}, of {size}"] = interval_text(values, 1) if values else None
        table.append(row)
    return table


def draw(found: Mapping[str, Record]) -> Image.Image:
    """A panel for each task and K: each seed a dot, the mean a line.

    Args:
        found: as `rows` takes them.

    Returns:
        The picture.
    """
    places = found_at(found)
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    panels = figure.subplots(1, len(places), sharey=True)
    for axes, ((task, size), by_name) in zip(panels, places.items(), strict=True):
        for height, name in enumerate(ESTIMATORS):
            values = figures(by_name[name])
            if values:
                axes.plot(values, [height] * len(values), "o", color=BLUE, markersize=4)
                axes.plot([fmean(values)] * 2, [height - 0.3, height + 0.3], color=ORANGE)
        axes.set_title(f"{TASKS[task].label}\nK = {size}".replace(", ", "\n", 1), fontsize=9)
        axes.grid(axis="y", linewidth=0.4)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(ESTIMATORS)), list(ESTIMATORS), fontsize=9)
    panels[0].invert_yaxis()
    return as_picture(figure)
