"""Fixtures of more than one file, and the option that says which device the tests use."""

from collections.abc import Iterator

import pytest
import torch

from tests.cli_helpers import folder, run

__all__ = ["folder", "run"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="of the tests that can use any: cpu, cuda")


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device of ``--device``."""
    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def on_device(device: torch.device) -> Iterator[None]:
    """What is made without a device is made on that of ``--device``."""
    before = torch.get_default_device()
    torch.set_default_device(device)
    yield
    torch.set_default_device(before)
