"""One palette for the 50 000 training images of CIFAR-10, in one pass."""

from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from colorquant_nn import ColorHistogram, fit_palette, load_image
from experiments.benchmark.case import OURS, Case, Options, Run
from experiments.benchmark.suites.images import mse

COLORS = 512
SIDE = 32
RANDOM = 32  # images, where there are none
BATCH = 500  # images that come at a time, to both
MINIBATCH = 16  # images in a step of scikit-learn's: 16 384 pixels
PEER = "scikit-learn MiniBatchKMeans.partial_fit"


def cases(options: Options) -> list[Case]:
    """The same batches of uint8 images to both; reading the files does not count."""
    colors = 8 if options.quick else COLORS
    count = len(_files(options)) or RANDOM
    return [
        Case(
            f"one palette for {count} images in one pass, K={colors}",
            {OURS: partial(_ours, options, colors), PEER: partial(_peer, options, colors)},
            points=count * SIDE**2,
            targets={PEER: 10},
            judge=partial(_error, options),
            once=True,
            least=1,
        )
    ]


def _files(options: Options) -> list[Path]:
    if not options.cifar:
        return []
    found = [x for x in options.cifar.rglob("*") if x.suffix in (".jpg", ".png")]
    return sorted(found)[: RANDOM if options.quick else None]


@lru_cache(1)
def images(options: Options) -> Tensor:
    """(B, 3, 32, 32) uint8, in a fixed shuffled order; random ones where no folder is given."""
    generator = torch.Generator().manual_seed(0)
    files = _files(options)
    if not files:
        shape = (RANDOM, 3, SIDE, SIDE)
        return torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    found = torch.empty(len(files), 3, SIDE, SIDE, dtype=torch.uint8)
    for place, number in enumerate(torch.randperm(len(files), generator=generator).tolist()):
        found[place] = load_image(files[number])[:3]
    return found


def _ours(options: Options, colors: int) -> Run:
    x = images(options)

    def run(count: int = len(x)) -> Tensor:
        histogram = ColorHistogram().update(x[:count].split(BATCH))
        return fit_palette(histogram, colors, space="rgb") * 255

    run(MINIBATCH)
    return run


def _peer(options: Options, colors: int) -> Run:
    from sklearn.cluster import MiniBatchKMeans

    x = images(options)

    def run(count: int = len(x)) -> Tensor:
        kmeans = MiniBatchKMeans(colors, random_state=0, n_init=1)
        for batch in x[:count].split(MINIBATCH):
            kmeans.partial_fit(batch.movedim(1, -1).reshape(-1, 3).float().numpy())
        return torch.from_numpy(kmeans.cluster_centers_)

    run(MINIBATCH)
    return run


def _error(options: Options, palette: Tensor) -> Mapping[str, float]:
    parts = images(options).split(BATCH)
    errors = [mse(part, palette.numpy()) * len(part) for part in parts]
    return {"mse": sum(errors) / len(images(options))}
