"""The examples run, and do what they say."""

from pathlib import Path

import pytest
import torch

from colorquant_nn import load_image, load_palette
from experiments.examples import (
    classifier,
    dithered_display,
    hardware_palette,
    learned_palette,
    onnx_export,
    own_module,
    palette_network,
    transform,
)
from experiments.network.palette_network import NeuralColorQuantize


def test_classifier_sees_palette_colours_and_takes_a_step() -> None:
    model = classifier.main(["--colors", "5"])
    layer = model[0]
    assert layer.seeded
    seen: list[torch.Tensor] = []
    model[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 1000)
    colors = seen[0].movedim(1, -1).reshape(-1, 3).unique(dim=0)
    assert len(colors) <= 5
    assert (colors[:, None] == layer.palette).all(-1).any(1).all()
    assert model[2].conv1.weight.grad.abs().sum() > 0


def test_own_module_learns_its_palette_and_its_network() -> None:
    trained = own_module.main(["--epochs", "6"]).lightning_module
    assert trained.quantizer.seeded
    first = own_module.main(["--epochs", "1"])
    assert trained.trainer.callback_metrics["val_mse"] < 0.7 * first.callback_metrics["val_mse"]


def test_generator_ends_in_the_hardware_palette() -> None:
    generator, losses = hardware_palette.main([])
    assert torch.equal(generator[-1].palette, load_palette("gameboy"))
    with torch.no_grad():
        image = generator(torch.randn(2, 8, 4, 4))
    colors = image.movedim(1, -1).reshape(-1, 3)
    assert (colors[:, None] == load_palette("gameboy")).all(-1).any(1).all()
    assert losses[-1] < 0.3 * losses[0]


def test_generator_learns_for_a_display_of_dots() -> None:
    generator, errors = dithered_display.main(["--steps", "30"])
    with torch.no_grad():
        image = generator(torch.randn(2, 8, 8, 8))
    colors = image.movedim(1, -1).reshape(-1, 3)
    assert (colors[:, None] == load_palette("pico-8")).all(-1).any(1).all()
    assert errors[-1] < 0.5 * errors[0]


def test_a_learnt_palette_tells_apart_what_that_of_k_means_does_not() -> None:
    before, after = learned_palette.main([])
    assert before < 0.7
    assert after > 0.95


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_onnx_file_gives_the_same_indices(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert onnx_export.main([str(tmp_path / "palette.onnx")])
    assert (tmp_path / "palette.onnx").stat().st_size > 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_transform_augments_in_workers_and_draws(tmp_path: Path) -> None:
    images = transform.main([str(tmp_path / "grid.png")])
    assert images.shape == (24, 3, 48, 48)
    assert images.dtype == torch.float32
    counts = torch.tensor([len(image.flatten(1).unique(dim=1).T) for image in images])
    few = counts <= 32
    assert 4 <= few.sum() <= 20
    assert len(counts[few].unique()) > 3
    assert (counts[~few] > 100).all()
    assert load_image(tmp_path / "grid.png").shape[0] == 3


def test_a_palette_network_is_loaded_and_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, picture = tmp_path / "weights.pt", tmp_path / "few.png"
    NeuralColorQuantize(8).save(weights)
    few = palette_network.main(["--colors=8", f"--weights={weights}", f"--out={picture}"])
    assert few.shape == (2, 3, 32, 32)
    assert all(len(image.flatten(1).T.unique(dim=0)) == 8 for image in few)
    kmeans, network = capsys.readouterr().out.split("k-means ")[1].split(", network ")
    assert float(kmeans) == float(network)  # untrained, it is k-means
    assert load_image(picture).shape[2] > 3 * 32
