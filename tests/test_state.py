"""The state of a layer is its buffers: whatever moves, saves or averages those works."""

import copy
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.multiprocessing
from ema_pytorch import EMA
from huggingface_hub import PyTorchModelHubMixin
from timm.utils import ModelEmaV2, ModelEmaV3
from torch import nn
from torch.distributed import checkpoint
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from colorquant_nn import ColorQuantize, DeferredColorQuantize
from colorquant_nn.functional import online
from colorquant_nn.functional.color import color_space
from tests.helpers import FEW, SPACES, assert_same_state, batch, state_of

pytestmark = pytest.mark.usefixtures("on_device")

LAYERS = [ColorQuantize, DeferredColorQuantize]
STAGES = [0, 2, FEW + 2]  # batches: untouched, in the warm-up, after it


def trained(steps: int, cls: type[ColorQuantize] = ColorQuantize, **arguments) -> ColorQuantize:
    layer = cls(8, warm_up=FEW, **arguments)
    for step in range(steps):
        learn(layer, batch(step))
    return layer


def learn(layer: ColorQuantize, x: torch.Tensor) -> None:
    layer(x)
    if isinstance(layer, DeferredColorQuantize):
        layer.commit()


def assert_go_on_alike(*layers: ColorQuantize) -> None:
    for step in range(20, 22):
        for layer in layers:
            learn(layer, batch(step))
    for layer in layers[1:]:
        assert_same_state(layer, state_of(layers[0]))


@pytest.mark.parametrize("cls", LAYERS)
def test_a_state_is_tensors_whose_shapes_depend_on_the_number_of_colours_alone(cls) -> None:
    shapes = [
        {
            name: (value.shape, value.dtype)
            for name, value in trained(steps, cls).state_dict().items()
        }
        for steps in STAGES
    ]
    assert shapes[0] == shapes[1] == shapes[2]
    expected = {"centroids", "counts", "memory", "batches", "space_number"}
    assert set(shapes[0]) == expected | ({"pending"} if cls is DeferredColorQuantize else set())
    assert dict(cls(8).named_buffers()).keys() == shapes[0].keys()


@pytest.mark.parametrize(
    ("cls", "num_colors"), [(ColorQuantize, 1000), (DeferredColorQuantize, 256)]
)
def test_ddp_broadcasts_at_most_64_kib_a_layer(cls, num_colors: int) -> None:
    assert sum(buffer.nbytes for buffer in cls(num_colors).buffers()) <= 64 << 10


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("steps", STAGES)
@pytest.mark.parametrize("assign", [False, True])
def test_a_layer_made_on_the_meta_device_is_filled_from_a_state(cls, steps, assign) -> None:
    layer = trained(steps, cls)
    with torch.device("meta"):
        model = nn.Sequential(cls(8, warm_up=FEW))
    if not assign:
        model = model.to_empty(device="cpu")
    model.load_state_dict(
        {f"0.{name}": value for name, value in state_of(layer).items()}, assign=assign
    )
    assert_go_on_alike(layer, model[0])


def test_a_layer_made_on_the_meta_device_can_begin_anew() -> None:
    with torch.device("meta"):
        layer = ColorQuantize(8, warm_up=FEW, space="oklab")
    layer = layer.to_empty(device="cpu")
    layer.reset_parameters()
    assert_go_on_alike(ColorQuantize(8, warm_up=FEW, space="oklab"), layer)


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("steps", STAGES)
def test_functional_call_learns_into_the_buffers_given(cls, steps: int) -> None:
    layer, twin = trained(steps, cls), trained(steps, cls)
    before, given = state_of(layer), state_of(layer)
    torch.func.functional_call(layer, given, (batch(9),))
    assert_same_state(layer, before)
    twin(batch(9))
    assert_same_state(twin, given)
    assert layer.seeded == (steps > 0)
    assert_go_on_alike(layer, trained(steps, cls))


