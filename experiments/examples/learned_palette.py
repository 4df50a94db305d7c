"""The palette that a classifier wants: its loss moves the colours, where k-means minds the error.

Run ``python -m experiments.examples.learned_palette``: a network that knows two kinds of images by
a small difference, frozen, and two colours. k-means spends them on light and dark, the loss on what
tells the kinds apart.
"""

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from colorquant_nn import LearnedPalette


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Grey images of any brightness, reddish or bluish: (count, 3, 8, 8) in [0, 1], and 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(2, (count,), generator=generator)
    grey = torch.rand(count, 1, 8, 8, generator=generator).expand(-1, 3, -1, -1)
    tint = torch.tensor([[0.12, 0.0, -0.12], [-0.12, 0.0, 0.12]])[kind]
    return (0.15 + 0.7 * grey + tint[:, :, None, None]).clamp(0, 1), kind


def train(model: nn.Module, parameters: list[nn.Parameter], steps: int, lr: float) -> None:
    """Lower the model's loss, by these of its parameters."""
    optimizer = torch.optim.Adam(parameters, lr)
    for step in range(steps):
        images, kinds = pictures(64, seed=step)
        loss = nn.functional.cross_entropy(model(images), kinds)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main(arguments: Sequence[str] | None = None) -> tuple[float, float]:
    """Train the network, freeze it, fit a palette, then learn it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--colors", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten())
    network.append(nn.Linear(8, 2))
    train(network, list(network.parameters()), 200, lr=0.02)
    network.eval().requires_grad_(False)

    images, kinds = pictures(1000, seed=-1)
    palette = LearnedPalette(options.colors).fit(pictures(1000, seed=-2)[0])  # k-means, to begin
    model = nn.Sequential(palette, network)

    def accuracy() -> float:
        with torch.no_grad():
            return (model.eval()(images).argmax(1) == kinds).float().mean().item()

    before = accuracy()
    train(model.train(), [palette.colors], options.steps, lr=0.01)
    after = accuracy()
    print(f"top-1 in {options.colors} colours: k-means {before:.1%}, learnt {after:.1%}")
    return before, after


if __name__ == "__main__":
    main()
