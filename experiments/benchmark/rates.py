"""Bytes at equal quality: curves, what lies between their points, and the tables of it.

A curve is a picture's files by one method. A file counts only if no smaller one of its curve is as
good (the running best, not the convex hull: every corner is a file that somebody can have). Between
two that count, the logarithm of the bytes is interpolated over the judge. Nothing is said beyond
the ends: a peer's file that is better or worse than all of ours is left out, counted and named.
"""

import math
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.benchmark.runner import Row
from experiments.benchmark.suites import bytes as suite
from experiments.figures import markdown_table

Files = Sequence[tuple[float, float]]
"""The judge's verdict and the bytes of each."""
JUDGES = {"psnr": "PSNR", "ssimulacra2": "SSIMULACRA2"}
TABLED = (16, 64, 256)  # colours
PEERS = (suite.PNGQUANT, suite.PNGQUANT_NOFS)
PLAIN = (suite.NONE, suite.NONE_RGB, suite.AUTO)  # of ours, without a thought of bytes
COMPARED = [  # ours, against whom, judge, at most this part of the bytes
    ((suite.LOSSY_RGB,), suite.PNGQUANT_NOFS, "psnr", 0.8),
    ((suite.NONE_RGB,), suite.PNGQUANT_NOFS, "psnr", math.inf),
    ((suite.LOSSY,), suite.PNGQUANT, "ssimulacra2", 0.7),
    (PLAIN, suite.PNGQUANT, "ssimulacra2", math.inf),
]
LESS = 0.88  # of our own bytes without a thought of them
NEAR = 0.97  # of the budget, at least
SLOW = 2.0  # seconds a megapixel
SAVED = 1.01  # of what oxipng makes of the same pixels
BIAS = (
    "What the comparison favours: the drawings are our own, and so is the choice of judges and "
    "points. Ours is read between two of its files, those of the peers are taken as they are. "
    "All PNGs are as oxipng leaves them, pngquant's too, which does not call it by itself. "
    "PSNR is what our `rgb` minimises; libimagequant minimises an error of its own, closer to "
    "the eye. Nobody here minimises SSIMULACRA2, but losses of ours are weighed by what it sees."
)


class Comparison(NamedTuple):
    """The bytes of ours over those of a peer, at equal quality."""

    ratios: dict[str, float]
    """By picture; of several files the geometric mean."""
    better: list[str]
    """Pictures, once for each file of the peer that is better than all of ours."""
    worse: list[str]
    """Pictures, once for each file of the peer that is worse than all of ours."""


