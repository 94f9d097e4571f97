"""Plots of a run as SVG text that takes its colours from the page around it. Knows no files.

matplotlib's object API only: no window, no global state. Text stays text, and each colour below becomes a CSS
variable, so one plot serves a light and a dark page; alone, it is drawn in the colours below.
"""

import io
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

INK, LINE = "#1d2330", "#d5dae3"  # text, and the rules of the grid
SERIES = ("#2457c5", "#c2570c", "#0f8a5f", "#8a3fc0", "#b3261e")
CSS_VARIABLES = {INK: "--ink", LINE: "--line"} | {
    colour: f"--series-{i}" for i, colour in enumerate(SERIES, 1)
}

STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "trident",  # equal plots give equal bytes
    "text.parse_math": False,  # a class name may hold a $
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
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
CURVE_IN = (4.4, 2.4)
CLASS_IN, BAR_SHARE = 0.28, 0.78  # height of a class among the bars, and how much of it the bars fill

Row = Mapping[str, Any]  # one line of log.jsonl
Shares = Mapping[str, float | None]  # 0..1 by class, None where absent


def training_curves(rows: Sequence[Row], kept_steps: Sequence[int]) -> dict[str, str]:
    """The curves of a run as SVG by title; one is left out where the log has nothing for it.

    Args:
        rows: of log.jsonl, in order.
        kept_steps: steps of the members, marked on the mIoU curve.
    """
    train = [row for row in rows if row["split"] == "train"]
    val = [row for row in rows if row["split"] == "val"]
    keys = list(dict.fromkeys(key for row in train for key in row))
    lines = {
        "Training loss": [key for key in keys if key == "loss" or key.startswith("decode.loss_")],
        "Learning rate": [key for key in ("lr", "base_lr") if key in keys],
        "Adversarial losses": [key for key in keys if key.startswith("adv/") and key.endswith("_loss")],
    }
    curves = (
        {"mIoU on val": svg(CURVE_IN, lambda figure: _scores(figure.subplots(), val, kept_steps))}
        if val
        else {}
    )
    return curves | {
        title: svg(CURVE_IN, lambda figure, names=names: _lines(figure.subplots(), train, names))
        for title, names in lines.items()
        if names
    }


def class_bars(series: Mapping[str, Shares]) -> str:
    """IoU by class as horizontal bars, as SVG: best class of the first series on top, absent classes below.

    Args:
        series: by name, such as the ensemble and its best member; all over the same classes.
    """
    first = next(iter(series.values()))
    names = sorted(first, key=lambda name: -1.0 if first[name] is None else first[name], reverse=True)
    size_in = (CURVE_IN[0], CLASS_IN * len(names) + 0.8)
    return svg(size_in, lambda figure: _bars(figure.subplots(), series, names))


def _scores(axes: Axes, rows: Sequence[Row], kept_steps: Sequence[int]) -> None:
    steps, values = _points(rows, "mIoU")
    axes.plot(steps, values, color=SERIES[0], marker=".", linewidth=1.4, label="mIoU")
    kept = [(step, value) for step, value in zip(steps, values, strict=True) if step in set(kept_steps)]
    if kept:
        style = {"marker": "*", "s": 90, "color": SERIES[1], "linewidths": 0, "zorder": 3}
        axes.scatter(*zip(*kept, strict=True), label="kept", **style)
    axes.set_ylim(bottom=0)
    _over_steps(axes)
    axes.legend(loc="lower right")


def _lines(axes: Axes, rows: Sequence[Row], names: Sequence[str]) -> None:
    for name, colour in zip(names, itertools.cycle(SERIES)):
        steps, values = _points(rows, name)
        axes.plot(steps, values, color=colour, linewidth=1.2, label=name.removeprefix("decode."))
    _over_steps(axes)
    axes.legend(loc="best")


def _bars(axes: Axes, series: Mapping[str, Shares], names: Sequence[str]) -> None:
    thickness = BAR_SHARE / len(series)
    for number, (label, shares) in enumerate(series.items()):
        tops = [place - BAR_SHARE / 2 + number * thickness for place in range(len(names))]
        widths = [shares[name] or 0.0 for name in names]
        axes.barh(tops, widths, thickness, align="edge", color=SERIES[number], label=label)
    for place, name in enumerate(names):
        if all(shares[name] is None for shares in series.values()):
            axes.text(0.01, place, "absent", va="center", fontsize=8, style="italic")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)  # the first name on top
    axes.set_xlim(0, 1)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("IoU")
    axes.figure.legend(loc="outside upper right", ncols=len(series))


def _points(rows: Sequence[Row], key: str) -> tuple[list[int], list[float]]:
    """Steps and values of the rows that have the key; a value of null leaves a gap."""
    found = [(row["step"], row[key]) for row in rows if key in row]
    return [step for step, _ in found], [math.nan if value is None else value for _, value in found]


def _over_steps(axes: Axes) -> None:
    axes.set_xlabel("step")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))


def svg(size_in: tuple[float, float], draw: Callable[[Figure], None]) -> str:
    """One plot as an <svg> element whose colours are CSS variables."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size_in, layout="constrained")
        draw(figure)
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :]  # an element inside a page has no XML declaration
    text = re.sub(r' id="[\w.]+_\d+"', "", text)  # figure_1, axes_1: they would stand twice in a page
    for colour, variable in CSS_VARIABLES.items():
        text = text.replace(colour, f"var({variable}, {colour})")
    return text
