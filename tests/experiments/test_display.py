"""A generator in front of a dithered display."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from colorquant_nn.functional import eye_error
from experiments.network import display


def test_a_run_leaves_records_and_pictures_and_runs_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--records", str(tmp_path), "--displays", "epaper-bwry", "--seeds", "0", "1"]
    arguments += ["--steps", "2", "--crops", "4", "--size", "16"]
    display.run(arguments)
    floyd, ordered = "display-epaper-bwry-floyd-steinberg", "display-epaper-bwry-ordered"
    files = {file.name for file in tmp_path.iterdir()}
    assert files == {
        f"{floyd}-seed0.json",
        f"{floyd}-seed0.png",
        f"{floyd}-seed1.json",
        f"{floyd}-no-generator.json",
        f"{ordered}-seed0.json",
        f"{ordered}-seed0.png",
        f"{ordered}-no-generator.json",
    }
    found = {file.stem: json.loads(file.read_text()) for file in sorted(tmp_path.glob("*.json"))}
    table = {(row["dither"], row["variant"]): row for row in display.rows(found)}
    assert len(table) == 12
    assert "±" in table["floyd-steinberg", display.THROUGH]["eye error"]
    assert "±" not in table["ordered", display.THROUGH]["eye error"]
    with Image.open(tmp_path / f"{floyd}-seed0.png") as picture:
        assert picture.height > 4 * 4 * 16
    monkeypatch.setattr(display, "refine", None)  # would fail if it were called
    display.run(arguments)


def test_all_ways_start_from_the_same_generator_and_leave_it_as_it_is() -> None:
    torch.manual_seed(0)
    targets = torch.rand(2, 3, 8, 8)
    generator = display.Generator(pictures=2, size=8, channels=4)
    before = generator().detach()
    for learn in (display.train, partial(display.refine, show=display.as_it_is)):
        first, second = (learn(generator, targets=targets, steps=3)().detach() for _ in range(2))
        assert torch.equal(generator().detach(), before)
        assert torch.equal(first, second)
        assert not torch.equal(first, before)


def test_each_picture_keeps_the_code_of_its_least_error() -> None:
    torch.manual_seed(0)
    targets = torch.rand(3, 3, 8, 8)
    generator = display.Generator(pictures=3, size=8, channels=4)
    seen = []

    def show(pictures: torch.Tensor) -> torch.Tensor:
        """Each picture is shown badly at another step."""
        seen.append(pictures.detach())
        worse = torch.arange(3) == (len(seen) - 1) % 3
        return pictures + worse[:, None, None, None]

    kept = display.refine(generator, show, targets, steps=6)().detach()
    steps = torch.stack([eye_error(x + 0, targets, per_image=True) for x in seen])
    steps[torch.arange(6), torch.arange(6) % 3] = torch.inf
    for picture, step in enumerate(steps.argmin(0).tolist()):
        assert torch.equal(kept[picture], seen[step][picture])


def test_the_beginning_is_of_its_seed() -> None:
    first, _ = display.beginning(seed=0, steps=1, number=2, size=8)
    other, _ = display.beginning(seed=1, steps=1, number=2, size=8)
    assert not torch.equal(first.codes, other.codes)
    display.beginning.cache_clear()
    again, _ = display.beginning(seed=0, steps=1, number=2, size=8)
    assert torch.equal(first.codes, again.codes)


@pytest.mark.slow
def test_through_the_dots_comes_closer_than_dithering_afterwards() -> None:
    targets = display.load_targets(4, 16)
    shared, afterwards = display.beginning(seed=0, steps=200, number=4, size=16)
    shown = display.make_display("acep7", "floyd-steinberg")
    through = display.refine(shared, shown, targets, steps=200)
    errors = [display.eye_error(shown(x()), targets).item() for x in (afterwards, through)]
    assert errors[1] < 0.95 * errors[0]


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
