"""What the curve of val mIoU shows, in words. How it is fitted is in `curve.py`."""

from dataclasses import replace

import numpy as np

from engine.diagnosis.curve import ASSUMED_NOISE, MIN_FOR_PHASES, Outlook, Phase, Shape, shape_of
from engine.scoring.run import Run, series
from engine.wording import quantity

LOW_RATE = 0.1  # of the peak: the schedule has ended
TOO_LITTLE = "which is too little to recommend it"
HUGE = 1.0  # of the rise so far: a gain larger than that cannot be estimated from the curve


def study_growth(run: Run) -> Shape | None:
    """The shape of the curve in points; None for fewer than three evaluations."""
    steps, shares = series(run.val_rows, "mIoU")
    shape = shape_of(steps, 100 * shares)
    return shape and within_reach(shape)


def within_reach(shape: Shape) -> Shape:
    """The lines end within the values that were measured, and no outlook leads above 100 points."""
    low, high = shape.values.min(), shape.values.max()
    ends = [np.clip((phase.low, phase.high), low, high).tolist() for phase in shape.phases]
    phases = [replace(phase, low=a, high=b) for phase, (a, b) in zip(shape.phases, ends, strict=True)]
    room, outlook = 100 - float(high), shape.outlook
    if outlook:
        outlook = Outlook(min(outlook.likely, room), min(outlook.most, room))
    return replace(shape, phases=phases, outlook=outlook)


def describe_growth(run: Run, shape: Shape | None) -> str:
    """Phases with steps and slopes, then what longer training could add."""
    if shape is None:
        num = len(series(run.val_rows, "mIoU")[0])
        return (
            f"{quantity(num, 'evaluation')}; at least {MIN_FOR_PHASES} are needed. Set a smaller "
            "eval.every next time."
        )
    if not shape.rises and shape.phases[-1].name == "plateau":
        noise = "" if shape.noise is None else f" of {shape.noise:.1f} points"
        return (
            f"No rise or fall beyond the noise{noise} over {len(shape.steps)} evaluations, "
            f"{shape.values.min():.1f} to {shape.values.max():.1f}. Nothing can be concluded from it."
        )
    few = (
        f" With {len(shape.steps)} evaluations the phases are little more than the lines between them; their "
        f"noise cannot be estimated and is assumed to be {ASSUMED_NOISE:g} point."
        if shape.noise is None
        else ""
    )
    phases = "; ".join(map(_phase, shape.phases))
    parts = [f"{phases}.{few}", _best(shape), longer(shape), _not_ended(run), schedule_ended(run)]
    return " ".join(part for part in parts if part)


def longer(shape: Shape) -> str:
    """What as many steps again would add, and where that is too little, that they are not recommended."""
    outlook = shape.outlook
    if outlook is None:
        return ""
    likely = f"{max(outlook.likely, 0):.1f}"
    if outlook.most >= HUGE * shape.rise:
        if shape.still_rises:
            return "It is still rising, too steadily to bound what longer training would add."
        return f"What longer training would add cannot be bounded (best fit {likely} points, {TOO_LITTLE})."
    amounts = f"at most about {outlook.most:.1f} points (best fit {likely}"
    if shape.is_saturated:
        return f"Saturated: longer training, as many steps again, would add {amounts})."
    if shape.still_rises:
        return f"Not saturated: longer training, as many steps again, would add {amounts})."
    return f"Nearly saturated: longer training, as many steps again, would add {amounts}, {TOO_LITTLE})."


def _not_ended(run: Run) -> str:
    steps = run.recipe.train.steps if run.recipe else None
    if run.manifest.finished or not isinstance(steps, int) or run.last_step >= steps:
        return ""
    return f"The run has not ended: {run.last_step:,} of {steps:,} updates so far."


def _phase(phase: Phase) -> str:
    return (
        f"{phase.name} from step {phase.start:,.0f} to {phase.end:,.0f}, {phase.low:.1f} to {phase.high:.1f} "
        f"({1000 * phase.slope:+.3g} points per 1,000 steps)"
    )


def _best(shape: Shape) -> str:
    best = int(shape.values.argmax())
    behind = shape.values[best] - shape.values[-1]
    if behind <= 2 * (shape.noise or 0.0) or best == len(shape.values) - 1:
        return ""
    value, step = shape.values[best], shape.steps[best]
    return f"The best, {value:.1f} at step {step:,.0f}, is {behind:.1f} above the last."


def schedule_ended(run: Run) -> str:
    """What the end of the learning rate's schedule does to a curve; empty where the rate stayed high."""
    _, rates = series(run.train_rows, "lr")
    if not len(rates) or rates[-1] > LOW_RATE * rates.max():
        return ""
    return (
        f"The learning rate had come down to {100 * rates[-1] / rates.max():.0f} % of its peak, which by "
        "itself flattens the end of the curve: a longer schedule is a different training."
    )