@pytest.mark.parametrize("steps", STAGES)
def test_safetensors(steps: int, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), trained(steps))
    safetensors.torch.save_model(model, str(tmp_path / "model.safetensors"))
    loaded = nn.Sequential(nn.Conv2d(3, 3, 1), ColorQuantize(8, warm_up=FEW))
    safetensors.torch.load_model(loaded, str(tmp_path / "model.safetensors"))
    assert_go_on_alike(model[1], loaded[1])


class Published(nn.Module, PyTorchModelHubMixin):
    def __init__(self, num_colors: int = 8) -> None:
        super().__init__()
        self.quantizer = ColorQuantize(num_colors, warm_up=FEW)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.quantizer(x)


def test_hugging_faces_mixin_saves_and_loads(tmp_path: Path) -> None:
    model = Published()
    model(batch(0))
    model.save_pretrained(tmp_path)
    loaded = Published.from_pretrained(tmp_path)
    assert_go_on_alike(model.quantizer, loaded.train().quantizer)


@pytest.mark.slow  # its import takes long
@pytest.mark.parametrize("steps", STAGES)
@pytest.mark.parametrize("cls", LAYERS)
def test_accelerate_saves_and_loads(cls, steps: int, tmp_path: Path) -> None:
    import accelerate

    def prepared(steps: int):
        model = nn.Sequential(nn.Conv2d(3, 3, 1), trained(steps, cls))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return accelerator.prepare(model, optimizer)[0]

    accelerator = accelerate.Accelerator(cpu=True)
    model = prepared(steps)
    state = state_of(model)
    accelerator.save_state(tmp_path / "state")
    assert (tmp_path / "state" / "model.safetensors").stat().st_size > 0
    accelerator.save_model(model, tmp_path / "model")
    learn(model[1], batch(7))
    accelerator.load_state(tmp_path / "state")
    assert_same_state(model, state)
    loaded = prepared(1)
    accelerate.load_checkpoint_in_model(loaded, str(tmp_path / "model"))
    assert_go_on_alike(trained(steps, cls), model[1], loaded[1])


def train_apart(rank: int, model: nn.Module, folder: str, own: bool) -> None:
    """What a process that was spawned with a model does, in a memory of its own or not."""
    torch.set_num_threads(1)
    if own:  # as Lightning's launchers make it
        for tensor in chain(model.parameters(), model.buffers()):
            tensor.data = tensor.data.clone()
    for step in range(FEW + 3):
        learn(model[1], batch(100 * rank + step))
    torch.save(model.state_dict(), f"{folder}/{rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("cls", LAYERS)
def test_spawned_processes_with_tensors_of_their_own_share_nothing(cls, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), trained(1, cls))
    before = state_of(model)
    torch.multiprocessing.spawn(train_apart, (model, str(tmp_path), True), nprocs=2)
    assert_same_state(model, before)
    for rank in range(2):
        alone = copy.deepcopy(model)
        for step in range(FEW + 3):
            learn(alone[1], batch(100 * rank + step))
        assert_same_state(alone, torch.load(tmp_path / f"{rank}.pt"))


@pytest.mark.slow
@pytest.mark.parametrize("cls", LAYERS)
def test_a_spawned_process_without_them_shares_the_whole_state(cls, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), trained(1, cls))
    alone = copy.deepcopy(model)
    torch.multiprocessing.spawn(train_apart, (model, str(tmp_path), False), nprocs=1)
    for step in range(FEW + 3):
        learn(alone[1], batch(step))
    assert_same_state(model, state_of(alone))  # it was trained here, too: no buffer was left behind
    assert_go_on_alike(alone[1], model[1])


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("steps", STAGES)
def test_distributed_checkpoint(steps: int, tmp_path: Path) -> None:
    layer = trained(steps)
    checkpoint.save(layer.state_dict(), checkpoint_id=tmp_path, no_dist=True)
    for other in (trained(0), trained(1), trained(FEW + 1)):  # whatever was in it before
        state = other.state_dict()
        checkpoint.load(state, checkpoint_id=tmp_path, no_dist=True)
        other.load_state_dict(state)
        assert_same_state(other, state_of(layer))


