"""`resize_palette`: fewer colours and more, from the colours and counts alone."""

import pytest
import torch
from sklearn.cluster import KMeans

from colorquant_nn import ColorQuantize, resize_palette
from tests.layer_helpers import batch


@pytest.mark.parametrize("weighted", [False, True])
def test_fewer_colours_are_weighted_kmeans_of_the_old(weighted: bool) -> None:
    palette = batch(0, 64, 3)
    counts = batch(1, 64) if weighted else None
    fewer = resize_palette(palette, 8, counts)
    assert fewer.shape == (8, 3)
    weights = torch.ones(64) if counts is None else counts
    theirs = KMeans(8, n_init=1, random_state=0).fit(palette.numpy(), sample_weight=weights.numpy())
    nearest = torch.cdist(palette, fewer).square().min(1).values
    assert (weights * nearest).sum().item() < 1.1 * theirs.inertia_


def test_colours_that_count_most_survive() -> None:
    palette = batch(0, 12, 3)
    counts = torch.zeros(12)
    counts[:4] = torch.tensor([5.0, 1, 3, 2])
    fewer = resize_palette(palette, 4, counts)
    assert torch.cdist(palette[:4], fewer).min(1).values.max() < 1e-3


@pytest.mark.parametrize("counts", [None, torch.zeros(3), torch.tensor([1.0, 9.0, 2.0])])
def test_more_colours_keep_the_old_and_are_all_different(counts: torch.Tensor | None) -> None:
    palette = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [1.0, 0.0, 0.0]])
    more = resize_palette(palette, 9, counts)
    assert torch.equal(more[:3], palette)
    assert len(more.unique(dim=0)) == 9
    assert more.min() >= 0
    assert more.max() <= 1


def test_the_colour_of_the_largest_count_is_split() -> None:
    palette = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [1.0, 1.0, 1.0]])
    more = resize_palette(palette, 4, torch.tensor([1.0, 1.0, 9.0]))
    assert torch.equal(more[3], torch.full((3,), 0.75))
    alone = resize_palette(torch.full((1, 3), 0.25), 2)
    assert torch.equal(alone[1], torch.full((3,), 0.625))


def test_the_same_number_changes_nothing() -> None:
    palette = batch(0, 5, 3)
    same = resize_palette(palette, 5)
    assert torch.equal(same, palette)
    assert same.data_ptr() != palette.data_ptr()


@pytest.mark.parametrize("num_colors", [3, 12])
def test_a_layer_of_another_size_takes_over(num_colors: int) -> None:
    old = ColorQuantize(8, space="oklab").fit(batch(0))
    with pytest.raises(ValueError, match=r"8 colours, this layer of \d+; .*resize_palette"):
        ColorQuantize(num_colors, space="oklab").load_state_dict(old.state_dict())
    palette = resize_palette(old.palette, num_colors, old.counts)
    new = ColorQuantize.from_palette(palette, space="oklab", frozen=False, decay=0.5)
    for _ in range(20):
        error = new.quantize(batch(0)).mse
    best = ColorQuantize(num_colors, space="oklab").fit(batch(0)).quantize(batch(0)).mse
    assert error < 1.2 * best


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.rand(4, 4), 2), r"\(K, 3\), got \(4, 4\)"),
        ((torch.rand(4), 2), r"got \(4,\)"),
        ((2 + torch.rand(4, 3), 2), r"in \[0, 1\]"),
        ((torch.rand(4, 3), 0), "num_colors of at least 1, got 0"),
        ((torch.rand(4, 3), 2, torch.ones(3)), r"counts \(4,\), got \(3,\)"),
        ((torch.rand(4, 3), 2, torch.tensor([1, 2, 3, torch.nan])), "finite"),
        ((torch.rand(4, 3), 2, torch.tensor([1.0, 2, 3, -1])), "at least 0"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resize_palette(*arguments)
