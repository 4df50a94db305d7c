"""Where two pictures differ in structure and in edges, on the CPU: what visual quality is made of.

Rows are blurred and compared one at a time, in what the first cache holds; each is added up by
itself, and rows in fixed bands, combined in order. One minus SSIM's term of structure is the
variance of the difference of both pictures over the sum of their variances: so it is as exact where
pictures are alike as elsewhere, and 0 where they are the same.

Letters: C channels, H rows, W columns.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np
import torch
from torch import Tensor

from colorquant_nn.kernels.cpu.runtime import FUSED, REORDERED, kernel, next_task, run, subroutine

BAND = 32  # rows that a thread takes at a time
RADIUS = 5  # of the blur, whose standard deviation is 1.5 pixels
TAPS = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * 1.5**2))
TAPS = (TAPS / TAPS.sum()).astype(np.float32)
STABLE = np.float32(0.0009)  # added to variances: C2 of SSIM
ZERO, ONE = np.float32(0), np.float32(1)


def blur_channels(channels: Tensor) -> Tensor:
    """See `colorquant_nn.kernels.blur_channels`."""
    blurred = channels.new_empty((2, *channels.shape))
    _run(channels, torch.zeros_like(channels), blurred, np.empty((0, 0, 3, 2)))
    return blurred


def compare_channels(channels: Tensor, others: Tensor, blurred: Tensor) -> Tensor:
    """See `colorquant_nn.kernels.compare_channels`."""
    bands = -(-channels.shape[1] // BAND)
    sums = np.zeros((bands, len(channels), 3, 2))
    _run(channels, others, blurred, sums)
    return torch.from_numpy(sums.sum(0))


def _run(channels: Tensor, others: Tensor, blurred: Tensor, sums: object) -> None:
    tasks = len(channels) * -(-channels.shape[1] // BAND)
    run(
        _look, tasks, 6.0 * channels.numel(),
        channels.contiguous().numpy(), others.contiguous().numpy(), TAPS,
        blurred.contiguous().numpy(), sums,
    )  # fmt: skip


@kernel(FUSED)
def _look(counter, num_tasks, channels, others, taps, blurred, sums):
    """Blur (C, H, W), and compare with others unless ``sums`` (bands, C, 3, 2) is empty."""
    height, width = channels.shape[1:]
    bands = num_tasks // len(channels)
    padded = np.zeros((3, width + 2 * RADIUS), np.float32)
    rows = np.empty((3, width), np.float32)
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        channel, band = task // bands, task % bands
        for row in range(band * BAND, min((band + 1) * BAND, height)):
            _blur(channels[channel], others[channel], row, taps, padded, rows)
            if len(sums) == 0:
                for column in range(width):
                    blurred[0, channel, row, column] = rows[0, column]
                    blurred[1, channel, row, column] = rows[2, column]
                continue
            _compare(
                channels[channel, row], others[channel, row],
                blurred[0, channel, row], blurred[1, channel, row], rows[0], rows[1], rows[2],
            )  # fmt: skip
            for kind in range(3):
                total, fourth = _powers(rows[kind])
                sums[band, channel, kind, 0] += total
                sums[band, channel, kind, 1] += fourth


@subroutine(FUSED)
def _blur(plane, other, row, taps, padded, rows):
    """A row (3, W) of the means of the difference, of its square, and of the plane's square.

    At the upper and the lower edge rows are reflected; beside the picture all is 0.
    """
    height, width = plane.shape
    mean = padded[0, RADIUS : RADIUS + width]
    apart = padded[1, RADIUS : RADIUS + width]
    square = padded[2, RADIUS : RADIUS + width]
    for kind in range(3):
        for column in range(width):
            padded[kind, RADIUS + column] = rows[kind, column] = ZERO
    for tap in range(len(taps)):
        place = (row + tap - RADIUS) % (2 * height)
        place = min(place, 2 * height - 1 - place)
        first, second, factor = plane[place], other[place], taps[tap]
        for column in range(width):
            value = first[column]
            difference = value - second[column]
            mean[column] += factor * difference
            apart[column] += factor * difference * difference
            square[column] += factor * value * value
    for kind in range(3):
        source, target = padded[kind], rows[kind]
        for tap in range(len(taps)):
            factor = taps[tap]
            for column in range(width):
                target[column] += factor * source[column + tap]


@subroutine(FUSED)
def _compare(values, others, other_mean, other_square, mean, apart, square):
    """How structure differs, how edges came up, how they were lost: in the place of the means.

    What is not a number stays so.
    """
    for column in range(len(values)):
        step, there = mean[column], other_mean[column]
        here, light = there + step, step * step
        variances = (square[column] - here * here) + (other_square[column] - there * there)
        ratio = (apart[column] - light) / (variances + STABLE)
        structure = light + ratio - light * ratio
        edge = (ONE + abs(values[column] - here)) / (ONE + abs(others[column] - there)) - ONE
        mean[column] = ZERO if structure < ZERO else structure
        apart[column] = ZERO if edge < ZERO else edge
        square[column] = ZERO if edge > ZERO else -edge


@subroutine(REORDERED)
def _powers(row):
    """The sums of values and of their fourth powers."""
    total, fourth = ZERO, ZERO
    for column in range(len(row)):
        square = row[column] * row[column]
        total += row[column]
        fourth += square * square
    return total, fourth
