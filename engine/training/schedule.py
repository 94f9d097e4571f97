"""The learning rate as a pure function of the step, and the `schedule` section of a recipe that chooses it.

`factor` multiplies the base rate of every parameter group: a linear warm-up first, then one of CURVES.
Does not import torch, since the recipe reads the section.
"""

import math
from typing import Any, Literal

from pydantic import ValidationInfo, field_validator

from engine.options import Count, Duration, NotNegative, Positive, Section, key, mistake

ONECYCLE_START = 1 / 25  # of the peak, as in torch's OneCycleLR
ONECYCLE_RISE = 0.3  # of the training
OWNERS = {
    "power": "poly",
    "cycles": "cyclic",
    "milestones": "step",
    "gamma": "step",
    "decay": "wsd",
    "shape": "wsd",
}


class Schedule(Section):
    name: Literal["poly", "cosine", "onecycle", "wsd", "cyclic", "step", "constant"] = key(
        "poly",
        "how the learning rate falls; wsd: warm-up, stable, decay (arXiv 2404.06395); cyclic: cosine cycles, "
        "at whose ends are the members of a snapshot ensemble (arXiv 1704.00109)",
    )
    power: Positive = key(1.0, "exponent of poly")
    warmup: Duration = key(
        "5%", "length of the linear rise from 0 to the peak; not used by onecycle, which has its own"
    )
    min_lr: NotNegative = key(
        0.0, "learning rate at the end of poly, cosine, onecycle, wsd and each cycle; the lower limit of step"
    )
    decay: Duration = key(
        "20%", "length of the decay at the end of wsd; 0 leaves it out, for --continue-from later"
    )
    shape: Literal["linear", "cosine", "sqrt"] = key(
        "linear", "decay of wsd over its progress x: 1 - x, half a cosine, or 1 - sqrt(x) (arXiv 2405.18392)"
    )
    cycles: Count = key(5, "number of cycles of cyclic; keep.tail of as many keeps the state after each")
    milestones: list[Duration] = key([], "updates at which step lowers the learning rate")
    gamma: float = key(
        0.1, "factor by which step multiplies the learning rate above min_lr at each milestone", gt=0, le=1
    )

    @field_validator("milestones")
    @classmethod
    def _needed_by_step(cls, value: list[int | str], info: ValidationInfo) -> list[int | str]:
        if info.data.get("name") == "step" and not value:
            raise mistake("schedule: step needs milestones, for example [60%, 90%]")
        return value

    @field_validator(*OWNERS)
    @classmethod
    def _belongs_to_name(cls, value: Any, info: ValidationInfo) -> Any:
        owner = OWNERS[info.field_name or ""]
        default = cls.model_fields[info.field_name or ""].default
        if info.data.get("name", owner) != owner and value != default:
            raise mistake(f"only name: {owner} uses this; here it must be absent or {default}")
        return value


def factor(section: Schedule, base_lr: float, step: int, num_steps: int) -> float:
    """The factor on the base learning rate during update `step`.

    Args:
        section: a recipe's `schedule`, its durations in steps.
        base_lr: of the optimiser; `min_lr` is given in the same unit.
        step: counted from 0.
        num_steps: of the whole training.
    """
    warmup = 0 if section.name == "onecycle" else section.warmup  # its curve has a rise of its own
    assert isinstance(warmup, int)
    if step < warmup:
        return (step + 1) / warmup
    start = start_of_decay(section, num_steps) if section.name == "wsd" else warmup
    progress = max(0, step - start) / max(1, num_steps - start)  # 0..1
    floor = section.min_lr / base_lr
    return floor + (1 - floor) * CURVES[section.name](section, progress, step)


def ramp_up(step: int, start: int, ramp: int) -> float:
    """The share of a weight that is phased in: 0 before `start`, from there linearly to 1 in `ramp` steps."""
    return min(1.0, max(0, step - start + 1) / max(1, ramp))


def without_effect(section: Schedule, num_steps: int) -> list[str]:
    """A sentence for each value that changes no learning rate of a training of this length."""
    found = []
    if section.name == "constant" and section.min_lr > 0:
        found.append("schedule.min_lr has no effect: a constant learning rate does not fall")
    late = [str(milestone) for milestone in section.milestones if int(milestone) >= num_steps]
    if late:
        found.append(
            f"schedule.milestones: no learning rate falls at {', '.join(late)}, as the training ends at "
            f"update {num_steps}"
        )
    return found


def end_of_rise(section: Schedule, num_steps: int) -> int:
    """The first update, at or just after the peak of the rate, from which on the rate does not rise."""
    if section.name == "onecycle":
        return math.ceil(ONECYCLE_RISE * num_steps)
    assert isinstance(section.warmup, int)
    if section.name == "cyclic":
        return [section.warmup, *ends_of_cycles(section, num_steps)][-2]  # the start of the last cycle
    return section.warmup


def ends_of_cycles(section: Schedule, num_steps: int) -> list[int]:
    """The numbers of updates after which a cycle of cyclic is complete; one for each cycle."""
    assert isinstance(section.warmup, int)
    in_cycles = num_steps - section.warmup
    return [section.warmup - (-cycle * in_cycles // section.cycles) for cycle in range(1, section.cycles + 1)]


def start_of_decay(section: Schedule, num_steps: int) -> int:
    """The first update of the decay of wsd; `num_steps` if there is no decay."""
    assert isinstance(section.decay, int)
    return num_steps - section.decay


def _poly(section: Schedule, progress: float, step: int) -> float:
    return float((1 - progress) ** section.power)


def _cosine(section: Schedule, progress: float, step: int) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


def _cyclic(section: Schedule, progress: float, step: int) -> float:
    of_cycle = round(section.cycles * progress, 9) % 1  # rounded, so that each cycle begins at exactly 0
    return _cosine(section, of_cycle, step)


def _onecycle(section: Schedule, progress: float, step: int) -> float:
    """Up for the first 30 %, down for the rest, both along a cosine (Smith 2017, arXiv 1708.07120)."""
    if progress < ONECYCLE_RISE:
        return ONECYCLE_START + (1 - ONECYCLE_START) * (1 - math.cos(math.pi * progress / ONECYCLE_RISE)) / 2
    return (1 + math.cos(math.pi * (progress - ONECYCLE_RISE) / (1 - ONECYCLE_RISE))) / 2


def _wsd(section: Schedule, progress: float, step: int) -> float:
    """At the peak until the progress of the decay is above 0."""
    if section.shape == "cosine":
        return _cosine(section, progress, step)
    return 1 - (math.sqrt(progress) if section.shape == "sqrt" else progress)


def _step(section: Schedule, progress: float, step: int) -> float:
    passed = sum(int(milestone) <= step for milestone in section.milestones)
    return section.gamma**passed


def _constant(section: Schedule, progress: float, step: int) -> float:
    return 1.0


CURVES = {
    "poly": _poly,
    "cosine": _cosine,
    "onecycle": _onecycle,
    "wsd": _wsd,
    "cyclic": _cyclic,
    "step": _step,
    "constant": _constant,
}
