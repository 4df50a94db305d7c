"""The house: which file may import which, what an import costs, and that examples run."""

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import colorquant_nn

ROOT = Path(__file__).parents[1]
CORE = {"functional", "kernels"}
SHELL = {"layers", "image", "names"}
HEAVY = {"pytorch_lightning", "lightning", "torchvision", "matplotlib", "PIL", "numba", "tqdm"}
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(colorquant_nn.__path__, "colorquant_nn.")
)


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
    inside = (name.split(".") for name in imports(file) if name.startswith("colorquant_nn."))
    return {name[1] for name in inside}


def test_arrows_run_from_rim_to_shell_to_core() -> None:
    package = ROOT / "colorquant_nn"
    rim = {file.stem for file in package.glob("*.py")} - SHELL - {"__init__"}
    for part in CORE:
        for file in (package / part).rglob("*.py"):
            assert parts(file) <= CORE | {"names"}, f"{file} is core"
    for file in package.glob("*.py"):
        if file.stem in SHELL:
            assert not parts(file) & rim, f"{file} is shell"


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
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "colorquant_nn" in run.stdout
    assert not HEAVY & set(run.stdout.split())


def test_public_names_are_there() -> None:
    assert set(colorquant_nn.__all__) <= set(dir(colorquant_nn))
    for name in colorquant_nn.__all__:
        assert getattr(colorquant_nn, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = colorquant_nn.nothing


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    if name.endswith("__main__"):
        pytest.skip("runs the program")
    torch.manual_seed(0)
    module = importlib.import_module(name)
    shown = {"torch": torch, **{key: getattr(colorquant_nn, key) for key in colorquant_nn.__all__}}
    result = doctest.testmod(
        module, extraglobs=shown, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    assert result.failed == 0


def test_readme_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    colorquant_nn.save_image("photo.png", torch.rand(3, 24, 32))
    torch.manual_seed(0)
    shown: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), shown)


def test_files_fit_in_a_readers_head() -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for folder in ("colorquant_nn", "experiments", "tests")
        for file in (ROOT / folder).rglob("*.py")
        if (lines := len(file.read_text().splitlines())) > 400
    }
    assert not long
