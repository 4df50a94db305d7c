"""What the tests of the layer share."""

import torch

from colorquant_nn import ColorQuantize

SPACES = ["rgb", "linear", "lab", "oklab"]
FEW = 3  # batches of a warm-up, where a test needs to go past it


def batch(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Squares of random numbers: darker than light, on the default device."""
    generator = torch.Generator("cpu").manual_seed(seed)
    numbers = torch.rand(*(shape or (4, 3, 16, 16)), generator=generator, device="cpu")
    return numbers.pow(2).to(torch.get_default_device(), dtype)


def state_of(layer: ColorQuantize) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in layer.state_dict().items()}


def assert_same_state(layer: ColorQuantize, state: dict[str, torch.Tensor]) -> None:
    now = state_of(layer)
    assert now.keys() == state.keys()
    assert all(torch.equal(now[name], state[name]) for name in state)
