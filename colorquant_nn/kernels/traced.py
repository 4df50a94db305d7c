"""The hot operation as plain nodes, for torch.export and ONNX, which know no custom ops.

There is no loop over points, whose number stays dynamic; centroids are taken a few at a time, so
that no N x K tensor exists.

Letters as in the package.
"""

import torch
from torch import Tensor

from colorquant_nn.kernels.reference import sanitize

__all__ = ["assign", "exporting"]

CENTROIDS_AT_ONCE = 16


def exporting() -> bool:
    """Whether the call is being traced by torch.export or torch.onnx."""
    if hasattr(torch.compiler, "is_exporting"):
        return torch.compiler.is_exporting()
    return torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()


def assign(points: Tensor, centroids: Tensor, clamp: bool) -> Tensor:
    """See `colorquant_nn.kernels.assign`."""
    points = sanitize(points, clamp)[:, :, None]  # (B, N, 1, C)
    index = torch.zeros_like(points[:, :, 0, 0], dtype=torch.int64)
    least = torch.full_like(points[:, :, 0, 0], torch.inf)
    for start in range(0, centroids.shape[1], CENTROIDS_AT_ONCE):
        some = centroids[:, None, start : start + CENTROIDS_AT_ONCE]  # (G, 1, some, C)
        squares = [(points[..., c] - some[..., c]) ** 2 for c in range(points.shape[-1])]
        distance = sum(squares[1:], squares[0])
        nearest = distance.argmin(-1)
        near = distance.amin(-1)
        closer = near < least  # of equal ones, the first stays
        index = torch.where(closer, nearest + start, index)
        least = torch.where(closer, near, least)
    return index
