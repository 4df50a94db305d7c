"""A generator that can only speak in the four greens of a hand-held console.

Run ``python -m experiments.examples.hardware_palette``. The palette is fixed and the last layer;
the gradient passes it straight through, and ``mse`` keeps what comes in near to what comes out.
"""

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from colorquant_nn import ColorQuantize, load_palette


def build() -> nn.Sequential:
    """Noise (B, 8, 4, 4) to images (B, 3, 16, 16) of any colour."""
    return nn.Sequential(
        nn.ConvTranspose2d(8, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 3, 4, stride=2, padding=1),
        nn.Sigmoid(),
    )


def main(arguments: Sequence[str] | None = None) -> tuple[nn.Sequential, Tensor]:
    """Learn to draw one target, stripes of all colours, from one noise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--palette", default="gameboy")
    parser.add_argument("--steps", type=int, default=150)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    palette = load_palette(options.palette)
    layer = ColorQuantize.from_palette(palette)
    network = build()
    generator = nn.Sequential(network, layer)
    noise = torch.randn(1, 8, 4, 4)
    stripes = palette[torch.arange(16) * len(palette) // 16]  # (16, 3)
    target = stripes.T[None, :, None].expand(1, 3, 16, 16)
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-2)
    losses = []
    for _ in range(options.steps):
        result = layer.quantize(network(noise))
        error = nn.functional.mse_loss(result.values, target)
        optimizer.zero_grad()
        (error + 0.25 * result.mse).backward()
        optimizer.step()
        losses.append(error.detach())
    print(f"MSE {losses[0]:.4f} at first, {losses[-1]:.4f} after {options.steps} steps")
    return generator, torch.stack(losses)


if __name__ == "__main__":
    main()
