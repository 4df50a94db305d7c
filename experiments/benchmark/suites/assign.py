"""The hot operation: the nearest centroid of each point."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from colorquant_nn import kernels
from experiments.benchmark.case import COPY, OURS, Case, Options, Run

CHUNK = 16384
MATMUL = "chunked torch addmm + argmin"
FAISS = "faiss IndexFlatL2.search, k=1"


def cases(options: Options) -> list[Case]:
    """Points and centroids in the unit cube."""
    if options.quick:
        return [_case(1000, 4)]
    return [_case(1_000_000, colors) for colors in (16, 64, 256)]


def cube(points: int, seed: int) -> Tensor:
    """Points (N, 3), uniform."""
    return torch.rand(points, 3, generator=torch.Generator().manual_seed(seed))


def ours(points: int, colors: int) -> Run:
    """The hot operation by itself."""
    x, centroids = cube(points, 0)[None], cube(colors, 1)[None]
    return lambda: kernels.assign(x, centroids)


def matmul(points: int, colors: int) -> Run:
    """What one would write in torch with the memory in mind."""
    x, centroids = cube(points, 0), cube(colors, 1)

    def run() -> Tensor:
        squares = centroids.square().sum(1)
        indices = torch.empty(points, dtype=torch.int64)
        for start in range(0, points, CHUNK):
            part = x[start : start + CHUNK]
            distances = torch.addmm(squares, part, centroids.T, alpha=-2)
            torch.argmin(distances, 1, out=indices[start : start + CHUNK])
        return indices

    return run


def copying(points: int) -> Run:
    """The memory limit."""
    return copying_of(cube(points, 0))


def copying_of(x: Tensor) -> Run:
    """To a place that is there already: neither the allocation nor fresh pages count."""
    place = x.clone()
    return lambda: place.copy_(x)


def _case(points: int, colors: int) -> Case:
    def cdist() -> Run:
        x, centroids = cube(points, 0), cube(colors, 1)
        return lambda: torch.cdist(x, centroids).argmin(1)

    def faiss_search() -> Run:
        import faiss

        x: Any = cube(points, 0).numpy()
        index = faiss.IndexFlatL2(3)
        index.add(np.ascontiguousarray(cube(colors, 1).numpy()))
        return lambda: index.search(x, 1)[1]

    return Case(
        f"assign {points:,} points, K={colors}",
        {
            OURS: lambda: ours(points, colors),
            MATMUL: lambda: matmul(points, colors),
            "torch.cdist + argmin": cdist,
            FAISS: faiss_search,
            COPY: lambda: copying(points),
        },
        points=points,
        targets={MATMUL: 10, FAISS: 5} if colors == 256 else {},
    )
