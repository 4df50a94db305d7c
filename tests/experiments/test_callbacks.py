"""What a run leaves behind."""

from pathlib import Path

import pytest
from PIL import Image

from colorquant_nn import load_palette
from experiments.callbacks import closing_line
from tests.experiments.conftest import Run


def test_fit_ends_with_the_errors_and_the_place_of_the_pictures(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = run("fit", ["base", "smoke"])
    line = capsys.readouterr().out.strip().splitlines()[-1]
    logged = cli.trainer.callback_metrics
    assert f"validation MSE {logged['val_mse']:.5f}" in line
    assert f"full k-means on the same pixels: MSE {logged['val_kmeans_mse']:.5f}" in line
    folder = Path(line.rsplit("pictures in ", 1)[1])
    assert folder == Path(cli.trainer.log_dir) / "pictures"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("comparison-000.png", "comparison-001.png", "curve.png"),
        *("palette-000.gpl", "palette-000.png", "palette-001.gpl", "palette-001.png"),
    ]
    palette = load_palette(folder / "palette-001.gpl")
    assert palette.shape == (16, 3)
    distances = (palette[:, None] - cli.model.quantizer.palette).abs().amax(-1)
    assert distances.min(1).values.max() <= 0.5 / 255 + 1e-6  # rounded to 8 bits
    luma = palette @ palette.new_tensor([0.299, 0.587, 0.114])
    assert (luma.diff() > -2 / 255).all()  # dark to light
    with Image.open(folder / "comparison-001.png") as picture:
        assert picture.width > 400


def test_validate_and_test_end_with_a_line_too(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run("validate", ["base", "smoke"])
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("validation MSE")
    run("test", ["base", "smoke"])
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("test MSE")


def test_closing_line_names_top1() -> None:
    values = {"val_mse": 0.01, "val_psnr": 20.0, "val_top1": 0.5}
    line = closing_line("val", values, 4, Path("there"))
    assert "validation MSE 0.01000 (20.00 dB) with 4 colours" in line
    assert "top-1 50.00 %" in line
    assert "k-means" not in line


def test_pictures_reach_tensorboard(run: Run) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    cli = run("fit", ["base", "smoke", "tensorboard"])
    events = EventAccumulator(cli.trainer.log_dir)
    events.Reload()
    assert set(events.Tags()["images"]) == {"comparison", "palette"}
    assert "val_mse" in events.Tags()["scalars"]
