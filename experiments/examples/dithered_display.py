"""A generator that learns for a display of few colours, which shows all others in dots.

Run ``python -m experiments.examples.dithered_display``. The last layer draws the dots and passes
the gradient straight through; the loss is of what eyes see of them, the blur, not of each pixel.
"""

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from colorquant_nn import DitheredColorQuantize, load_palette
from colorquant_nn.functional.metrics import eye_error


def build() -> nn.Sequential:
    """Noise (B, 8, 8, 8) to images (B, 3, 32, 32) of any colour."""
    return nn.Sequential(
        nn.ConvTranspose2d(8, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 3, 4, stride=2, padding=1),
        nn.Sigmoid(),
    )


def main(arguments: Sequence[str] | None = None) -> tuple[nn.Sequential, Tensor]:
    """Learn to show one target, a sunset of soft colours, from one noise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--palette", default="pico-8")
    parser.add_argument("--dither", default="floyd-steinberg")
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    display = DitheredColorQuantize(load_palette(options.palette), options.dither)
    generator = nn.Sequential(build(), display)
    noise = torch.randn(1, 8, 8, 8)
    sky, sun = torch.tensor([0.2, 0.3, 0.5]), torch.tensor([0.9, 0.5, 0.3])
    height = torch.linspace(0, 1, 32)[:, None]
    target = (sky + height * (sun - sky)).T[None, :, :, None].expand(1, 3, 32, 32)
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-2)
    errors = []
    for _ in range(options.steps):
        error = eye_error(generator(noise), target)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.detach())
    print(f"eye error {errors[0]:.1f} at first, {errors[-1]:.1f} after {options.steps} steps")
    return generator, torch.stack(errors)


if __name__ == "__main__":
    main()