AVERAGES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "torch, buffers too": lambda m: AveragedModel(m, avg_fn=get_ema_avg_fn(0.5), use_buffers=True),
    "torch, mean": lambda m: AveragedModel(m, use_buffers=True),
    "torch, parameters alone": lambda m: AveragedModel(m, avg_fn=get_ema_avg_fn(0.5)),
    "timm 2": lambda m: ModelEmaV2(m, decay=0.5),
    "timm 3": lambda m: ModelEmaV3(m, decay=0.5),
    "ema_pytorch": lambda m: EMA(m, beta=0.5, update_after_step=0, update_every=1),
}


@pytest.mark.parametrize("name", AVERAGES)
def test_an_averaged_model_has_a_palette_and_keeps_it_when_it_trains(name: str) -> None:
    model = nn.Sequential(ColorQuantize(8, warm_up=FEW), nn.Conv2d(3, 3, 1))
    average = AVERAGES[name](model)
    for step in range(FEW + 5):
        model(batch(step))
        if isinstance(average, EMA):
            average.update()
        else:
            getattr(average, "update_parameters", getattr(average, "update", None))(model)
    (ours,) = [m for m in average.modules() if isinstance(m, ColorQuantize) and m is not model[0]]
    before = ours.palette
    assert ours.seeded
    assert ((ours.centroids >= 0) & (ours.centroids <= 1)).all()
    assert (before - model[0].palette).abs().max() < 0.5
    ours.train()(batch(50))
    moved = (ours.palette - before).abs().amax(1)
    assert moved.median() < 0.1  # by the rule, not anew


def test_states_can_be_counted_halved_and_averaged() -> None:
    states = [trained(FEW + 2).state_dict(), trained(FEW + 3).state_dict()]
    assert sum(value.numel() for value in states[0].values()) > 0
    soup = {name: (a.float() + states[1][name].float()) / 2 for name, a in states[0].items()}
    layer = trained(0)
    layer.load_state_dict(soup)
    assert layer.seeded
    assert layer.batches == FEW + 2.5
    assert online.step_of(torch.tensor(0.5), FEW) == 1  # a palette found already is not found anew


def test_another_dtype_of_the_model_rounds_no_state() -> None:
    layer = trained(FEW + 2)
    state = state_of(layer)
    nn.Sequential(layer).to(torch.bfloat16)
    assert_same_state(layer, state)


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_checkpoints_in_half_precision_load_as_float32(dtype, space: str, assign: bool) -> None:
    layer = trained(FEW + 2, space=space)
    half = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in layer.state_dict().items()
    }
    loaded = trained(0, space=space)
    loaded.load_state_dict(half, assign=assign)
    assert [buffer.dtype for buffer in loaded.buffers()] == [b.dtype for b in layer.buffers()]
    torch.testing.assert_close(loaded.palette, layer.palette, rtol=0, atol=0.02)
    loaded(batch(9))
    assert loaded.palette.isfinite().all()


def test_what_overflows_in_half_precision_is_large_once_loaded() -> None:
    layer = trained(FEW + 2)
    layer.counts.fill_(8e5)
    layer.batches.fill_(7e4)
    loaded = trained(0)
    loaded.load_state_dict({name: value.half() for name, value in layer.state_dict().items()})
    before = loaded.palette
    loaded(batch(9))
    assert loaded.batches > FEW
    assert loaded.counts.isfinite().all()
    assert not torch.equal(loaded.palette, before)


def test_a_state_without_a_palette_is_not_taken_for_one() -> None:
    state = {k: v for k, v in trained(FEW + 2).state_dict().items() if k != "centroids"}
    loaded = trained(0)
    with pytest.warns(UserWarning, match="no centroids: nothing of it is loaded"):
        loaded.load_state_dict(state, strict=False)
    assert not loaded.seeded


def test_a_deferred_layer_takes_the_state_of_one_that_learns_at_once() -> None:
    layer = trained(FEW + 2)
    loaded = trained(1, DeferredColorQuantize)
    loaded(batch(7))
    loaded.load_state_dict(layer.state_dict())
    loaded.commit()  # nothing waits
    assert torch.equal(loaded.centroids, layer.centroids)


