"""The examples in the docstrings are right."""

import doctest
import importlib
from pathlib import Path

import pytest

from experiments import ROOT

FILES = sorted(file for file in (ROOT / "experiments").rglob("*.py") if ">>>" in file.read_text())


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_examples(file: Path) -> None:
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    result = doctest.testmod(importlib.import_module(name), globs={})
    assert result.attempted > 0
    assert result.failed == 0
