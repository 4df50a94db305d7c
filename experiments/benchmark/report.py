"""Tables of the rows, and the files that keep them."""

import datetime
import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.benchmark import figure, rates, rates_figure
from experiments.benchmark.case import COPY
from experiments.benchmark.runner import Row
from experiments.benchmark.suites import SUITES, eye
from experiments.benchmark.suites.images import LIBIMAGEQUANT, ONE_START, TEN_STARTS
from experiments.figures import markdown_table

PACKAGES = [
    *("torch", "numpy", "numba", "pillow", "torchvision", "vector-quantize-pytorch", "faiss-cpu"),
    *("scikit-learn", "kornia", "fast-pytorch-kmeans", "opencv-python-headless", "imagequant"),
    *("epaper-dithering", "ssimulacra2", "pyoxipng"),
]
INTRODUCTION = """
Written by `python -m experiments.benchmark` (needs the extra `benchmark`); the numbers in full
are in [benchmark.json](benchmark.json). Each method has a process of its own, but for the network,
whose methods share one: two processes differ by more than its target. Their runs take turns. Times
are medians over the turns; where a run is short, a turn takes the mean of as many as fit into a
tenth of a second. Memory is the peak of a run beyond what the process held before it, input
included in the latter. Only ratios within a table mean anything on another machine. A training step
is one of the steady state, unless its row says first: 40 batches, in which our layer seeds its
palette, go before it. What a new layer's first step costs, and its first 32 together, kernels
compiled and loaded, are rows of their own; of the peer with `kmeans_init`, k-means is part of the
first step.
"""
EFFORTS = {  # of the images: peer and limit of the error, peer and limit of the time
    "ours, fast": (ONE_START, 1.03, LIBIMAGEQUANT, 1 / 3),
    "ours, balanced": (ONE_START, 1.0, LIBIMAGEQUANT, 1.0),
    "ours, best": (TEN_STARTS, 1.0, TEN_STARTS, 0.1),
}


def describe() -> dict[str, Any]:
    """The processor, the number of its cores, and versions; nothing that names the machine."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    linux = hasattr(os, "sched_getaffinity")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if linux else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def keep(folder: Path, machine: dict[str, Any], rows: Sequence[Row]) -> list[Row]:
    """Merge rows into ``benchmark.json``.

    Rows of another machine, or of other versions, are dropped; those of the same suite, case and
    method replaced.

    Args:
        folder: of the file.
        machine: as `describe` tells it.
        rows: to add.

    Returns:
        All rows, those from the file included.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "benchmark.json"
    old = json.loads(file.read_text()) if file.exists() else {}
    kept = old["rows"] if old.get("machine") == machine else []
    merged = {_key(row): row for row in kept}
    merged |= {_key(row): _rounded(row) for row in rows}
    order = list(SUITES)
    found = sorted(merged.values(), key=lambda row: order.index(row["suite"]))
    lines = ",\n".join(json.dumps(row) for row in found)
    head = f'"machine": {json.dumps(machine)}'
    file.write_text(f'{{\n{head},\n"rows": [\n{lines}\n]}}\n')
    return found


def write(folder: Path, machine: dict[str, Any], rows: Sequence[Row]) -> None:
    """Write the tables and the picture of all rows, ``benchmark.md`` and ``benchmark.png``.

    Of the bytes there is a picture of its own, ``bytes.png``.
    """
    text = ["# Benchmark", INTRODUCTION.strip()]
    picture = figure.draw(rows)
    if picture is not None:
        text.append("![The most telling numbers](benchmark.png)")
        picture.quantize(128).save(folder / "benchmark.png", optimize=True)
    plot = rates_figure.draw([row for row in rows if row["suite"] == "bytes"])
    if plot is not None:
        text.append("![Bytes against quality](bytes.png)")
        plot.quantize(128).save(folder / "bytes.png", optimize=True)
    for suite in SUITES:
        if any(row["suite"] == suite for row in rows):
            text += suite_section(suite, rows)
    described = [{"machine": key, "": value} for key, value in machine.items()]
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    text += ["## The machine", markdown_table([*described, {"machine": "date", "": date}])]
    (folder / "benchmark.md").write_text("\n\n".join(text) + "\n")


def suite_section(suite: str, rows: Sequence[Row]) -> list[str]:
    """Title, tables and what was skipped of one suite."""
    mine = [row for row in rows if row["suite"] == suite]
    tables = {"images": _image_tables, "curves": _curve_tables, "eye": eye_tables}
    tables |= {"bytes": rates.tables}
    skipped = {f"{row['method']}: {row['skipped']}" for row in mine if "skipped" in row}
    text = tables.get(suite, _plain_table)([row for row in mine if "skipped" not in row])
    return [f"## {SUITES[suite]}", *text, *sorted(f"Skipped: {line}." for line in skipped)]


