"""The table of operations, as PyTorch sees it and as each backend does it."""

import operator

import pytest
import torch

from colorquant_nn.kernels import (
    assign,
    call,
    cluster,
    histogram,
    kmeans_per_image,
    lookup,
    num_moments,
    seed,
)
from colorquant_nn.kernels.ops import OPS, implementation
from tests.helpers import assert_same, random

POINTS = random(2, 40, 3)
CENTROIDS = random(1, 5, 3, seed=1)
# By the reference, for nothing should be compiled while tests are collected.
BATCH = implementation("cluster", "reference")(POINTS[:1], CENTROIDS, None, None, False)[1][0]
STAGES = ["srgb_decode", "matrix", "cube_root", "cube", "lab_curve", "lab_uncurve", "srgb_encode"]
DRAWS = random(2, 5, 3)
TO_SPACE = ["srgb_encode"], []
KINDS = torch.ones(2, 40, dtype=torch.uint8)
PASSED_ON = torch.tensor([[1, 0, 0.5], [0, 1, 0.5]])
EVERYONE = torch.ones(5, dtype=torch.bool)
DOTS = torch.arange(42, dtype=torch.int32).view(6, 7) % 5
MATRIX = torch.eye(5, dtype=torch.float64)[..., None].repeat(1, 1, 4)
CASES = {
    "assign": [(POINTS, CENTROIDS, True)],
    "cluster": [
        (POINTS, CENTROIDS, CENTROIDS, random(2, 40), False),
        (POINTS.transpose(1, 2).contiguous().transpose(1, 2), CENTROIDS, None, None, True),
        ((POINTS * 255).byte(), CENTROIDS, None, None, False),
        (random(2, 40, 4), random(1, 5, 4), None, None, False),
    ],
    "lookup": [(CENTROIDS.expand(2, -1, -1), torch.arange(80).view(2, 40) % 5)],
    "kmeans_per_image": [
        (POINTS, 4, 2, random(4, 2), None, True),
        (POINTS, 4, 2, random(4, 2), random(2, 40), True),
    ],
    "seed": [(POINTS[0], random(40), CENTROIDS[0], 2, random(5, 3))],
    "relocate": [
        (CENTROIDS[0], BATCH[:, 0].float(), BATCH, EVERYONE, torch.tensor(1), 0.1, None, 0),
        (CENTROIDS[0], random(5), BATCH, EVERYONE, torch.tensor(1), 0.1, random(2, 5), 2),
    ],
    "search": [
        (POINTS[0], random(40), torch.zeros(2, 5, 3), 0, DRAWS, torch.ones(2, 3, 2, 5), 3, 2)
    ],
    "histogram": [
        (POINTS, None, torch.zeros(8, 4, dtype=torch.float64), 1.0),
        (POINTS, random(2, 40), torch.ones(64, 5, dtype=torch.float64), 255.0),
    ],
    "distinct_colors": [(POINTS, None), ((POINTS * 255).byte(), random(2, 40))],
    "convert_color": [(POINTS, STAGES, [0.4, 0.3, 0.3, 0.1, 0.7, 0.2, 0.0, 0.1, 0.9])],
    "diffuse": [
        (POINTS, None, CENTROIDS[0], *TO_SPACE, PASSED_ON, None, None),
        (POINTS, KINDS, CENTROIDS[0], [], [], PASSED_ON, None, random(2, 40)),
        (POINTS, KINDS, CENTROIDS[0], *TO_SPACE, PASSED_ON, KINDS.long(), None),
    ],
    "mix": [(POINTS, None, CENTROIDS[0], *TO_SPACE, random(2, 2).double(), 0.7)],
    "dither_amounts": [(POINTS, KINDS.long(), CENTROIDS[0], 0.1, 0.5, [0.5, 0.9])],
    "blur_channels": [(random(2, 40, 9),)],
    "compare_channels": [(random(2, 40, 9), random(2, 40, 9, seed=1), random(2, 2, 40, 9))],
    "blur_errors": [(random(6, 7, 4), random(6, 7), random(5, 4), random(5, 4), DOTS)],
    "couple_colors": [(random(6, 7), random(5, 4), DOTS, random(10, 11, 4), 5)],
    "move_colors": [
        (MATRIX, MATRIX[0] - 0.5, random(5, 4), MATRIX[:4, :4, 0], EVERYONE.byte(), 3),
    ],
    "choose_indices": [
        (
            *(random(6, 7, 4), random(6, 7) + 0.1, DOTS.byte() % 2, random(5, 4)),
            *(EVERYONE.expand(2, -1).contiguous(), random(3, 5 + 259 + 30) / 9, 0.2),
        )
    ],
    "draw": [(POINTS.view(2, 5, 8, 3), CENTROIDS, "atkinson", 0.8, "oklab")],
    "soft_backward": [(POINTS, CENTROIDS.expand(2, -1, -1), random(2, 40, 3, seed=2), 0.01)],
}
# Those that change a layer's state are tested with it.
STATEFUL = {name for name, op in OPS.items() if "!" in op.schema} - set(CASES)
EXAMPLES = [(name, case) for name, cases in CASES.items() for case in cases]


def function_of(name, backend):
    try:
        return implementation(name, backend)
    except AttributeError:
        return None


def test_every_operation_has_a_case():
    assert set(OPS) == set(CASES) | STATEFUL


