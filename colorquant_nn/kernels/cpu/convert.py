"""Colour conversion on the CPU with numba: one pass over memory, whatever the chain of stages.

Every pixel gets the same bits wherever it lies in a tensor, in whatever layout and under any
number of threads: equal colours stay equal. (The vectorised ``pow`` of torch does not promise
that; the ends of a block go through another implementation.) So roots are computed with exactly
rounded operations only, in SIMD lanes: a float32 start, then one step in float64.
"""

# mypy: disable-error-code="no-untyped-def"

import math
from contextlib import suppress
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn.kernels.cpu.runtime import kernel, next_task, run, subroutine
from colorquant_nn.kernels.cpu.tiles import flat

TILE = 256  # pixels; three rows of float64 stay in the first-level cache
BLOCK = 64 * TILE  # what a thread takes at a time

STAGES = {
    "srgb_decode": 0,
    "srgb_encode": 1,
    "cube_root": 2,
    "cube": 3,
    "lab_curve": 4,
    "lab_uncurve": 5,
    "matrix": 6,
}
MATRIX = STAGES["matrix"]

_THIRD = np.float32(1 / 3)
_FIFTH = np.float32(1 / 5)
# The bits of a float32 are about its logarithm: a root of it is a fraction of them, plus these.
_THIRD_START = np.float32(0x2A5119F2)
_FIFTH_START = np.float32(0x32C82FEF)
_SMALLEST = 1e-36  # roots of less are 0
_BEND = 6 / 29
_TWO = np.float32(2)
_THREE = np.float32(3)


