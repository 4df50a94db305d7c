import numpy as np
import pytest
import torch

from experiments import four_ways
from experiments.benchmark.suites import eye
from tests.helpers import picture


def test_ways_are_drawn_two_in_a_row_enlarged_without_smoothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(four_ways, "CROP", (2, 4, 160, 170))
    image, ways = picture(0, height=170, width=180), {eye.NONE: "a", eye.EARLIER: "b"}
    row = np.asarray(four_ways.draw(image, ways))
    two = four_ways.draw(image, {**ways, "ours, ordered, oklab": "c", "ours, atkinson, oklab": "d"})
    assert two.size == (row.shape[1], 2 * row.shape[0])
    drawn = eye.photograph_methods()[eye.NONE](image, four_ways.COLORS)()[:, 2:162, 4:174]
    enlarged = drawn.repeat_interleave(2, 1).repeat_interleave(2, 2).movedim(0, -1).numpy()
    place = row.shape[0] - enlarged.shape[0]
    found = [
        np.array_equal(row[top : top + 320, left : left + 340], enlarged)
        for top in range(place + 1)
        for left in range(60)
        if np.array_equal(row[top, left : left + 340], enlarged[0])
    ]
    assert sum(found) == 1
    assert torch.unique(drawn.flatten(1), dim=1).shape[1] <= four_ways.COLORS