def _plain_table(rows: Sequence[Row]) -> list[str]:
    fixed = {"suite", "case", "method", "points", "times", "target", "limit", "seconds", "memory"}
    further = list(dict.fromkeys(key for row in rows for key in row if key not in fixed))
    first: dict[str, Row] = {}
    copies = {row["case"]: row["seconds"] for row in rows if row["method"] == COPY}
    table = []
    for row in rows:
        case, seconds = row["case"], row["seconds"]
        ours = first.setdefault(case, row)
        ratio = seconds / ours["seconds"]
        line = {"work": case if row is ours else "", "method": row["method"]}
        line |= {"time": time_text(seconds), "ours is faster": "", "target": _verdict(row, ratio)}
        if row is not ours:
            line["ours is faster"] = f"{ratio:.3g} ×"
        if case in copies:
            line["÷ copy"] = f"{seconds / copies[case]:.3g}"
        if row.get("memory") is not None and row["points"]:
            line["memory, bytes a point"] = f"{row['memory'] / row['points']:.3g}"
        table.append(line | {key: f"{row[key]:.4g}" for key in further if key in row})
    return [markdown_table(table)] if table else []


def _verdict(row: Row, ratio: float) -> str:
    if row.get("target") is not None:
        return f"at least {row['target']:.3g} ×: {_met(ratio >= row['target'])}"
    if row.get("limit") is not None:
        return f"at most {row['limit']:.3g} s: {_met(row['seconds'] <= row['limit'])}"
    return ""


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


def _image_tables(rows: Sequence[Row]) -> list[str]:
    counts = sorted({row["colors"] for row in rows})
    pictures = {row["picture"] for row in rows}
    table = []
    for method in dict.fromkeys(row["method"] for row in rows):
        line = {"method": method}
        for count in counts:
            mine = [row for row in rows if (row["method"], row["colors"]) == (method, count)]
            if mine:
                few = f" ({len(mine)} pictures)" if len(mine) < len(pictures) else ""
                mean = f"{_mean(mine, 'mse'):.2f} / {time_text(_mean(mine, 'seconds'))}"
                line[f"K={count}"] = mean + few
        table.append(line)
    judged = []
    for method, (rival, most_error, clock, most_time) in EFFORTS.items():
        for count in counts:
            error = ratio_of_means(rows, method, rival, count, "mse")
            seconds = ratio_of_means(rows, method, clock, count, "seconds")
            if error is None or seconds is None:
                continue
            judged.append(
                {
                    "method": method,
                    "K": count,
                    "error": f"{error:.4f} of {rival}'s",
                    "error at most": f"{most_error:.3g}: {_met(error <= most_error)}",
                    "time": f"{seconds:.3g} of {clock}'s",
                    "time at most": f"{most_time:.3g}: {_met(seconds <= most_time)}",
                }
            )
    what = (
        f"Means over {len(pictures)} pictures: squared error summed over the channels per pixel, "
        "in 8-bit units, with every pixel in its nearest colour of the palette; and time. "
        "libimagequant's time, and that of quantize_image, include the picture."
    )
    return [what, markdown_table(table)] + ([markdown_table(judged)] if judged else [])


def ratio_of_means(
    rows: Sequence[Row], method: str, peer: str, colors: int, key: str
) -> float | None:
    """Ratio of two methods' means over the pictures that both have done; None without any."""
    mine, theirs = (
        {
            row["picture"]: row[key]
            for row in rows
            if (row["method"], row["colors"]) == (name, colors) and "skipped" not in row
        }
        for name in (method, peer)
    )
    common = mine.keys() & theirs.keys()
    return sum(mine[x] for x in common) / sum(theirs[x] for x in common) if common else None


JUDGES = {"eye": ("eye error", max), "ssimulacra2": ("SSIMULACRA2", min), "psnr": ("PSNR", min)}


def eye_tables(rows: Sequence[Row]) -> list[str]:
    """The judges' means for each number of colours and each panel, and the targets.

    Args:
        rows: of the suite, those that were not skipped.

    Returns:
        Paragraphs of Markdown.
    """
    text = [
        "Means over the pictures, and the worst one: the eye error at 40 pixels a degree "
        "(less is better; it sees through dots), SSIMULACRA2 (more is better), PSNR in dB (of the "
        "pixels, so that dots cost), and the time, which on panels is of the dots alone."
    ]
    for palette in dict.fromkeys(row["palette"] for row in rows):
        mine = [row for row in rows if row["palette"] == palette]
        title = f"{palette}, {len({row['picture'] for row in mine})} pictures"
        table = []
        for method in dict.fromkeys(row["method"] for row in mine):
            drawn = [row for row in mine if row["method"] == method]
            line = {title: method}
            for key, (name, worst) in JUDGES.items():
                judged = [row for row in drawn if key in row]
                if judged:
                    last = worst(judged, key=lambda row: row[key])
                    line[name] = f"{_mean(judged, key):.2f} ({last[key]:.2f} in {last['picture']})"
            table.append(line | {"time": time_text(_mean(drawn, "seconds"))})
        text.append(markdown_table(table))
    targets = eye_targets(rows)
    return text + ([markdown_table(targets)] if targets else [])


