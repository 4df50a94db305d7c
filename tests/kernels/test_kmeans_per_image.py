"""`kmeans_per_image`: the columns agree, and each keeps what is promised."""

import pytest
import torch

from colorquant_nn.kernels import kmeans_per_image, sanitize
from colorquant_nn.kernels.ops import implementation
from tests.helpers import assert_same, random
from tests.oracles import assert_nearest, images, seed_slowly


def draws(num_clusters, candidates=3):
    return random(num_clusters, candidates)


def assert_means(points, fitted):
    """Each centroid with points is their mean, to float32 rounding."""
    values = sanitize(points, False).to(torch.float64)
    for image in range(points.shape[0]):
        for k in range(fitted.centroids.shape[1]):
            mine = values[image][fitted.indices[image] == k]
            assert fitted.counts[image, k] == len(mine)
            if len(mine):
                mean = mine.mean(0).to(torch.float32)
                torch.testing.assert_close(fitted.centroids[image, k], mean, rtol=2e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("batch", "count", "num_clusters", "candidates", "channels"),
    [
        (8, 1024, 16, 3, 3),
        (3, 513, 5, 1, 4),
        (2, 100, 1, 2, 3),
        (2, 40_000, 6, 2, 3),
        (2, 90, 4, 2, 2),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8])
def test_agrees_with_the_reference(batch, count, num_clusters, candidates, channels, dtype):
    points = images("noise", batch * count, channels).view(batch, count, channels)
    points = (points * 255).to(torch.uint8) if dtype == torch.uint8 else points.to(dtype)
    uniforms = draws(num_clusters, candidates)
    fitted = kmeans_per_image(points, num_clusters, 3, uniforms)
    plain = implementation("kmeans_per_image", "reference")
    expected = plain(points, num_clusters, 3, uniforms, None, False)
    # A tie may fall either way, and then the next steps differ.
    same = (fitted.indices == expected[1]).to(torch.float32).mean(1)
    assert (same > 0.999).all()
    torch.testing.assert_close(fitted.centroids, expected[0], rtol=1e-4, atol=1e-4)
    assert_means(points, fitted)


def test_indices_are_the_assignment_that_was_averaged(backend):
    points = images("noise", 3000, 3).view(3, 1000, 3)
    before = kmeans_per_image(points, 7, 4, draws(7))
    after = kmeans_per_image(points, 7, 5, draws(7))
    assert_nearest(points, before.centroids, after.indices)
    assert_means(points, after)


@pytest.mark.parametrize("count", [900, 40_000])
def test_few_distinct_colours_are_found_exactly(count, backend):
    generator = torch.Generator().manual_seed(3)
    colors = torch.rand(5, 3, generator=generator)
    chosen = torch.randint(0, 5, (2, count), generator=generator)
    chosen[1] %= 2
    points = colors[chosen]
    fitted = kmeans_per_image(points, 8, 3, draws(8))
    image = torch.arange(2)[:, None]
    assert torch.equal(fitted.centroids[image, fitted.indices], points)
    assert (fitted.counts > 0).sum(1).tolist() == [5, 2]
    assert torch.equal(fitted.centroids[0, 5:], fitted.centroids[0, :1].expand(3, 3))
    assert torch.equal(fitted.centroids[1, 2:], fitted.centroids[1, :1].expand(6, 3))


def test_each_further_centroid_lowers_the_error_most_of_the_candidates(backend):
    points = images("noise", 400, 3)[:, :40]
    uniforms = draws(2, 6)
    first = points[0, int(uniforms[0, 0] * 40)]
    distance = (points[0] - first).square().sum(-1).to(torch.float64)
    cumulative = distance.cumsum(0)
    potentials = []
    for draw in uniforms[1]:
        pick = int((cumulative <= draw * cumulative[-1]).sum())
        near = (points[0] - points[0, pick]).square().sum(-1)
        potentials.append((torch.minimum(near, distance).sum().item(), pick))
    second = points[0, min(potentials)[1]]
    found = kmeans_per_image(points, 2, 1, uniforms)
    assert_nearest(points, torch.stack([first, second])[None], found.indices)


def fit_slowly(points, num_clusters, num_iters, uniforms, weights):
    """Weighted k-means++ and Lloyd's steps by their definition, one image, in float64."""
    start = torch.zeros(num_clusters, points.shape[1])
    centroids = seed_slowly(points, weights, start, 0, uniforms).double()
    for _ in range(num_iters):
        indices = (points[:, None] - centroids).square().sum(-1).argmin(1)
        counts = torch.stack([weights[indices == k].double().sum() for k in range(num_clusters)])
        for k in counts.nonzero().flatten().tolist():
            mine = indices == k
            total = (weights[mine, None].double() * points[mine].double()).sum(0)
            centroids[k] = total / counts[k]
    return centroids.float(), indices, counts.float()


