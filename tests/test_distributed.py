"""Several ranks learn what one rank learns from the concatenated batch."""

import copy
import os
import pickle
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import checkpoint
from torch.distributed.algorithms.join import Join
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from colorquant_nn import (
    ColorHistogram,
    ColorQuantize,
    DeferredColorQuantize,
    DitheredColorQuantize,
    LearnedPalette,
)
from tests.helpers import run_ranks

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
    check_fit(rank, world)
    check_models_of_their_own(rank, world)
    check_join(rank)
    check_groups(rank, world)
    check_learned(rank, world, reduces)
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
    """A model under DDP trains; its palette is the same on every rank, with dots too."""
    for with_dots in (False, True):
        torch.manual_seed(0)
        layer = ColorQuantize(6, warm_up=WARM_UP)
        last = DitheredColorQuantize(layer) if with_dots else layer
        model = DistributedDataParallel(nn.Sequential(nn.Conv2d(3, 3, 1), last))
        assert sum(x.nbytes for x in model.modules_buffers) <= 64 << 10  # in every forward
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(4):
            optimizer.zero_grad()
            x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(10 * step + rank))
            (model(x) + model(1 - x)).square().mean().backward()  # two forwards for one backward
            optimizer.step()
        assert_same_everywhere(layer.centroids)
        assert_same_everywhere(next(model.parameters()).detach())


