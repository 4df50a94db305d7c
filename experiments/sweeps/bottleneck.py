"""Does the bottleneck train? Reconstruction MSE over the gradients that may pass it.

Run ``python -m experiments.sweeps.bottleneck --data FOLDER``; the folder has train/ and test/.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from PIL import Image

from experiments import ROOT
from experiments.callbacks import Curve, Summary, shared_palette
from experiments.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RESULTS,
    as_picture,
    image_grid,
    interval_text,
    write_results,
)
from experiments.train import ExperimentCLI
from experiments.train import main as fit

EPOCHS = 3
COMMITMENT = "--model.init_args.quantizer.init_args.commitment_weight"
CONFIGS = ROOT / "configs"
GRADIENTS = "colorquant_nn.functional.gradients"


class Variant(NamedTuple):
    """A way for the gradient to pass the bottleneck."""

    estimator: str  # a function of colorquant_nn.functional.gradients
    commitment: float
    color: str


STRAIGHT = "straight-through"
VARIANTS = {
    STRAIGHT: Variant("straight_through", 1.0, BLUE),
    "soft, no commitment": Variant("soft", 0.0, GREEN),
    "cut, no commitment": Variant("cut", 0.0, ORANGE),
    "cut, with commitment": Variant("cut", 1.0, GREY),
}


def train(
    variant: Variant, *, data: Path, seed: int, runs: Path, overrides: Sequence[str]
) -> ExperimentCLI:
    """Train one autoencoder as ``configs/autoencoder.yaml`` says, but for the variant and the data.

    Args:
        variant: how the gradient passes.
        data: folder with ``train/`` and ``test/``.
        seed: of the networks, the order and the crops.
        runs: folder of the logs.
        overrides: further arguments of the command line.

    Returns:
        The finished run.
    """
    return fit(
        [
            "fit",
            f"--config={CONFIGS / 'base.yaml'}",
            f"--config={CONFIGS / 'autoencoder.yaml'}",
            f"--seed_everything={seed}",
            f"--trainer.logger.init_args.save_dir={runs}",
            "--trainer.logger.init_args.name=bottleneck",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false",
            f"--model.init_args.quantizer.init_args.estimator={GRADIENTS}.{variant.estimator}",
            f"{COMMITMENT}={variant.commitment}",
            "--data.init_args.name=ImageFolder",
            f"--data.init_args.root={data}",
            "--data.init_args.crop_size=null",
            "--data.init_args.val_crop_size=null",
            "--data.init_args.train_crops=6400",
            "--data.init_args.val_crops=null",  # all images of the validation, and of the test
            f"--trainer.max_epochs={EPOCHS}",
            f"--lr_scheduler.init_args.T_max={EPOCHS}",
            *overrides,
        ]
    )


def draw(curves: dict[str, list[Curve]], reference: float, num_colors: int) -> Image.Image:
    """Validation MSE over the steps: the mean of the seeds as a line, their range as a band.

    What ends far above the reference is named in the legend only.

    Args:
        curves: by variant, a curve per seed.
        reference: validation MSE of full k-means.
        num_colors: of the palette.

    Returns:
        The picture.
    """
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, runs in curves.items():
        steps = [step for step, _ in runs[0]]
        columns = list(zip(*([mse for _, mse in run] for run in runs), strict=True))
        color = VARIANTS[name].color
        means = [statistics.fmean(column) for column in columns]
        if means[-1] > 1.5 * reference:
            axes.plot([], [], color=color, label=f"{name}: {means[-1]:.4f}, above the frame")
            continue
        axes.plot(steps, means, color=color, marker="o", markersize=4, label=name)
        lowest, highest = [min(c) for c in columns], [max(c) for c in columns]
        axes.fill_between(steps, lowest, highest, color=color, alpha=0.2, linewidth=0)
    label = f"full k-means, {num_colors} colours, nothing rebuilt"
    axes.axhline(reference, color="black", linewidth=0.8, linestyle="--", label=label)
    axes.set_xlabel("step")
    axes.set_ylabel("reconstruction MSE, validation")
    axes.set_ylim(0, 1.1 * reference)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    return as_picture(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sweeps.bottleneck",
        description=__doc__,
        epilog="Further arguments go to `python -m experiments fit`.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--name", default="CIFAR-10 (JPEG)", help="of the data, for the table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the logs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    arguments, overrides = parser.parse_known_args(argv)

    values: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    curves: dict[str, list[Curve]] = {name: [] for name in VARIANTS}
    pictures = None
    for name, variant in VARIANTS.items():
        for seed in arguments.seeds:
            run = train(
                variant, data=arguments.data, seed=seed, runs=arguments.runs, overrides=overrides
            )
            stages = ("val_", "test_")
            values[name].append({k: v for k, v in run.logged.items() if k.startswith(stages)})
            callbacks: list[Any] = run.trainer.callbacks  # type: ignore[attr-defined]
            curves[name] += [c.epochs for c in callbacks if isinstance(c, Summary)]
            if pictures is None:
                images = next(iter(run.datamodule.val_dataloader()))[0][:4]
                with torch.no_grad():
                    columns = run.model.eval().pictures(images)
                pictures = image_grid(columns, shared_palette(run.model))
    write(arguments.out, arguments.name, values, curves, run)
    assert pictures is not None
    pictures.save(arguments.out / "bottleneck_pictures.png", optimize=True)


def write(
    folder: Path,
    name_of_data: str,
    values: dict[str, list[dict[str, float]]],
    curves: dict[str, list[Curve]],
    run: ExperimentCLI,
) -> None:
    """Write the table and the plot; any of the runs tells the budget that they share."""
    rows = []
    for name, runs in values.items():
        mse, bottleneck, psnr = (
            [run[f"test_{key}"] for run in runs] for key in ("mse", "bottleneck_mse", "psnr")
        )
        rows.append(
            {
                "gradient through the bottleneck": name,
                "reconstruction MSE": interval_text(mse, 5),
                "lowest to highest": f"{min(mse):.5f} to {max(mse):.5f}",
                "PSNR (dB)": interval_text(psnr, 2),
                "MSE of the quantized image": interval_text(bottleneck, 5),
            }
        )
    val_reference, reference = (
        statistics.fmean(run[f"{stage}_kmeans_mse"] for runs in values.values() for run in runs)
        for stage in ("val", "test")
    )
    num_colors = run.model.quantizer.num_colors
    train, val, test = (len(run.datamodule.crops[stage]) for stage in ("train", "val", "test"))
    write_results(
        folder,
        "bottleneck",
        title=f"An autoencoder through {num_colors} colours",
        text=f"""