@pytest.mark.parametrize(("batch", "count", "channels"), [(3, 700, 3), (2, 40_000, 3), (2, 100, 4)])
def test_weights_draw_and_average(batch, count, channels, backend):
    points = images("noise", batch * count, channels).view(batch, count, channels)
    weights = 3 * random(batch, count, seed=5) ** 4
    weights[:, ::7] = 0
    uniforms = draws(6, 2)
    fitted = kmeans_per_image(points, 6, 3, uniforms, weights)
    for image in range(batch):
        expected = fit_slowly(points[image], 6, 3, uniforms, weights[image])
        torch.testing.assert_close(fitted.centroids[image], expected[0], rtol=0, atol=2e-4)
        torch.testing.assert_close(fitted.counts[image], expected[2], rtol=1e-3, atol=0.1)
        assert (fitted.indices[image] == expected[1]).float().mean() > 0.999


def test_weights_of_one_are_none_bit_for_bit(backend):
    points = images("noise", 3000, 3).view(2, 1500, 3)
    expected = kmeans_per_image(points, 5, 3, draws(5))
    for weights in (torch.ones(2, 1500), torch.ones(2, 1500, dtype=torch.bool)):
        assert_same(kmeans_per_image(points, 5, 3, draws(5), weights), expected)


def test_a_mask_is_weights_of_one_and_zero(backend):
    points = images("noise", 3000, 3).view(2, 1500, 3)
    mask = random(2, 1500, seed=4) < 0.3
    expected = kmeans_per_image(points, 5, 3, draws(5), mask.float())
    assert_same(kmeans_per_image(points, 5, 3, draws(5), mask), expected)


def test_weights_are_read_in_any_strides(backend):
    points, weights = images("noise", 1500, 3).view(3, 500, 3), random(500, 3)
    expected = kmeans_per_image(points, 4, 2, draws(4), weights.T.contiguous())
    assert_same(kmeans_per_image(points, 4, 2, draws(4), weights.T), expected)


@pytest.mark.parametrize("count", [1000, 40_000])
def test_who_votes(count, backend):
    points = images("noise", count, 3).clone()
    points[0, 0] = float("nan")
    points[0, 1, 2] = float("inf")
    votes = torch.rand(1, count) < 0.5
    fitted = kmeans_per_image(points, 6, 3, draws(6), votes, True)
    assert torch.isfinite(fitted.centroids).all()
    mine = votes & torch.isfinite(points).all(-1)
    assert fitted.counts.sum() == mine.sum()
    for k in range(6):
        mean = points[0][mine[0] & (fitted.indices[0] == k)].mean(0)
        torch.testing.assert_close(fitted.centroids[0, k], mean, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [10, 40_000])
def test_an_image_without_voters_is_black(count, backend):
    fitted = kmeans_per_image(torch.full((2, count, 3), float("nan")), 4, 2, draws(4))
    assert (fitted.centroids == 0).all()
    assert (fitted.counts == 0).all()
    assert (fitted.indices == 0).all()


@pytest.mark.parametrize("shape", [(0, 10, 3), (2, 0, 3)])
def test_no_points(shape, backend):
    fitted = kmeans_per_image(torch.zeros(shape), 4, 2, draws(4))
    assert fitted.centroids.shape == (shape[0], 4, 3)
    assert fitted.indices.shape == shape[:2]
    assert (fitted.counts == 0).all()


def test_strides_do_not_matter(backend):
    batch = torch.rand(3, 3, 20, 30)
    first = batch.flatten(2).transpose(1, 2)
    expected = kmeans_per_image(first.contiguous(), 5, 3, draws(5))
    assert_same(kmeans_per_image(first, 5, 3, draws(5)), expected)


def test_an_image_alone_gives_what_it_gives_in_a_batch():
    points = torch.rand(9, 33_000, 3)  # nine images are enough for the threads, one is not
    together = kmeans_per_image(points, 4, 2, draws(4))
    alone = kmeans_per_image(points[3:4], 4, 2, draws(4))
    assert_same([part[3:4] for part in together], alone)


def test_no_steps_is_an_error():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        kmeans_per_image(torch.rand(1, 9, 3), 2, 0, draws(2))


def test_weights_of_another_shape_are_an_error():
    with pytest.raises(ValueError, match=r"weights \(1, 9\), got \(9,\)"):
        kmeans_per_image(torch.rand(1, 9, 3), 2, 1, draws(2), torch.ones(9))
