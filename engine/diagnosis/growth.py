"""What the curve of val mIoU says, in words. How it is fitted is in `curve.py`."""

from engine.diagnosis.curve import ASSUMED_NOISE, MIN_FOR_PHASES, Phase, Shape, shape_of
from engine.diagnosis.findings import Finding
from engine.scoring.run import Run

TOPIC = "mIoU curve"
LOW_RATE = 0.1  # of the peak: the schedule has ended
HUGE = 1.0  # of the rise so far: a gain as large as that is no longer read off a curve


def study_growth(run: Run) -> Shape | None:
    """The shape of the curve in points; None for fewer than three evaluations."""
    steps, shares = run.curve("mIoU")
    return shape_of(steps, 100 * shares)


def growth_finding(run: Run, shape: Shape | None) -> Finding:
    """Phases with steps and slopes, then what longer training could add."""
    if shape is None:
        num = len(run.curve("mIoU")[0])
        return Finding(
            TOPIC, f"{num} evaluations: a shape takes {MIN_FOR_PHASES}. Type a smaller eval.every next time."
        )
    if not shape.rises and shape.phases[-1].name == "plateau":
        noise = "" if shape.noise is None else f" of {shape.noise:.1f} points"
        return Finding(
            TOPIC,
            f"No rise or fall beyond the noise{noise} over {len(shape.steps)} evaluations, "
            f"{shape.values.min():.1f} to {shape.values.max():.1f}. There is nothing to read from it.",
        )
    few = (
        f" With {len(shape.steps)} evaluations the phases are little more than the lines between them; their "
        f"noise cannot be told, {ASSUMED_NOISE:g} point is assumed."
        if shape.noise is None
        else ""
    )
    phases = "; ".join(map(_phase, shape.phases))
    parts = [f"{phases}.{few}", _best(shape), longer(shape), _schedule(run)]
    return Finding(TOPIC, " ".join(part for part in parts if part))


def longer(shape: Shape) -> str:
    """What as many steps again would add."""
    outlook = shape.outlook
    if outlook is None:
        return ""
    if outlook.most >= HUGE * shape.rise:
        return "It bends too little to bound what longer training would add; it is still on its way."
    amounts = f"at most about {outlook.most:.1f} points (best fit {max(outlook.likely, 0):.1f})"
    if shape.is_saturated:
        return f"Saturated: longer training, as many steps again, would add {amounts}."
    return f"Not saturated: longer training, as many steps again, would add {amounts}."


def _phase(phase: Phase) -> str:
    return (
        f"{phase.name} from step {phase.start:,.0f} to {phase.end:,.0f}, {phase.low:.1f} to {phase.high:.1f} "
        f"({1000 * phase.slope:+.3g} points in 1,000 steps)"
    )


def _best(shape: Shape) -> str:
    best = int(shape.values.argmax())
    behind = shape.values[best] - shape.values[-1]
    if behind <= 2 * (shape.noise or 0.0) or best == len(shape.values) - 1:
        return ""
    value, step = shape.values[best], shape.steps[best]
    return f"The best, {value:.1f} at step {step:,.0f}, is {behind:.1f} above the last."


def _schedule(run: Run) -> str:
    _, rates = run.curve("lr", "train")
    if not len(rates) or rates[-1] > LOW_RATE * rates.max():
        return ""
    return (
        f"The learning rate had come down to {100 * rates[-1] / rates.max():.0f} % of its peak, which by "
        "itself flattens the end: a longer schedule is another training."
    )
