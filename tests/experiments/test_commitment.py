"""The commitment term holds a free encoder, as one written by hand does."""

from statistics import mean

import pytest
import torch
from torch import Tensor, nn

from colorquant_nn import ColorQuantize, Quantized
from experiments.sweeps import commitment
from experiments.sweeps.commitment import train


class ByHand(nn.Module):
    """A layer whose commitment is what papers write, with their weight of 1."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = ColorQuantize(commitment.NUM_COLORS)

    def forward(self, x: Tensor, returns: str) -> Quantized:
        result: Quantized = self.layer(x, returns=returns)
        error = nn.functional.mse_loss(x, result.values.detach())
        return result._replace(commitment=error)


@pytest.mark.slow
def test_a_free_encoder_stays_near_the_palette() -> None:
    settings = [(rate, gain, seed) for rate, gain in commitment.SETTINGS for seed in (0, 1, 2)]
    ours = [train(ColorQuantize(commitment.NUM_COLORS), *setting) for setting in settings]
    theirs = [train(ByHand(), *setting) for setting in settings]
    print(*zip(settings, ours, theirs, strict=True), sep="\n")
    for outcome in ours:
        assert outcome.low > -1
        assert outcome.high < 2
    errors = [mean(outcome.reconstruction for outcome in its) for its in (ours, theirs)]
    assert errors[0] <= errors[1]


def test_the_sweep_writes_a_table(tmp_path) -> None:
    commitment.main(["--seeds", "0", "--weights", "0.25", "--steps", "1", "--out", str(tmp_path)])
    text = (tmp_path / "commitment.md").read_text()
    assert "| straight_through | 0.25 |" in text
    assert "| Soft(0.1) | 0.25 |" in text
    assert (tmp_path / "commitment.json").exists()
    assert (tmp_path / "commitment.png").exists()


def test_without_it_the_encoder_is_free() -> None:
    torch.manual_seed(0)
    held, free = (
        train(ColorQuantize(4, commitment_weight=weight), 1e-2, 20.0, 0, steps=12)
        for weight in (1.0, 0.0)
    )
    assert free.high - free.low > 2 * (held.high - held.low)
