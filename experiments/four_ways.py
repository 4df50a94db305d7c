"""One picture, eight colours, four ways, enlarged so that dots are seen as dots: README's picture.

``python -m experiments.four_ways`` writes ``results/four_ways.png``; it needs the extra
``benchmark``.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from colorquant_nn import comparison, load_image, quantize_image, save_image
from colorquant_nn.functional import eye_error, psnr
from experiments import SHARED_DATA
from experiments.benchmark.suites import eye
from experiments.figures import RESULTS

COLORS = 8
WAYS = {
    eye.NONE: "nearest colour",
    "ours, floyd-steinberg, oklab": "Floyd-Steinberg",
    eye.PNGQUANT: "pngquant's engine",
    eye.SPATIAL: "spatial",
}
CROP = (106, 398, 180, 196)  # top, left, height, width; drawn at twice the size: README is as wide


def draw(image: Tensor, ways: Mapping[str, str] = WAYS) -> Image.Image:
    """A part of a picture in eight colours that were chosen for the whole of it.

    Args:
        image: (3, H, W) uint8.
        ways: methods of the benchmark of what people see, and what to call them.

    Returns:
        Two in a row, with names and errors.
    """
    methods, panels = eye.photograph_methods(), {}
    for method, name in ways.items():
        drawn = methods[method](image, COLORS)()
        error, decibels = eye_error(drawn, image).item(), psnr(drawn, image).item()
        top, left, height, width = CROP
        panels[f"{name}\neye error {error:.2f}, PSNR {decibels:.1f} dB"] = drawn[
            :, top : top + height, left : left + width
        ]
    names = list(panels)
    rows = [
        np.asarray(comparison({name: panels[name] for name in names[i : i + 2]}))
        for i in range(0, len(names), 2)
    ]
    return Image.fromarray(np.concatenate(rows))


def main() -> None:
    """Draw one picture, and write it in as few colours as it has."""
    parser = argparse.ArgumentParser(prog="python -m experiments.four_ways", description=__doc__)
    parser.add_argument("--picture", type=Path, default=SHARED_DATA / "kodak" / "23.png")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    arguments = parser.parse_args()
    picture = np.array(draw(load_image(arguments.picture)[:3]))
    few = quantize_image(torch.from_numpy(picture).movedim(-1, 0), 256)
    save_image(arguments.results / "four_ways.png", few)


if __name__ == "__main__":
    main()
