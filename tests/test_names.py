"""The names of the package: those that users write, and those that it is reached by."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import get_args

import pytest

import colorquant_nn
from colorquant_nn import functional, names
from colorquant_nn.cli import build_parser
from colorquant_nn.functional.color import SPACES
from colorquant_nn.functional.dither import DITHERS
from colorquant_nn.functional.fitting import EFFORTS
from tests.helpers import run_python


@pytest.mark.parametrize(
    ("name", "table"), [(names.Space, SPACES), (names.Dither, DITHERS), (names.Effort, EFFORTS)]
)
def test_every_name_stands_for_something_and_all_have_one(name: object, table: object) -> None:
    assert get_args(name) == tuple(table)


def default_spaces() -> Iterator[tuple[str, str]]:
    """The public functions, classes and methods that have a colour space by default."""
    for info in pkgutil.walk_packages(colorquant_nn.__path__, "colorquant_nn."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for name in getattr(module, "__all__", ()):
            found = getattr(module, name)
            if not inspect.isfunction(found) and not inspect.isclass(found):
                continue
            methods = vars(found).items() if inspect.isclass(found) else [("", found)]
            for method, function in methods:
                function = getattr(function, "__func__", function)  # of a class method
                parameters = inspect.signature(function).parameters if callable(function) else {}
                if "space" in parameters and (space := parameters["space"].default) in SPACES:
                    yield f"{info.name.removeprefix('colorquant_nn.')}.{name} {method}", space


def test_pictures_are_matched_as_people_see_them_and_layers_where_losses_are() -> None:
    spaces = dict(default_spaces())
    assert {"image.fit_palette ", "functional.histogram.ColorHistogram distortion"} <= set(spaces)
    assert {"layers.color_quantize.ColorQuantize from_palette"} <= set(spaces)
    for name, space in spaces.items():
        core = name.startswith("functional.") and "ColorHistogram" not in name
        rgb = core or name.startswith(("layers.", "transforms.Dither "))
        assert space == ("rgb" if rgb else "oklab"), name
    for command in ("quantize", "palette"):
        assert build_parser().parse_args([command, "a.png"]).space == "oklab"


def test_names_need_no_torch() -> None:
    code = "import sys, colorquant_nn.names; print(*{'torch', 'numpy'} & set(sys.modules))"
    assert run_python(code) == "\n"


def test_rooms_are_attributes_of_the_package() -> None:
    code = (
        "import sys, colorquant_nn; assert 'torch' not in sys.modules;"
        "print(colorquant_nn.functional.metrics.mse.__name__);"
        "print(colorquant_nn.kernels.assign.__name__);"
        "print(hasattr(colorquant_nn.functional, 'nothing'), hasattr(colorquant_nn, 'nothing'))"
    )
    assert run_python(code).split() == ["mse", "assign", "False", "False"]


def test_measures_and_estimators_are_attributes_of_functional() -> None:
    for home in (functional.metrics, functional.gradients):
        assert set(home.__all__) <= set(dir(functional))
        for name in home.__all__:
            assert getattr(functional, name) is getattr(home, name)
    assert "histogram" in dir(functional)


def test_rooms_of_an_extra_come_with_it_and_say_its_name_without() -> None:
    code = """
import sys, colorquant_nn
assert "torch" not in sys.modules
for room, extra, missing in (
    ("transforms", "torchvision", "torchvision"), ("metrics", "metrics", "torchmetrics"),
):
    assert missing not in sys.modules
    sys.modules[missing] = None
    try:
        getattr(colorquant_nn, room)
    except ImportError as error:
        print(error)
    del sys.modules[missing]
    print(getattr(colorquant_nn, room).__name__)
"""
    assert run_python(code).splitlines() == [
        "colorquant_nn.transforms needs torchvision: pip install 'colorquant_nn[torchvision]'",
        "colorquant_nn.transforms",
        "colorquant_nn.metrics needs torchmetrics: pip install 'colorquant_nn[metrics]'",
        "colorquant_nn.metrics",
    ]
