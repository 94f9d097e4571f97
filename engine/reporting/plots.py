"""Plots of runs as SVG text that takes its colours from the page around it.

matplotlib's object API only: no window, no global state. Text stays text, and each colour below becomes a CSS
variable, so one plot fits a light and a dark page; outside a page it has the colours below.
"""

import hashlib
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from engine.run_folder import written_in_place

INK, LINE = "#1d2330", "#d5dae3"  # text, and grid lines
SERIES = ("#2457c5", "#c2570c", "#0f8a5f", "#8a3fc0", "#b3261e", "#0b7f95", "#8a6d00", "#c02f7a")
CSS_VARIABLES = {INK: "--ink", LINE: "--line"} | {
    colour: f"--series-{i}" for i, colour in enumerate(SERIES, 1)
}

STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "trident",  # equal plots give equal bytes
    "text.parse_math": False,  # a class name may hold a $
    "font.family": "sans-serif",
    "font.size": 8.5,
    "text.color": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
WIDTH_IN, HEIGHT_IN = 4.6, 2.3
DPI = 130  # of PNG files
MOST_POINTS = 400  # of a line: about one per pixel
SMOOTHED_FROM = 20  # points of a training loss; a shorter line is drawn as it is
MARKED_UP_TO = 20  # points of a line that are shown one by one; a single one would be invisible without
TITLES = {("val", "mIoU"): "mIoU on val", ("val", "loss"): "Loss on val", ("train", "loss"): "Training loss"}

Row = Mapping[str, Any]  # one line of log.jsonl
Points = list[tuple[int, float]]  # (step, value); NaN where the log has null


@dataclass(frozen=True)
class Curves:
    """One quantity of several runs over the steps.

    lines: run -> points. frame: left, top, right, bottom of the axes, as shares of the picture.
    limits: of the axes: least and greatest step, least and greatest value.
    """

    svg: str
    lines: Mapping[str, Points]
    frame: tuple[float, float, float, float]
    limits: tuple[float, float, float, float]


def training_curves(runs: Mapping[str, tuple[Sequence[Row], Sequence[int]]]) -> dict[str, Curves]:
    """Curves by title, one colour per run; quantities that no log has are left out.

    Args:
        runs: name -> rows of its log.jsonl, in order, and the steps of its members, marked on the mIoU curve.
    """
    curves = {}
    for (split, key), title in _quantities([rows for rows, _ in runs.values()]).items():
        lines = {name: _points(rows, split, key) for name, (rows, _) in runs.items()}
        kept = {name: set(steps) if key == "mIoU" else set() for name, (_, steps) in runs.items()}
        if any(lines.values()):
            is_noisy = split == "train" and key != "lr"
            curves[title] = _curves(lines, kept, is_noisy, from_zero=key == "mIoU")
    return curves


def reliability_diagram(counts: NDArray[np.float64]) -> str:
    """Accuracy by confidence, above the share of pixels by confidence.

    Args:
        counts: (3, bins): pixels, sum of confidence, correct pixels, as in scores.h5.
    """
    pixels, confidence, right = counts
    seen = pixels > 0
    edges = np.linspace(0, 1, len(pixels) + 1)

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        width = edges[1] - edges[0]
        style = {"width": width * 0.86, "color": SERIES[0], "align": "center"}
        centres = (edges[:-1] + edges[1:]) / 2
        above.bar(centres[seen], right[seen] / pixels[seen], alpha=0.35, **style)
        above.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        above.plot(
            confidence[seen] / pixels[seen], right[seen] / pixels[seen], ".-", color=SERIES[0], linewidth=1.4
        )
        above.set(xlim=(0, 1), ylim=(0, 1), ylabel="right")
        below.bar(centres, pixels / max(1.0, pixels.sum()), **style)
        below.set(xlabel="confidence", ylabel="pixels")
        below.yaxis.set_major_locator(MaxNLocator(2))
        below.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        figure.align_ylabels()

    return svg((WIDTH_IN, 3.6), draw)


def draw_precision_recall(figure: Figure, of_masks: Mapping[str, Any]) -> None:
    """Precision over recall of each class; a dot is at its threshold.

    Args:
        of_masks: "curves", "AP", "precision" and "recall" by class, as of `MultiLabelScores.of_masks`.
    """
    axes = figure.subplots()
    for number, (name, curve) in enumerate(of_masks["curves"].items()):
        colour, ap = SERIES[number % len(SERIES)], of_masks["AP"][name]
        if ap is None:  # no label holds the class
            continue
        axes.plot(
            curve["recall"], curve["precision"], color=colour, linewidth=1.4, label=f"{name}, AP {ap:.4f}"
        )
        axes.plot(of_masks["recall"][name], of_masks["precision"][name], color=colour, marker="o")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    if len(of_masks["curves"]) <= len(SERIES):
        axes.legend(loc="lower left")