def convert_color(colors: Tensor, stages: list[str], matrices: list[float]) -> Tensor:
    """See `colorquant_nn.kernels.convert_color`."""
    if colors.dtype != torch.float32:
        return NotImplemented
    target = torch.empty_like(colors)
    if colors.numel() == 0:
        return target
    views = _flatten(colors, target)
    if views is None:
        return target.copy_(convert_color(colors.contiguous(), stages, matrices))
    images, length, _ = views[0].shape
    num_tasks = images * -(-length // BLOCK)
    nanoseconds = 4.0 * len(stages) * images * length
    program = _program(tuple(stages), tuple(matrices))
    source, written = ((flat(view), view.stride()) for view in views)  # of one type to numba
    run(_convert, num_tasks, nanoseconds, (images, length), source, written, *program)
    return target


@lru_cache
def _program(
    stages: tuple[str, ...], matrices: tuple[float, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A number for each stage, and a matrix: that of the stage, or any."""
    numbers = iter(matrices)
    every = [
        [next(numbers) for _ in range(9)] if stage == "matrix" else [0.0] * 9 for stage in stages
    ]
    codes = np.array([STAGES[stage] for stage in stages], np.int64)
    return codes, np.array(every, np.float64).reshape(-1, 3, 3)


def _flatten(colors: Tensor, target: Tensor) -> tuple[Tensor, Tensor] | None:
    """View both as (B, N, 3), or return None where axes do not merge without a copy."""
    for shape in ((1, -1, 3), (colors.shape[0], -1, 3)):
        with suppress(RuntimeError):
            return colors.view(shape), target.view(shape)
    return None


@kernel()
def _convert(counter, num_tasks, shape, source, target, codes, matrices):
    """Run the stages ``codes`` on ``source`` (B, N, 3), any strides, into ``target`` (B, N, 3)."""
    x, y, z = np.zeros(TILE), np.zeros(TILE), np.zeros(TILE)
    images, length = shape
    values, strides = source
    step, deep = np.uint64(strides[1]), np.uint64(strides[2])
    results, result_strides = target
    result_step, result_deep = np.uint64(result_strides[1]), np.uint64(result_strides[2])
    blocks = num_tasks // images
    task = next_task(counter)
    while task < num_tasks:
        image, block = task // blocks, task % blocks
        for start in range(block * BLOCK, min((block + 1) * BLOCK, length), TILE):
            n = min(TILE, length - start)
            first = np.uint64(image * strides[0] + start * strides[1])
            for i in range(n):
                place = first + np.uint64(i) * step
                x[i] = values[place]
                y[i] = values[place + deep]
                z[i] = values[place + deep + deep]
            lanes = (n + 15) // 16 * 16  # whole vectors: no loop has a differing remainder
            for stage in range(codes.shape[0]):
                if codes[stage] == MATRIX:
                    _mix(x, y, z, lanes, matrices[stage])
                else:
                    _bend(x, lanes, codes[stage])
                    _bend(y, lanes, codes[stage])
                    _bend(z, lanes, codes[stage])
            first = np.uint64(image * result_strides[0] + start * result_strides[1])
            for i in range(n):
                place = first + np.uint64(i) * result_step
                results[place] = x[i]
                results[place + result_deep] = y[i]
                results[place + result_deep + result_deep] = z[i]
        task = next_task(counter)


@subroutine()
def _mix(x, y, z, n, matrix):
    a, b, c = matrix[0, 0], matrix[0, 1], matrix[0, 2]
    d, e, f = matrix[1, 0], matrix[1, 1], matrix[1, 2]
    g, h, k = matrix[2, 0], matrix[2, 1], matrix[2, 2]
    for i in range(n):
        p, q, r = x[i], y[i], z[i]
        x[i] = a * p + b * q + c * r
        y[i] = d * p + e * q + f * r
        z[i] = g * p + h * q + k * r


@subroutine()
def _bend(row, n, code):
    if code == 0:
        for i in range(n):
            size = abs(row[i])
            power = _power_2_4((size + 0.055) * (1 / 1.055))
            row[i] = math.copysign(power if size > 0.04045 else size * (1 / 12.92), row[i])
    elif code == 1:
        for i in range(n):
            size = abs(row[i])
            power = 1.055 * _cube_root(size * math.sqrt(math.sqrt(size))) - 0.055
            row[i] = math.copysign(power if size > 0.0031308 else size * 12.92, row[i])
    elif code == 2:
        for i in range(n):
            row[i] = math.copysign(_cube_root(abs(row[i])), row[i])
    elif code == 3:
        for i in range(n):
            row[i] = row[i] * row[i] * row[i]
    elif code == 4:
        for i in range(n):
            power = _cube_root(abs(row[i])) - 4 / 29
            row[i] = power if row[i] > _BEND**3 else row[i] * (1 / (3 * _BEND**2))
    elif code == 5:
        for i in range(n):
            t = row[i] + 4 / 29
            row[i] = t * t * t if t > _BEND else row[i] * (3 * _BEND**2)


@subroutine()
def _cube_root(x):
    """Cube root of x >= 0 by Halley's method, which triples the digits in every step."""
    s = np.float32(x)
    bits = np.float32(s.view(np.int32)) * _THIRD + _THIRD_START
    y = np.int32(bits).view(np.float32)
    cube = y * y * y
    y = y * ((cube + s + s) / (cube + cube + s))
    w = np.float64(y)
    cube = w * w * w
    w = w * ((cube + x + x) / (cube + cube + x))
    return w if x >= _SMALLEST else 0.0 * x


@subroutine()
def _power_2_4(x):
    """x ** 2.4 for normal x > 0, as x**2 times the square of the fifth root."""
    s = np.float32(x)
    bits = np.float32(s.view(np.int32)) * _FIFTH + _FIFTH_START
    y = np.int32(bits).view(np.float32)
    fifth = y * y * y * y * y
    y = y * ((_TWO * fifth + _THREE * s) / (_THREE * fifth + _TWO * s))
    w = np.float64(y)
    fifth = w * w * w * w * w
    w = w * ((2 * fifth + 3 * x) / (3 * fifth + 2 * x))
    return (x * w) * (x * w)
