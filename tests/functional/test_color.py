import itertools

import colour
import numpy as np
import pytest
import skimage.color
import torch

from colorquant_nn.functional import color
from colorquant_nn.functional.color import SPACES, color_space
from tests import oracles
from tests.helpers import random

FUNCTIONS = [
    color.rgb_to_linear,
    color.linear_to_rgb,
    color.rgb_to_lab,
    color.lab_to_rgb,
    color.rgb_to_oklab,
    color.oklab_to_rgb,
]
CONVERTED = ["linear", "lab", "oklab"]
any_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
any_space = pytest.mark.parametrize("name", CONVERTED)


def random_colors(*shape, low=0.0, high=1.0, dtype=torch.float32):
    return random(*shape, 3, dtype=dtype) * (high - low) + low


def colors_for(function, *shape, dtype=torch.float32):
    """Colours that the function takes: of the space that its name starts with."""
    space = function.__name__.split("_")[0]
    return SPACES[space].from_rgb(random_colors(*shape, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lab_agrees_with_scikit_image(dtype):
    rgb = random_colors(20_000, dtype=dtype)
    rgb[:4096] *= 0.1  # more of the dark ones, on the straight part of the curve
    expected = skimage.color.rgb2lab(rgb.double().numpy())
    # scikit-image rounds (6/29)^3 to 0.008856 and the slope to 7.787: 2e-4 in a*.
    np.testing.assert_allclose(color.rgb_to_lab(rgb).numpy(), expected, rtol=0, atol=3e-4)
    lab = torch.from_numpy(expected).to(dtype)
    back = skimage.color.lab2rgb(expected)
    np.testing.assert_allclose(color.lab_to_rgb(lab).numpy(), back, rtol=0, atol=2e-5)


def test_oklab_agrees_with_colour_science():
    rgb = random_colors(20_000, dtype=torch.float64)
    expected = colour.XYZ_to_Oklab(colour.sRGB_to_XYZ(rgb.numpy()))
    # colour goes through XYZ with the matrices of sRGB rounded to 4 digits.
    np.testing.assert_allclose(color.rgb_to_oklab(rgb).numpy(), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-7), (torch.float64, 1e-13)])
