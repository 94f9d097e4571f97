"""The diagnosis of a run on the console, and its fitted curve as a picture."""

import shlex
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from engine.diagnosis import RunDiagnosis
from engine.diagnosis.curve import Shape
from engine.reporting.plots import INK, SERIES, png

COLOURS = {"growth": SERIES[2], "slowing": SERIES[1], "plateau": SERIES[0], "falling": SERIES[4]}
SIZE_IN = (7.2, 3.6)


def print_diagnosis(console: Console, diagnosis: RunDiagnosis, run: Path) -> None:
    """Findings under their topics, then the recommendations with the command that tries each."""
    for finding in diagnosis.findings:
        console.print(f"[bold]{finding.topic}[/]")
        console.print(f"  {escape(finding.text)}")
    console.print(f"\n[bold]{_count(len(diagnosis.recommendations))}[/]")
    for number, recommendation in enumerate(diagnosis.recommendations, 1):
        console.print(f"{number}. [bold]{escape(recommendation.title)}[/]")
        console.print(f"   {escape(recommendation.evidence)}")
        name = f"name={diagnosis.name}_{number}"
        lines = shlex.join([str(run / "recipe.yaml"), name, *recommendation.recipe_lines])
        console.print(f"   trident run {escape(lines)}", soft_wrap=True)


def _count(number: int) -> str:
    if not number:
        return "Nothing to recommend: the files of the run show no reason to change the recipe."
    if number == 1:
        return "1 recommendation"
    return f"{number} recommendations, most important first; try each by itself"


def draw_curve(shape: Shape, path: Path) -> None:
    """A PNG of the evaluations, the phases fitted to them, and the outlook at twice the steps."""
    with png(path, SIZE_IN) as figure:
        axes = figure.subplots()
        axes.plot(shape.steps, shape.values, ".", color=INK, markersize=7, label="evaluations", zorder=3)
        for phase in shape.phases:
            axes.plot(
                [phase.start, phase.end],
                [phase.low, phase.high],
                color=COLOURS[phase.name],
                linewidth=2.5,
                label=f"{phase.name}: {1000 * phase.slope:+.3g} points per 1,000 steps",
            )
        if shape.outlook:
            last, end = shape.steps[-1], shape.phases[-1].high
            gains = [end + shape.outlook.likely, end + shape.outlook.most]
            label = f"as many steps again: at most about {shape.outlook.most:+.1f}"
            axes.fill_between(
                [last, 2 * last], [end, end], [end, gains[1]], color=SERIES[3], alpha=0.2, label=label
            )
            axes.plot(
                [last, 2 * last], [end, gains[0]], "--", color=SERIES[3], linewidth=1.2, label="best fit"
            )
        axes.set_xlabel("step")
        axes.set_ylabel("mIoU, points")
        axes.legend(loc="lower right")
