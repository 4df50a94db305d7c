"""torch.export and ONNX: the exported layer gives the same colours at any size."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

from colorquant_nn import (
    ColorQuantize,
    DeferredColorQuantize,
    LearnedPalette,
    PerImageColorQuantize,
)
from tests.helpers import SPACES, batch

DYNAMIC = {"x": {0: Dim("batch"), 2: Dim("height"), 3: Dim("width")}}
SIZES = [(2, 3, 16, 24), (1, 3, 7, 5), (5, 3, 33, 1)]
LAYERS = [ColorQuantize, DeferredColorQuantize, LearnedPalette]
QUICK = [(ColorQuantize, space, 5) for space in SPACES] + [(cls, "oklab", 40) for cls in LAYERS]
CASES = [
    pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow)
    for case in product(LAYERS, SPACES, [5, 40])
]


class Encoder(nn.Module):
    """What is exported: the image and its indices."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        result = self.layer.quantize(x)
        return result.values, result.indices


@pytest.mark.parametrize(("cls", "space", "num_colors"), CASES)
def test_exports_with_dynamic_sizes(cls, space: str, num_colors: int) -> None:
    layer = cls.from_palette(batch(0, num_colors, 3), space=space).eval()
    exported = torch.export.export(Encoder(layer), (batch(1, *SIZES[0]),), dynamic_shapes=DYNAMIC)
    for size in SIZES:
        x = batch(2, *size)
        x.flatten()[:3] = torch.tensor([torch.nan, torch.inf, -5.0])
        values, indices = exported.module()(x)
        assert torch.equal(indices, layer.encode(x))
        torch.testing.assert_close(values, layer(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("space", SPACES)
def test_a_palette_of_each_image_is_exported(space: str) -> None:
    layer = PerImageColorQuantize(4, space=space)
    exported = torch.export.export(Encoder(layer), (batch(1, *SIZES[0]),), dynamic_shapes=DYNAMIC)
    for size in SIZES:
        x = batch(2, *size)
        values, indices = exported.module()(x)
        expected = layer.quantize(x)
        assert torch.equal(indices, expected.indices)
        torch.testing.assert_close(values, expected.values, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_palette_of_each_image_has_no_form_in_onnx() -> None:
    pytest.importorskip("onnxscript")
    layer = PerImageColorQuantize(4).eval()
    with pytest.raises(torch.onnx.OnnxExporterError, match="kmeans_per_image"):
        torch.onnx.export(layer, (batch(1, *SIZES[0]),), dynamo=True, verbose=False)


@pytest.mark.parametrize("cls", [ColorQuantize, LearnedPalette])
def test_a_learning_layer_is_not_exported(cls) -> None:
    with pytest.raises(RuntimeError, match=r"call eval\(\) before exporting"):
        torch.export.export(Encoder(cls(4)), (batch(0),))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("cls", "space"),
    [
        pytest.param(ColorQuantize, "rgb", marks=pytest.mark.slow),
        (ColorQuantize, "oklab"),
        pytest.param(DeferredColorQuantize, "rgb", marks=pytest.mark.slow),
        pytest.param(LearnedPalette, "oklab", marks=pytest.mark.slow),
    ],
)
def test_onnxruntime_gives_the_same(cls, space: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    layer = cls.from_palette(batch(0, 20, 3), space=space).eval()
    program = torch.onnx.export(
        Encoder(layer).eval(),
        (batch(1, *SIZES[0]),),
        dynamic_shapes=DYNAMIC,
        dynamo=True,
        verbose=False,
    )
    program.save(tmp_path / "layer.onnx")
    session = runtime.InferenceSession(tmp_path / "layer.onnx")
    name = session.get_inputs()[0].name
    for size in SIZES:
        x = batch(3, *size)
        values, indices = session.run(None, {name: x.numpy()})
        expected = layer.quantize(x)
        np.testing.assert_array_equal(indices, expected.indices.numpy())
        np.testing.assert_allclose(values, expected.values.detach(), rtol=0, atol=1e-5)
