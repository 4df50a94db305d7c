"""Every config is parsed and run for a step."""

from pathlib import Path

import pytest

from tests.experiments.conftest import CONFIGS, Run

TINY = [
    "--trainer.max_epochs=1",
    "--data.init_args.batch_size=2",
    "--data.init_args.val_crops=2",
    "--data.init_args.num_workers=0",
]
CROPS = ["--data.init_args.crop_size=16", "--data.init_args.train_crops=2"]
# Random images in the place of a download.
FAKE = [
    "--data.init_args.name=FakeData",
    "--data.init_args.download=false",
    '--data.init_args.options={"size": 2, "image_size": [3, 16, 16]}',
]
# What each needs to be run here, behind the config and TINY.
DELTAS = {
    "base": CROPS,
    "photos": CROPS,
    "cifar10_palette": FAKE,
    "autoencoder": [*CROPS, "--data.init_args.val_crop_size=16"],
    "classifier": FAKE,
    "gpu": [*CROPS, "--trainer.accelerator=cpu", "--trainer.precision=bf16-mixed"],
    "tensorboard": CROPS,
    "smoke": CROPS,
}


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_config_runs_for_one_step(name: str, run: Run, tmp_path: Path) -> None:
    if name == "tensorboard":
        pytest.importorskip("tensorboard")
    configs = ["base"] if name == "base" else ["base", name]
    cli = run("fit", configs, *TINY, *DELTAS[name])
    assert cli.trainer.global_step == 1
    assert {"train_mse", "val_mse", "val_kmeans_mse"} <= set(cli.trainer.callback_metrics)
    assert list((tmp_path / "runs").rglob("last.ckpt"))
    assert list((tmp_path / "runs").rglob("comparison-000.png"))


def test_gpu_config_asks_for_the_gpu_and_mixed_precision() -> None:
    text = (CONFIGS / "gpu.yaml").read_text()
    assert "accelerator: gpu" in text
    assert "-mixed" in text


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_config_gives_its_reasons(path: Path) -> None:
    assert path.read_text().startswith("# ")


def test_autoencoder_schedule_is_as_long_as_the_run() -> None:
    yaml = pytest.importorskip("yaml")
    config = yaml.safe_load((CONFIGS / "autoencoder.yaml").read_text())
    assert config["lr_scheduler"]["init_args"]["T_max"] == config["trainer"]["max_epochs"]
