"""The names of the package: those that users write, and those that it is reached by."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from colorquant_nn import names
from colorquant_nn.functional.color import SPACES
from colorquant_nn.functional.dither import DITHERS
from colorquant_nn.functional.fitting import EFFORTS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "table"), [(names.Space, SPACES), (names.Dither, DITHERS), (names.Effort, EFFORTS)]
)
def test_every_name_stands_for_something_and_all_have_one(name: object, table: object) -> None:
    assert get_args(name) == tuple(table)


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.strip()


def test_names_need_no_torch() -> None:
    code = "import sys, colorquant_nn.names; print(*{'torch', 'numpy'} & set(sys.modules))"
    assert run(code) == ""


def test_rooms_are_attributes_of_the_package() -> None:
    code = (
        "import sys, colorquant_nn; assert 'torch' not in sys.modules;"
        "print(colorquant_nn.functional.metrics.mse.__name__);"
        "print(colorquant_nn.kernels.assign.__name__);"
        "print(hasattr(colorquant_nn.functional, 'nothing'), hasattr(colorquant_nn, 'nothing'))"
    )
    assert run(code).split() == ["mse", "assign", "False", "False"]
