"""Fixtures of more than one file."""

from tests.cli_helpers import folder, run

__all__ = ["folder", "run"]
