"""`ColorQuantize`: what it returns, what it learns, and when it does not."""

import copy
import io
import pickle
from functools import partial

import pytest
import torch
from torch import nn

from colorquant_nn import ColorQuantize
from colorquant_nn.functional import gradients
from colorquant_nn.functional.color import color_space
from colorquant_nn.functional.online import WARM_UP_BATCHES

SPACES = ["rgb", "linear", "lab", "oklab"]
FEW = 3  # batches of a warm-up, where a test needs to go past it


@pytest.fixture
def short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colorquant_nn.functional.online.WARM_UP_BATCHES", FEW)


def batch(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*(shape or (4, 3, 16, 16)), generator=generator).pow(2).to(dtype)


def state_of(layer: ColorQuantize) -> dict[str, torch.Tensor]:
    state = layer.state_dict()
    state.update(state.pop("_extra_state"))
    return {name: value.clone() for name, value in state.items()}


def assert_same_state(layer: ColorQuantize, state: dict[str, torch.Tensor]) -> None:
    now = state_of(layer)
    assert now.keys() == state.keys()
    assert all(torch.equal(now[name], state[name]) for name in state)


@pytest.mark.usefixtures("short_warm_up")
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_values_are_palette_colours_bit_for_bit(space: str, dtype: torch.dtype) -> None:
    layer = ColorQuantize(16, space=space)
    for step in range(FEW + 2):
        x = batch(step, dtype=dtype).requires_grad_()
        result = layer.quantize(x)
        assert result.palette.dtype == torch.float32
        expected = result.palette[result.indices].movedim(-1, 1).to(dtype)
        assert result.values.dtype == dtype
        assert torch.equal(result.values, expected), step
        (gradient,) = torch.autograd.grad(result.values.sum(), x)
        assert torch.equal(gradient, torch.ones_like(x))
    layer.eval()
    result = layer.quantize(x)
    assert torch.equal(result.values, result.palette[result.indices].movedim(-1, 1).to(dtype))
    assert torch.equal(layer(x), result.values)


@pytest.mark.parametrize("num_colors", [2, 3, 16, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_encode_is_brute_force_in_float64(
    num_colors: int, dtype: torch.dtype, autocast: bool
) -> None:
    palette = batch(7, num_colors, 3)
    layer = ColorQuantize.from_palette(palette)
    x = batch(8, 2, 3, 64, 64, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        indices = layer.encode(x)
    points = x.movedim(1, -1).reshape(-1, 3).double()
    distances = (points[:, None] - palette.double()).square().sum(-1)
    chosen = distances.gather(1, indices.reshape(-1, 1)).squeeze(1)
    best = distances.min(1).values
    ulp = torch.nextafter(best.float(), torch.tensor(torch.inf)).double() - best.float().double()
    assert (chosen - best <= 4 * ulp).all()
    clear = (distances <= (best + 4 * ulp)[:, None]).sum(1) == 1
    assert torch.equal(indices.flatten()[clear], distances.argmin(1)[clear])
    assert clear.float().mean() > 0.99


def test_ties_go_to_the_lowest_index() -> None:
    layer = ColorQuantize.from_palette(torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]]))
    x = torch.tensor([0.5, 0.0, 0.0]).reshape(3, 1, 1)
    assert layer.encode(x).item() == 0
    assert layer.encode(0 * x).item() == 1


def test_encode_and_decode_invert_each_other() -> None:
    layer = ColorQuantize.from_palette(batch(1, 8, 3), space="oklab")
    indices = torch.randint(8, (2, 5, 6), generator=torch.Generator().manual_seed(0))
    images = layer.decode(indices)
    assert images.shape == (2, 3, 5, 6)
    assert torch.equal(layer.encode(images), indices)
    assert torch.equal(layer.encode(images[0]), indices[0])
    assert torch.equal(layer.decode(indices[0]), images[0])


@pytest.mark.usefixtures("short_warm_up")
@pytest.mark.parametrize("space", SPACES)
def test_training_moves_the_palette_and_nothing_else_does(space: str) -> None:
    layer = ColorQuantize(8, space=space)
    for step in range(FEW + 3):
        before = state_of(layer)
        layer.eval()
        layer(batch(100 + step))
        layer.train()
        layer.encode(batch(100 + step))
        layer.frozen = True
        layer(batch(100 + step))
        layer.frozen = False
        assert_same_state(layer, before)
        layer(batch(step))
        after = state_of(layer)
        assert not torch.equal(after["centroids"], before["centroids"])
        assert not torch.equal(after["counts"], before["counts"])
    assert all(buffer.isfinite().all() for buffer in layer.buffers())


