"""Palette rows of indices on the CPU.

Letters as in the package; D is the width of a palette.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from colorquant_nn.kernels import reference
from colorquant_nn.kernels._compile import kernel
from colorquant_nn.kernels._threads import next_task, run
from colorquant_nn.kernels.cpu import flat

BLOCK = 1 << 13  # points of a task


@kernel()
def _write_blocks(
    counter: Any, num_tasks: Any, planes: Any, strides: Any, indices: Any, values: Any
) -> None:
    """Write (B, D, N) values from (B, D, K) planes and indices of any strides."""
    images, width, _ = values.shape
    blocks = num_tasks // images
    step, last = np.uint64(strides[1]), np.uint64(planes.shape[2] - 1)
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        image = task // blocks
        start = (task - image * blocks) * BLOCK
        first = np.uint64(image * strides[0] + start * strides[1])
        for d in range(width):
            row = planes[image, d]
            target = values[image, d, start : start + BLOCK]
            for i in range(target.size):
                target[i] = row[min(np.uint64(indices[first + np.uint64(i) * step]), last)]


def lookup(palette: Tensor, indices: Tensor) -> Tensor:
    """See `colorquant_nn.kernels.lookup`."""
    if palette.dtype != torch.float32 or indices.dtype != torch.int64 or 0 in palette.shape:
        return reference.lookup(palette, indices)
    if indices.numel() == 0:
        return reference.lookup(palette, indices)
    images, num_points = indices.shape
    values = palette.new_empty(images, palette.shape[2], num_points)
    num_tasks = images * -(-num_points // BLOCK)
    planes = palette.detach().transpose(1, 2).contiguous().numpy()
    run(
        _write_blocks, num_tasks, 1.5 * indices.numel(),
        planes, indices.stride(), flat(indices), values.numpy(),
    )  # fmt: skip
    return values.transpose(1, 2)