def test_oklab_and_linear_agree_with_the_reference(dtype, tolerance):
    rgb = random_colors(5000, dtype=dtype)
    expected = oracles.oklab(rgb.numpy())
    np.testing.assert_allclose(color.rgb_to_oklab(rgb).numpy(), expected, rtol=0, atol=tolerance)
    expected = oracles.srgb_to_linear(rgb.numpy())
    np.testing.assert_allclose(color.rgb_to_linear(rgb).numpy(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("rgb", "lab", "oklab"),
    [
        ((0, 0, 0), (0, 0, 0), (0, 0, 0)),
        ((1, 1, 1), (100, 0, 0), (1, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20), (0.62796, 0.22486, 0.12585)),
        ((0, 1, 0), (87.73, -86.18, 83.18), (0.86644, -0.23389, 0.17950)),
        ((0, 0, 1), (32.30, 79.19, -107.86), (0.45201, -0.03246, -0.31153)),
    ],
)
def test_known_colours(rgb, lab, oklab):
    rgb = torch.tensor(rgb, dtype=torch.float32)
    torch.testing.assert_close(color.rgb_to_lab(rgb), torch.tensor(lab).float(), rtol=0, atol=1e-2)
    expected = torch.tensor(oklab).float()
    torch.testing.assert_close(color.rgb_to_oklab(rgb), expected, rtol=0, atol=1e-5)


@any_space
def test_black_is_exactly_zero(name):
    assert torch.equal(SPACES[name].from_rgb(torch.zeros(3)), torch.zeros(3))
    assert torch.equal(SPACES[name].to_rgb(torch.zeros(3)), torch.zeros(3))


@any_space
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_round_trip(name, dtype, tolerance):
    space = SPACES[name]
    inside = random_colors(300_000, dtype=dtype)
    faces = inside[:50_000].clone()
    faces[torch.arange(50_000), torch.arange(50_000) % 3] = torch.arange(50_000).to(dtype) % 2
    for rgb in (inside, faces):
        assert (space.to_rgb(space.from_rgb(rgb)) - rgb).abs().max() < tolerance
    outside = random_colors(300_000, low=-0.1, high=1.1, dtype=dtype)
    assert (space.to_rgb(space.from_rgb(outside)) - outside).abs().max() < 3 * tolerance


@any_space
def test_8_bit_colours_come_back(name):
    levels = torch.arange(0, 256, 5)
    check_8_bit_round_trip(SPACES[name], torch.cartesian_prod(levels, levels, levels))


@any_space
@pytest.mark.slow
def test_every_8_bit_colour_comes_back(name):
    levels = torch.arange(256)
    for red in range(256):
        colors = torch.cartesian_prod(torch.tensor([red]), levels, levels)
        check_8_bit_round_trip(SPACES[name], colors)


def check_8_bit_round_trip(space, colors):
    back = space.to_rgb(space.from_rgb(colors / 255))
    assert torch.equal((back * 255).round().long(), colors)


def test_the_transfer_curve_is_odd():
    rgb = random_colors(1000, high=1.2)
    assert torch.equal(color.rgb_to_linear(-rgb), -color.rgb_to_linear(rgb))
    assert torch.equal(color.linear_to_rgb(-rgb), -color.linear_to_rgb(rgb))


@any_function
def test_gradients(function):
    # Away from OKLab's black, where the slope of the cube root is bounded on purpose.
    rgb = random_colors(40, low=0.06, high=1.1, dtype=torch.float64)
    space = SPACES[function.__name__.split("_")[0]]
    colors = space.from_rgb(rgb).requires_grad_()
    assert torch.autograd.gradcheck(function, colors)
    assert torch.autograd.gradgradcheck(function, colors)


@pytest.mark.parametrize("function", [color.rgb_to_linear, color.rgb_to_lab, color.lab_to_rgb])
def test_gradients_of_dark_colours(function):
    space = SPACES[function.__name__.split("_")[0]]
    rgb = random_colors(40, low=-0.03, high=0.03, dtype=torch.float64)
    assert torch.autograd.gradcheck(function, space.from_rgb(rgb).requires_grad_())


@any_space
def test_gradients_are_bounded_on_the_whole_cube_and_around_it(name):
    values = [-0.02, -1e-6, 0.0, 1e-30, 1e-6, 1e-3, 0.04045, 0.5, 1.0, 1.02]
    rgb = torch.tensor(list(itertools.product(values, repeat=3)))
    space = SPACES[name]
    bound = {"linear": 3, "lab": 1000, "oklab": 30}[name]
    jacobian = torch.func.vmap(torch.func.jacrev(space.from_rgb))(rgb)
    assert jacobian.isfinite().all()
    assert jacobian.abs().max() < bound
    inverse = torch.func.vmap(torch.func.jacrev(space.to_rgb))(space.from_rgb(rgb))
    assert inverse.isfinite().all()
    assert inverse.abs().max() < 200


def test_the_gradient_at_black_is_that_of_the_slope_floor():
    black = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    color.rgb_to_oklab(black)[0].backward()
    slope = 1e-4 ** (-2 / 3) / 3
    row = torch.tensor([0.2104542553, 0.7936177850, -0.0040720468], dtype=torch.float64)
    to_lms = torch.tensor(color.RGB_TO_LMS, dtype=torch.float64)
    torch.testing.assert_close(black.grad, row @ to_lms * slope / 12.92)


@pytest.mark.parametrize("grey", [0.0014, 0.004, 0.02])
def test_the_gradient_of_oklab_is_exact_down_to_the_floor(grey):
    rgb = torch.full((1, 3), grey, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(color.rgb_to_oklab, rgb, eps=1e-7)


def test_second_derivatives_are_finite_at_black():
    for function in FUNCTIONS:
        black = torch.zeros(3, requires_grad=True)
        (grad,) = torch.autograd.grad(function(black).sum(), black, create_graph=True)
        (second,) = torch.autograd.grad(grad.sum(), black)
        assert second.isfinite().all()


@any_function
def test_equal_colours_are_equal_wherever_they_lie(function, threads):
    colors = colors_for(function, 5, 70, 113)  # no multiple of a vector, more than one block
    expected = function(colors)
    flat = colors.reshape(-1, 3)
    order = torch.randperm(len(flat), generator=torch.Generator().manual_seed(1))
    assert torch.equal(function(flat[order]), expected.reshape(-1, 3)[order])
    assert torch.equal(function(colors[2, 3, 5]), expected[2, 3, 5])
    planes = colors.movedim(-1, 1).contiguous().movedim(1, -1)
    assert torch.equal(function(planes), expected)
    assert torch.equal(function(planes[1]), expected[1])
    assert torch.equal(function(planes[1, 3:20, 4:44]), expected[1, 3:20, 4:44])  # a crop
    assert torch.equal(function(colors[:, ::2, 3:-3]), expected[:, ::2, 3:-3])
    assert torch.equal(function(colors.transpose(0, 1)), expected.transpose(0, 1))
    assert torch.equal(function(colors[:, :1].expand(5, 4, 113, 3))[:, 3], expected[:, 0])
    for count in (1, 3):
        threads(count)
        assert torch.equal(function(colors), expected)


def test_the_memory_layout_is_kept():
    image = random_colors(2, 8, 6).movedim(-1, 1).contiguous()
    for dtype in (torch.float32, torch.float64):  # compiled, and plain torch
        colors = image.to(dtype).movedim(1, -1)
        assert color.rgb_to_lab(colors).movedim(-1, 1).is_contiguous()
        assert color.rgb_to_lab(colors.contiguous()).is_contiguous()


@any_function
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_and_returned_in_float32(function, dtype):
    colors = colors_for(function, 100).to(dtype).requires_grad_()
    converted = function(colors)
    assert converted.dtype == torch.float32
    assert torch.equal(converted, function(colors.detach().float()))
    converted.sum().backward()
    assert colors.grad.dtype == dtype


@any_function
def test_autocast_changes_nothing(function):
    for dtype in (torch.float32, torch.float64):
        colors = colors_for(function, 100, dtype=dtype).requires_grad_()
        expected = function(colors)
        (expected_grad,) = torch.autograd.grad(expected.square().sum(), colors)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            converted = function(colors)
            (grad,) = torch.autograd.grad(converted.square().sum(), colors)
        assert torch.equal(converted, expected)
        assert torch.equal(grad, expected_grad)


@any_space
def test_compiles_to_one_graph(name):
    def there_and_back(rgb):
        colors = SPACES[name].from_rgb(rgb)
        return colors, SPACES[name].to_rgb(colors)

    rgb = random_colors(500).requires_grad_()
    expected, _ = there_and_back(rgb)
    backend = "aot_eager"  # what inductor makes of it, tests/test_compile.py sees
    converted, back = torch.compile(there_and_back, fullgraph=True, backend=backend)(rgb)
    # Compiled code is plain float32; the eager pass on the CPU is more exact.
    scale = max(1, expected.abs().max().item())
    torch.testing.assert_close(converted, expected, rtol=0, atol=2e-6 * scale)
    torch.testing.assert_close(back, rgb, rtol=0, atol=5e-5)
    (expected_grad,) = torch.autograd.grad(expected.sum(), rgb)
    (grad,) = torch.autograd.grad(converted.sum(), rgb)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-4, atol=1e-4)


def test_exports():
    class Module(torch.nn.Module):
        def forward(self, colors):
            return color.oklab_to_rgb(color.rgb_to_oklab(colors))

    colors = random_colors(50)
    exported = torch.export.export(Module(), (colors,)).module()
    torch.testing.assert_close(exported(colors), colors, rtol=0, atol=1e-4)


@any_function
def test_function_transforms(function):
    colors = colors_for(function, 4, 7)
    expected = function(colors)
    assert torch.equal(torch.func.vmap(function)(colors), expected)
    assert torch.equal(torch.func.vmap(function, in_dims=1, out_dims=1)(colors), expected)
    leaf = colors.clone().requires_grad_()
    function(leaf).sum().backward()
    grad = torch.func.grad(lambda c: torch.func.vmap(function)(c).sum())(colors)
    torch.testing.assert_close(grad, leaf.grad)
    rows = torch.func.vmap(torch.func.vmap(torch.func.grad(lambda c: function(c).sum())))(colors)
    torch.testing.assert_close(rows, leaf.grad)


def test_without_gradients():
    colors = random_colors(10)
    expected = color.rgb_to_lab(colors.requires_grad_())
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            converted = color.rgb_to_lab(colors)
            assert not converted.requires_grad
            assert torch.equal(converted, expected)
    assert torch.equal(colors, random_colors(10))


@any_function
@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 0, 3), (1, 1, 1, 3), (2, 3, 4, 5, 3)])
def test_shapes(function, shape):
    for dtype in (torch.float32, torch.float64):
        converted = function(torch.full(shape, 0.5, dtype=dtype))
        assert converted.shape == shape
        assert converted.dtype == dtype