def test_learns_without_gradients_too() -> None:
    layers = ColorQuantize(8), ColorQuantize(8)
    layers[0](batch(0).requires_grad_())
    with torch.no_grad():
        layers[1](batch(0))
    assert_same_state(layers[0], state_of(layers[1]))


def test_before_training_the_palette_is_usable() -> None:
    layer = ColorQuantize(8).eval()
    assert not layer.seeded
    assert len(layer.palette.unique(dim=0)) == 8
    assert torch.cdist(layer.palette, layer.palette).fill_diagonal_(9).min() > 0.3
    error = layer.quantize(torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))).mse
    assert error < 0.04


def test_first_batch_seeds_with_its_colours() -> None:
    colors = torch.tensor([[0.1, 0.2, 0.3], [0.9, 0.1, 0.1], [0.4, 0.8, 0.2]])
    x = colors[torch.arange(192) % 3].T.reshape(1, 3, 12, 16)
    layer = ColorQuantize(3)
    result = layer.quantize(x)
    assert layer.seeded
    torch.testing.assert_close(result.values, x, rtol=0, atol=1e-6)
    assert result.mse < 1e-10


def test_fewer_colours_than_centroids_leaves_the_others_spread() -> None:
    layer = ColorQuantize(8)
    for _ in range(WARM_UP_BATCHES + 5):
        result = layer.quantize(torch.full((2, 3, 8, 8), 0.25))
    assert result.mse < 1e-12
    assert layer.palette.isfinite().all()
    assert len(layer.palette.unique(dim=0)) == 8


@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
def test_after_the_warm_up_it_is_the_update_rule(decay: float) -> None:
    palette = batch(3, 6, 3)
    layer = ColorQuantize.from_palette(palette, frozen=False, decay=decay, dead_below=0)
    counts, centroids = torch.zeros(6).double(), palette.double()
    for step in range(4):
        x = batch(step)
        result = layer.quantize(x)
        assert torch.equal(result.palette, centroids.float() if step == 0 else previous)  # noqa: F821
        points = x.movedim(1, -1).reshape(-1, 3).double()
        nearest = result.indices.flatten()
        for k in range(6):
            mine = points[nearest == k]
            counts[k] = decay * counts[k] + len(mine)
            if len(mine):
                centroids[k] += (mine.sum(0) - len(mine) * centroids[k]) / counts[k]
        torch.testing.assert_close(layer.centroids.double(), centroids, rtol=0, atol=1e-6)
        torch.testing.assert_close(layer.counts.double(), counts, rtol=1e-5, atol=0)
        previous = layer.palette  # noqa: F841


def test_a_dead_colour_is_revived_and_stays_useful() -> None:
    # Two clusters, one centroid between them and one far away from everything.
    start = torch.tensor([[0.5, 0.5, 0.5], [1.0, 0.0, 1.0]])
    layer = ColorQuantize.from_palette(start, frozen=False)
    dim = 0.3 + 0.02 * batch(0, 8, 3, 16, 16)
    bright = 0.7 + 0.02 * batch(1, 8, 3, 16, 16)
    x = torch.cat([dim, bright])
    errors = [layer.quantize(x).mse.item() for _ in range(40)]
    assert errors[0] > 0.03
    assert errors[-1] < 0.001
    assert layer.counts.min() / layer.counts.max() > 0.5


def test_a_rare_colour_is_not_stolen() -> None:
    # One pixel in 4096 is red, far below `dead_below`; the rest is noise around three greys.
    generator = torch.Generator().manual_seed(0)
    red = torch.tensor([1.0, 0.0, 0.0])
    greys = torch.tensor([0.25, 0.5, 0.75])[:, None].expand(3, 3)
    layer = ColorQuantize.from_palette(torch.cat([greys, red[None]]), frozen=False)
    for _ in range(60):
        level = torch.randint(1, 4, (4, 1, 32, 32), generator=generator) / 4
        x = (level + 0.02 * torch.randn(4, 3, 32, 32, generator=generator)).clamp(0, 1)
        x[0, :, 3, 5] = red
        layer(x)
    assert layer.counts[3] < layer.dead_below * layer.counts.mean()
    assert (layer.palette - red).norm(dim=1).min() < 1e-4


