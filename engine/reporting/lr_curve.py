"""The curve of a learning rate range test as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from engine.reporting.plots import SERIES, png

SIZE_IN = (6.4, 3.8)
FAINT = "#9aa3b5"


def draw_lr_curve(
    path: Path,
    title: str,
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    marks: dict[str, float],
) -> None:
    """Write a PNG: losses over the rate on a log scale, and a line at each marked rate, named in the legend.

    Args:
        smoothed: of the first losses; those that became NaN or infinite are at the end.
    """
    with png(path, SIZE_IN) as figure:
        axes = figure.subplots()
        axes.plot(rates, losses, color=FAINT, linewidth=0.9, label="loss of each batch")
        axes.plot(rates[: len(smoothed)], smoothed, color=SERIES[0], linewidth=1.8, label="smoothed")
        for (name, rate), colour in zip(marks.items(), SERIES[1:], strict=False):
            axes.axvline(rate, color=colour, linewidth=1.2, linestyle="--", label=f"{name}: {rate:.1e}")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0e}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        if smoothed:  # even the first loss may be NaN or infinite
            top = max(smoothed) + 0.3 * (max(smoothed) - min(smoothed))  # a last loss may be enormous
            axes.set_ylim(min(losses[: len(smoothed)]) - 0.1, top)
        axes.set_xlabel("optimizer.lr")
        axes.set_ylabel("training loss")
        axes.set_title(title)
        axes.legend(loc="best")