@any_function
def test_not_a_number_stays_in_its_pixel(function):
    colors = colors_for(function, 100)
    expected = function(colors)
    colors[17] = torch.nan
    converted = function(colors)
    assert converted[17].isnan().all()
    rest = torch.arange(100) != 17
    assert torch.equal(converted[rest], expected[rest])


@pytest.mark.parametrize("name", list(SPACES))
def test_errors(name):
    for function in color_space(name)[:2]:
        with pytest.raises(ValueError, match=r"\(\.\.\., 3\), got \(3, 4\)"):
            function(torch.zeros(3, 4))
        with pytest.raises(ValueError, match=r"got \(\)"):
            function(torch.tensor(0.5))
        with pytest.raises(TypeError, match=r"floating-point colours, got torch\.uint8"):
            function(torch.zeros(3, dtype=torch.uint8))
        with pytest.raises(TypeError, match=r"a tensor .*got ndarray"):
            function(np.zeros(3))


def test_color_space():
    assert list(SPACES) == ["rgb", "linear", "lab", "oklab"]
    assert color_space("lab") == (color.rgb_to_lab, color.lab_to_rgb, 100)
    rgb = random_colors(5)
    assert torch.equal(color_space("rgb").from_rgb(rgb), rgb)
    assert torch.equal(color_space("rgb").to_rgb(rgb), rgb)
    for name in ("hsv", None, ["lab"]):
        with pytest.raises(ValueError, match=r"rgb, linear, lab, oklab, got .*(hsv|None|lab)"):
            color_space(name)


