"""The Triton kernels: right in the interpreter, compiled for named GPUs, and on one if there is."""

import re
import subprocess
from pathlib import Path

import pytest
import torch

from colorquant_nn.kernels import assign, cluster, reference
from tests.kernels.oracle import assert_nearest, images, palette
from tests.kernels.test_threads import run_python

triton = pytest.importorskip("triton")


def test_agrees_with_the_reference_in_the_interpreter():
    code = "from tests.kernels.interpreted import main; main()"
    assert run_python(code, TRITON_INTERPRET="1") == "all agree\n"


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("num_clusters", [1, 17, 256])
def test_agrees_with_the_reference_on_a_gpu(num_clusters):
    points, centroids = images("noise", 100_000, 3), palette("noise", num_clusters, 3)
    assert_nearest(
        points[:, ::10], centroids, assign(points.cuda(), centroids.cuda()).cpu()[:, ::10]
    )
    found = cluster(points.cuda(), centroids.cuda(), centroids.cuda())
    again = cluster(points.cuda(), centroids.cuda(), centroids.cuda())
    assert torch.equal(found.moments, again.moments)
    expected = reference.cluster(points, centroids, centroids, None, False)
    torch.testing.assert_close(found.moments.cpu(), expected[1], rtol=1e-4, atol=1e-4)
