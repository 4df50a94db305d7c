"""The Triton kernels: right in the interpreter, and compiled for named GPUs."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers import INTERPRETED, interpreter

triton = pytest.importorskip("triton")


@pytest.mark.skipif(INTERPRETED, reason="this is the run in the interpreter")
@pytest.mark.parametrize(
    ("file", "chosen", "least"),
    [
        ("test_cluster.py", "cuda and moments_about and 17", 9),
        pytest.param("", "cuda", 100, marks=pytest.mark.slow),
    ],
)
def test_the_cuda_column_in_the_interpreter(file, chosen, least):
    """Tests of this folder that take a backend, in a process that interprets Triton."""
    done = interpreter(
        *("-m", "pytest", "-n", "0", f"tests/kernels/{file}", "-k", chosen),
        *("-p", "no:cacheprovider", "-W", "ignore", "-m", "not slow"),
        *("--deselect", "tests/kernels/test_cuda.py"),
        TRITON_INTERPRET="1",
    )
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= least


def resources(architecture, dtype, channels, weighted, summed, folder):
    """Registers a thread, and bytes spilled to memory, of the kernel compiled for a GPU."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from colorquant_nn.kernels import cuda

    names = cuda.cluster_tiles.arg_names
    constants = {
        "channels": channels,
        "colors": channels if summed else 0,
        "is_bytes": dtype == "u8",
        "clamp": True,
        "weighted": weighted,
        "summed": summed,
        "tile": cuda.TILE,
        "clusters": cuda.CLUSTERS,
    }
    values = "fp32" if dtype == "u8" else dtype
    signature = dict.fromkeys(names, "i32") | {
        "points": f"*{dtype}",
        "centroids": "*fp32",
        "palette": f"*{values}",
        "weights": "*fp32",
        "indices": "*i64",
        "sums": "*fp64" if summed else "*fp32",
        "values": f"*{values}",
    }
    signature |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(
        fn=cuda.cluster_tiles,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
    )
    target = GPUTarget("cuda", architecture, 32)
    compiled = triton.compile(source, target=target, options={"num_warps": cuda.WARPS})
    binary = folder / "kernel.cubin"
    binary.write_bytes(compiled.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    usage = subprocess.run(
        [tool, "--dump-resource-usage", binary], capture_output=True, text=True, check=True
    ).stdout
    found = {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    return found["REG"], found["STACK"] + found["LOCAL"]


@pytest.mark.skipif(INTERPRETED, reason="nothing is compiled then")
@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize(
    ("dtype", "channels", "weighted", "summed"),
    [
        ("fp32", 3, False, False),
        ("fp32", 3, True, True),
        ("u8", 3, False, True),
        ("fp16", 4, True, True),
    ],
)
def test_compiles_without_spills(architecture, dtype, channels, weighted, summed, tmp_path):
    registers, spilled = resources(architecture, dtype, channels, weighted, summed, tmp_path)
    print(
        f"sm_{architecture} {dtype} C={channels} sums={summed}: {registers} registers, {spilled} B"
    )
    assert spilled <= 16
    assert registers <= 168  # three programs of 128 threads to each 64 K registers