A U-Net recolours the image, `ColorQuantize({num_colors})` quantizes it, and a second U-Net rebuilds
it. The images are those of {name_of_data}; same seeds, order and budget for all
({run.trainer.global_step} steps of {run.datamodule.batch_size} images, {train} different ones);
only what flows back through the layer differs. With the gradient cut and no commitment term the
recolouring network never changes, and the second network has to make do with an ordinary quantized
image; with the commitment term alone it chases a palette that follows it, and both drift. The
straight-through gradient has the term (weight {VARIANTS[STRAIGHT].commitment:g}) to hold the
recoloured pixels near the palette; the soft one needs none.

Of each run the epoch with the least MSE on {val} validation images, held out of the training
images, is judged once on {test} test images: the table. Full k-means, fitted to the same training
images, with nothing rebuilt, has MSE {reference:.5f} on the same test images. Means and 95 %
t-intervals over {len(mse)} seeds (of the networks and the order); MSE over pixels and channels, in
[0, 1] units. The plot is of the validation images, means and range of the seeds.

Run `python -m experiments.sweeps.bottleneck --data FOLDER`.""",
        rows=rows,
        values={"runs": values, "curves": curves},
        plot=draw(curves, val_reference, num_colors),
    )


if __name__ == "__main__":
    main()
