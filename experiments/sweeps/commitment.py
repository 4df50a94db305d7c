"""How much an encoder's colours have to be held to the palette, when nothing else holds them.

A plain encoder and decoder, without a residual or a sigmoid: what an encoder gives can go anywhere.
For each estimator and weight of the commitment term: how well the images are rebuilt, how far the
encoder's colours went, how many colours are in use. Random crops of the installed photographs; the
other photographs judge.

    python -m experiments.sweeps.commitment --seeds 0 1 2
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from colorquant_nn import ColorQuantize
from colorquant_nn.functional.gradients import Estimator, Soft, straight_through
from experiments.datasets import Photographs, Stage

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
    generator = torch.Generator().manual_seed(0)
    photographs, found = Photographs(stage), []
    for _ in range(count):
        image, _ = photographs[int(torch.randint(len(photographs), (), generator=generator))]
        top, left = (
            int(torch.randint(side - SIZE, (), generator=generator)) for side in image.shape[1:]
        )
        found.append(image[:, top : top + SIZE, left : left + SIZE])
    return torch.stack(found).float() / 255


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


def table(outcomes: dict[str, list[Outcome]]) -> str:
    """Rows of Markdown: the mean and the worst of the reconstructions, the widest range."""
    lines = [
        "| estimator, weight | reconstruction, mean | worst | encoder from, to | colours used |",
        "|---|---|---|---|---|",
    ]
    for name, its in outcomes.items():
        errors = [outcome.reconstruction for outcome in its]
        low, high = min(outcome.low for outcome in its), max(outcome.high for outcome in its)
        used = mean(outcome.colors_used for outcome in its)
        lines.append(
            f"| {name} | {mean(errors):.4f} | {max(errors):.4f} | {low:.3g}, {high:.3g} "
            f"| {used:.1f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all, write `commitment.md` and `commitment.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--weights", type=float, nargs="+", default=WEIGHTS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--output", type=Path, default=Path("experiments/results"))
    options = parser.parse_args(arguments)
    outcomes: dict[str, list[Outcome]] = {}
    for name, estimator in ESTIMATORS.items():
        for weight in options.weights:
            runs = outcomes.setdefault(f"{name}, {weight:g}", [])
            for rate, gain in SETTINGS:
                for seed in options.seeds:
                    layer = ColorQuantize(NUM_COLORS, estimator=estimator, commitment_weight=weight)
                    runs.append(train(layer, rate, gain, seed, options.steps))
            print(table({f"{name}, {weight:g}": runs}).splitlines()[-1], flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    text = (
        f"# The weight of the commitment\n\n{__doc__}\n{NUM_COLORS} colours, {options.steps} steps "
        f"of 32 crops, learning rate and gain of {', '.join(map(str, SETTINGS))}, seeds "
        f"{', '.join(map(str, options.seeds))}: a row is {len(SETTINGS) * len(options.seeds)} "
        f"runs.\n\n{table(outcomes)}\n"
    )
    (options.output / "commitment.md").write_text(text)
    (options.output / "commitment.json").write_text(json.dumps(outcomes, indent=1) + "\n")


if __name__ == "__main__":
    main()
