"""The ops as PyTorch sees them: schemas, fake results, and one node under torch.compile."""

import pytest
import torch

from colorquant_nn.kernels import assign, cluster, histogram, kmeans_per_image, lookup, reference

POINTS = torch.rand(2, 40, 3)
CENTROIDS = torch.rand(1, 5, 3)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("assign", (POINTS, CENTROIDS, True)),
        ("cluster", (POINTS, CENTROIDS, CENTROIDS, torch.rand(2, 40), False)),
        (
            "cluster",
            (POINTS.transpose(1, 2).contiguous().transpose(1, 2), CENTROIDS, None, None, True),
        ),
        ("kmeans_per_image", (POINTS, 4, 2, torch.rand(4, 2), None, True)),
        ("lookup", (CENTROIDS.expand(2, -1, -1), torch.randint(5, (2, 40)))),
        ("histogram", (POINTS, 2, None)),
        ("histogram", (POINTS, 2, torch.rand(2, 40))),
    ],
)
def test_schema_and_fake_results(name, arguments):
    op = getattr(torch.ops.colorquant_nn, name).default
    torch.library.opcheck(op, arguments)


def test_compiles_to_one_graph_with_any_shape():
    def quantize(x, centroids):
        points = x.flatten(2).transpose(1, 2)
        found = cluster(points, centroids, centroids, None, True)
        again = assign(points, centroids)
        return found.values.transpose(1, 2).reshape(x.shape) + 0, found.moments, again

    compiled = torch.compile(quantize, fullgraph=True, dynamic=True, backend="aot_eager")
    for shape in ((2, 3, 8, 9), (1, 3, 20, 5), (4, 3, 7, 7)):
        x, centroids = torch.rand(shape), torch.rand(1, 6, 3)
        for found, expected in zip(compiled(x, centroids), quantize(x, centroids), strict=True):
            assert torch.equal(found, expected)


def test_fits_and_counts_compile_too():
    def fit(points, draws):
        return (*kmeans_per_image(points, 4, 2, draws), histogram(points, 3))

    compiled = torch.compile(fit, fullgraph=True, dynamic=True, backend="aot_eager")
    for count in (50, 70):
        points, draws = torch.rand(2, count, 3), torch.rand(4, 2)
        for found, expected in zip(compiled(points, draws), fit(points, draws), strict=True):
            assert torch.equal(found, expected)


def test_reference_agrees_with_the_device(recwarn):
    points, weights = torch.rand(2, 3000, 3), torch.rand(2, 3000)
    centroids = torch.rand(2, 11, 3)
    for found, expected in zip(
        cluster(points, centroids, centroids, weights),
        reference.cluster(points, centroids, centroids, weights, False),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cluster(POINTS, CENTROIDS, weights=torch.rand(1, 40)), r"weights \(2, 40\)"),
        (lambda: cluster(POINTS, CENTROIDS, torch.rand(1, 4, 3)), r"palette \(1, 5, 'D'\)"),
        (lambda: kmeans_per_image(POINTS, 4, 2, torch.rand(5, 2)), r"uniforms \(4, candidates"),
        (lambda: lookup(CENTROIDS, torch.zeros(2, 40, dtype=torch.int64)), "each of 2 images"),
    ],
)
def test_shapes_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("count", [0, 1, 40, 20_000])
@pytest.mark.parametrize("width", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lookup_gives_the_rows(count, width, dtype):
    palette = torch.rand(3, 7, width, dtype=dtype)
    indices = torch.randint(7, (3, count))
    expected = torch.stack([rows[chosen] for rows, chosen in zip(palette, indices, strict=True)])
    found = lookup(palette, indices)
    assert torch.equal(found, expected)
    assert found.transpose(1, 2).is_contiguous()
    strided = indices[:, :, None].expand(-1, -1, 2).contiguous()[:, :, 1]
    assert torch.equal(lookup(palette, strided), expected)