def check_fit(rank: int, world: int) -> None:
    """Each rank gives its share of the images; all get the palette of all."""
    images = torch.rand(13, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    sampler = DistributedSampler(images, world, rank, shuffle=False)  # repeats some, to be even
    shares = [
        list(DistributedSampler(images, world, other, shuffle=False)) for other in range(world)
    ]
    layer = ColorQuantize(6).fit(DataLoader(images, batch_size=2, sampler=sampler))
    everything = images[[index for its in shares for index in its]]
    one = ColorQuantize(6, sync=False).fit(everything)
    torch.testing.assert_close(layer.palette, one.palette, rtol=0, atol=1e-6)
    torch.testing.assert_close(layer.counts, one.counts)
    assert_same_everywhere(layer.centroids)
    histogram = ColorHistogram().update(images[shares[rank]]).all_reduce()
    assert torch.equal(ColorQuantize(6).fit(histogram).centroids, layer.centroids)


def check_models_of_their_own(rank: int, world: int) -> None:
    """With sync=False a rank learns alone, and may be alone in learning."""
    layer, alone = (ColorQuantize(4 + rank, warm_up=WARM_UP, sync=False) for _ in range(2))
    for step in range(STEPS):
        layer(0.3 * share(step, 0, 1) if rank == 0 else share(step, rank, 1))
    if rank == 0:
        assert layer.palette.max() <= 0.3
        for step in range(STEPS):
            alone(share(step, 0, 1))
        alone.fit(share(0, 0, 1))


def check_join(rank: int) -> None:
    """Uneven numbers of batches, and no broadcast of buffers."""
    torch.manual_seed(0)
    layer = ColorQuantize(6, warm_up=WARM_UP, sync=False)
    model = DistributedDataParallel(nn.Sequential(nn.Conv2d(3, 3, 1), layer, nn.Conv2d(3, 1, 1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Join([model]):
        for step in range(3 + 2 * rank):
            optimizer.zero_grad()
            model(share(3 * step + 1, 0, 1)).square().mean().backward()
            optimizer.step()
    assert_same_everywhere(next(model.parameters()).detach())
    assert_same_everywhere(layer.centroids)

    layer = ColorQuantize(6, warm_up=WARM_UP)
    model = DistributedDataParallel(
        nn.Sequential(nn.Conv2d(3, 3, 1), layer), broadcast_buffers=False
    )
    for step in range(STEPS):
        model(share(3 * step + 1, rank, 1)).square().mean().backward()
    assert_same_everywhere(layer.centroids)


def check_groups(rank: int, world: int) -> None:
    """Ranks of a group learn together, others do not; who is not met says so."""
    groups = [dist.new_group([other]) for other in range(world)]
    layer = ColorQuantize(4, process_group=groups[rank])
    layer(share(1, rank, 1) * (0.3 if rank == 0 else 1))
    assert (layer.palette.max() <= 0.3) == (rank == 0)
    assert layer.process_group is groups[rank]
    with pytest.raises(ValueError, match=r"of which this rank is a member.*sync=False"):
        ColorQuantize(4, process_group=groups[1 - rank])
    copied = copy.deepcopy(layer)
    assert copied.process_group is groups[rank]
    stored = pickle.loads(pickle.dumps(layer))
    assert "ColorQuantize(4" in repr(stored)
    with pytest.raises(RuntimeError, match=r"was stored, and its process group is not"):
        stored(share(1, rank, 1))
    stored.process_group = groups[rank]
    stored(share(1, rank, 1))
    with pytest.raises(RuntimeError, match=r"other numbers of colours than this one's.*sync=False"):
        ColorQuantize(4 + rank)(share(1, rank, 1))

    impatient = dist.new_group(timeout=timedelta(seconds=1))
    layer = ColorQuantize(4, process_group=impatient)
    if rank == 0:
        with pytest.raises(RuntimeError, match=r"waited for the other ranks.*sync=False"):
            layer(share(1, rank, 1))
    dist.barrier()


def check_learned(rank: int, world: int, reduces: list[int]) -> None:
    """A palette of gradients under DDP is that of one process; unused colours move alike."""
    far = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.3, 0.3], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    alone = [dist.new_group([other]) for other in range(world)][rank]
    shares: list[torch.Tensor] = []
    for broadcast in (True, False):
        made = [
            LearnedPalette.from_palette(far, space="oklab", process_group=group)
            for group in (None, alone)
        ]
        for layer in made:
            layer.counts.copy_(torch.tensor([10.0, 10, 1e-4, 1e-4]))
        model = DistributedDataParallel(made[0], broadcast_buffers=broadcast)
        optimizers = [torch.optim.SGD(layer.parameters(), 0.05) for layer in made]
        for step in range(STEPS):
            shares = [
                0.4 * torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(9 * step + r))
                for r in range(world)
            ]
            before = reduces[0]
            for run, x, optimizer in (
                (model, shares[rank], optimizers[0]),
                (made[1], torch.cat(shares), optimizers[1]),
            ):
                optimizer.zero_grad()
                (run(x) - x).square().mean().backward()
                optimizer.step()
            assert reduces[0] == before + 2, "not one collective in each of two training forwards"
        for ours, one in zip(*(layer.state_dict().values() for layer in made), strict=True):
            assert_same_everywhere(ours)
            torch.testing.assert_close(ours, one, rtol=1e-4, atol=1e-4)
        assert not (made[0].palette[2:] - far[2:]).abs().amax(1).lt(0.1).any()
    for broadcast in (True, False):  # without the other ranks: the same colours, none moved
        layer = LearnedPalette.from_palette(far, sync=False)
        layer.counts.copy_(torch.tensor([10.0, 10, 1e-4, 1e-4]))
        model = DistributedDataParallel(layer, broadcast_buffers=broadcast)
        optimizer = torch.optim.Adam(layer.parameters(), 0.05)
        before = reduces[0]
        for step in range(STEPS):
            x = 0.4 * share(step, rank, world)  # some are empty
            optimizer.zero_grad()
            (model(x) - (step % 3 - 0.5)).square().sum().backward()  # across the limits
            optimizer.step()
            assert_same_everywhere(layer.colors.detach())
        assert (layer.palette[2:] - far[2:]).abs().amax() < 0.4
        assert reduces[0] == before
    ours = LearnedPalette(4).fit(shares[rank]).palette
    one = LearnedPalette(4, sync=False).fit(torch.cat(shares)).palette
    torch.testing.assert_close(ours, one, rtol=0, atol=1e-6)


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
    reference = DistributedDataParallel(plain)
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
    run_ranks(work, world, world, str(tmp_path))
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
