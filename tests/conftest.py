"""Fixtures of more than one file, and the option that says which device the tests use."""

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
