"""An autoencoder in front of a dithered display."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from colorquant_nn import save_image
from colorquant_nn.functional import eye_error
from experiments.datasets import Photographs
from experiments.network import display


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photographs, of noise that is not grey."""
    generator = torch.Generator().manual_seed(0)
    (tmp_path / "photographs").mkdir()
    for name in ("a", "b"):
        picture = (
            torch.rand(3, 40, 48, generator=generator) * torch.tensor([1, 0.5, 0.2])[:, None, None]
        )
        save_image(tmp_path / "photographs" / f"{name}.png", (picture * 255).to(torch.uint8))
    return tmp_path / "photographs"


@pytest.mark.slow
def test_a_run_leaves_records_and_a_picture_and_runs_nothing_twice(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "BATCH", 2)
    monkeypatch.setattr(display, "SIZE", 16)
    arguments = ["--data", str(folder), "--records", str(tmp_path / "records")]
    arguments += ["--displays", "acep7", "--seeds", "0", "1", "--steps", "2"]
    arguments += ["--pixel-steps", "2", "--test-size", "32"]
    display.run(arguments)
    files = sorted((tmp_path / "records").iterdir())
    name = "display-acep7-floyd-steinberg"
    assert [file.name for file in files] == [
        f"{name}-no-network.json",
        f"{name}-seed0.json",
        f"{name}-seed1.json",
        f"{name}.png",
    ]
    assert all(file.stat().st_size < 300_000 for file in files)
    found = {file.stem: json.loads(file.read_text()) for file in files[:3]}
    table = {row["variant"]: row for row in display.rows(found)}
    assert len(table) == 9
    assert "±" in table[display.THROUGH]["eye error"]
    assert "±" not in table[display.SPATIAL]["eye error"]
    monkeypatch.setattr(display, "train", None)  # would fail if it were called
    display.run(arguments)


def test_without_photographs_it_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no photographs .* in .*; --data is a folder"):
        display.run(["--data", str(tmp_path)])


def test_all_networks_start_from_the_same_weights_and_a_training_leaves_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(display, "BATCH", 2)
    monkeypatch.setattr(display, "SIZE", 16)
    network = display.Autoencoder(channels=4)
    before = [p.detach().clone() for p in network.parameters()]
    trained = [
        display.train(network, display.as_it_is, steps=2, seed=0, rate=1e-2) for _ in range(2)
    ]
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    first, second = (torch.cat([p.flatten() for p in net.parameters()]) for net in trained)
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.cat([p.flatten() for p in before]))


def test_the_anchor_is_the_error_of_what_is_in_front_of_the_dots() -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    half = nn.Module()
    half.forward = lambda x: x / 2  # type: ignore[method-assign, assignment]
    task = display.DisplayTraining(half, torch.zeros_like, anchor=0.5, rate=1e-3)
    loss = task.training_step((images, torch.zeros(2)), 0)
    black, dark = (eye_error(x, images) for x in (torch.zeros_like(images), images / 2))
    assert loss == pytest.approx((black + 0.5 * dark).item(), rel=1e-5)


@pytest.mark.slow
def test_pixels_that_follow_the_gradient_come_closer_than_dots_of_the_picture() -> None:
    picture = Photographs("val")[0][0][None, :, 40:72, 200:232].float() / 255
    shown = display.make_display("acep7", "floyd-steinberg")
    before = eye_error(shown(picture), picture)
    after = eye_error(display.optimize_pixels(picture, shown, steps=20), picture)
    assert after < 0.9 * before


def test_gains_are_of_the_same_seed() -> None:
    def of(seed: int, afterwards: float, through: float) -> dict[str, object]:
        variants = {
            display.AFTERWARDS: {"eye_error": afterwards, "psnr": 20.0},
            display.THROUGH: {"eye_error": through, "psnr": 18.0},
        }
        return {"display": "acep7", "dither": "ordered", "seed": seed, "variants": variants}

    first, second = display.rows({"a": of(0, 2.0, 1.0), "b": of(1, 4.0, 2.0)})
    assert "below dithering afterwards (%)" not in first
    assert second["below dithering afterwards (%)"] == "50.0 ± 0.0"
    assert second["eye error"].startswith("1.50 ± ")
