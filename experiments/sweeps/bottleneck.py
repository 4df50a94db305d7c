"""Does the bottleneck train? Reconstruction MSE with straight-through and with a cut gradient.

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
    write_results,
)
from experiments.train import ExperimentCLI
from experiments.train import main as fit

EPOCHS = 3
CONFIGS = ROOT / "configs"
GRADIENTS = "colorquant_nn.functional.gradients"


class Variant(NamedTuple):
    """A way for the gradient to pass the bottleneck."""

    estimator: str  # a function of colorquant_nn.functional.gradients
    commitment: float
    color: str


VARIANTS = {
    "straight-through": Variant("straight_through", 1.0, BLUE),
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
            f"--model.init_args.commitment={variant.commitment}",
            "--data.init_args.name=ImageFolder",
            f"--data.init_args.root={data}",
            "--data.init_args.crop_size=null",
            "--data.init_args.val_crop_size=null",
            "--data.init_args.train_crops=6400",
            "--data.init_args.val_crops=1000",
            f"--trainer.max_epochs={EPOCHS}",
            f"--lr_scheduler.init_args.T_max={EPOCHS}",
            *overrides,
        ]
    )


def draw(curves: dict[str, list[Curve]], reference: float, num_colors: int) -> Image.Image:
    """Validation MSE over the steps: the mean of the seeds as a line, their range as a band.

    What ends far above the reference is named in the legend only.
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
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
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
            logged = run.trainer.callback_metrics.items()
            values[name].append({k: v.item() for k, v in logged if k.startswith("val_")})
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
        mses = [run["val_mse"] for run in runs]
        bottleneck = statistics.fmean(run["val_bottleneck_mse"] for run in runs)
        rows.append(
            {
                "gradient through the bottleneck": name,
                "reconstruction MSE": f"{statistics.fmean(mses):.5f}",
                "lowest to highest": f"{min(mses):.5f} to {max(mses):.5f}",
                "PSNR (dB)": f"{statistics.fmean(run['val_psnr'] for run in runs):.2f}",
                "MSE of the quantized image": f"{bottleneck:.5f}",
            }
        )
    reference = statistics.fmean(run["val_kmeans_mse"] for runs in values.values() for run in runs)
    num_colors = run.model.quantizer.num_colors
    write_results(
        folder,
        "bottleneck",
        title=f"An autoencoder through {num_colors} colours",
        text=f"""
A U-Net recolours the image, `ColorQuantize({num_colors})` quantizes it, and a second U-Net rebuilds
it. The images are those of {name_of_data}; same seeds, order and budget for all
({run.trainer.global_step} steps of {run.datamodule.batch_size} images); only what flows back
through the layer differs. With the gradient cut and no commitment term the recolouring network
never changes, and the second network has to make do with an ordinary quantized image; with the
commitment term alone it chases a palette that follows it, and both drift. The straight-through
gradient has the term (weight 1) to hold the recoloured pixels near the palette; the soft one needs
none.

Full k-means on the same training images, with nothing rebuilt, has MSE
{reference:.5f} on the same test images. Means over {len(mses)} seeds; MSE over pixels and
channels of {len(run.datamodule.crops["val"])} test images, in [0, 1] units.

Run `python -m experiments.sweeps.bottleneck --data FOLDER`.""",
        rows=rows,
        values={"runs": values, "curves": curves},
        plot=draw(curves, reference, num_colors),
    )


if __name__ == "__main__":
    main()
