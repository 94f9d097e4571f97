"""What ensembles gain for what they cost, as a picture: mIoU over forward passes of an image."""

from collections import Counter
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from engine.reporting.plots import INK, SERIES, png

SIZE_IN = (6.4, 4.2)


def draw_costs(path: Path, report: dict[str, Any]) -> None:
    """Write a PNG from the content of ensemble.json: each method, the best member, and an early exit.

    The bars are the 95 % intervals of the gain over the best member.
    """
    with png(path, SIZE_IN) as figure:
        axes = figure.subplots()
        some = next(iter(report["ensembles"].values()))
        of_best = some["mIoU"] - some["gain"]["value"]
        axes.axhline(of_best, color=INK, linewidth=0.8, linestyle=":")
        axes.plot([1], [of_best], "o", color=INK, label="best member")
        drawn = Counter[float]()  # how many methods of each cost
        for place, (method, entry) in enumerate(report["ensembles"].items()):
            _draw_method(axes, method, entry, place, drawn[entry["cost"]], of_best)
            drawn[entry["cost"]] += 1
        if early_exit := report.get("early_exit"):
            points = [(point["cost"], point["mIoU"]) for point in early_exit["curve"]]
            axes.plot(*zip(*points, strict=True), color=INK, linewidth=1.2, label="early exit")
            chosen = early_exit["chosen"]
            axes.plot([chosen["cost"]], [chosen["mIoU"]], "D", color=INK, label="early exit, as chosen")
        if report["selection"]["same_images"]:
            axes.set_title("selected on these images, so scores are optimistic")
        axes.set_xlabel("forward passes per image and view")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(f"mIoU on {report['dataset']['split']}")
        figure.legend(loc="outside right upper")


def _draw_method(
    axes: Axes, method: str, entry: dict[str, Any], place: int, num_beside: int, of_best: float
) -> None:
    """A point with its interval, a little beside the others of the same cost that are drawn already."""
    cost, gain = entry["cost"] + 0.03 * ((num_beside + 1) // 2) * (-1) ** num_beside, entry["gain"]
    colour, marker = SERIES[place % len(SERIES)], "os"[place // len(SERIES) % 2]
    axes.plot([cost], [entry["mIoU"]], marker, color=colour, label=method)
    if gain["low"] is not None:
        axes.vlines(cost, of_best + gain["low"], of_best + gain["high"], color=colour, linewidth=1)
