"""From findings to recipe lines: rules, those that usually gain most first; at most five are given.

Each rule reads the figures and the recipe, and returns None where it does not apply. Lines that are already
in the recipe are left out, and a recommendation without any others.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from engine.data.resident import IN_MEMORY
from engine.diagnosis.classes import BACKGROUND, Classes, Confusion
from engine.diagnosis.curve import MIN_FOR_OUTLOOK, WORTH, Shape
from engine.diagnosis.growth import longer
from engine.diagnosis.places import Confidence, Edges, Sizes
from engine.diagnosis.remedies import (
    PACK_DATA,
    average_weights,
    can_be_packed,
    changing,
    cheaper_augmentation,
    help_rare_classes,
    keep_images_in_memory,
    pretrained_weights,
)
from engine.diagnosis.training import Losses, Speed, Start
from engine.recipe import Recipe

MOST = 5
FINE_TUNING_LR = 2e-4  # a pretrained encoder is trained with less than this
NOISY = 1.5  # points of noise around the curve
LARGER = {"b0": "b2", "b1": "b2", "b2": "b4", "b3": "b5", "b4": "b5"}
CLOSER = 1.5  # factor by which images are enlarged


@dataclass(frozen=True)
class Recommendation:
    """What to try next.

    Args:
        title: one sentence, in the imperative.
        recipe_lines: `key.path=value` each, as typed after the run's own recipe.
        evidence: the figures that speak for it.
    """

    title: str
    recipe_lines: list[str]
    evidence: str


@dataclass(frozen=True)
class Studies:
    """The figures about a run; None where its files do not hold them.

    schedule_ended: what the fall of the learning rate does to the curve; empty where it stayed high.
    """

    last_step: int
    start: Start
    growth: Shape | None
    schedule_ended: str
    losses: Losses | None
    classes: Classes | None
    confusions: list[Confusion] | None
    edges: Edges | None
    sizes: Sizes | None
    confidence: Confidence | None
    speed: Speed | None


def recommend(studies: Studies, recipe: Recipe) -> list[Recommendation]:
    """At most five, most important first, as changes of the run's recipe."""
    found = [made for rule in RULES if (made := rule(studies, recipe))]
    new = [replace(one, recipe_lines=changing(recipe, one.recipe_lines)) for one in found]
    return [recommendation for recommendation in new if recommendation.recipe_lines][:MOST]


def _weights(s: Studies, recipe: Recipe) -> Recommendation | None:
    if not s.start.is_suspect:
        return None
    lines = ["model.from_scratch=false", pretrained_weights(recipe, recipe.model.variant)]
    if recipe.optimizer.lr > FINE_TUNING_LR:
        lines += ["optimizer.lr=6.0e-5", "optimizer.head_lr_mult=10.0", "schedule.min_lr=0.0"]
    saturated = f" {longer(s.growth)}" if s.growth and s.growth.is_saturated else ""
    return Recommendation(
        "Start from pretrained weights; a run stops unless they fill 95 % of the encoder. "
        "Check their licence: docs/models.md#licences",
        lines,
        str(s.start) + saturated,
    )


def _longer(s: Studies, recipe: Recipe) -> Recommendation | None:
    """Where the curve still rises."""
    if s.growth is None or not s.growth.still_rises:
        return None
    evidence = longer(s.growth) or "It was still rising at its last evaluation."
    return _twice_as_long("Train longer.", evidence, s, recipe)


def _longer_schedule(s: Studies, recipe: Recipe) -> Recommendation | None:
    """Where the fall of the learning rate has ended the curve, and a larger encoder is the next to try."""
    if s.growth is None or s.growth.still_rises or not s.growth.rises:
        return None
    if not s.schedule_ended or not _look_alikes(s, recipe):
        return None
    return _twice_as_long("Train longer, before a larger encoder.", s.schedule_ended, s, recipe)


def _twice_as_long(title: str, evidence: str, s: Studies, recipe: Recipe) -> Recommendation | None:
    """None for a run that has not ended yet, or that over-fits."""
    steps = recipe.train.steps  # text while it is in epochs; that of a run is in updates
    if (s.losses and s.losses.is_overfitting) or (isinstance(steps, int) and s.last_step < steps):
        return None
    return Recommendation(title, [f"train.steps={2 * s.last_step}"], evidence)


def _regularise(s: Studies, recipe: Recipe) -> Recommendation | None:
    if s.losses is None or not s.losses.is_overfitting:
        return None
    augment = recipe.augment
    lines = [] if augment.classmix else ["augment.classmix=0.5"]
    lines += [] if augment.copy_paste else ["augment.copy_paste=0.3"]
    lines += [] if recipe.optimizer.weight_decay >= 0.05 else ["optimizer.weight_decay=0.05"]
    title = f"Augment and regularise more, or stop near step {s.losses.best_step:,.0f}."
    return Recommendation(title, lines, str(s.losses))


