"""Lloyd's algorithm on weighted colours, all from the same start."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from colorquant_nn.functional.clustering import lloyd
from experiments.benchmark.case import COPY, OURS, Case, Options, Run
from experiments.benchmark.suites.assign import copying, cube

KERNEL = "scikit-learn, its Lloyd step alone"
ESTIMATOR = "scikit-learn KMeans.fit"


def cases(options: Options) -> list[Case]:
    """One step, and twenty."""
    if options.quick:
        return [_case(500, 4, 2)]
    return [_case(100_000, 256, steps) for steps in (1, 20)]


def _weights(points: int) -> Tensor:
    return torch.rand(points, generator=torch.Generator().manual_seed(2))


def _case(points: int, colors: int, steps: int) -> Case:
    def ours() -> Run:
        x, start, weights = cube(points, 0), cube(colors, 1), _weights(points)
        return lambda: lloyd(x, start, weights, steps)

    def kernel() -> Run:
        # Private to scikit-learn, but the one part of it that is a step and nothing else.
        from sklearn.cluster._k_means_lloyd import lloyd_iter_chunked_dense
        from threadpoolctl import threadpool_limits

        x, start = cube(points, 0).numpy(), cube(colors, 1).numpy()
        weights = _weights(points).numpy()
        labels, threads = np.zeros(points, np.int32), torch.get_num_threads()

        def run() -> Tensor:
            old, new = start.copy(), np.zeros_like(start)
            counts, shift = np.zeros(colors, np.float32), np.zeros(colors, np.float32)
            with threadpool_limits(1, "blas"):  # as KMeans.fit does
                for _ in range(steps):
                    lloyd_iter_chunked_dense(
                        x, weights, old, new, counts, labels, shift, threads, True
                    )
                    old, new = new, old
            return torch.from_numpy(old)

        return run

    def estimator() -> Run:
        from sklearn.cluster import KMeans

        x, start = cube(points, 0).numpy(), cube(colors, 1).numpy()
        weights = _weights(points).numpy()

        def run() -> Tensor:
            kmeans = KMeans(colors, init=start, n_init=1, max_iter=steps, tol=0.0)
            fitted = kmeans.fit(x, sample_weight=weights)
            return torch.from_numpy(fitted.cluster_centers_)

        return run

    def faiss_kmeans() -> Run:
        import faiss

        x: Any = cube(points, 0).numpy()
        start: Any = cube(colors, 1).numpy()
        weights: Any = _weights(points).numpy()

        def run() -> Tensor:
            kmeans = faiss.Kmeans(3, colors, niter=steps, max_points_per_centroid=points)
            kmeans.train(x, weights=weights, init_centroids=start)
            return torch.from_numpy(kmeans.centroids)

        return run

    def judge(centroids: Tensor) -> Mapping[str, float]:
        if len(centroids) != colors:  # the copy
            return {}
        x, weights = cube(points, 0).double(), _weights(points).double()
        nearest = torch.cat(
            [torch.cdist(part, centroids.double()).amin(1) for part in x.split(10_000)]
        )
        return {"objective": float((weights * nearest.square()).sum())}

    return Case(
        f"{steps} weighted Lloyd step{'s' * (steps > 1)}, {points:,} colours, K={colors}",
        {
            OURS: ours,
            KERNEL: kernel,
            ESTIMATOR: estimator,
            "faiss Kmeans": faiss_kmeans,
            COPY: lambda: copying(points),
        },
        points=points,
        targets={KERNEL: 5} if steps == 1 else {},
        judge=judge,
    )
