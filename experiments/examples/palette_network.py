"""A network that knows which few colours a classifier needs, used on images.

Run ``python -m experiments.examples.palette_network``: photographs of 32 x 32 pixels, as k-means
groups them and as the network does, whose weights are in ``experiments/results/network``. It was
trained for CIFAR-10 and a ResNet-20 (``python -m experiments.network own``), for 2, 4, 8, 16 or 32
colours, and for any fidelity from 0, what the classifier wants, to 1, the least squared error.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, resize

from colorquant_nn import PerImageColorQuantize
from experiments.datasets import Photographs
from experiments.figures import RESULTS, image_grid
from experiments.network.palette_network import NeuralColorQuantize

WEIGHTS = RESULTS / "network" / "palette_network.pt"


def photographs() -> Tensor:
    """The installed photographs for validation, (B, 3, 32, 32) in [0, 1]."""
    whole = Photographs("val").images
    squares = [center_crop(image, [min(image.shape[1:])] * 2) for image in whole]
    return torch.stack([resize(image, [32, 32], antialias=True) for image in squares]) / 255


def main(arguments: Sequence[str] | None = None) -> Tensor:
    """Load the network and quantize; a picture is written if asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--colors", type=int, default=4)
    parser.add_argument("--fidelity", type=float, default=0.0)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--out", type=Path, help="a PNG to write, with all side by side")
    options = parser.parse_args(arguments)
    network = NeuralColorQuantize.load(options.weights)
    images = photographs()
    with torch.no_grad():
        few = network(images, options.colors, options.fidelity)
    kmeans = PerImageColorQuantize(options.colors).quantize(images)
    error = (few.values - images).square().mean()
    print(f"{options.colors} colours, MSE: k-means {kmeans.mse:.4f}, network {error:.4f}")
    if options.out is not None:
        shown = {"original": images, "k-means": kmeans.values, "network": few.values}
        image_grid(shown).save(options.out)
    return few.values


if __name__ == "__main__":
    main()
