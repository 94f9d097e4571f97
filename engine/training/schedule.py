"""The learning rate as a pure function of the step. Knows nothing of optimisers.

`factor` multiplies the base rate of every parameter group: a linear warm-up first, then the curve that the
recipe names.
"""

import math
from bisect import bisect_right

ONECYCLE_START = 1 / 25  # of the peak, as in torch's OneCycleLR


def factor(section, base_lr: float, step: int, num_steps: int) -> float:
    """The share of the base learning rate that holds during update `step`.

    Args:
        section: a recipe's `schedule`, its durations in steps.
        base_lr: of the optimiser; `min_lr` is given in the same unit.
        step: counted from 0.
        num_steps: of the whole training.
    """
    warmup = 0 if section.name == "onecycle" else section.warmup  # whose curve rises by itself
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, num_steps - warmup)  # 0..1
    floor = section.min_lr / base_lr
    return floor + (1 - floor) * CURVES[section.name](section, progress, step)


def _poly(section, progress: float, step: int) -> float:
    return (1 - progress) ** section.power


def _cosine(section, progress: float, step: int) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


def _onecycle(section, progress: float, step: int) -> float:
    """Up for the first 30 %, down for the rest, both along a cosine (Smith 2017, arXiv 1708.07120)."""
    if progress < 0.3:
        return ONECYCLE_START + (1 - ONECYCLE_START) * (1 - math.cos(math.pi * progress / 0.3)) / 2
    return (1 + math.cos(math.pi * (progress - 0.3) / 0.7)) / 2


def _step(section, progress: float, step: int) -> float:
    return section.gamma ** bisect_right(section.milestones, step)


def _constant(section, progress: float, step: int) -> float:
    return 1.0


CURVES = {"poly": _poly, "cosine": _cosine, "onecycle": _onecycle, "step": _step, "constant": _constant}