def test_empty_batch_is_returned_and_not_learnt_from() -> None:
    layer = ColorQuantize(4)
    before = state_of(layer)
    for shape in ((0, 3, 8, 8), (2, 3, 0, 8), (3, 0, 0)):
        result = layer.quantize(torch.rand(shape))
        assert result.values.shape == shape
        assert result.indices.shape == shape[:-3] + shape[-2:]
        assert result.mse == 0
    assert_same_state(layer, before)
    assert not layer.seeded


@pytest.mark.usefixtures("short_warm_up")
@pytest.mark.parametrize("space", SPACES)
def test_pixels_that_are_not_finite_never_vote(space: str) -> None:
    clean, dirty = ColorQuantize(4, space=space), ColorQuantize(4, space=space)
    for step in range(FEW + 2):
        x = batch(step, 2, 3, 8, 8)
        spoilt = torch.cat([x, torch.full((2, 3, 8, 8), 0.9)])
        for number, value in enumerate((torch.nan, torch.inf, -torch.inf)):
            spoilt[2:, number] = value
        clean(x)
        result = dirty.quantize(spoilt)
        assert result.mse.isfinite()
        clamped = spoilt.nan_to_num(nan=0.0, posinf=1.0, neginf=0.0).clamp(0, 1)
        assert torch.equal(result.indices, _with_palette(dirty, result.palette).encode(clamped))
    torch.testing.assert_close(dirty.centroids, clean.centroids)
    torch.testing.assert_close(dirty.counts, clean.counts)


def _with_palette(layer: ColorQuantize, palette: torch.Tensor) -> ColorQuantize:
    return ColorQuantize.from_palette(palette, space=layer.space)


@pytest.mark.usefixtures("short_warm_up")
def test_a_batch_of_nan_changes_no_colour() -> None:
    layer = ColorQuantize(4)
    for step in range(FEW + 3):
        before = layer.palette
        layer(torch.full((2, 3, 8, 8), torch.nan))
        assert torch.equal(layer.palette, before) or step == 1
        layer(batch(step)) if step == 0 else None
        assert layer.palette.isfinite().all()


def test_values_outside_of_the_cube_count_as_clamped() -> None:
    layer = ColorQuantize(4)
    x = 3 * batch(0) - 1
    x.requires_grad_()
    result = layer.quantize(x)
    reference = ColorQuantize(4)
    expected = reference.quantize(x.detach().clamp(0, 1))
    assert torch.equal(result.values, expected.values)
    assert torch.equal(layer.centroids, reference.centroids)
    result.values.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_mse_is_torchs_and_its_gradient_holds_the_palette() -> None:
    for space in SPACES:
        layer = ColorQuantize(8, space=space)
        x = batch(0).requires_grad_()
        result = layer.quantize(x)
        expected = nn.functional.mse_loss(x, result.values.detach())
        torch.testing.assert_close(result.mse, expected)
        (ours,) = torch.autograd.grad(result.mse, x)
        (theirs,) = torch.autograd.grad(expected, x)
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (gradients.straight_through, True),
        (gradients.soft, True),
        (partial(gradients.soft, temperature=0.1), True),
        (gradients.cut, False),
        (gradients.through_palette, False),
    ],
)
def test_estimators_fit_in(estimator, expected: bool) -> None:
    layer = ColorQuantize(8, estimator=estimator)
    x = batch(0).requires_grad_()
    values = layer(x)
    assert values.requires_grad == expected
    if expected:
        values.square().sum().backward()
        assert x.grad.isfinite().all()
        assert x.grad.abs().sum() > 0


def test_inside_sequential_it_trains() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 3, 1), ColorQuantize(8), nn.Flatten(), nn.Linear(3 * 8 * 8, 2)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    x, target = batch(0, 16, 3, 8, 8), torch.arange(16) % 2
    first = list(model.parameters())[0].clone()
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert not torch.equal(first, list(model.parameters())[0])


@pytest.mark.parametrize("trained", [0, 2, WARM_UP_BATCHES + 2])
def test_copies_are_exact_and_go_on_alike(trained: int) -> None:
    layer = ColorQuantize(8, space="oklab", decay=0.9)
    for step in range(trained):
        layer(batch(step))
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    loaded = ColorQuantize(8, space="oklab", decay=0.9)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), loaded, layer.to("cpu")]
    for other in copies[:3]:
        assert_same_state(other, state_of(layer))
        assert other.seeded == layer.seeded
    layer(batch(99))
    for other in copies[:3]:
        other(batch(99))
        assert_same_state(other, state_of(layer))