def precision_recall_diagram(of_masks: Mapping[str, Any]) -> str:
    """`draw_precision_recall` as SVG."""
    return svg((WIDTH_IN, 3.2), lambda figure: draw_precision_recall(figure, of_masks))


def _quantities(logs: Sequence[Sequence[Row]]) -> dict[tuple[str, str], str]:
    """(split, key) of all that is drawn, in the order of the page, with its title."""
    keys = dict.fromkeys(key for rows in logs for row in rows for key in row if row["split"] == "train")
    terms = {("train", key): key.removeprefix("decode.") for key in keys if key.startswith("decode.loss_")}
    adversarial = {("train", key): key for key in keys if key.startswith("adv/") and key.endswith("_loss")}
    terms = terms if len(terms) > 1 else {}  # a single term is the loss itself
    splits = dict.fromkeys(row["split"] for rows in logs for row in rows if row["split"].endswith("/val"))
    of_sets = {(split, "mIoU"): f"mIoU on {split}" for split in splits}
    return TITLES | of_sets | terms | {("train", "lr"): "Learning rate"} | adversarial


def _points(rows: Sequence[Row], split: str, key: str) -> Points:
    """Of the rows that have the key, thinned evenly where there are more than can be seen."""
    found = [
        (row["step"], math.nan if row[key] is None else float(row[key]))
        for row in rows
        if row["split"] == split and key in row
    ]
    stride = -(-len(found) // MOST_POINTS) or 1
    return found[::-1][::stride][::-1]  # the last one is kept


def _curves(
    lines: Mapping[str, Points], kept: Mapping[str, set[int]], is_noisy: bool, from_zero: bool
) -> Curves:
    drawn: list[Axes] = []

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        drawn.append(axes)
        for place, (name, points) in enumerate(lines.items()):
            _draw_line(axes, points, SERIES[place % len(SERIES)], kept[name], is_noisy)
        if from_zero:
            axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10], integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.margins(x=0.02)

    text = svg((WIDTH_IN, HEIGHT_IN), draw)
    [axes] = drawn
    box = axes.get_position()
    frame = (box.x0, 1 - box.y1, box.x1, 1 - box.y0)
    return Curves(text, lines, frame, (*axes.get_xlim(), *axes.get_ylim()))


def _draw_line(axes: Axes, points: Points, colour: str, kept: set[int], is_noisy: bool) -> None:
    """The values, as points too where they are few; of a long noisy line faint, below their moving mean."""
    if not points:
        return
    steps, values = np.array(points).T
    is_smoothed = is_noisy and len(steps) > SMOOTHED_FROM
    width, opacity = (0.9, 0.3) if is_smoothed else (1.5, 1.0)
    axes.plot(steps, values, color=colour, linewidth=width, alpha=opacity, **points_if_few(steps))
    if is_smoothed:
        axes.plot(steps, _moving_mean(values, len(values) // 20), color=colour, linewidth=1.5)
    marked = [point for point in points if point[0] in kept]
    if marked:
        x, y = zip(*marked, strict=True)
        axes.scatter(x, y, s=22, color=colour, linewidths=0, zorder=3)


def points_if_few(steps: Sized) -> dict[str, Any]:
    """Options of a line that show each of few values as a point, so that a single one is visible."""
    return {"marker": "o", "markersize": 3} if len(steps) <= MARKED_UP_TO else {}


def _moving_mean(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Over the values up to `reach` places away, fewer at the ends; NaN is left out."""
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return np.array([np.nanmean(window) if not np.isnan(window).all() else np.nan for window in windows])


@contextmanager
def styled(size_in: tuple[float, float]) -> Iterator[Figure]:
    """A figure to draw and to save in the block, in the style of all plots."""
    with mpl.rc_context(STYLE):
        yield Figure(figsize=size_in, layout="constrained")


@contextmanager
def png(path: Path, size_in: tuple[float, float]) -> Iterator[Figure]:
    """A figure to draw in the block, which is then written; the file appears complete or not at all."""
    with styled(size_in) as figure:
        yield figure
        with written_in_place(path) as temporary:
            figure.savefig(temporary, format="png", dpi=DPI)


def svg(size_in: tuple[float, float], draw: Callable[[Figure], None]) -> str:
    """One plot as an <svg> element whose colours are CSS variables."""
    with styled(size_in) as figure:
        draw(figure)
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :]  # an element inside a page has no XML declaration
    text = re.sub(r' id="[\w.]+_\d+"', "", text)  # figure_1, axes_1: not unique within a page
    own = hashlib.sha256(text.encode()).hexdigest()[:8]  # the remaining ids are used by the plot itself
    text = re.sub(r'(id="|#)(?=[mp][0-9a-f]{10})', rf"\g<1>{own}", text)
    for colour, variable in CSS_VARIABLES.items():
        text = text.replace(colour, f"var({variable}, {colour})")
    return text
