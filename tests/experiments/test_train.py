"""The command line: what a user gets wrong is one line on stderr, and exit code 2."""

import sys
from pathlib import Path

import pytest
import torch

from experiments import train
from tests.experiments.conftest import CONFIGS

WRONG = {
    "--data.init_args.name=CIFAR10": "CIFAR10 (train split) is not under",
    "--data.init_args.name=CIFAR11": "'LoadedFolder', 'PackedImages' or the name of",
    "--data.init_args.download=true": "Photographs cannot be downloaded",
    "--data.init_args.batch_size=0": "expected batch_size >= 1, got 0",
    "--data.init_args.crop_size=null": "expected a data.init_args.crop_size",
    "--model.init_args.quantizer.init_args.num_colors=0": "num_colors of at least 1, got 0",
    "--ckpt_path=nowhere.ckpt": "Checkpoint file not found: nowhere.ckpt",
    f"--ckpt_path={__file__}": f"got {__file__}, which torch.save has not written",
    "--data.init_args.val_share=1": "expected val_share between 0 and 1, got 1",
    "--trainer.accelerator=tpu": "torch_xla",
    "--trainer.devices=0": "not a valid input using cpu",
}


def errors_of(arguments: list[str], patch: pytest.MonkeyPatch) -> SystemExit:
    patch.setattr(sys, "argv", ["experiments", *arguments])
    with pytest.raises(SystemExit) as end:
        train.run()
    return end.value


@pytest.mark.parametrize("argument", WRONG)
def test_what_is_wrong_is_one_line_and_exit_code_2(
    argument: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = [
        *("fit", f"--config={CONFIGS / 'base.yaml'}", f"--config={CONFIGS / 'smoke.yaml'}"),
        *(f"--data.init_args.root={tmp_path}", "--trainer.enable_progress_bar=false", argument),
        f"--trainer.logger.init_args.save_dir={tmp_path / 'runs'}",
    ]
    assert errors_of(arguments, monkeypatch).code == 2
    errors = capfd.readouterr().err
    assert "Traceback" not in errors
    line = errors.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert WRONG[argument] in line
    assert len(line) < 400


def test_an_error_in_a_worker_is_one_line_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        *("fit", f"--config={CONFIGS / 'base.yaml'}", f"--config={CONFIGS / 'smoke.yaml'}"),
        *("--data.init_args.crop_size=null", "--data.init_args.num_workers=1"),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
        f"--trainer.logger.init_args.save_dir={tmp_path / 'runs'}",
    ]
    assert errors_of(arguments, monkeypatch).code == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ValueError: expected a data.init_args.crop_size")


@pytest.mark.parametrize("kind", ["missing", "text", "foreign"])
def test_a_classifier_without_its_weights_is_one_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights.pt"
    if kind == "text":
        weights.write_text("junk")
    elif kind == "foreign":
        torch.save({"state_dict": {"a": torch.zeros(1)}}, weights)
    arguments = [
        *("fit", f"--config={CONFIGS / 'base.yaml'}", f"--config={CONFIGS / 'classifier.yaml'}"),
        f"--model.init_args.classifier.init_args.checkpoint={weights}",
    ]
    assert errors_of(arguments, monkeypatch).code == 2
    errors = capfd.readouterr().err
    assert "Traceback" not in errors
    assert "Namespace" not in errors
    line = errors.strip().splitlines()[-1]
    expected = f"no classifier checkpoint at {weights}" if kind == "missing" else f"{weights}: exp"
    assert line.startswith(f"error: {expected}")


def test_weights_that_are_no_checkpoint_of_a_run_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {}}, tmp_path / "weights.pt")
    arguments = [
        *("validate", f"--config={CONFIGS / 'base.yaml'}", f"--config={CONFIGS / 'smoke.yaml'}"),
        *(f"--ckpt_path={tmp_path / 'weights.pt'}", "--trainer.logger=false"),
    ]
    assert errors_of(arguments, monkeypatch).code == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: expected a checkpoint of a run")
    assert line.endswith("which holds something else")


def test_the_test_of_data_without_one_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        *("test", f"--config={CONFIGS / 'base.yaml'}", f"--config={CONFIGS / 'smoke.yaml'}"),
        "--trainer.logger=false",
    ]
    assert errors_of(arguments, monkeypatch).code == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line == "error: Photographs has no test split of its own"


def test_there_is_nothing_to_predict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors_of(["predict"], monkeypatch).code == 2
    assert "predict" in capsys.readouterr().err
