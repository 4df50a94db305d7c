"""The palette after one pass over real images, against full k-means on the same pixels.

Prints the table that the README quotes: ``pytest -n 0 -m slow -s tests/test_accuracy.py``.
"""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from colorquant_nn import ColorQuantize, kernels
from tests import helpers

SEEDS = range(5)


def psnr(images: torch.Tensor, palette: torch.Tensor) -> float:
    points = images.flatten(2).transpose(1, 2)
    total = kernels.unpack_moments(kernels.cluster(points, palette[None]).moments)
    error = total.distortions.sum() / images.numel()
    return -10 * float(error.log10())


def full_kmeans(images: torch.Tensor, num_colors: int, seed: int) -> torch.Tensor:
    """scikit-learn on the weighted cell means of a 6-bit histogram, best of three starts."""
    pixels = images.movedim(1, -1).reshape(-1, 3).numpy().astype(np.int64)
    cell = (pixels >> 2) @ (64**2, 64, 1)
    count = np.bincount(cell, minlength=64**3)
    total = np.stack([np.bincount(cell, pixels[:, c], minlength=64**3) for c in range(3)], 1)
    means = total[count > 0] / count[count > 0, None] / 255
    fitted = KMeans(num_colors, n_init=3, random_state=seed).fit(
        means, sample_weight=count[count > 0]
    )
    return torch.from_numpy(fitted.cluster_centers_).float()


@pytest.mark.slow
@pytest.mark.parametrize("num_colors", [4, 16, 64, 256])
def test_one_pass_is_as_good_as_full_kmeans(
    num_colors: int, cifar: tuple[torch.Tensor, torch.Tensor]
) -> None:
    train, test = cifar
    differences = []
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        chosen = train[torch.randperm(len(train), generator=generator)[:20_000]]
        layer = ColorQuantize(num_colors)
        for batch in chosen.split(128):
            layer(batch / 255)
        reference = psnr(test, full_kmeans(chosen, num_colors, seed))
        differences.append(psnr(test, layer.palette) - reference)
        print(f"K={num_colors} seed={seed} k-means {reference:.3f} dB, {differences[-1]:+.3f} dB")
    print(f"K={num_colors} mean {np.mean(differences):+.3f} worst {min(differences):+.3f} dB")
    assert np.mean(differences) >= -0.05
    assert min(differences) >= -0.1


@pytest.fixture(scope="module")
def cifar() -> tuple[torch.Tensor, torch.Tensor]:
    return helpers.cifar("train")[0], helpers.cifar("test")[0]
