"""What all layers promise: what they return, weigh, refuse and warn of, and how they are called."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn

from colorquant_nn import (
    ColorHistogram,
    ColorQuantize,
    DeferredColorQuantize,
    LearnedPalette,
    PerImageColorQuantize,
)
from colorquant_nn.functional import gradients, online
from colorquant_nn.functional.gradients import Soft
from tests.helpers import FEW, SPACES, batch, random, state_of

pytestmark = pytest.mark.usefixtures("on_device")

LAYERS = [ColorQuantize, DeferredColorQuantize, PerImageColorQuantize]
BLACK_AND_WHITE = torch.tensor([[0.0, 0, 0], [1, 1, 1]])
PALETTE = random(3, 3, seed=2)


def mask(seed: int = 5) -> torch.Tensor:
    return batch(seed, 4, 16, 16) > 0.3


# The loss


@pytest.mark.parametrize("cls", [ColorQuantize, PerImageColorQuantize])
def test_the_commitment_sees_what_it_is_given(cls) -> None:
    layer = cls(4, commitment_weight=0.5)
    x = (60 * batch(0) - 5).requires_grad_()
    result = layer.quantize(x)
    expected = 0.5 * nn.functional.mse_loss(x, result.values.detach())
    torch.testing.assert_close(result.commitment, expected)
    ours, theirs = (torch.autograd.grad(loss, x)[0] for loss in (result.commitment, expected))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(result.mse, (x.clamp(0, 1) - result.values).square().mean())


def test_far_from_black_and_white_says_so() -> None:
    layer = ColorQuantize.from_palette(BLACK_AND_WHITE, commitment_weight=1)
    z = torch.full((3, 2, 2), 50.0, requires_grad=True)
    result = layer.quantize(z)
    assert result.commitment == 49**2
    result.commitment.backward()
    torch.testing.assert_close(z.grad, torch.full_like(z, 2 * 49 / z.numel()))
    assert result.mse == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_commitment_is_finite_where_pixels_are_not(dtype: torch.dtype) -> None:
    x = batch(0, dtype=dtype)
    x[0, 0, 0, 0], x[1, 1, 2, 2] = torch.nan, torch.inf
    x.requires_grad_()
    layer = ColorQuantize.from_palette(BLACK_AND_WHITE, commitment_weight=1)
    result = layer.quantize(x)
    known = x.detach().isfinite().all(1, keepdim=True).expand_as(x)
    error = (x.detach().float() - result.values.detach().float()).square()
    torch.testing.assert_close(result.commitment.float(), error[known].mean(), rtol=1e-3, atol=0)
    result.commitment.backward()
    assert x.grad.isfinite().all()
    assert (x.grad[~known] == 0).all()


@pytest.mark.parametrize(
    ("layer", "loss"),
    [
        (PerImageColorQuantize(3, num_iters=1), lambda result: result.values.square().sum()),
        (ColorQuantize.from_palette(PALETTE), lambda result: result.commitment),
        (ColorQuantize.from_palette(PALETTE), lambda result: result.mse),
        (
            ColorQuantize.from_palette(PALETTE, estimator=Soft(0.3)),
            lambda result: (result.values * random(1, 3, 2, 3).double()).sum(),
        ),
    ],
)
def test_second_derivatives_are_right(layer, loss) -> None:
    x = batch(1, 1, 3, 2, 3, dtype=torch.float64).mul(0.8).add(0.1).requires_grad_()

    def gradient(x: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss(layer.quantize(x)), x, create_graph=True)[0]

    assert torch.autograd.gradcheck(gradient, (x,), eps=1e-3, atol=2e-3)  # palettes are float32


def test_a_gradient_penalty_counts() -> None:
    for estimator in (Soft(0.1), gradients.soft, gradients.straight_through):
        layer = ColorQuantize.from_palette(random(4, 3), estimator=estimator)
        x = batch(0).requires_grad_()
        for loss in (layer(x).square().sum(), layer.quantize(x).commitment):
            (slope,) = torch.autograd.grad(loss, x, create_graph=True)
            if slope.requires_grad:  # straight through: 2 q, a constant
                assert torch.autograd.grad(slope.square().sum(), x)[0].abs().sum() > 0
            else:
                assert estimator is gradients.straight_through


# Weights


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("cls", LAYERS)
def test_masked_pixels_are_quantized_but_do_not_count(cls, space: str) -> None:
    arguments = {} if cls is PerImageColorQuantize else {"warm_up": FEW}
    masked, cropped = (cls(6, space=space, **arguments) for _ in range(2))
    kept = mask()
    for step in range(FEW + 2):
        x = batch(step)
        x[~kept[:, None].expand_as(x)] = 1  # never seen by the other
        ours = masked.quantize(x, kept)
        nan = torch.where(kept[:, None], x, torch.nan)
        theirs = cropped.quantize(nan)
        for layer in (masked, cropped):
            if isinstance(layer, DeferredColorQuantize):
                layer.commit()
        torch.testing.assert_close(ours.palette, theirs.palette)
        torch.testing.assert_close(ours.mse, theirs.mse)
        torch.testing.assert_close(ours.commitment, theirs.commitment)
        assert torch.equal(ours.indices[kept], theirs.indices[kept])
        found = ours.values.movedim(1, -1)[~kept]
        assert len(found.unique(dim=0)) <= 6
    for name, value in state_of(masked).items():
        torch.testing.assert_close(value, state_of(cropped)[name], msg=name)


@pytest.mark.parametrize(
    "layer", [ColorQuantize.from_palette(PALETTE, frozen=False), PerImageColorQuantize(3)]
)
def test_colours_are_weighted_means(layer) -> None:
    x, weights = batch(0, 1, 3, 9, 9), batch(1, 1, 9, 9)
    result = layer.quantize(x, weights)
    found = result.palette[0] if result.palette.dim() == 3 else layer.palette
    for index, color in enumerate(found):
        share = weights * (result.indices == index)
        mean = (x * share).sum((0, 2, 3)) / share.sum()
        torch.testing.assert_close(color, mean)
    error = (x - result.values).square().mean(1)
    torch.testing.assert_close(result.mse, (error * weights).sum() / weights.sum())
    torch.testing.assert_close(result.commitment, result.mse)


@pytest.mark.parametrize("space", SPACES)
def test_small_weights_are_weights(space: str) -> None:
    layer = ColorQuantize.from_palette(torch.eye(3), space=space)
    expected, weights = layer.quantize(batch(0)), torch.full((4, 16, 16), 1e-6)
    result = layer.quantize(batch(0), weights)
    torch.testing.assert_close(result.mse, expected.mse)
    torch.testing.assert_close(result.commitment, expected.commitment)


def test_a_fit_weighs_pixels() -> None:
    x, weights = batch(0, 1, 3, 9, 9), batch(1, 1, 9, 9)
    assert ColorQuantize(3).fit(x, weights).counts.sum() == pytest.approx(weights.sum().item())


def test_nothing_counts_where_nothing_weighs() -> None:
    layer = ColorQuantize(4)
    before = state_of(layer)
    result = layer.quantize(batch(0), torch.zeros(4, 16, 16))
    assert result.commitment == result.mse == 0
    for name, value in state_of(layer).items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(16, 16), r"expected weights of the image's size \(4, 16, 16\), got \(16, 16\)"),
        (-torch.ones(4, 16, 16), "finite and at least 0"),
        (torch.full((4, 16, 16), torch.nan), "finite and at least 0"),
        ([1, 2], "expected weights as a tensor"),
    ],
)
def test_wrong_weights_are_named_and_teach_nothing(cls, weights, message: str) -> None:
    layer = cls(4)
    before = state_of(layer)
    with pytest.raises((ValueError, TypeError), match=message):
        layer(batch(0), weights)
    for name, value in state_of(layer).items():
        assert torch.equal(value, before[name]), name


# Ranges, warnings


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_another_range_is_the_same_picture(dtype: torch.dtype) -> None:
    plain = ColorQuantize.from_palette(PALETTE)
    signed = ColorQuantize.from_palette(PALETTE, value_range=(-1, 1))
    y = (2 * batch(0, dtype=dtype) - 1).requires_grad_()
    exact = torch.promote_types(dtype, torch.float32)
    x = (y.detach().to(exact) + 1) / 2
    result, expected = signed.quantize(y), plain.quantize(x)
    assert torch.equal(result.indices, expected.indices)
    assert torch.equal(result.palette, PALETTE)
    torch.testing.assert_close(result.mse, expected.mse)
    torch.testing.assert_close(result.commitment, expected.commitment)
    rows = (PALETTE.to(exact) * 2 - 1).to(dtype)
    assert torch.equal(result.values, rows[result.indices].movedim(-1, 1))
    assert torch.equal(signed.decode(signed.encode(y)).to(dtype), result.values)
    (gradient,) = torch.autograd.grad(result.values.sum(), y)
    assert torch.equal(gradient, torch.ones_like(y))


@pytest.mark.parametrize("cls", LAYERS)
def test_in_another_range_a_layer_learns_the_same_palette(cls) -> None:
    plain, signed = cls(6), cls(6, value_range=(-1, 1))
    x = (255 * batch(0)).round() / 256  # so that 2 x - 1 is exact, and back
    expected, result = plain.quantize(x), signed.quantize(2 * x - 1)
    assert torch.equal(result.palette, expected.palette)
    torch.testing.assert_close(result.mse, expected.mse)
    if cls is not PerImageColorQuantize:
        assert torch.equal(plain.fit(x).palette, signed.fit(2 * x - 1).palette)


@pytest.mark.parametrize("wrong", [(1, 0), (0, 0), 1, (0, 1, 2), None, (0, float("nan"))])
def test_wrong_ranges_are_named(wrong) -> None:
    with pytest.raises(ValueError, match=r"value_range as \(low, high\)"):
        ColorQuantize(4, value_range=wrong)


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_images_of_another_range_are_told_of_once(cls, training: bool) -> None:
    layer = cls(4).train(training)
    with pytest.warns(UserWarning, match=r"outside of \[0, 1\] .* value_range=\(-1, 1"):
        layer(2 * batch(0) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer.train(training)(2 * batch(1) - 1)
    with pytest.warns(UserWarning, match=r"divide images of 0 to 255 by 255"):
        cls(4)(255 * batch(0))
    if cls is not PerImageColorQuantize:
        with pytest.warns(UserWarning, match=r"divide images of 0 to 255 by 255"):
            cls(4).fit(255 * batch(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cls(4, value_range=(-1, 1))(2 * batch(0) - 1)
        x = batch(0)
        x[0, 0, 0, 0] = 7  # a pixel is no range
        cls(4)(x)


def test_a_layer_that_goes_on_to_learn_is_told_of_another_range_too() -> None:
    for layer in (
        ColorQuantize.from_palette(PALETTE, frozen=False),
        ColorQuantize(4).fit(batch(0)),
        torch.compile(ColorQuantize(4), backend="eager"),
    ):
        with pytest.warns(UserWarning, match="outside of"):
            layer(255 * batch(1))


@pytest.mark.parametrize("cls", [ColorQuantize, DeferredColorQuantize])
def test_a_layer_that_never_learnt_says_so_once(cls) -> None:
    for layer in (cls(4).eval(), cls(4, frozen=True)):
        with pytest.warns(UserWarning, match=f"this {cls.__name__} has not learnt a palette.*fit"):
            layer(batch(0))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            layer(batch(0))
    with pytest.warns(UserWarning, match="has not learnt"):
        cls(4).encode(batch(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cls(4).fit(batch(0)).eval()(batch(1))
        cls.from_palette(BLACK_AND_WHITE)(batch(1))
        loaded = cls(4)
        loaded.load_state_dict(cls(4).fit(batch(0)).state_dict())
        loaded.eval()(batch(1))


def test_a_forgotten_commit_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "FORGOTTEN", 5)
    careful, forgetful = DeferredColorQuantize(4), DeferredColorQuantize(4)
    for step in range(12):
        careful(batch(step, 1, 3, 4, 4))
        if step % 4 == 3:
            careful.commit()
    for _ in range(4):
        forgetful(batch(0, 1, 3, 4, 4))
    with pytest.warns(UserWarning, match=r"5 batches and no commit\(\)"):
        forgetful(batch(0, 1, 3, 4, 4))
    forgetful(batch(0, 1, 3, 4, 4))


# How it is called


@pytest.mark.parametrize("cls", LAYERS)
def test_hooks_see_what_training_calls(cls) -> None:
    layer, seen = cls(4), []
    layer.register_forward_hook(lambda module, args, output: seen.append(output))
    result = layer.quantize(batch(0))
    assert seen[0] is result
    everything = cls(4)(batch(0), returns="all")
    assert torch.equal(everything.values, result.values)
    with pytest.raises(ValueError, match="expected returns of values, all, got 'both'"):
        layer(batch(0), returns="both")


@pytest.mark.parametrize("cls", LAYERS)
def test_torch_fx_sees_a_leaf(cls) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), cls(4), nn.Flatten()).eval()
    traced = torch.fx.symbolic_trace(model)
    x = batch(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.equal(traced(x), model(x))
    assert "1" in {node.target for node in traced.graph.nodes if node.op == "call_module"}

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = cls(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer.quantize(x).commitment

    assert torch.fx.symbolic_trace(Both())(x) > 0


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of torch.jit
def test_torch_jit_is_told_of_export() -> None:
    with pytest.raises(RuntimeError, match=r"torch.export.export\(model"):
        torch.jit.trace(ColorQuantize(4).eval(), batch(0))
    with pytest.raises(RuntimeError, match=r"export with torch\.export"):
        torch.jit.script(ColorQuantize(4))
    with pytest.raises(RuntimeError, match=r"torch\.onnx\.export\(model, \(x,\), dynamo=True\)"):
        torch.onnx.export(ColorQuantize(4).eval(), (batch(0),), io.BytesIO(), dynamo=False)


@pytest.mark.parametrize("wrong", ["soft", None, Soft, 3])
@pytest.mark.parametrize("cls", LAYERS)
def test_an_estimator_that_is_none_is_told_what_there_is(cls, wrong) -> None:
    with pytest.raises(TypeError, match=r"straight_through, through_palette, soft, Soft\(temperat"):
        cls(4, estimator=wrong)
    layer = cls(4)
    with pytest.raises(TypeError, match=r"Soft\(temperature=0.1\) or cut"):
        layer.estimator = wrong
    layer.estimator = gradients.cut


def test_soft_is_an_object() -> None:
    layer = ColorQuantize(4, estimator=Soft(0.1))
    assert "estimator=Soft(temperature=0.1)" in repr(layer)
    assert pickle.loads(pickle.dumps(layer)).estimator.temperature == 0.1
    assert copy.deepcopy(layer).estimator.temperature == 0.1
    x = batch(0).requires_grad_()
    slopes = []
    for temperature in (0.1, 0.4):
        layer.estimator.temperature = temperature
        slopes.append(torch.autograd.grad(layer.eval()(x).sum(), x)[0])
        palette, indices = layer.palette, layer.encode(x)
        flat = x.flatten(2).mT
        hard = palette[indices].flatten(1, 2)
        expected = gradients.soft(flat, hard, palette, temperature).sum()
        torch.testing.assert_close(slopes[-1], torch.autograd.grad(expected, x)[0])
    assert not torch.equal(*slopes)
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        layer.estimator.temperature = 0
    with pytest.raises(ValueError, match="temperature must be above 0, got -1"):
        Soft(-1)


def test_what_would_change_the_meaning_of_a_state_is_fixed() -> None:
    layer = ColorQuantize(4)
    for name, value in (("space", "lab"), ("deferred", True)):
        with pytest.raises(AttributeError):
            setattr(layer, name, value)
    with pytest.raises(ValueError, match="value_range"):
        layer.value_range = (1, 0)


def test_without_a_weight_there_is_no_commitment() -> None:
    layer = ColorQuantize.from_palette(PALETTE, commitment_weight=0)
    assert layer.quantize(torch.full((3, 2, 2), 1e30)).commitment == 0
    with pytest.raises(ValueError, match="commitment_weight must be at least 0, got -1"):
        ColorQuantize(4, commitment_weight=-1)


def test_what_is_not_the_default_is_shown() -> None:
    assert repr(ColorQuantize(4)) == "ColorQuantize(4, space='rgb')"
    layer = ColorQuantize(4, decay=1, estimator=gradients.cut, value_range=(-1, 1), sync=False)
    shown = "decay=1, estimator=cut, value_range=(-1, 1), sync=False"
    assert repr(layer) == f"ColorQuantize(4, space='rgb', {shown})"
    assert repr(PerImageColorQuantize(4)) == "PerImageColorQuantize(4, space='rgb')"


# The palette, by hand


def test_a_palette_can_be_set() -> None:
    layer = ColorQuantize(2, space="oklab")
    layer(batch(0))
    assert layer.set_palette((255 * BLACK_AND_WHITE).byte()) is layer
    torch.testing.assert_close(layer.palette, BLACK_AND_WHITE, rtol=0, atol=2e-6)
    assert layer.seeded
    assert layer.memory.abs().sum() == layer.counts.sum() == 0
    before = state_of(layer)
    for wrong, message in ((torch.ones(3, 3), "expected a palette of 2 colours, got 3"),):
        with pytest.raises(ValueError, match=message):
            layer.set_palette(wrong)
    for name, value in state_of(layer).items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("space", SPACES)
def test_a_histogram_is_fitted_as_its_images_are(space: str) -> None:
    images = batch(0, 8, 3, 16, 16)
    layer, other = ColorQuantize(4, space=space), ColorQuantize(4, space=space)
    layer.fit(images)
    other.fit(ColorHistogram().update(images))
    assert torch.equal(layer.centroids, other.centroids)
    assert torch.equal(layer.counts, other.counts)
    with pytest.raises(ValueError, match="a histogram has its weights"):
        layer.fit(ColorHistogram().update(images), weights=torch.ones(8, 16, 16))


@pytest.mark.parametrize("theirs", SPACES)
@pytest.mark.parametrize("cls", [ColorQuantize, DeferredColorQuantize])
def test_a_state_of_another_space_is_converted(cls, theirs: str) -> None:
    layer, loaded = cls(4, space=theirs).fit(batch(0)), cls(4, space="lab")
    if theirs == "lab":
        loaded.load_state_dict(layer.state_dict())
        assert torch.equal(loaded.centroids, layer.centroids)
    else:
        with pytest.warns(UserWarning, match=f"is in {theirs}, the layer in lab: .* converted"):
            loaded.load_state_dict(layer.state_dict())
    torch.testing.assert_close(loaded.palette, layer.palette, rtol=0, atol=3e-6)
    assert torch.equal(loaded.counts, layer.counts)
    state = loaded.state_dict()
    fresh = cls(4, space="lab")
    fresh.load_state_dict(state)
    assert torch.equal(fresh.centroids, loaded.centroids)
    for number in (9.0, -1.0, torch.nan):
        state["space_number"] = torch.tensor(number)
        with pytest.raises(ValueError, match="space of number"):
            fresh.load_state_dict(state)
    del state["space_number"]
    with pytest.warns(UserWarning, match="does not say its colour space.* this layer's, lab"):
        fresh.load_state_dict(state)


def test_a_state_of_another_class_is_taken() -> None:
    deferred, learned = DeferredColorQuantize(4), LearnedPalette(4, space="oklab").fit(batch(0))
    deferred(batch(0))
    deferred.commit()
    deferred(batch(1))
    layer = ColorQuantize(4)
    layer.load_state_dict(deferred.state_dict())
    assert torch.equal(layer.centroids, deferred.centroids)
    layer = ColorQuantize(4, space="lab")
    with pytest.warns(UserWarning, match="that of a LearnedPalette"):
        layer.load_state_dict(learned.state_dict())
    torch.testing.assert_close(layer.palette, learned.palette.detach(), rtol=0, atol=3e-6)
    assert layer.seeded
