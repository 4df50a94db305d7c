"""`ColorQuantize`: what it learns, and when it does not."""

import copy
import io
import pickle

import pytest
import torch
from sklearn.cluster import KMeans

from colorquant_nn import ColorQuantize
from colorquant_nn.functional import online
from colorquant_nn.functional.color import color_space
from tests.helpers import FEW, SPACES, assert_same_state, batch, state_of

pytestmark = pytest.mark.usefixtures("on_device")


@pytest.mark.parametrize("space", SPACES)
def test_training_moves_the_palette_and_nothing_else_does(space: str) -> None:
    layer = ColorQuantize(8, space=space, warm_up=FEW)
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
    error = layer.quantize(batch(0, 3, 32, 32).sqrt()).mse
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
    for _ in range(32 + 5):
        result = layer.quantize(torch.full((2, 3, 8, 8), 0.25))
    assert result.mse < 1e-12
    assert layer.palette.isfinite().all()
    assert len(layer.palette.unique(dim=0)) == 8


def test_the_memory_of_the_warm_up_fades_by_the_decay() -> None:
    layer = ColorQuantize(4, decay=0.5, warm_up=5)
    remembered = 0.0
    for step in range(4):
        layer(batch(step))
        seen = remembered + 4 * 16 * 16
        assert layer.counts.sum().item() == pytest.approx(seen, rel=1e-3)
        remembered = 0.5 * seen
        now = online.unpack(layer.memory)[:, 0].sum().item()
        assert now == pytest.approx(remembered, rel=1e-3)


def test_the_warm_up_mixes_no_colour_with_its_mirror_image() -> None:
    layer = ColorQuantize(2)
    colors = torch.tensor([[0.9, 0.5, 0.1], [0.1, 0.5, 0.9]])
    for color in colors:
        layer(color[:, None, None].expand(3, 4, 4))
    found = layer.palette[layer.palette[:, 2].argsort()]
    torch.testing.assert_close(found, colors, rtol=0, atol=1e-3)


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
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
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


@pytest.mark.parametrize("space", SPACES)
def test_pixels_that_are_not_finite_never_vote(space: str) -> None:
    clean, dirty = (ColorQuantize(4, space=space, warm_up=FEW) for _ in range(2))
    for step in range(FEW + 2):
        x = batch(step, 2, 3, 8, 8)
        spoilt = torch.cat([x, torch.full((2, 3, 8, 8), 0.9)])
        for number, value in enumerate((torch.nan, torch.inf, -torch.inf)):
            spoilt[2:, number] = value
        clean(x)
        result = dirty.quantize(spoilt)
        assert result.mse.isfinite()
        clamped = spoilt.nan_to_num(nan=0.0, posinf=1.0, neginf=0.0).clamp(0, 1)
        same = ColorQuantize.from_palette(result.palette, space=space)
        assert torch.equal(result.indices, same.encode(clamped))
    torch.testing.assert_close(dirty.centroids, clean.centroids)
    torch.testing.assert_close(dirty.counts, clean.counts)


def test_a_batch_of_nan_changes_no_colour() -> None:
    layer = ColorQuantize(4, warm_up=2 * FEW)
    for step in range(3 * FEW):
        before = layer.palette
        layer(torch.full((2, 3, 8, 8), torch.nan))
        assert torch.equal(layer.palette, before), step
        layer(batch(step))
        assert not torch.equal(layer.palette, before), step


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


@pytest.mark.parametrize("trained", [0, 2, 32 + 2])
def test_copies_are_exact_and_go_on_alike(trained: int) -> None:
    layer = ColorQuantize(8, space="oklab", decay=0.9)
    for step in range(trained):
        layer(batch(step))
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    loaded = ColorQuantize(8, space="oklab", decay=0.9)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), loaded]
    for other in copies:
        assert_same_state(other, state_of(layer))
        assert other.seeded == layer.seeded
    layer(batch(99))
    for other in copies:
        other(batch(99))
        assert_same_state(other, state_of(layer))


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


@pytest.mark.parametrize("space", SPACES)
def test_fit_is_full_kmeans_in_one_pass(space: str) -> None:
    images = batch(0, 40, 3, 16, 16)
    layer = ColorQuantize(8, space=space).fit(images)
    batches = [(part, torch.zeros(len(part))) for part in images.split(7)]
    streamed = ColorQuantize(8, space=space).fit(iter(batches))
    assert_same_state(streamed, state_of(layer))
    assert layer.seeded
    assert layer.counts.sum() == 40 * 256
    points = color_space(space).from_rgb(images.movedim(1, -1).reshape(-1, 3))
    theirs = KMeans(8, n_init=3, random_state=0).fit(points.cpu().numpy())
    nearest = torch.cdist(points.double(), layer.centroids.double()).min(1).values
    assert nearest.square().sum().item() < 1.01 * theirs.inertia_
    before = layer.palette
    layer(batch(1))  # goes on by the update rule, from counts of 10 240 pixels
    assert 0 < (layer.palette - before).abs().max() < 0.2


def test_fit_takes_single_and_8_bit_images() -> None:
    image = (255 * batch(0, 3, 16, 16)).round()
    layer = ColorQuantize(4).fit(image / 255)
    assert_same_state(ColorQuantize(4).fit(image.to(torch.uint8)), state_of(layer))
    assert_same_state(ColorQuantize(4).fit([image / 255]), state_of(layer))


def test_fit_with_too_few_colours_keeps_the_others_spread() -> None:
    layer = ColorQuantize(8).fit(torch.full((2, 3, 8, 8), 0.25))
    assert layer.counts.tolist() == [128.0] + [0.0] * 7
    assert len(layer.palette.unique(dim=0)) == 8


def test_fit_needs_pixels() -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        ColorQuantize(4).fit([])
    with pytest.raises(ValueError, match="at least one pixel"):
        ColorQuantize(4).fit(torch.full((1, 3, 4, 4), torch.nan))