def running_best(files: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those than which no smaller file is as good.

    Args:
        files: verdict and bytes of each.

    Returns:
        The same, both rising.

    Examples:
        >>> from experiments.benchmark.rates import running_best
        >>> running_best([(50, 300), (40, 200), (45, 400), (40, 250)])
        [(40, 200), (50, 300)]
    """
    best: list[tuple[float, float]] = []
    for verdict, size in sorted(files, key=lambda file: (file[1], -file[0])):
        if not best or verdict > best[-1][0]:
            best.append((verdict, size))
    return best


def bytes_at(files: Files, verdict: float) -> float | None:
    """The bytes that a curve needs for a verdict.

    Args:
        files: verdict and bytes of each.
        verdict: of the judge, more is better.

    Returns:
        Bytes, interpolated between neighbours of `running_best`; None beyond its ends.

    Examples:
        >>> from experiments.benchmark.rates import bytes_at
        >>> bytes_at([(40, 100), (60, 400)], 50)
        200.0
        >>> bytes_at([(40, 100), (60, 400)], 61) is None
        True
    """
    best = running_best(files)
    above = bisect_left(best, (verdict,))
    if above == len(best):
        return None
    if best[above][0] == verdict:
        return best[above][1]
    if above == 0:
        return None
    (low, few), (high, many) = best[above - 1 : above + 1]
    part = (verdict - low) / (high - low)
    return float(few * (many / few) ** part)


def compare(
    ours: dict[str, list[tuple[float, float]]], theirs: dict[str, list[tuple[float, float]]]
) -> Comparison:
    """Every file of theirs with the bytes that ours needs for its verdict.

    Args:
        ours: curves, verdict and bytes of each file, by picture.
        theirs: files, by picture.

    Returns:
        The ratios, and what was left out.
    """
    found = Comparison({}, [], [])
    for name, files in theirs.items():
        logs = []
        for verdict, size in files:
            needed = bytes_at(ours.get(name, []), verdict)
            if needed is not None:
                logs.append(math.log(needed / size))
            elif name in ours:
                best = max(ours[name])[0]
                (found.better if verdict > best else found.worse).append(name)
        if logs:
            found.ratios[name] = math.exp(sum(logs) / len(logs))
    return found


def files_of(
    rows: Sequence[Row], methods: Collection[str], judge: str, setting: float | None = None
) -> dict[str, list[tuple[float, float]]]:
    """Files of some methods, of one setting or of all, by picture."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["method"] in methods and judge in row:
            for at, verdict, size in zip(row["setting"], row[judge], row["bytes"], strict=True):
                if setting in (None, at):
                    found.setdefault(row["picture"], []).append((verdict, size))
    return found


def tables(rows: Sequence[Row]) -> list[str]:
    """What the benchmark of bytes has found.

    Args:
        rows: of the suite, those that were not skipped; lists are over the settings.

    Returns:
        Paragraphs of Markdown.
    """
    kinds = {row["picture"]: row["kind"] for row in rows}
    text = [
        f"{_number(kinds, 'photographs')} photographs and {_number(kinds, 'drawings')} drawings; "
        "every PNG after `oxipng -o4`. pngquant is libimagequant, its engine. Bytes of ours over "
        "those of a peer's file at the quality of that file: the running best of our curve, the "
        "logarithm of its bytes interpolated over the judge. Geometric means over the pictures; "
        "left out is what is better (+) or worse (-) than the ends of our curve. Pictures with "
        "alpha are looked at over white and over black: the worse counts, and of PSNR the mean; "
        f"PSNR ends at {suite.EQUAL:g} dB. SSIMULACRA2 is `visual_quality`, held against the "
        "package at one file of each curve.",
        BIAS,
    ]
    parts = [_equal_quality(rows, kinds), _drawings(rows), _never_larger(rows, kinds)]
    parts += [_budgets(rows), _files_as_saved(rows), _estimates(rows), _times(rows)]
    return text + [markdown_table(lines) for lines in parts if lines]


def _equal_quality(rows: Sequence[Row], kinds: dict[str, str]) -> list[Row]:
    lines = []
    for methods, peer, judge, most in COMPARED:
        ours = files_of(rows, methods, judge)
        for colors in TABLED:
            compared = compare(ours, files_of(rows, [peer], judge, colors))
            against = f"{peer}, K={colors}"
            lines += _line(against, judge, _named(methods), compared, most, kinds)
    plain = files_of(rows, PLAIN, "ssimulacra2")
    best = {name: running_best(files) for name, files in plain.items()}
    compared = compare(files_of(rows, [suite.LOSSY], "ssimulacra2"), best)
    against = "our best without a thought of bytes, all K"
    return lines + _line(against, "ssimulacra2", suite.LOSSY, compared, LESS, kinds)


def _line(
    against: str, judge: str, method: str, compared: Comparison, most: float, kinds: dict[str, str]
) -> list[Row]:
    ratios = compared.ratios
    if not ratios and not compared.better and not compared.worse:
        return []
    line: Row = {"against": against, "at equal": JUDGES[judge], "ours": method}
    line["bytes"] = f"{_mean(ratios.values()):.3f}" if ratios else None
    for kind in ("photographs", "drawings"):
        some = [ratio for name, ratio in ratios.items() if kinds[name] == kind]
        line[kind] = f"{_mean(some):.3f}" if some else None
    worst = max(ratios, key=lambda name: ratios[name], default=None)
    line["worst"] = f"{ratios[worst]:.3f} in {worst}" if worst else None
    line["left out"] = _left_out(compared)
    met = _met(bool(ratios) and _mean(ratios.values()) <= most)
    return [line | {"at most": f"{most:g}: {met}" if most < math.inf else ""}]


def _left_out(compared: Comparison) -> str:
    names = [f"+{name}" for name in dict.fromkeys(compared.better)]
    names += [f"-{name}" for name in dict.fromkeys(compared.worse)]
    number = len(compared.better) + len(compared.worse)
    return f"{number}: {', '.join(names)}" if number else ""


def _drawings(rows: Sequence[Row]) -> list[Row]:
    """Bytes and judges side by side at the same number of colours."""
    lines = []
    for name in dict.fromkeys(row["picture"] for row in rows if row["kind"] == "drawings"):
        mine = {row["method"]: row for row in rows if row["picture"] == name}
        for colors in TABLED:
            line = {"drawing; kB, SSIMULACRA2, PSNR": name, "K": str(colors)}
            for method in (*PEERS, *PLAIN):
                if method in mine and colors in mine[method]["setting"]:
                    at = mine[method]["setting"].index(colors)
                    size = f"{mine[method]['bytes'][at] / 1000:.2f}"
                    judges = [judge for judge in reversed(JUDGES) if judge in mine[method]]
                    judged = [f"{mine[method][judge][at]:.1f}" for judge in judges]
                    line[method] = ", ".join([size, *judged])
            lines += [line] if len(line) > 2 else []
    return lines


def _never_larger(rows: Sequence[Row], kinds: dict[str, str]) -> list[Row]:
    """For each drawing the file of pngquant that comes nearest to beating ours."""
    lines: dict[str, Row] = {}
    for judge, title in JUDGES.items():
        ours = files_of(rows, (*PLAIN, suite.LOSSY, suite.LOSSY_RGB), judge)
        for name, files in files_of(rows, PEERS, judge).items():
            if kinds[name] == "drawings" and name in ours:
                each = [compare({name: ours[name]}, {name: [file]}) for file in files]
                ratios = [ratio for found in each for ratio in found.ratios.values()]
                better, worse = (sum(len(found[i]) for found in each) for i in (1, 2))
                line = lines.setdefault(name, {"all of ours against all of pngquant, all K": name})
                line[f"most bytes at equal {title}"] = f"{max(ratios):.4f}" if ratios else None
                line[f"left out, {title}"] = f"{better} better, {worse} worse"
                met = not better and max(ratios, default=0) <= 1
                line[f"at most 1, {title}"] = _met(met)
    return list(lines.values())


def _budgets(rows: Sequence[Row]) -> list[Row]:
    """Whether files of `max_bytes` keep their budgets, and how near they come."""
    whole = files_of(rows, [suite.NONE], "setting", suite.COUNTS[-1])
    lines = []
    for kind in ("photographs", "drawings"):
        for part in suite.BUDGETS:
            asked = [row for row in rows if (row["method"], row["kind"]) == (suite.MAX_BYTES, kind)]
            used = {
                row["picture"]: size / int(part * whole[row["picture"]][0][1])
                for row in asked
                if row["picture"] in whole
                for at, size in zip(row["setting"], row["saved"], strict=True)
                if at == part
            }
            if asked:
                lines.append(_budget(used, f"{part:g}, {kind}", len(asked) - len(used)))
    return lines


def _budget(used: dict[str, float], budget: str, refused: int) -> Row:
    line: Row = {"max_bytes, of our 256 colours": budget, "used": None, "least": None, "most": None}
    line["refused"] = str(refused)
    if used:
        least = min(used, key=lambda name: used[name])
        most = max(used, key=lambda name: used[name])
        near = used[least] >= NEAR or budget.endswith("drawings")
        line["used"] = f"{_mean(used.values()):.3f}"
        line["least"] = f"{used[least]:.3f} in {least}"
        line["most"] = f"{used[most]:.3f} in {most}"
        line[f"{NEAR:g} to 1; drawings: to 1"] = _met(near and used[most] <= 1)
    return line


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


def _files_as_saved(rows: Sequence[Row]) -> list[Row]:
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows if row.get("saved")):
        ratios = {
            f"{row['picture']} at {at:g}": saved / size
            for row in rows
            if row["method"] == method
            for at, saved, size in zip(row["setting"], row["saved"], row["bytes"], strict=True)
        }
        worst = max(ratios, key=lambda name: ratios[name])
        lines.append(
            {
                "`save_image`, before oxipng over after it": method,
                "mean": f"{_mean(ratios.values()):.4f}",
                "worst": f"{ratios[worst]:.4f} in {worst}",
                f"at most {SAVED:g}": _met(ratios[worst] <= SAVED),
            }
        )
    return lines