def test_from_palette_is_fixed_and_counts_as_seeded() -> None:
    palette = batch(0, 5, 3)
    layer = ColorQuantize.from_palette(palette)
    assert layer.seeded
    assert layer.frozen
    layer(batch(1))
    assert torch.equal(layer.palette, palette)
    assert "frozen" in repr(layer)
    learning = ColorQuantize.from_palette(palette, frozen=False)
    learning(batch(1))
    assert not torch.equal(learning.palette, palette)
    in_lab = ColorQuantize.from_palette(palette, space="lab")
    torch.testing.assert_close(in_lab.centroids, color_space("lab").from_rgb(palette))
    torch.testing.assert_close(in_lab.palette, palette, rtol=0, atol=2e-6)


def test_the_global_generator_is_not_touched() -> None:
    state = torch.get_rng_state()
    layer = ColorQuantize(8)
    layer(batch(0))
    layer.fit(batch(0))
    assert torch.equal(torch.get_rng_state(), state)


def test_two_runs_are_the_same_bits() -> None:
    layers = ColorQuantize(16), ColorQuantize(16)
    for step in range(4):
        for layer in layers:
            layer(batch(step))
    assert_same_state(layers[0], state_of(layers[1]))


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 4, 4, 4), (4, 4, 3), (3, 4), (1, 2, 3, 4, 4)])
def test_wrong_shapes_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\).*got \(" + ", ".join(map(str, shape))):
        ColorQuantize(4)(torch.rand(shape))


def test_wrong_types_are_named() -> None:
    with pytest.raises(TypeError, match=r"floating point.*got torch.uint8.*255"):
        ColorQuantize(4)(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(TypeError, match="expected a tensor.*got list"):
        ColorQuantize(4)([1, 2, 3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_colors": 0}, "num_colors must be at least 1, got 0"),
        ({"num_colors": 4, "space": "hsv"}, "hsv"),
        ({"num_colors": 4, "decay": 1.5}, "decay must be from 0 to 1, got 1.5"),
        ({"num_colors": 4, "decay": float("nan")}, "decay"),
        ({"num_colors": 4, "dead_below": -1.0}, "dead_below must be at least 0, got -1"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ColorQuantize(**arguments)


@pytest.mark.parametrize(
    ("palette", "message"),
    [
        (torch.rand(4), r"\(K, 3\), got \(4,\)"),
        (torch.rand(0, 3), r"\(K, 3\), got \(0, 3\)"),
        (255 * torch.rand(4, 3), r"in \[0, 1\], got from"),
        (torch.full((4, 3), torch.nan), r"in \[0, 1\]"),
    ],
)
def test_wrong_palettes_are_named(palette: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ColorQuantize.from_palette(palette)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 1, 1), (2, 3, 5, 1)])
def test_odd_shapes_and_layouts(shape: tuple[int, ...]) -> None:
    layer = ColorQuantize.from_palette(batch(0, 4, 3))
    x = batch(1, *shape)
    assert layer(x).shape == x.shape
    assert layer.encode(x).shape == shape[:-3] + shape[-2:]


def test_any_layout_gives_the_same() -> None:
    x = batch(1, 4, 3, 6, 10)
    layouts = [
        x.to(memory_format=torch.channels_last),
        x.flip(-1).flip(-1),
        x.transpose(2, 3).contiguous().transpose(2, 3),
        torch.cat([x, x], dim=3)[..., :10],
    ]
    reference = ColorQuantize(6)
    expected = reference(x)
    for layout in layouts:
        layer = ColorQuantize(6)
        assert torch.equal(layer(layout), expected)
        torch.testing.assert_close(layer.centroids, reference.centroids, rtol=0, atol=1e-6)
    expanded = torch.full((1, 3, 1, 1), 0.3).expand(4, 3, 6, 6)
    assert ColorQuantize(2)(expanded).shape == expanded.shape


def test_half_models_keep_float32_state() -> None:
    for cast in (nn.Module.half, nn.Module.bfloat16, nn.Module.double):
        layer = ColorQuantize(4)
        model = cast(nn.Sequential(nn.Conv2d(3, 3, 1), layer))
        assert layer.centroids.dtype == layer.counts.dtype == torch.float32
        assert model[0].weight.dtype != torch.float32
