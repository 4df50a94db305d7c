"""Colour quantization in a data pipeline: an augmentation while training, a palette for looking.

Run ``python -m experiments.examples.transform grid.png``. The transforms are torchvision's (v2):
they go into `Compose`, and run in the workers of a DataLoader.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.utils import make_grid, save_image

from colorquant_nn.transforms import ApplyPalette, Dither, QuantizeColors, RandomQuantizeColors


class Gradients(Dataset[Tensor]):
    """Smooth pictures (3, 48, 48) of bytes; a real run takes a data set of photographs."""

    def __init__(self, transform: v2.Transform, count: int = 24) -> None:
        self.transform = transform
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        coarse = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(index))
        smooth = v2.functional.resize(coarse, [48, 48]).clamp(0, 1)
        return self.transform(v2.functional.to_dtype(smooth, torch.uint8, scale=True))  # type: ignore[no-any-return]


def main(arguments: Sequence[str] | None = None) -> Tensor:
    """Load an epoch of augmented pictures, then draw one in four ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, nargs="?", help="of a picture of the pictures")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.manual_seed(1)
    train = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            RandomQuantizeColors((2, 32), p=0.5),  # before the pictures become floating point
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    loader = DataLoader(Gradients(train), batch_size=8, shuffle=True, num_workers=options.workers)
    images = torch.cat(list(loader))
    counts = [len(image.flatten(1).unique(dim=1).T) for image in images]
    few = sorted(count for count in counts if count <= 32)
    print(f"{len(few)} of {len(counts)} pictures came in few colours: {few}")
    ways = [
        v2.Identity(),
        QuantizeColors(8),
        ApplyPalette("gameboy", dither="floyd-steinberg"),
        Dither(2, dither="ordered"),
    ]
    drawn = torch.stack([Gradients(way)[0] for way in ways])
    if options.path is not None:
        save_image(make_grid(torch.cat([drawn / 255, images]), nrow=4), options.path)
        print(f"{options.path}: the four ways in the first row, then the epoch")
    return images


if __name__ == "__main__":
    main()