def _estimates(rows: Sequence[Row]) -> list[Row]:
    """How far `visual_quality` is from the package whose measure it is to be."""
    pairs = [
        pair
        for row in rows
        for pair in zip(row.get("ssimulacra2", ()), row.get("package", ()), strict=False)
        if pair[1] is not None
    ]
    if len(pairs) < 2:
        return []
    estimated, measured = np.array(pairs).T
    differences = np.abs(estimated - measured)
    return [
        {
            "`visual_quality` against the package ssimulacra2": f"{len(pairs)} files",
            "correlation": f"{np.corrcoef(estimated, measured)[0, 1]:.7f}",
            "mean difference": f"{differences.mean():.4f}",
            "largest": f"{differences.max():.4f}",
        }
    ]


def _times(rows: Sequence[Row]) -> list[Row]:
    """Of the picture alone: neither oxipng's time nor the judges'."""
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows if row["clock"]):
        seconds = {
            row["picture"]: sum(row["clock"]) / len(row["clock"]) / row["megapixels"]
            for row in rows
            if row["method"] == method and row["clock"]
        }
        worst = max(seconds, key=lambda name: seconds[name])
        mean = sum(seconds.values()) / len(seconds)
        lossy = method in (suite.LOSSY, suite.LOSSY_RGB, suite.MAX_BYTES)
        lines.append(
            {
                "seconds a megapixel, without oxipng": method,
                "mean": f"{mean:.3g}",
                "worst": f"{seconds[worst]:.3g} in {worst}",
                f"at most {SLOW:g}": _met(mean <= SLOW) if lossy else "",
            }
        )
    return lines


def _named(methods: Sequence[str]) -> str:
    return methods[0] if len(methods) == 1 else "the best without a thought of bytes"


def _number(kinds: dict[str, str], kind: str) -> int:
    return list(kinds.values()).count(kind)


def _mean(ratios: Iterable[float]) -> float:
    """The geometric mean."""
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logs) / len(logs))
