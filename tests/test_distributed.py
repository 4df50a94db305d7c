"""Several ranks learn what one rank learns from the concatenated batch."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from colorquant_nn import ColorQuantize, DeferredColorQuantize

STEPS = 7
WARM_UP = 3


def share(step: int, rank: int, world: int) -> torch.Tensor:
    """The batch of a rank: of uneven size, sometimes empty, of other colours on each rank."""
    generator = torch.Generator().manual_seed(100 * step + rank)
    size = (step + rank) % 3 if world > 1 else 1
    brightness = (rank + 1) / world
    return brightness * torch.rand(size, 3, 8, 8, generator=generator)


def layers() -> dict[str, ColorQuantize]:
    return {
        "rgb": ColorQuantize(6, warm_up=WARM_UP),
        "lab": ColorQuantize(6, space="lab", warm_up=WARM_UP),
        "lloyd": ColorQuantize(6, decay=0.0, dead_below=0.5, warm_up=WARM_UP),
        "deferred": DeferredColorQuantize(6, warm_up=WARM_UP),
    }


def learn(layer: ColorQuantize, x: torch.Tensor) -> int:
    """A step of training; how many forwards it has."""
    result = layer.quantize(x)
    if x.numel() > 0:  # its own error, not that of all ranks
        torch.testing.assert_close(result.mse, nn.functional.mse_loss(result.values, x))
    if not isinstance(layer, DeferredColorQuantize):
        return 1
    layer(x)
    layer.commit()
    return 2


def work(rank: int, world: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    reduces = count_all_reduces()
    states = {}
    for name, layer in layers().items():
        for step in range(STEPS):
            before = reduces[0]
            layer.eval()
            layer(share(step, rank, world))
            assert reduces[0] == before, "a collective in eval()"
            layer.train()
            forwards = learn(layer, share(step, rank, world))
            assert reduces[0] == before + forwards, "not one collective in a training forward"
            states[f"{name}, step {step}"] = layer.centroids.clone(), layer.counts.clone()
    torch.save(states, f"{folder}/{rank}.pt")
    check_ddp(rank)
    if world == 2:
        check_fsdp(rank, world, folder)
    dist.destroy_process_group()


def count_all_reduces() -> list[int]:
    calls, original = [0], dist.all_reduce

    def counting(*args: object, **kwargs: object) -> object:
        calls[0] += 1
        return original(*args, **kwargs)

    dist.all_reduce = counting
    return calls


def check_ddp(rank: int) -> None:
    """A model under DDP trains; its palette is the same on every rank."""
    torch.manual_seed(0)
    layer = ColorQuantize(6, warm_up=WARM_UP)
    model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Conv2d(3, 3, 1), layer))
    assert sum(buffer.nbytes for buffer in model.modules_buffers) <= 64 << 10  # in every forward
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):
        optimizer.zero_grad()
        x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(10 * step + rank))
        (model(x) + model(1 - x)).square().mean().backward()  # two forwards for one backward
        optimizer.step()
    assert_same_everywhere(layer.centroids)
    assert_same_everywhere(next(model.parameters()).detach())


def check_fsdp(rank: int, world: int, folder: str) -> None:
    """Sharded, a model gets the palette that it gets unsharded; its checkpoint restores it."""
    mesh = init_device_mesh("cpu", (world,))
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        networks.append(
            nn.Sequential(nn.Conv2d(3, 3, 1), ColorQuantize(6, warm_up=WARM_UP), nn.Conv2d(3, 4, 1))
        )
    model, plain = networks
    fully_shard(model[0], mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reference = nn.parallel.DistributedDataParallel(plain)
    its_optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    for step in range(STEPS):
        x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(10 * step + rank))
        for network, its in ((model, optimizer), (reference, its_optimizer)):
            its.zero_grad()
            network(x).square().mean().backward()
            its.step()
    layer = model[1]
    assert_same_everywhere(layer.centroids)
    torch.testing.assert_close(layer.centroids, plain[1].centroids, rtol=1e-4, atol=1e-5)
    checkpoint.save({"model": get_model_state_dict(model)}, checkpoint_id=f"{folder}/shards")
    before = layer.centroids.clone(), layer.counts.clone()
    model(torch.rand(1, 3, 8, 8))
    assert not torch.equal(layer.centroids, before[0])
    restored = {"model": get_model_state_dict(model)}
    checkpoint.load(restored, checkpoint_id=f"{folder}/shards")
    set_model_state_dict(model, restored["model"])
    assert torch.equal(layer.centroids, before[0])
    assert torch.equal(layer.counts, before[1])


def assert_same_everywhere(value: torch.Tensor) -> None:
    everyone = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, value.contiguous())
    assert all(torch.equal(other, value) for other in everyone)


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_agree_with_one(world: int, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (world, str(tmp_path)), nprocs=world)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world)]
    expected = []
    for layer in layers().values():
        for step in range(STEPS):
            learn(layer, torch.cat([share(step, rank, world) for rank in range(world)]))
            expected.append((layer.centroids.clone(), layer.counts.clone()))
    for states in ranks:
        for (where, (centroids, counts)), single in zip(states.items(), expected, strict=True):
            assert torch.equal(centroids, ranks[0][where][0]), where
            torch.testing.assert_close(centroids, single[0], rtol=1e-5, atol=1e-6, msg=where)
            torch.testing.assert_close(counts, single[1], rtol=1e-5, atol=1e-3, msg=where)
