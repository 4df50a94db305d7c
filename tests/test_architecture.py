"""The house: which file may import which, what an import costs, and that examples run."""

import ast
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch

import colorquant_nn
import experiments
from tests.helpers import ROOT, run_python

PACKAGE = ROOT / "colorquant_nn"
HEAVY = {"pytorch_lightning", "lightning", "torchvision", "torchmetrics"}
HEAVY |= {"matplotlib", "PIL", "numba", "tqdm"}
# Whom a room may import from: `cli` -> doors -> shell -> core, and names by everybody. The paths in
# `kernels.ops.OPS` are no imports: they are followed when an operation is called.
DOORS = {"compression", "io", "palettes", "plot"}
BYTES = {"files", "image_files", "palette_files", "named_palettes"}
MAY_IMPORT = {
    "names": set(),
    "kernels": {"kernels"},
    "functional": {"functional", "kernels"},
    "layers": {"layers", "functional", "kernels"},
    "image": {"functional", "kernels"},
    "files": set(),
    "image_files": {"image_files"},
    "named_palettes": set(),
    "palette_files": {"image_files", "palette_files"},
    "io": {"files", "image", "image_files", "functional"},
    "compression": {"image", "io", "functional", "kernels"},
    "palettes": {"files", "io", "palette_files", "named_palettes"},
    "plot": {"io", "functional"},
    "metrics": {"functional"},
    "transforms": {"functional", "image", "palettes"},
    "cli": {"cli", "image", "functional"} | DOORS | BYTES,
    "__main__": {"cli"},
    "__init__": {"functional", "kernels", "layers", "image", "metrics", "transforms"} | DOORS,
}
MODULES = sorted(
    module.name
    for package in (colorquant_nn, experiments)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
)


def has_examples(name: str) -> bool:
    place = ROOT / name.replace(".", "/")
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return ">>>" in file.read_text()


def imports(file: Path) -> set[str]:
    """The modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def parts(file: Path) -> set[str]:
    """The first-level parts of our package that a file imports."""
    inside = {name.split(".")[1] for name in imports(file) if name.startswith("colorquant_nn.")}
    return inside & (MAY_IMPORT.keys() - {"__init__"})


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_a_room_imports_from_the_rooms_below() -> None:
    for file in PACKAGE.rglob("*.py"):
        assert parts(file) <= MAY_IMPORT[room(file)] | {"names"}, file


def test_functions_of_the_core_see_the_operations_not_their_implementations() -> None:
    for file in PACKAGE.rglob("*.py"):
        if room(file) != "kernels":
            inside = {n for n in imports(file) if n.startswith("colorquant_nn.kernels.")}
            assert not set(filter(is_module, inside)), file


def is_module(name: str) -> bool:
    place = ROOT / name.replace(".", "/")
    return place.is_dir() or place.with_suffix(".py").exists()


def test_no_file_imports_itself_by_way_of_others() -> None:
    files = {module_of(file): file for file in PACKAGE.rglob("*.py")}
    arrows = {
        name: {target for target in imports_at_the_top(file) if target in files} - {name}
        for name, file in files.items()
    }

    def check(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        for target in arrows[name]:
            if target not in seen:
                check(target, (*path, name))
        seen.add(name)

    seen: set[str] = set()
    for name in arrows:
        check(name, ())


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_at_the_top(file: Path) -> set[str]:
    """What is imported as soon as a file is."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{name.name}" for name in node.names}
            modules = set(filter(is_module, names))
            found |= modules or {node.module}
    return found


def test_no_function_has_more_than_eight_parameters_and_no_layer_more_than_twelve() -> None:
    for folder in ("colorquant_nn", "experiments"):
        for file in (ROOT / folder).rglob("*.py"):
            if file.name == "cuda.py":  # Triton's kernels take no structures
                continue
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.FunctionDef):
                    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
                    names = [name for name in names if name not in ("self", "cls")]
                    count = len(names) + len(node.args.kwonlyargs)
                    limit = 12 if node.name == "__init__" and "layers" in file.parts else 8
                    config = node.name == "__init__" and "experiments" in file.parts  # YAML keys
                    assert count <= limit or config, f"{file}: {node.name} has {count}"


def test_experiments_use_the_public_api_alone() -> None:
    for file in (ROOT / "experiments").rglob("*.py"):
        private = {name for name in imports(file) if re.search(r"colorquant_nn.*\._", name)}
        assert not private, file
        if "benchmark" not in file.parts:  # which measures the operations by themselves too
            assert "kernels" not in parts(file), file


def test_import_is_light() -> None:
    code = (
        "import sys, colorquant_nn; assert 'torch' not in sys.modules; import torch;"
        "before = set(sys.modules); colorquant_nn.ColorQuantize(4), colorquant_nn.fit_palette;"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    loaded = run_python(code)
    assert "colorquant_nn" in loaded
    assert not HEAVY & set(loaded.split())


def test_public_names_are_there() -> None:
    assert set(colorquant_nn.__all__) <= set(dir(colorquant_nn))
    for name in colorquant_nn.__all__:
        assert getattr(colorquant_nn, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = colorquant_nn.nothing


@pytest.mark.parametrize("name", [name for name in MODULES if has_examples(name)])
def test_docstring_examples_run_as_they_are_pasted(name: str) -> None:
    torch.manual_seed(0)
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    module = importlib.import_module(name)
    found = doctest.DocTestFinder().find(module, globs={})
    runner = doctest.DocTestRunner(optionflags=options)
    for example in found:
        runner.run(example)
    assert runner.failures == 0
    assert runner.tries > 0


def test_readme_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    colorquant_nn.save_image("photo.png", torch.rand(3, 24, 32))
    torch.manual_seed(0)
    shown: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), shown)


def test_the_tests_that_prove_compatibility_are_there() -> None:
    text = (ROOT / "experiments" / "results" / "compatibility.md").read_text()
    sources = {
        str(file.relative_to(ROOT / "tests")): file for file in (ROOT / "tests").rglob("*.py")
    }
    places = re.findall(r"`((?:\w+/)*test_\w+\.py)?(?:::(test_\w+))?[^`\s]*`", text)
    file, checked = "", 0
    for named, test in places:
        file = named or file
        if named:
            assert named in sources, named
        if test:
            assert f"def {test}(" in sources[file].read_text(), f"{file}::{test}"
            checked += 1
    assert checked > 40
