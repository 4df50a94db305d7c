"""`LearnedPalette`: colours that an optimizer moves, always colours, and none of them lost."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from colorquant_nn import ColorHistogram, ColorQuantize, LearnedPalette
from colorquant_nn.functional.gradients import Soft, cut, soft, through_palette
from tests.helpers import DATA, SPACES, assert_same, assert_same_state, batch, cifar, state_of

pytestmark = pytest.mark.usefixtures("on_device")

FAR = torch.tensor([[0.2, 0.2, 0.2], [0.3, 0.1, 0.1], [1, 0, 1], [0, 1, 1]])  # two have no pixel


def dark(seed: int = 0) -> torch.Tensor:
    return 0.4 * batch(seed)


def sgd(layer: nn.Module, lr: float = 0.01) -> torch.optim.Optimizer:
    return torch.optim.SGD(layer.parameters(), lr)


def step(layer: nn.Module, x: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    (layer(x) - x).square().mean().backward()
    optimizer.step()


# Colours


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_values_are_palette_colours_bit_for_bit(space: str, dtype: torch.dtype) -> None:
    layer = LearnedPalette(16, space=space)
    optimizer = sgd(layer, 1.0)
    for number in range(3):
        x = batch(number, dtype=dtype).requires_grad_()
        result = layer.quantize(x)
        assert result.palette.dtype == torch.float32
        assert result.values.dtype == dtype
        assert torch.equal(result.values, result.palette[result.indices].movedim(-1, 1).to(dtype))
        assert torch.equal(result.palette, layer.colors.clamp(0, 1))
        optimizer.zero_grad()
        result.values.square().sum().backward()
        assert layer.colors.grad.dtype == torch.float32
        assert layer.colors.grad.any()
        assert x.grad.any()
        optimizer.step()
    assert torch.equal(layer.eval().encode(x), layer.quantize(x).indices)


@pytest.mark.parametrize("space", SPACES)
def test_whatever_a_step_did_every_colour_is_one(space: str) -> None:
    layer = LearnedPalette(5, space=space)
    nan, inf = torch.nan, torch.inf
    wild = torch.tensor([[nan, 0.5, 2], [inf, -inf, 0], [-7, 1e30, 0.1], [0, 0, 0], [1, 1, 1]])
    with torch.no_grad():
        layer.colors.copy_(wild)
    shown = torch.tensor([[0, 0.5, 1], [1, 0, 0], [0, 1, 0.1], [0, 0, 0], [1, 1, 1]])
    for mode in (False, True):
        result = layer.train(mode).quantize(batch(0))
        assert torch.equal(result.palette, shown)
        assert torch.equal(result.values, shown[result.indices].movedim(-1, 1))
        assert torch.equal(layer.encode(layer.decode(torch.arange(5)[None])), torch.arange(5)[None])


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("dead_below", [0, 0.01])
def test_a_colour_at_the_limit_neither_runs_away_nor_sticks(make, dead_below: float) -> None:
    layer = LearnedPalette.from_palette(
        torch.ones(1, 3), estimator=through_palette, dead_below=dead_below
    )
    optimizer = make(layer.parameters(), 0.05)

    def push(gradient: float) -> None:
        optimizer.zero_grad()
        (gradient * layer(batch(0)).mean((0, 2, 3))).sum().backward()
        optimizer.step()

    for _ in range(100):
        push(-1)  # a step of descent goes outwards
        assert torch.equal(layer.palette, torch.ones(1, 3))
        assert layer.colors.max() < 1.06  # one step
    for _ in range(20):  # momentum has to turn first; were it far outside, it would take 100
        push(1)
    assert (layer.palette < 0.9).all()


def test_a_step_to_nowhere_is_brought_back() -> None:
    layer = LearnedPalette.from_palette(FAR)
    with torch.no_grad():
        layer.colors[1] = torch.tensor([torch.nan, 7, -torch.inf])
    layer.eval()(batch(0))
    assert layer.colors.isnan().any()  # evaluation moves nothing
    layer.train()(batch(0))
    assert layer.colors[1].tolist() == [0, 1, 0]
    torch.testing.assert_close(layer.colors[[0, 2, 3]], FAR[[0, 2, 3]])


@pytest.mark.parametrize("white", [1.0, 1.05])
def test_at_the_limit_a_gradient_in_parts_is_that_of_the_whole(white: float) -> None:
    layer = LearnedPalette.from_palette(torch.ones(1, 3), estimator=through_palette)
    with torch.no_grad():
        layer.colors.fill_(white)
    x = torch.rand(2, 3, 4, 4)
    upstream = torch.tensor([-10.0, 1.0])[:, None, None, None].expand_as(x)
    layer(x).backward(upstream)
    whole, layer.colors.grad = layer.colors.grad, None
    assert torch.equal(whole, torch.full((1, 3), -9.0 * 16))
    for part in range(2):
        layer(x[part]).backward(upstream[part])
    assert torch.equal(layer.colors.grad, whole)
    layer.colors.grad = None
    both = [layer(part) for part in x]
    torch.autograd.backward(both, list(upstream))
    assert torch.equal(layer.colors.grad, whole)
    sgd(layer).step()
    assert torch.equal(layer.palette, torch.ones(1, 3))  # as the total has it


# Gradients


def test_one_colour_has_the_gradient_of_a_mean() -> None:
    layer = LearnedPalette.from_palette(torch.full((1, 3), 0.5), estimator=through_palette)
    x = batch(0)
    nn.functional.mse_loss(layer(x), x).backward()
    mean = x.mean((0, 2, 3))
    torch.testing.assert_close(layer.colors.grad[0], 2 * (0.5 - mean) / 3)
    optimizer = sgd(layer, 1.0)
    for _ in range(60):
        step(layer, x, optimizer)
    torch.testing.assert_close(layer.palette[0], mean, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_gathers_the_gradients_of_its_pixels(dtype: torch.dtype) -> None:
    layer = LearnedPalette.from_palette(batch(1, 6, 3), estimator=through_palette)
    x, upstream = batch(2, dtype=dtype), batch(3, dtype=dtype) - 0.5
    result = layer.quantize(x)
    result.values.backward(upstream)
    each = upstream.movedim(1, -1).reshape(-1, 3).float()
    expected = torch.zeros(6, 3).index_add_(0, result.indices.flatten(), each)
    torch.testing.assert_close(layer.colors.grad, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("space", ["rgb", "oklab"])
def test_derivatives_are_right_in_double_precision(space: str) -> None:
    colors = batch(0, 4, 3, dtype=torch.float64).requires_grad_()
    x = batch(1, 2, 3, 3, 3, dtype=torch.float64).requires_grad_()
    for estimator, check in (
        (through_palette, torch.autograd.gradcheck),
        (through_palette, torch.autograd.gradgradcheck),
        (Soft(0.1), torch.autograd.gradgradcheck),
    ):
        layer = LearnedPalette(4, space=space, estimator=estimator).eval()
        layer._may_be_unseeded = False

        def run(colors: torch.Tensor, x: torch.Tensor, layer: nn.Module = layer) -> torch.Tensor:
            return torch.func.functional_call(layer, {"colors": colors}, (x,))

        assert check(run, (colors, x) if estimator is not through_palette else (colors, x.detach()))


def test_soft_reaches_the_palette_and_the_input_as_the_function_does() -> None:
    layer = LearnedPalette.from_palette(batch(1, 6, 3))
    x, upstream = batch(2).requires_grad_(), batch(3)
    result = layer.quantize(x)
    result.values.backward(upstream)
    points = x.detach().movedim(1, -1).reshape(1, -1, 3).requires_grad_()
    palette = result.palette.clone().requires_grad_()
    soft(points, palette[result.indices.reshape(1, -1)], palette).backward(
        upstream.movedim(1, -1).reshape(1, -1, 3)
    )
    torch.testing.assert_close(layer.colors.grad, palette.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(x.grad.movedim(1, -1).reshape(1, -1, 3), points.grad)


def test_the_palette_and_what_is_decoded_are_functions_of_the_parameter() -> None:
    layer = LearnedPalette(4, value_range=(-1, 1))
    (layer.palette.sum() + layer.decode(torch.tensor([[0, 1]])).sum()).backward()
    assert layer.colors.grad.tolist() == [[3.0] * 3, [3.0] * 3, [1.0] * 3, [1.0] * 3]


# Unused colours


@pytest.mark.parametrize(
    "space",
    ["rgb", *(pytest.param(space, marks=pytest.mark.slow) for space in SPACES if space != "rgb")],
)
def test_unused_colours_come_back(space: str) -> None:
    layer = LearnedPalette.from_palette(FAR, space=space)
    optimizer = sgd(layer)
    for number in range(300):
        step(layer, dark(number % 4), optimizer)
    used = layer.quantize(dark()).indices.unique()
    assert used.tolist() == [0, 1, 2, 3]
    kept = LearnedPalette.from_palette(FAR, space=space, dead_below=0)
    optimizer = sgd(kept)
    for number in range(300):
        step(kept, dark(number % 4), optimizer)
    torch.testing.assert_close(kept.palette[2:], FAR[2:])
    assert layer.quantize(dark()).mse < 0.8 * kept.quantize(dark()).mse


def test_a_new_layer_does_not_wait_for_colours_that_no_pixel_has() -> None:
    layer = LearnedPalette(16)
    optimizer = sgd(layer, 1e-3)
    used = []
    for number in range(8):
        used.append(len(layer.quantize(dark()).indices.unique()))
        step(layer, dark(number), optimizer)
    assert used[0] < 10
    assert used[-1] > 14


def dying() -> LearnedPalette:
    """A layer of which two colours are found dead in its second forward."""
    layer = LearnedPalette.from_palette(FAR)
    layer.counts.copy_(torch.tensor([10.0, 10, 1e-4, 1e-4]))
    return layer


def test_between_two_steps_the_palette_is_constant() -> None:
    layer = dying()
    optimizer = sgd(layer)
    optimizer.zero_grad()
    for number in range(3):  # accumulation
        layer(dark(number)).square().mean().backward()
        assert torch.equal(layer.palette, FAR)
    optimizer.step()
    layer.eval()(dark(0))
    assert torch.equal(layer.palette[2:], FAR[2:])  # evaluation moves nothing
    layer.train()
    two = layer(dark(3)), layer(dark(4))  # the first moves, and their graphs stay right
    assert not (layer.palette[2:] == FAR[2:]).all(1).any()
    layer.colors.grad = None
    sum(values.square().mean() for values in two).backward()
    together = layer.colors.grad.clone()
    layer.colors.grad = None
    for number in (3, 4):
        layer.eval()(dark(number)).square().mean().backward()
    torch.testing.assert_close(layer.colors.grad, together)


def test_a_move_waits_for_no_graph_that_was_there_before() -> None:
    layer = dying()
    kept = layer(dark(0)).square().mean()  # its backward comes after the next forward
    with torch.no_grad():
        layer.colors -= 0.01
    layer(dark(1))
    assert not torch.equal(layer.palette[2:], FAR[2:] - 0.01)
    kept.backward()
    assert layer.colors.grad.isfinite().all()


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_counts_once_and_has_the_right_gradient(reentrant: bool) -> None:
    plain, repeated = dying(), dying()
    optimizers = sgd(plain), sgd(repeated)
    for number in range(3):
        gradients = []
        for layer, optimizer in zip((plain, repeated), optimizers, strict=True):
            optimizer.zero_grad()
            x = dark(number).requires_grad_()
            values = layer(x) if layer is plain else checkpoint(layer, x, use_reentrant=reentrant)
            values.square().mean().backward()
            optimizer.step()
            gradients.append(x.grad)
        assert_same_state(repeated, state_of(plain))
        assert torch.equal(*gradients)
    assert not torch.equal(plain.palette[2:], FAR[2:])


def test_a_palette_without_a_gradient_is_fixed() -> None:
    layer = dying().requires_grad_(False)
    before = state_of(layer)
    layer(dark(0).requires_grad_()).sum().backward()
    assert_same_state(layer, before)


def test_what_has_no_weight_is_quantized_but_does_not_count() -> None:
    layers = [LearnedPalette.from_palette(FAR) for _ in range(2)]
    x = batch(0)
    mask = x[:, 0] < 0.5
    result = layers[0].quantize(x, mask)
    pixels = x.movedim(1, -1)[mask].T.reshape(1, 3, 1, -1)
    alone = layers[1].quantize(pixels)
    torch.testing.assert_close(layers[0].counts, layers[1].counts)
    torch.testing.assert_close(layers[0].pending, layers[1].pending)
    torch.testing.assert_close(result.commitment, alone.commitment)
    torch.testing.assert_close(result.mse, alone.mse)
    assert torch.equal(result.values, result.palette[result.indices].movedim(-1, 1))
    before = state_of(layers[0])
    layers[0](x, torch.zeros_like(mask))
    layers[0](torch.full_like(x, torch.nan))
    layers[0](x[:0])
    assert_same_state(layers[0], before)


# Beginnings


@pytest.mark.parametrize("space", SPACES)
def test_fit_is_the_k_means_of_the_other_layer(space: str) -> None:
    images, weights = [batch(0), batch(1)], [torch.ones(4, 16, 16), batch(2, 4, 16, 16)]
    for arguments in ((images,), (images, weights), (ColorHistogram().update(images),)):
        ours = LearnedPalette(8, space=space).fit(*arguments)
        theirs = ColorQuantize(8, space=space).fit(*arguments)
        torch.testing.assert_close(ours.palette, theirs.palette, rtol=0, atol=2e-6)
        torch.testing.assert_close(ours.counts / 20, theirs.counts / theirs.counts.sum())
        assert ours.seeded
        assert ours.colors.requires_grad


def test_fit_in_another_range_is_that_of_the_same_picture() -> None:
    weights = batch(1, 4, 16, 16)
    expected = LearnedPalette(4).fit(batch(0), weights)
    ours = LearnedPalette(4, value_range=(-1, 1)).fit(2 * batch(0) - 1, weights)
    torch.testing.assert_close(ours.palette, expected.palette, rtol=0, atol=1e-6)


def test_it_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="dead_below must be at least 0"):
        LearnedPalette(4, dead_below=-1)
    with pytest.raises(ValueError, match="num_colors of at least 1"):
        LearnedPalette(0)
    with pytest.raises(ValueError, match="palette of 4 colours, got 3"):
        LearnedPalette(4).set_palette(FAR[:3])
    layer = LearnedPalette(4)
    assert not layer.seeded
    with pytest.warns(UserWarning, match="LearnedPalette has not learnt"):
        layer.eval()(batch(0))
    with pytest.warns(UserWarning, match="outside of"):
        LearnedPalette(4)(255 * batch(0))
    layer = LearnedPalette(4, dead_below=0, estimator=cut)
    assert repr(layer) == "LearnedPalette(4, space='rgb', estimator=cut, dead_below=0)"
    assert repr(layer.requires_grad_(False)) == (
        "LearnedPalette(4, space='rgb', estimator=cut, dead_below=0, requires_grad=False)"
    )
    for frozen in (True, False):
        with pytest.raises(TypeError, match=r"no frozen.*layer\.requires_grad_\(False\)"):
            LearnedPalette.from_palette(FAR, frozen=frozen)


def test_a_commitment_is_asked_for() -> None:
    x = batch(0).requires_grad_()
    assert LearnedPalette(4).quantize(x).commitment == 0
    assert LearnedPalette(4, commitment_weight=0.25).quantize(x).commitment > 0


# States


def trained(space: str = "rgb") -> LearnedPalette:
    layer = LearnedPalette.from_palette(FAR, space=space)
    optimizer = sgd(layer)
    for number in range(3):
        step(layer, dark(number), optimizer)
    return layer


def assert_go_on_alike(ours: LearnedPalette, theirs: LearnedPalette) -> None:
    for layer in (ours, theirs):
        optimizer = sgd(layer)
        for number in range(3):
            step(layer, dark(number), optimizer)
    assert_same_state(ours, state_of(theirs))


def by_torch(layer: nn.Module) -> LearnedPalette:
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    loaded = LearnedPalette(4)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    return loaded


def by_safetensors(layer: nn.Module) -> LearnedPalette:
    loaded = LearnedPalette(4)
    loaded.load_state_dict(safetensors.torch.load(safetensors.torch.save(layer.state_dict())))
    return loaded


def by_meta(layer: nn.Module) -> LearnedPalette:
    with torch.device("meta"):
        loaded = LearnedPalette(4)
    loaded.load_state_dict(state_of(layer), assign=True)
    return loaded


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)), by_torch, by_safetensors, by_meta],
)
def test_copies_go_on_alike(copied: Callable[[LearnedPalette], LearnedPalette]) -> None:
    layer = trained()
    assert_go_on_alike(copied(layer), layer)


@pytest.mark.parametrize("assign", [False, True])
def test_states_in_half_precision_load_as_float32(assign: bool) -> None:
    layer, loaded = trained(), LearnedPalette(4)
    layer.pending.mul_(1e6)
    loaded.load_state_dict({k: v.half() for k, v in layer.state_dict().items()}, assign=assign)
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    assert isinstance(loaded.colors, nn.Parameter)
    torch.testing.assert_close(loaded.palette, layer.palette, rtol=0, atol=1e-3)
    assert not loaded.pending.any()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("ours", ["rgb", "oklab"])
def test_the_state_of_k_means_is_taken(space: str, ours: str) -> None:
    theirs = ColorQuantize(4, space=space).fit(batch(0))
    model = nn.Sequential(LearnedPalette(4, space=ours))
    with pytest.warns(UserWarning, match="state of 0 is that of a ColorQuantize"):
        model.load_state_dict({f"0.{k}": v for k, v in theirs.state_dict().items()})
    assert torch.equal(model[0].palette, theirs.palette)
    torch.testing.assert_close(model[0].counts / 20, theirs.counts / theirs.counts.sum())
    step(model, batch(1), sgd(model))


@pytest.mark.parametrize("number", [9.0, -1.0, torch.nan, torch.inf])
def test_a_state_in_an_unknown_space_is_refused(number: float) -> None:
    state = ColorQuantize(4).state_dict()
    state["space_number"] = torch.tensor(number)
    for layer in (LearnedPalette(4), ColorQuantize(4)):
        before = state_of(layer)
        with pytest.raises(ValueError, match=f"space of number {number:g}, .*0 to 3: rgb, linear"):
            layer.load_state_dict(state)
        assert_same_state(layer, before)


@pytest.mark.parametrize("assign", [False, True])
def test_colours_alone_count_as_learnt(assign: bool) -> None:
    layer, expected = trained(), LearnedPalette.from_palette(dark(7)[0, :, 0, :4].T)
    state = {"colors": state_of(expected)["colors"]}
    found = layer.load_state_dict(state, strict=False, assign=assign)
    assert sorted(found.missing_keys) == ["counts", "pending", "previous"]
    assert layer.seeded
    assert_same_state(layer, state_of(expected))
    assert_go_on_alike(layer, expected)
    new = LearnedPalette(4)
    new.load_state_dict(state, strict=False)
    new.eval()(batch(0))  # without a warning
    with pytest.raises(RuntimeError, match=r"Missing key.*counts.*pending.*previous"):
        LearnedPalette(4).load_state_dict(state)


def test_a_state_of_another_size_is_refused() -> None:
    message = r"palette \(5, 3\), this layer \(4, 3\).*resize_palette"
    with pytest.raises(ValueError, match=message):
        LearnedPalette(4).load_state_dict(LearnedPalette(5).state_dict())
    with (
        pytest.warns(UserWarning, match="of a ColorQuantize"),
        pytest.raises(ValueError, match=message),
    ):
        LearnedPalette(4).load_state_dict(ColorQuantize(5).state_dict())
    layer = LearnedPalette(4)
    with pytest.raises(RuntimeError, match="Missing key"):
        layer.load_state_dict({"counts": layer.counts})


def test_an_averaged_model_averages_the_colours() -> None:
    layer = LearnedPalette.from_palette(FAR)
    average = AveragedModel(layer)
    expected = []
    for number in range(3):
        step(layer, dark(number), sgd(layer, 0.5))
        average.update_parameters(layer)
        expected.append(layer.colors.detach().clone())
    torch.testing.assert_close(average.module.palette, torch.stack(expected).mean(0))
    average.eval()(dark())


@pytest.mark.parametrize("cast", [nn.Module.half, nn.Module.bfloat16, nn.Module.double])
def test_the_colours_stay_float32_whatever_the_model(cast: Callable[[nn.Module], None]) -> None:
    model = nn.Sequential(LearnedPalette(4), nn.Conv2d(3, 3, 1))
    model(batch(0)).sum().backward()
    layer, optimizer = model[0], sgd(model)
    before, gradient = state_of(layer), layer.colors.grad.clone()
    cast(model)
    assert model[1].weight.dtype != torch.float32
    assert_same_state(layer, before)
    assert torch.equal(layer.colors.grad, gradient)
    assert {value.dtype for value in layer.state_dict().values()} == {torch.float32}
    model(batch(0, dtype=model[1].weight.dtype)).sum().backward()
    optimizer.step()
    assert not torch.equal(layer.colors, before["colors"])


# What is done to models


def test_functional_call_and_grad_are_autograd() -> None:
    layer, again = dying(), dying()
    given = state_of(layer)
    colors = given.pop("colors")
    before = state_of(layer)

    def loss(colors: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        values = torch.func.functional_call(layer, {"colors": colors, **given}, (x,))
        return values.square().mean()

    ours = torch.func.grad(loss)(colors, dark(0))
    assert_same_state(layer, before)  # the call counts in the buffers that it was given
    again(dark(0)).square().mean().backward()
    torch.testing.assert_close(ours, again.colors.grad)
    for name, value in again.named_buffers():
        torch.testing.assert_close(given[name], value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("space", ["rgb", "oklab"])
def test_autocast_changes_nothing(space: str, dtype: torch.dtype) -> None:
    layers = [LearnedPalette(8, space=space) for _ in range(2)]
    optimizers = [sgd(layer) for layer in layers]
    for number in range(3):
        found = []
        for layer, optimizer in zip(layers, optimizers, strict=True):
            x = batch(number, dtype=dtype).requires_grad_()
            with torch.autocast("cpu", dtype, enabled=layer is layers[1]):
                result = layer.quantize(x)
            optimizer.zero_grad()
            result.values.float().square().mean().backward()
            optimizer.step()
            found.append([*result, x.grad])
        assert_same(*found)
        assert_same_state(layers[1], state_of(layers[0]))


def test_compiled_it_learns_and_brings_back_the_same_colours() -> None:
    torch._dynamo.reset()
    eager, compiled = dying(), dying()
    optimizers = sgd(eager), sgd(compiled)
    run = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    for number, size in enumerate((4, 2, 3, 4)):
        x = dark(number)[:size]
        step(eager, x, optimizers[0])
        step(nn.Sequential(run), x, optimizers[1])
        for ours, theirs in zip(state_of(compiled).values(), state_of(eager).values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert not torch.equal(eager.palette[2:], FAR[2:])


def test_two_networks_learn_through_it_at_once() -> None:
    torch.manual_seed(0)
    layer = LearnedPalette(8).fit(batch(0))
    model = nn.Sequential(
        nn.Conv2d(3, 3, 1), nn.Sigmoid(), layer, nn.Flatten(), nn.Linear(3 * 256, 2)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x, target = batch(1, 16, 3, 16, 16), torch.arange(16) % 2
    before = layer.palette.detach(), model[0].weight.clone()
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert (layer.palette - before[0]).abs().max() > 0.01
    assert not torch.equal(model[0].weight, before[1])


# What it is for


@pytest.mark.slow
def test_a_classifier_sees_more_in_learnt_colours_than_in_those_of_k_means() -> None:
    """CIFAR-10 (JPEG), four colours, a ResNet-20 that was trained on all colours, frozen."""
    pytest.importorskip("torchvision")
    (images, labels), (held, truth) = cifar("train", 400), cifar("test", 200)
    images, held = images / 255, held / 255
    from experiments.models import ResNet20

    network = ResNet20(checkpoint=DATA / "resnet20-cifar10-jpeg.pt").eval().requires_grad_(False)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]

    def logits(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return network((layer(x) - mean) / deviation)

    def accuracy(layer: nn.Module) -> float:
        with torch.no_grad():
            parts = [logits(layer.eval(), part).argmax(1) for part in held.split(500)]
        layer.train()
        return (torch.cat(parts) == truth).float().mean().item()

    layer = LearnedPalette(4).fit(images)
    before = accuracy(layer)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=100)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        chosen = torch.randint(len(images), (128,), generator=generator)
        loss = nn.functional.cross_entropy(logits(layer, images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    after = accuracy(layer)
    print(f"\n4 colours, top-1: k-means {before:.1%}, learnt {after:.1%}")
    assert after > before + 0.05