@pytest.mark.parametrize("name", OPS)
def test_every_operation_is_done_somewhere(name):
    assert OPS[name].reference or OPS[name].cpu


@pytest.mark.parametrize(("name", "arguments"), EXAMPLES)
def test_schema_and_fake_results(name, arguments):
    torch.library.opcheck(getattr(torch.ops.colorquant_nn, name).default, arguments)


@pytest.mark.parametrize(("name", "arguments"), EXAMPLES)
def test_backends_agree(name, arguments):
    """And none returns its arguments, or changes them, unless that is what it is for."""
    writes = "!" in OPS[name].schema
    backends = {b: f for b in ("reference", "cpu") if (f := function_of(name, b)) is not None}
    results = []
    for function in backends.values():
        copies = [x.clone() if isinstance(x, torch.Tensor) else x for x in arguments]
        places = {x.data_ptr() for x in copies if isinstance(x, torch.Tensor)}
        found = function(*copies)
        if writes:
            assert found is None
            found = tuple(x for x in copies if isinstance(x, torch.Tensor))
        else:
            found = found if isinstance(found, tuple) else (found,)
            assert all(x.data_ptr() not in places or x.numel() == 0 for x in found)
            for argument, copy in zip(arguments, copies, strict=True):
                same = torch.equal if isinstance(copy, torch.Tensor) else operator.eq
                assert same(argument, copy)
        results.append(found)
    for result in results:
        for found, expected in zip(result, results[0], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_what_a_backend_leaves_to_the_reference():
    """Float64 is not for the compiled kernels, and no digit is lost."""
    centroids = torch.tensor([[[0.5, 0.5, 0.5], [0.5 + 1e-12, 0.5, 0.5]]], dtype=torch.float64)
    assert assign(centroids, centroids).tolist() == [[0, 1]]


@pytest.mark.parametrize("clusters", [1, 5])
def test_a_start_is_not_changed(clusters):
    start = torch.full((clusters, 3), 0.25)
    seed(POINTS[0], torch.ones(40), start, 0, random(clusters, 2))
    assert (start == 0.25).all()


def test_a_tensor_elsewhere_goes_to_the_cpu_and_comes_back(device):
    points = POINTS.to(device)
    codes, colors, _ = call("distinct_colors", points, None)
    assert codes.device == points.device
    assert torch.equal(colors.cpu(), call("distinct_colors", POINTS, None)[1])


def test_compiles_to_one_graph_with_any_shape():
    def quantize(x, centroids):
        points = x.flatten(2).transpose(1, 2)
        found = cluster(points, centroids, centroids, None, True)
        again = assign(points, centroids)
        return found.values.transpose(1, 2).reshape(x.shape) + 0, found.moments, again

    compiled = torch.compile(quantize, fullgraph=True, dynamic=True, backend="aot_eager")
    for shape in ((2, 3, 8, 9), (1, 3, 20, 5), (4, 3, 7, 7)):
        x, centroids = torch.rand(shape), torch.rand(1, 6, 3)
        assert_same(compiled(x, centroids), quantize(x, centroids))


def test_fits_and_counts_compile_too():
    def fit(points, draws):
        return (*kmeans_per_image(points, 4, 2, draws), histogram(points, 3))

    compiled = torch.compile(fit, fullgraph=True, dynamic=True, backend="aot_eager")
    for count in (50, 70):
        points, draws = torch.rand(2, count, 3), torch.rand(4, 2)
        assert_same(compiled(points, draws), fit(points, draws))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: cluster(POINTS, CENTROIDS, weights=torch.rand(1, 40)), r"weights \(2, 40\)"),
        (lambda: cluster(POINTS, CENTROIDS, torch.rand(1, 4, 3)), r"palette \(1, 5, 'D'\)"),
        (lambda: kmeans_per_image(POINTS, 4, 2, torch.rand(5, 2)), r"uniforms \(4, candidates"),
        (lambda: lookup(CENTROIDS, torch.zeros(2, 40, dtype=torch.int64)), "each of 2 images"),
    ],
)
def test_shapes_that_do_not_fit_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


@pytest.mark.parametrize("count", [0, 1, 40, 20_000])
@pytest.mark.parametrize("width", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lookup_gives_the_rows(count, width, dtype, backend):
    palette = torch.rand(3, 7, width, dtype=dtype)
    indices = torch.randint(7, (3, count))
    expected = torch.stack([rows[chosen] for rows, chosen in zip(palette, indices, strict=True)])
    found = lookup(palette, indices)
    assert torch.equal(found, expected)
    assert found.transpose(1, 2).is_contiguous()
    strided = indices[:, :, None].expand(-1, -1, 2).contiguous()[:, :, 1]
    assert torch.equal(lookup(palette, strided), expected)


@pytest.mark.parametrize(("channels", "columns"), [(1, 3), (3, 10), (4, 15)])
def test_the_layout_of_moments(channels, columns, backend):
    assert num_moments(channels) == columns
    points = torch.rand(1, 9, channels)
    assert cluster(points, points[:, :2]).moments.shape == (1, 2, columns)


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 4)])
def test_a_picture_without_pixels_has_no_dots(shape):
    cases = {"diffuse": (PASSED_ON, None, None), "mix": (random(2, 2).double(), 0.7)}
    for name, rest in cases.items():
        centroids = random(5, shape[2])
        found = implementation(name, "cpu")(random(*shape), None, centroids, *TO_SPACE, *rest)
        assert found.shape == shape[:2]
