import copy
import pickle

import pytest
import torch
from torch import nn

from colorquant_nn import color_layers
from colorquant_nn.functional import color

LAYERS = {
    color_layers.RgbToLinear: color.rgb_to_linear,
    color_layers.LinearToRgb: color.linear_to_rgb,
    color_layers.RgbToLab: color.rgb_to_lab,
    color_layers.LabToRgb: color.lab_to_rgb,
    color_layers.RgbToOklab: color.rgb_to_oklab,
    color_layers.OklabToRgb: color.oklab_to_rgb,
}
any_layer = pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)


def test_all_are_listed():
    assert sorted(layer.__name__ for layer in LAYERS) == sorted(color_layers.__all__)


@any_layer
@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 3, 5, 7), (0, 3, 5, 7), (2, 3, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_module_equals_function(layer, shape, dtype):
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    converted = layer()(image)
    expected = LAYERS[layer](image.movedim(-3, -1)).movedim(-1, -3)
    assert converted.shape == image.shape
    assert torch.equal(converted, expected)
    assert converted.is_contiguous()


@any_layer
def test_copies_and_has_no_state(layer):
    image = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    module = layer()
    assert not module.state_dict()
    assert torch.equal(copy.deepcopy(module)(image), module(image))
    assert torch.equal(pickle.loads(pickle.dumps(module))(image), module(image))


def test_in_a_network():
    image = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    network = nn.Sequential(
        color_layers.RgbToOklab(), nn.Conv2d(3, 3, 1), color_layers.OklabToRgb(), nn.Flatten()
    )
    network(image).square().mean().backward()
    assert image.grad.isfinite().all()
    assert image.grad.abs().sum() > 0
    assert network[1].weight.grad.isfinite().all()


@any_layer
@pytest.mark.parametrize("shape", [(4, 8, 8), (2, 1, 8, 8), (8, 3), (1, 2, 3, 8, 8), (8, 8, 3)])
def test_wrong_shapes(layer, shape):
    with pytest.raises(ValueError, match=r"expected an image of shape \(3, H, W\) or") as error:
        layer()(torch.zeros(shape))
    assert str(shape) in str(error.value)


@any_layer
def test_wrong_dtype(layer):
    with pytest.raises(TypeError, match="uint8"):
        layer()(torch.zeros(3, 8, 8, dtype=torch.uint8))
