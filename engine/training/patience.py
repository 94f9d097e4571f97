"""Whether a training has stopped improving: `train.patience` evaluations without a gain beyond noise.

A gain is a score that exceeds the score of the last gain by more than twice the noise of one evaluation, so a
slow rise counts once it has added up. The decision depends only on the scores, which are part of the saved
state, so a resumed run and all processes decide alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.diagnosis.curve import ASSUMED_NOISE, LEAST_NOISE, MIN_FOR_PHASES, fit_pieces
from engine.recipe import Recipe
from engine.reporting.advisor import Note
from engine.training.schedule import end_of_rise, factor
from engine.wording import quantity

BEYOND = 2  # standard deviations of one evaluation
Scores = Sequence[tuple[int, dict[str, float]]]  # of each evaluation: updates done, and the metrics


@dataclass(frozen=True)
class Standstill:
    """The evaluation with the last gain, and the number after it; `noise` is of a score in 0..1."""

    step: int
    score: float
    num_after: int
    noise: float


def standstill(recipe: Recipe, evaluations: Scores) -> Standstill | None:
    """The last gain of `keep.metric`; None before the first evaluation that counts.

    Evaluations do not count while the learning rate rises or a discriminator is phased in.

    Args:
        recipe: its durations in steps.
    """
    metric, start = recipe.keep.metric, _start(recipe)
    known = [(step, scores[metric]) for step, scores in evaluations if step >= start and metric in scores]
    finite = [(step, score) for step, score in known if not math.isnan(score)]
    if not known:
        return None
    noise = _noise(finite)
    last, place = known[0], 0
    for number, (step, score) in enumerate(known):
        if math.isnan(last[1]) or score > last[1] + BEYOND * noise:
            last, place = (step, score), number
    return Standstill(*last, len(known) - 1 - place, noise)


def is_out_of_patience(recipe: Recipe, evaluations: Scores) -> bool:
    """Whether the training ends here, before its last update."""
    if recipe.train.patience is None:
        return False
    found = standstill(recipe, evaluations)
    return found is not None and found.num_after >= recipe.train.patience


def stopped_early(recipe: Recipe, evaluations: Scores, lr_scale: float = 1.0) -> Note:
    """A note that the training ends early, with the reason and the learning rate at that point.

    Args:
        lr_scale: the factor on the learning rates of a run that went back.
    """
    found = standstill(recipe, evaluations)
    assert found is not None and recipe.train.patience is not None
    step, num_steps, base = evaluations[-1][0], int(recipe.train.steps), recipe.optimizer.lr
    now = base * factor(recipe.schedule, base, step - 1, num_steps)
    end = base * factor(recipe.schedule, base, num_steps - 1, num_steps)
    where = f"optimizer.lr was {lr_scale * now:.2g} at the end, {now / base:.0%} of {base:.2g}"
    left = f"; its schedule would have ended at {lr_scale * end:.2g}" if end < 0.9 * now else ""
    text = (
        f"Stopped at update {step:,} of {num_steps:,}: {quantity(found.num_after, 'evaluation')} "
        f"(train.patience={recipe.train.patience}) without a gain of {recipe.keep.metric} beyond noise "
        f"({BEYOND * found.noise:.4f}) since {found.score:.4f} at update {found.step:,}. {where}{left}. "
        "The same command with --resume train.patience=null goes on to the end."
    )
    shorter = (f"train.steps={step}",) if left else ()  # a schedule that falls to its end by then
    return Note("patience", text, shorter)


def _start(recipe: Recipe) -> int:
    adversarial = recipe.adversarial
    phased_in = int(adversarial.start) + int(adversarial.ramp) if adversarial else 0
    return max(end_of_rise(recipe.schedule, int(recipe.train.steps)), phased_in)


def _noise(known: Scores | Sequence[tuple[int, float]]) -> float:
    """Standard deviation of one evaluation around the curve, of a score in 0..1."""
    noise: float | None = None
    if len(known) >= MIN_FOR_PHASES:
        steps, points = (np.array(column, dtype=np.float64) for column in zip(*known, strict=True))
        noise = fit_pieces(steps, 100 * points)[2]
    return max(ASSUMED_NOISE if noise is None else noise, LEAST_NOISE) / 100
