"""The examples in the docstrings are right."""

import doctest
import importlib
import pkgutil

import pytest

import experiments

MODULES = sorted(
    module.name
    for module in pkgutil.iter_modules(experiments.__path__, "experiments.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0