@any_function
def test_the_plain_form_is_the_reference_of_the_compiled_one(function):
    colors = colors_for(function, 500)
    program = color.PROGRAMS[function.__name__]
    exact = color.convert_plain(colors.double(), *program)
    scale = max(1, exact.abs().max().item())
    torch.testing.assert_close(function(colors).double(), exact, rtol=0, atol=1e-7 * scale)
    plain = color.convert_plain(colors, *program)
    torch.testing.assert_close(plain.double(), exact, rtol=0, atol=5e-5 * scale)


@pytest.mark.parametrize("name", list(SPACES))
def test_alpha_is_on_the_scale_of_the_lightness(name):
    white, black = torch.ones(4), torch.tensor([0.0, 0, 0, 1])
    lightness = {"lab": 100, "oklab": 1, "rgb": 1, "linear": 1}[name]
    assert color.to_working_space(black, name).tolist() == [0, 0, 0, lightness]
    first = SPACES[name].from_rgb(white[:3])[0]
    assert color.to_working_space(white, name)[3].item() == pytest.approx(first.item(), rel=1e-5)


@pytest.mark.parametrize("name", list(SPACES))
def test_colours_with_alpha_are_premultiplied_and_come_back(name):
    straight = torch.cat([random_colors(50), torch.linspace(0, 1, 50)[:, None]], dim=1)
    points = color.to_working_space(straight, name)
    expected = SPACES[name].from_rgb(straight[:, :3]) * straight[:, 3:]
    assert torch.equal(points[:, :3], expected)
    back = color.from_working_space(points, name)
    assert torch.equal(back[0], torch.zeros(4))
    torch.testing.assert_close(back[1:], straight[1:], rtol=0, atol=1e-4)
    outside = color.from_working_space(1.2 * color.to_working_space(torch.ones(2, 3), name), name)
    assert outside.max() == 1