def eye_targets(rows: Sequence[Row]) -> list[dict[str, str]]:
    """What ours has to reach in `eye_tables`, as far as there are rows to tell it by.

    Args:
        rows: of the suite, those that were not skipped.

    Returns:
        Lines of a table.
    """
    lines = []
    for palette in dict.fromkeys(row["palette"] for row in rows):
        mine = [row for row in rows if row["palette"] == palette]
        seen, liked, seconds = (_means(mine, key) for key in ("eye", "ssimulacra2", "seconds"))
        dotted = [x for x in seen if ", none, " not in x and x not in (eye.SPATIAL, eye.AUTO)]
        peers = [liked[method] for method in liked if not method.startswith("ours")]
        limits = [row["limit"] for row in mine if row["method"] == eye.SPATIAL and "limit" in row]
        wanted = []  # what, how much it is, at most that
        if eye.SPATIAL in seen and palette in eye.PANELS and dotted:
            best = min(dotted, key=lambda method: seen[method])
            ratio = seen[eye.SPATIAL] / seen[best]
            wanted.append((f"spatial, eye error of that of {best}", ratio, 1.0))
        elif eye.SPATIAL in seen and palette != "K=4":
            best = min((x for x in dotted if x != eye.PNGQUANT), key=lambda method: seen[method])
            for method, most in ((eye.PNGQUANT, 0.4), (best, 0.5)):
                ratio = seen[eye.SPATIAL] / seen.get(method, math.nan)
                wanted.append((f"spatial, eye error of that of {method}", ratio, most))
        if eye.SPATIAL in liked and peers and palette not in eye.PANELS:
            behind, most = max(peers) - liked[eye.SPATIAL], -10 * (palette in ("K=8", "K=16"))
            wanted.append(("spatial, SSIMULACRA2 behind the best peer", behind, most))
        if limits:
            wanted.append(("spatial, seconds", seconds[eye.SPATIAL], limits[0]))
        if {eye.NONE, eye.EARLIER} <= liked.keys() and palette in ("K=16", "K=64", "K=256"):
            behind = liked[eye.EARLIER] - liked[eye.NONE]
            wanted.append(("no dither in oklab, SSIMULACRA2 behind that in rgb", behind, -8))
        lines += [
            {"": f"{palette}: {what}", "found": f"{value:.3g}", "at most": f"{most:g}: {met}"}
            for what, value, most in wanted
            for met in [_met(value <= most)]
        ]
    return lines


def _means(rows: Sequence[Row], key: str) -> dict[str, float]:
    """By method, over the rows that have it."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if key in row:
            found.setdefault(row["method"], []).append(row[key])
    return {method: sum(values) / len(values) for method, values in found.items()}


def checkouts_table(rows: Sequence[Row]) -> str:
    """Ours of this checkout and of another one, side by side.

    Args:
        rows: of `run_suite` with ``against``; those of the other one have a ``checkout``.

    Returns:
        A Markdown table: the medians, their ratio, and that of the fastest runs.
    """
    there = {_key(row): row for row in rows if "checkout" in row}
    table = []
    for row in rows:
        if "checkout" in row:
            continue
        other = there[_key(row)]
        line = {"work": row["case"], "method": row["method"]}
        if "skipped" in row or "skipped" in other:
            line["here"] = row.get("skipped", other.get("skipped"))
        else:
            line["here"], line["there"] = time_text(row["seconds"]), time_text(other["seconds"])
            line["here ÷ there"] = f"{row['seconds'] / other['seconds']:.3f}"
            line["fastest runs"] = f"{min(row['times']) / min(other['times']):.3f}"
        table.append(line)
    return markdown_table(table)


def _curve_tables(rows: Sequence[Row]) -> list[str]:
    table: dict[str, dict[str, str]] = {}
    for row in rows:
        line = table.setdefault(row["case"], {"work": row["case"]})
        line[row["method"]] = time_text(row["seconds"])
    return [markdown_table(list(table.values()))]


def time_text(seconds: float) -> str:
    """Three digits and a unit.

    Examples:
        >>> from experiments.benchmark.report import time_text
        >>> time_text(0.01234), time_text(5)
        ('12.3 ms', '5 s')
    """
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _mean(rows: Sequence[Row], key: str) -> float:
    return float(sum(row[key] for row in rows) / len(rows))


def _key(row: Row) -> tuple[str, str, str]:
    return row["suite"], row["case"], row["method"]


def _rounded(row: Row) -> Row:
    def short(value: Any) -> Any:
        return float(f"{value:.5g}") if isinstance(value, float) else value

    return {
        key: [short(x) for x in value] if isinstance(value, list) else short(value)
        for key, value in row.items()
        if value is not None
    }
