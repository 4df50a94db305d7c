"""The pictures of the benchmark."""

import torch
from torch import Tensor

from colorquant_nn import load_image
from experiments import SHARED_DATA
from experiments.benchmark.case import Options

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".bmp"}
SAMPLES = ["astronaut", "chelsea", "coffee", "rocket"]  # photographs that scikit-image brings


def names(options: Options) -> list[str]:
    """Files, or names of scikit-image's photographs where there is no folder."""
    folder = options.pictures or SHARED_DATA / "kodak"
    if not options.pictures and not folder.is_dir():
        found = SAMPLES
    else:
        found = sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return found[:: options.every][: 1 if options.quick else None]


def load(name: str, quick: bool = False) -> Tensor:
    """A picture as (3, H, W) uint8; with ``quick`` only its corner."""
    if name in SAMPLES:
        import skimage.data

        image = torch.from_numpy(getattr(skimage.data, name)()).movedim(-1, 0).contiguous()
    else:
        image = load_image(name)[:3].contiguous()
    return image[:, :32, :48].contiguous() if quick else image
