"""Every config is parsed and run for a step."""

from pathlib import Path

import pytest
import torch
import yaml
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from colorquant_nn.functional.gradients import Soft, cut, straight_through
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
# What some need beside or instead of CROPS.
DELTAS = {
    "cifar10_palette": FAKE,
    "classifier": FAKE,
    "autoencoder": [*CROPS, "--data.init_args.val_crop_size=16"],
    "gpu": [*CROPS, "--trainer.accelerator=cpu", "--trainer.precision=bf16-mixed"],
}


STUDY = "network"  # not Lightning's: arguments of the parts of a study


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != STUDY)
)
def test_config_runs_for_one_step(name: str, run: Run, tmp_path: Path) -> None:
    configs = ["base"] if name == "base" else ["base", name]
    cli = run("fit", configs, *TINY, *DELTAS.get(name, CROPS))
    assert cli.trainer.global_step == 1
    assert {"train_mse", "val_mse", "val_kmeans_mse"} <= set(cli.logged)
    assert ("test_mse" in cli.logged) == cli.datamodule.has_test()
    assert list((tmp_path / "runs").rglob("last.ckpt"))
    assert list((tmp_path / "runs").rglob("comparison-000.png"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_config_asks_for_a_gpu(run: Run) -> None:
    with pytest.raises(MisconfigurationException, match="No supported gpu backend"):
        run("fit", ["base", "smoke", "gpu"])


def test_autoencoder_schedule_is_as_long_as_the_run() -> None:
    config = yaml.safe_load((CONFIGS / "autoencoder.yaml").read_text())
    assert config["lr_scheduler"]["init_args"]["T_max"] == config["trainer"]["max_epochs"]


def test_config_states_what_is_held_out_and_that_nothing_validates_before_it_has_learnt() -> None:
    config = yaml.safe_load((CONFIGS / "base.yaml").read_text())
    assert config["data"]["init_args"]["val_share"] == 0.1
    assert config["trainer"]["num_sanity_val_steps"] == 0
    monitors = [c.get("init_args", {}).get("monitor") for c in config["trainer"]["callbacks"]]
    assert "val_mse" in monitors


def test_config_takes_an_estimator_as_the_comment_of_autoencoder_shows(
    run: Run, tmp_path: Path
) -> None:
    lines = (CONFIGS / "autoencoder.yaml").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if "# estimator:" in line)
    shown = yaml.safe_load("\n".join(line.partition("# ")[2] for line in lines[start : start + 4]))
    soft = estimator_of(run, tmp_path, shown["estimator"])
    assert isinstance(soft, Soft)
    assert soft.temperature == 0.05


def test_config_takes_an_estimator_that_is_a_function_or_a_class_of_ones_own(
    run: Run, tmp_path: Path
) -> None:
    assert estimator_of(run, tmp_path, "colorquant_nn.functional.gradients.cut") is cut
    own = {"class_path": f"{__name__}.Scaled", "init_args": {"factor": 0.5}}
    scaled = estimator_of(run, tmp_path, own)
    assert isinstance(scaled, Scaled)
    assert scaled.factor == 0.5


class Scaled(torch.nn.Module):
    """An estimator as a user may write one."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor, hard: torch.Tensor, palette: torch.Tensor) -> torch.Tensor:
        return straight_through(self.factor * x, hard, palette)


def estimator_of(run: Run, folder: Path, estimator: object) -> object:
    """What a step of training had, whose config says so."""
    layer = {
        "class_path": "colorquant_nn.ColorQuantize",
        "init_args": {"num_colors": 8, "estimator": estimator},
    }
    config = folder / "estimator.yaml"
    config.write_text(yaml.safe_dump({"model": {"init_args": {"quantizer": layer}}}))
    arguments = [f"--config={config}", *TINY, *DELTAS["autoencoder"]]
    return run("fit", ["base", "autoencoder"], *arguments).model.quantizer.estimator
