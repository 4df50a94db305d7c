"""The CPU kernels under threads and forks."""

import os
import threading

import pytest
import torch

from colorquant_nn.kernels import (
    DeflateCosts,
    choose_indices,
    cluster,
    convert_color,
    distinct_colors,
    histogram,
    kmeans_per_image,
    lookup,
    mix,
    search,
)
from tests.helpers import assert_same, run_python


def everything():
    """Results of all ops on inputs that are worth several threads."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(4, 50_000, 3, generator=generator)
    centroids = torch.rand(1, 200, 3, generator=generator)
    weights = torch.rand(4, 50_000, generator=generator)
    draws = torch.rand(5, 2, generator=generator)
    costs = (torch.rand(9, count, generator=generator) / 9 for count in (7, 259, 30))
    indices, counts = choose_indices(
        torch.rand(40, 50, 4, generator=generator), weights[0, :2000].view(40, 50) + 0.1,
        torch.ones(40, 50, dtype=torch.uint8), torch.rand(7, 4, generator=generator),
        torch.ones(2, 7).bool(), DeflateCosts(*costs), 0.5,
    )  # fmt: skip
    return [
        *cluster(points, centroids, centroids, weights),
        *cluster(points, torch.rand(4, 7, 3, generator=generator)),
        *kmeans_per_image(points, 5, 2, draws),
        *kmeans_per_image(points[:1], 5, 2, draws, weights[:1]),
        histogram(points, 4, weights),
        histogram(points, 6, weights),  # few for so many cells
        lookup(centroids.expand(4, -1, -1), (200 * weights).long()),
        *distinct_colors(points, weights),
        convert_color(points, ["srgb_decode", "cube_root"], []),
        mix(
            points[:, :5000], None, centroids[0, :9], [], [],
            torch.arange(16, dtype=torch.float64).view(4, 4) / 16, 0.7,
        ),
        search(
            points[0, :5000], weights[0, :5000], torch.zeros(3, 9, 3), 0,
            torch.rand(3, 9, 2, generator=generator), torch.ones(3, 4, 2, 9), 2, 2,
        ),
        indices,
        *counts,
    ]  # fmt: skip


def test_results_do_not_depend_on_the_number_of_threads(threads):
    threads(1)
    expected = everything()
    for count in (2, 3, 7):
        threads(count)
        assert_same(everything(), expected)


def test_several_callers_at_once(threads):
    threads(3)
    expected = everything()
    results = [None] * 4

    def work(slot):
        results[slot] = everything()

    callers = [threading.Thread(target=work, args=(slot,)) for slot in range(len(results))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for result in results:
        assert_same(result, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_starts_its_own_threads():
    code = """
import os, torch
from tests.helpers import assert_same
from tests.kernels.test_threads import everything
torch.set_num_threads(2)
expected = everything()
child = os.fork()
if child == 0:
    torch.set_num_threads(1)  # torch's own threads do not survive a fork
    torch.get_num_threads = lambda: 2
    try:
        assert_same(everything(), expected)
    except BaseException:
        os._exit(1)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert_same(everything(), expected)
print("same")
"""
    assert run_python(code) == "same\n"


def test_import_leaves_the_compiler_out():
    code = """
import sys, torch
before = set(sys.modules)
import colorquant_nn.kernels
print([name for name in ("numba", "triton", "torch._dynamo") if name in set(sys.modules) - before])
"""
    assert run_python(code) == "[]\n"


def test_where_no_thread_can_be_started_ours_does_all(threads, monkeypatch):
    threads(1)
    expected = everything()
    threads(200)  # more than have been started so far
    refused = []

    def start(thread):
        refused.append(thread)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert_same(everything(), expected)
    assert refused
