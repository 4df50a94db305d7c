"""How much an encoder's colours have to be held to the palette, when nothing else holds them.

A plain encoder and decoder, without a residual or a sigmoid: what an encoder gives can go anywhere.
For each estimator and weight of the commitment term: how well the images are rebuilt, how far the
encoder's colours went, how many colours are in use. Random crops of the installed photographs; the
other photographs judge.

Run ``python -m experiments.sweeps.commitment``.
"""

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from typing import NamedTuple, cast

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from colorquant_nn import ColorQuantize
from colorquant_nn.functional.gradients import Estimator, Soft, straight_through
from experiments.data import Crops
from experiments.datasets import Photographs, Stage
from experiments.figures import BLUE, GREEN, ORANGE, RESULTS, as_picture, write_results

ESTIMATORS: dict[str, Estimator] = {
    "straight_through": straight_through,
    "Soft(0.01)": Soft(0.01),
    "Soft(0.1)": Soft(0.1),
}
WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
SETTINGS = (
    (2e-3, 1.0),
    (1e-2, 1.0),
    (1e-2, 20.0),
)  # learning rate, gain of the encoder's last layer
NUM_COLORS = 8
STEPS = 80
SIZE = 32


class Outcome(NamedTuple):
    """How a training ended, on the photographs that it did not see."""

    reconstruction: float
    """MSE of the rebuilt images."""
    low: float
    """The least value that the encoder gives."""
    high: float
    """The largest."""
    colors_used: int


def network() -> nn.Sequential:
    """Images to images of the same shape, anywhere."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 3, 3, padding=1),
    )


def crops(stage: Stage, count: int) -> Tensor:
    """Random crops (count, 3, SIZE, SIZE) of the photographs of a stage, the same each time."""
    source = Crops(Photographs(stage), stage, crop_size=SIZE, num_crops=count)
    return torch.stack([source[0, index][0] for index in range(count)])


def train(layer: nn.Module, rate: float, gain: float, seed: int, steps: int = STEPS) -> Outcome:
    """Train an encoder and a decoder around a layer.

    Args:
        layer: the bottleneck, such as `ColorQuantize`; its own commitment is added to the loss.
        rate: of AdamW.
        gain: of the weights of the encoder's last layer, at the start.
        seed: of the networks and of the order of the images.
        steps: of 32 images each.
    """
    torch.manual_seed(seed)
    encoder, decoder = network(), network()
    with torch.no_grad():
        cast(nn.Conv2d, encoder[-1]).weight.mul_(gain)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], rate)
    images = crops("train", 2048)
    for _ in range(steps):
        batch = images[torch.randint(len(images), (32,))]
        result = layer(encoder(batch), returns="all")
        loss = nn.functional.mse_loss(decoder(result.values), batch) + result.commitment
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    layer.eval()
    images = crops("val", 256)
    with torch.no_grad():
        colors = encoder(images)
        result = layer(colors, returns="all")
        rebuilt = nn.functional.mse_loss(decoder(result.values), images)
    return Outcome(
        float(rebuilt), float(colors.min()), float(colors.max()), len(result.indices.unique())
    )


def row(name: str, weight: float, outcomes: list[Outcome]) -> dict[str, str]:
    """Of the table: the mean and the worst of the reconstructions, the widest range."""
    errors = [outcome.reconstruction for outcome in outcomes]
    low, high = min(o.low for o in outcomes), max(o.high for o in outcomes)
    return {
        "estimator": name,
        "weight": f"{weight:g}",
        "reconstruction": f"{mean(errors):.4f}",
        "worst": f"{max(errors):.4f}",
        "encoder from, to": f"{low:.3g}, {high:.3g}",
        "colours used": f"{mean(o.colors_used for o in outcomes):.1f}",
    }


def draw(outcomes: dict[str, dict[float, list[Outcome]]]) -> Image.Image:
    """The reconstruction over the weight, a line for each estimator."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    for (name, by_weight), color in zip(outcomes.items(), (BLUE, GREEN, ORANGE), strict=True):
        errors = [mean(o.reconstruction for o in its) for its in by_weight.values()]
        axes.plot(list(by_weight), errors, color=color, marker="o", markersize=4, label=name)
    axes.set_xscale("symlog", linthresh=0.1)
    axes.set_xlabel("weight of the commitment")
    axes.set_ylabel("reconstruction MSE, mean of the runs")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return as_picture(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all, and write table, plot and numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--weights", type=float, nargs="+", default=WEIGHTS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(arguments)
    outcomes: dict[str, dict[float, list[Outcome]]] = {name: {} for name in ESTIMATORS}
    rows = []
    for name, estimator in ESTIMATORS.items():
        for weight in options.weights:
            runs = outcomes[name].setdefault(weight, [])
            for (rate, gain), seed in product(SETTINGS, options.seeds):
                layer = ColorQuantize(NUM_COLORS, estimator=estimator, commitment_weight=weight)
                runs.append(train(layer, rate, gain, seed, options.steps))
            rows.append(row(name, weight, runs))
            print(*rows[-1].values(), sep=" | ", flush=True)
    write_results(
        options.out,
        "commitment",
        title="The weight of the commitment",
        text=f"""{__doc__}
            {NUM_COLORS} colours, {options.steps} steps of 32 crops; learning rate and gain of the
            encoder's last layer {", ".join(map(str, SETTINGS))}, seeds
            {", ".join(map(str, options.seeds))}: a row is {len(SETTINGS) * len(options.seeds)}
            runs.
            """,
        rows=rows,
        values=outcomes,
        plot=draw(outcomes),
    )


if __name__ == "__main__":
    main()
