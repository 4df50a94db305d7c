"""Full k-means as the reference."""

import numpy as np
import torch
from sklearn.cluster import KMeans

from experiments.reference import LEVELS, color_histogram, kmeans_palette
from tests.experiments.conftest import Run


def test_histogram_is_that_of_numpy() -> None:
    batches = [torch.rand(2, 3, 5, 4), torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)]
    histogram = color_histogram((batch, None) for batch in batches)
    colors = np.concatenate([b.movedim(1, -1).reshape(-1, 3).double().numpy() for b in batches])
    edges = [np.linspace(0, 1, LEVELS + 1)] * 3
    counts = np.histogramdd(colors, edges)[0]
    assert np.array_equal(histogram[:, 0].numpy(), counts.ravel())
    for channel in range(3):
        sums = np.histogramdd(colors, edges, weights=colors[:, channel])[0]
        assert np.allclose(histogram[:, 1 + channel].numpy(), sums.ravel(), atol=1e-12)


def test_histogram_stops_after_max_batches() -> None:
    batches = [(torch.rand(1, 3, 2, 2),)] * 5
    assert color_histogram(batches, max_batches=2)[:, 0].sum() == 8


def test_palette_is_nearly_that_of_kmeans_on_all_pixels() -> None:
    torch.manual_seed(0)
    images = (torch.rand(4, 3, 1, 1) + 0.1 * torch.randn(4, 3, 32, 32)).clamp(0, 1)
    pixels = images.movedim(1, -1).reshape(-1, 3).numpy()
    best = KMeans(4, n_init=10, random_state=0).fit(pixels).inertia_
    palette = kmeans_palette(color_histogram([(images,)]), 4).numpy()
    error = ((pixels[:, None] - palette) ** 2).sum(-1).min(1).sum()
    assert best <= error * (1 + 1e-5)
    assert error < best * 1.002


def test_reference_is_restored_and_needs_no_second_search(run: Run, tmp_path: object) -> None:
    cli = run("fit", ["base", "smoke"])
    checkpoint = cli.trainer.checkpoint_callback.last_model_path
    expected = cli.trainer.callback_metrics["val_kmeans_mse"]
    # Another seed would give other training crops, and so another palette.
    again = run("validate", ["base", "smoke"], f"--ckpt_path={checkpoint}")
    assert again.trainer.callback_metrics["val_kmeans_mse"] == expected


def test_validate_alone_finds_the_reference_on_the_training_pixels(run: Run) -> None:
    fitted = run("fit", ["base", "smoke"]).trainer.callback_metrics["val_kmeans_mse"]
    alone = run("validate", ["base", "smoke"]).trainer.callback_metrics["val_kmeans_mse"]
    assert alone == fitted
