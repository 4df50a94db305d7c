"""What ranks count is put together as if one process had counted it."""

import os
from pathlib import Path

import torch
import torch.distributed as dist

from colorquant_nn.functional import histogram
from colorquant_nn.functional.gathering import gather_colors
from colorquant_nn.functional.histogram import WeightedColors, count_each, merge_colors
from tests.helpers import assert_same, levels, run_ranks

WORLD = 3


def images(channels: int, count: int = 256) -> list[torch.Tensor]:
    return [levels(channels, 9, 10 + seed, count=count, seed=seed) for seed in range(7)]


def alike(colors: WeightedColors | None, expected: WeightedColors) -> None:
    assert colors is not None
    assert_same(colors[:3], expected[:3])
    assert colors.bits == expected.bits


def work(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", WORLD)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=WORLD)
    for channels, count in ((3, 256), (4, 256), (3, 4)):
        all_of_them = images(channels, count)
        for limit in (1 << 19, 300):
            histogram.MERGE_ABOVE = limit
            found = gather_colors(count_each(all_of_them[rank::WORLD]))
            if rank == 0:
                expected = merge_colors(count_each(all_of_them))
                assert expected.bits == (6 if limit == 300 and count == 256 else 8)
                alike(found, expected)
            else:
                assert found is None
    some = gather_colors(count_each(images(3) if rank == 1 else []))
    assert (some is None) == (rank > 0)
    assert gather_colors([]) is None
    group = dist.new_group([1, 2])
    if rank > 0:
        found = gather_colors(count_each(images(3)[rank - 1 :: 2]), group)
        assert (found is None) == (rank == 2)
        if rank == 1:
            alike(found, merge_colors(count_each(images(3))))
    dist.destroy_process_group()


def test_ranks_count_what_one_process_counts(tmp_path: Path) -> None:
    run_ranks(work, WORLD, str(tmp_path))
