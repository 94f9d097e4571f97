"""Plots of a comparison, in the style of the report: seeds, differences, classes, curves, cost."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from engine.comparison.table import Comparison, Gap, MethodSummary
from engine.reporting.plots import INK, SERIES, points_if_few, svg

WIDTH_IN, ROW_IN, AXIS_IN = 4.6, 0.34, 0.75  # width of a plot, height of a row, height around the rows
CURVES_IN = (4.6, 2.6)


def comparison_plots(comparison: Comparison) -> dict[str, str]:
    """SVG by title."""
    colours = _colours(comparison)
    gaps = {method.name: method.gap for method in comparison.methods if method.gap}
    plots = {"mIoU of each seed": _rows(len(colours), lambda axes: _seeds(axes, comparison, colours))}
    if gaps:
        title = f"Difference to {comparison.methods[0].name}"
        plots[title] = _rows(len(gaps), lambda axes: _gaps(axes, {"": gaps}, colours))
    plots["mIoU over the training"] = svg(
        CURVES_IN, lambda figure: _curves(figure.subplots(), comparison, colours)
    )
    minutes = {
        method.name: seconds / 60
        for method in comparison.methods
        if (seconds := method.figures["training_s"]) is not None
    }
    if len(minutes) == len(comparison.methods):
        plots["mIoU by training time"] = svg(
            CURVES_IN, lambda figure: _costs(figure.subplots(), comparison, minutes, colours)
        )
    return plots


def class_gaps_plot(comparison: Comparison) -> str:
    """The difference of every class to the first method, as SVG; the largest first."""
    colours = _colours(comparison)
    by_class = {
        name: {method.name: method.class_gaps[name] for method in comparison.methods[1:]}
        for name in comparison.class_names
    }
    present = {name: gaps for name, gaps in by_class.items() if any(gaps.values())}
    order = sorted(present, key=lambda name: -max(gap.value for gap in present[name].values() if gap))
    num_rows = len(order) * len(comparison.methods[1:])
    return _rows(
        max(len(order), 0.6 * num_rows),
        lambda axes: _gaps(axes, {name: present[name] for name in order}, colours),
    )


def _colours(comparison: Comparison) -> dict[str, str]:
    """By method, the same in all plots."""
    return dict(zip((method.name for method in comparison.methods), itertools.cycle(SERIES)))


def _rows(num_rows: float, draw: Callable[[Axes], None]) -> str:
    return svg((WIDTH_IN, ROW_IN * num_rows + AXIS_IN), lambda figure: draw(figure.subplots()))


def _seeds(axes: Axes, comparison: Comparison, colours: Mapping[str, str]) -> None:
    """A dot for each seed, a line at the mean."""
    for place, method in enumerate(comparison.methods):
        colour, places = colours[method.name], [place] * len(method.values)
        axes.scatter(method.values, places, s=28, color=colour, linewidths=0, alpha=0.75, zorder=3)
        axes.vlines(_mean(method), place - 0.32, place + 0.32, color=INK, linewidth=1.4)
    _name_rows(axes, [method.name for method in comparison.methods])
    axes.set_xlabel("mIoU; the line is the mean")


def _gaps(axes: Axes, groups: Mapping[str, Mapping[str, Gap | None]], colours: Mapping[str, str]) -> None:
    """Intervals around their values; faint where they contain 0. Several methods share the row of a class."""
    names = list(groups) if len(groups) > 1 else list(groups[""])
    for row, group in enumerate(groups.values()):
        for number, (method, gap) in enumerate(group.items()):
            if gap is None:
                continue
            place = row + (number + 0.5) / len(group) - 0.5 if len(groups) > 1 else number
            colour, alpha = colours[method], 1.0 if gap.is_shown else 0.4
            axes.hlines(place, gap.low, gap.high, linewidth=1.8, color=colour, alpha=alpha)
            axes.scatter([gap.value], [place], s=22, linewidths=0, zorder=3, color=colour, alpha=alpha)
    axes.axvline(0, color=INK, linewidth=0.9)
    if len(groups) > 1:
        for method in next(iter(groups.values())):
            axes.plot([], color=colours[method], linewidth=1.8, label=method)
        axes.figure.legend(loc="outside upper right", ncols=2)
    _name_rows(axes, names)
    axes.set_xlabel("difference in IoU" if len(groups) > 1 else "difference in mIoU")


def _curves(axes: Axes, comparison: Comparison, colours: Mapping[str, str]) -> None:
    """A line for each run."""
    for method in comparison.methods:
        for number, curve in enumerate(method.curves):
            steps = [step for step, _ in curve]
            values = [math.nan if value is None else value for _, value in curve]
            label = method.name if number == 0 else None
            style = {"linewidth": 1.1, "alpha": 0.8, **points_if_few(steps)}
            axes.plot(steps, values, color=colours[method.name], label=label, **style)
    axes.set_xlabel("step")
    axes.set_ylabel("mIoU")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.figure.legend(loc="outside upper right", ncols=2)


def _costs(
    axes: Axes, comparison: Comparison, minutes: Mapping[str, float], colours: Mapping[str, str]
) -> None:
    """A dot per method at its training time, with the range over seeds."""
    for method in comparison.methods:
        place, colour = minutes[method.name], colours[method.name]
        low, high = min(method.values), max(method.values)
        axes.vlines(place, low, high, color=colour, linewidth=1.8, alpha=0.6)
        axes.scatter([place], [_mean(method)], s=40, color=colour, linewidths=0, zorder=3, label=method.name)
    axes.set_xlim(0, 1.1 * max(minutes.values()))
    axes.set_xlabel("training time of a run, min; the bar is the range over seeds")
    axes.set_ylabel("mIoU")
    axes.legend(loc="upper left")  # no training takes no time


def _mean(method: MethodSummary) -> float:
    return sum(method.values) / len(method.values)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)  # the first on top
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(5))