class Estimator(nn.Module):
    """One with a state of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.tensor(0.5))

    def forward(self, x: torch.Tensor, hard: torch.Tensor, palette: torch.Tensor) -> torch.Tensor:
        return hard


class Subclass(ColorQuantize):
    def __init__(self, *arguments, **keywords) -> None:
        super().__init__(*arguments, **keywords)
        self.register_buffer("table", torch.ones(3), persistent=False)


def test_what_others_keep_in_a_layer_is_theirs() -> None:
    layer = Subclass(4, estimator=Estimator()).fit(batch(0))
    layer.load_state_dict(layer.state_dict())
    layer.half().float()
    assert layer.estimator.temperature == 0.5
    assert torch.equal(layer.table, torch.ones(3))
    with pytest.raises(ValueError, match="DeferredColorQuantize"):
        Subclass(4, deferred=True)


@pytest.mark.parametrize("space", SPACES)
def test_a_loaded_palette_is_brought_into_the_cube(space: str) -> None:
    layer = ColorQuantize(2, space=space)
    outside = color_space(space).from_rgb(torch.tensor([[1.3, -0.2, 0.5], [0.2, 0.3, 0.4]]))
    layer.load_state_dict({**layer.state_dict(), "centroids": outside})
    shown = color_space(space).from_rgb(layer.palette)
    torch.testing.assert_close(layer.centroids, shown, rtol=1e-4, atol=1e-4)


def test_a_palette_without_its_history_is_kept_and_said_so() -> None:
    layer = trained(FEW + 2)
    loaded = trained(0)
    with pytest.warns(UserWarning, match="no counts, memory, batches: its palette is taken"):
        loaded.load_state_dict({"centroids": layer.centroids}, strict=False)
    assert loaded.seeded
    assert torch.equal(loaded.palette, layer.palette)
    assert torch.equal(loaded.quantize(batch(1)).palette, layer.palette)  # and is not found anew
    with (
        pytest.warns(UserWarning, match="no batches"),
        pytest.raises(RuntimeError, match=r'Missing key.* "batches"'),
    ):
        trained(0).load_state_dict({k: v for k, v in layer.state_dict().items() if k != "batches"})


@pytest.mark.parametrize("steps", [2, 40])
def test_a_checkpoint_of_version_0_1_0_goes_on(steps: int) -> None:
    # Its histogram: 64 cells a side, count and sums of red, green and blue, those that are filled.
    x = torch.cat([batch(step) for step in range(steps)])
    points = x.movedim(1, -1).reshape(-1, 3)
    red, green, blue = (points * 64).long().clamp(max=63).unbind(1)
    cells = torch.zeros(64**3, 4).index_add_(
        0, (red * 64 + green) * 64 + blue, torch.cat([torch.ones(len(points), 1), points], 1)
    )
    filled = cells[:, 0].nonzero().squeeze(1) if steps < 32 else torch.zeros(0, dtype=torch.int64)
    modern = ColorQuantize(8).fit(x)
    old = {
        "0.centroids": modern.centroids.clone(),
        "0.counts": modern.counts.clone(),
        "0._extra_state": {
            "batches": torch.tensor(steps),
            "cells": filled,
            "histogram": cells[filled],
        },
    }
    model = nn.Sequential(ColorQuantize(8))
    model.load_state_dict(copy.deepcopy(old))
    assert torch.equal(model[0].centroids, modern.centroids)
    assert model[0].batches == steps
    if steps < 32:
        seen = online.unpack(model[0].memory).sum(0)
        torch.testing.assert_close(seen, 0.99 * cells.sum(0), rtol=1e-3, atol=0)
    error = model[0].quantize(x).mse
    assert error < 1.05 * modern.eval().quantize(x).mse
    old["0._extra_state"]["batches"] = torch.tensor(0)  # an averaged model saved this
    model.load_state_dict(old)
    assert model[0].batches == 32