def _imbalance(s: Studies, recipe: Recipe) -> Recommendation | None:
    if s.classes is None or not s.classes.is_imbalanced:
        return None
    lines = help_rare_classes(recipe)
    title = "Show rare classes more often."
    return Recommendation(title, list(lines), str(s.classes))


def _look_alikes(s: Studies, recipe: Recipe) -> list[Confusion]:
    """Costly confusions of two objects, where there is a larger encoder and this one does not over-fit."""
    model = recipe.model
    if model.arch != "segformer" or model.encoder or model.variant not in LARGER:
        return []
    if s.losses and s.losses.is_overfitting:
        return []
    return [c for c in s.confusions or [] if c.cost >= WORTH and BACKGROUND not in (c.label, c.prediction)]


def _larger_encoder(s: Studies, recipe: Recipe) -> Recommendation | None:
    """For classes that are often confused, once it is known that this encoder gains no more."""
    confused = _look_alikes(s, recipe)
    if not confused or s.growth is None or s.growth.still_rises or len(s.growth.steps) < MIN_FOR_OUTLOOK:
        return None
    variant = LARGER[recipe.model.variant]
    weights = [pretrained_weights(recipe, variant)] if recipe.model.weights else []
    return Recommendation(
        "Try a larger encoder for classes that look alike.",
        [f"model.variant={variant}", *weights],
        "; ".join(map(str, confused)) + ".",
    )


def _outlines(s: Studies, recipe: Recipe) -> Recommendation | None:
    if s.edges is None or not s.edges.are_most_errors:
        return None
    terms = [term.model_dump() for term in recipe.loss]
    if any(term["name"] == "boundary" for term in terms):
        return None
    line = f"loss={json.dumps([*terms, {'name': 'boundary', 'weight': 0.5}])}"
    return Recommendation("Add a loss term for outlines.", [line], str(s.edges))


def _small_objects(s: Studies, recipe: Recipe) -> Recommendation | None:
    if s.sizes is None or not s.sizes.are_weak_when_small:
        return None
    smallest, largest = recipe.augment.scale
    views = [CLOSER * view for view in recipe.eval.scales]
    if len(views) == 1:
        views = [*recipe.eval.scales, *views]
    lines = [f"augment.scale=[{smallest:g}, {CLOSER * largest:g}]"]
    lines.append(f"eval.scales=[{', '.join(f'{view:g}' for view in views)}]")
    return Recommendation("Enlarge the images in training and in scoring.", lines, str(s.sizes))


def _smoothing(s: Studies, recipe: Recipe) -> Recommendation | None:
    if s.confidence is None or not s.confidence.is_overconfident:
        return None
    lines = [
        f"loss.{i}.label_smoothing=0.05"
        for i, term in enumerate(recipe.loss)
        if term.name == "cross_entropy" and not term.label_smoothing
    ]
    title = "Smooth the labels, so that probabilities are less extreme."
    return Recommendation(title, lines, str(s.confidence))


def _data(s: Studies, recipe: Recipe) -> Recommendation | None:
    if s.speed is None or not s.speed.is_data_bound:
        return None
    if s.speed.images == IN_MEMORY:
        title = "Switch off augmentations that are slow: the images are in memory already."
        return Recommendation(title, list(cheaper_augmentation(recipe)), str(s.speed))
    if lines := keep_images_in_memory(recipe):
        return Recommendation("Keep the decoded images in memory, where they fit.", [*lines], str(s.speed))
    if s.speed.images is None or not can_be_packed(recipe):
        return None
    title = f"Pack the decoded images into one file, with {PACK_DATA}, and train on it."
    return Recommendation(title, ["data.format=packed", "data.root=data.h5"], str(s.speed))


def _average(s: Studies, recipe: Recipe) -> Recommendation | None:
    noise = s.growth.noise if s.growth else None
    if noise is None or noise < NOISY:
        return None
    evidence = f"mIoU varies by {noise:.1f} points around its own trend from one evaluation to the next."
    return Recommendation("Use a moving average of the weights.", [*average_weights(recipe)], evidence)


RULES: list[Callable[[Studies, Recipe], Recommendation | None]] = [
    _longer,
    _weights,
    _regularise,
    _imbalance,
    _longer_schedule,
    _larger_encoder,
    _outlines,
    _small_objects,
    _smoothing,
    _data,
    _average,
]
