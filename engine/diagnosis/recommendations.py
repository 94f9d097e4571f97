"""From findings to recipe lines: rules in the order of what usually costs most, the first five that apply.

Each rule reads the figures and the recipe, and is silent where the recipe has its remedy already.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from engine.diagnosis.calibration import Sureness
from engine.diagnosis.classes import BACKGROUND, Classes
from engine.diagnosis.confusions import Confusion
from engine.diagnosis.curve import Shape
from engine.diagnosis.findings import Recommendation
from engine.diagnosis.growth import longer
from engine.diagnosis.overfitting import Losses
from engine.diagnosis.places import Edges, Sizes
from engine.diagnosis.speed import Speed
from engine.diagnosis.start import Start
from engine.recipe import Recipe

MOST = 5
WORTH = 1.0  # points of mIoU that speak for a remedy
FINE_TUNING_LR = 2e-4  # an encoder with weights is trained more gently than this
NOISY = 1.5  # points of noise around the curve
LARGER = {"b0": "b2", "b1": "b2", "b2": "b4", "b3": "b5", "b4": "b5"}
CLOSER = 1.5  # factor of the sizes that are seen


@dataclass(frozen=True)
class Studies:
    """All that was found out about a run; None where its files do not say."""

    last_step: int
    start: Start
    growth: Shape | None
    losses: Losses | None
    classes: Classes | None
    confusions: list[Confusion] | None
    edges: Edges | None
    sizes: Sizes | None
    calibration: Sureness | None
    speed: Speed | None


def recommend(studies: Studies, recipe: Recipe) -> list[Recommendation]:
    """At most five, most important first, as changes of the run's recipe."""
    found = [rule(studies, recipe) for rule in RULES]
    return [recommendation for recommendation in found if recommendation][:MOST]


def _weights(s: Studies, recipe: Recipe) -> Recommendation | None:
    if not s.start.is_suspect:
        return None
    lines = ["model.from_scratch=false", f"model.weights={_pretrained(recipe, recipe.model.variant)}"]
    if recipe.optimizer.lr > FINE_TUNING_LR:
        lines += ["optimizer.lr=6.0e-5", "optimizer.head_lr_mult=10.0", "schedule.min_lr=0.0"]
    saturated = f" {longer(s.growth)}" if s.growth and s.growth.is_saturated else ""
    return Recommendation(
        "Start from pretrained weights; a run stops unless they fill 95 % of the encoder. "
        "Mind their licence: README, Weights.",
        lines,
        s.start.evidence() + saturated,
    )


def _pretrained(recipe: Recipe, variant: str) -> str:
    is_segformer = recipe.model.arch == "segformer" and recipe.model.encoder is None
    return f"hf:nvidia/mit-{variant}" if is_segformer else "smp:imagenet"


def _longer(s: Studies, recipe: Recipe) -> Recommendation | None:
    if s.growth is None or s.growth.outlook is None or s.growth.is_saturated:
        return None
    if s.growth.outlook.likely < WORTH or (s.losses and s.losses.is_overfitting):
        return None
    if s.last_step < recipe.train.steps:
        return None  # it goes on by itself, or with --resume
    return Recommendation("Train longer.", [f"train.steps={2 * s.last_step}"], longer(s.growth))


def _regularise(s: Studies, recipe: Recipe) -> Recommendation | None:
    if s.losses is None or not s.losses.is_overfitting:
        return None
    augment = recipe.augment
    lines = [] if augment.classmix else ["augment.classmix=0.5"]
    lines += [] if augment.copy_paste else ["augment.copy_paste=0.3"]
    lines += [] if recipe.optimizer.weight_decay >= 0.05 else ["optimizer.weight_decay=0.05"]
    title = f"Augment and regularise more, or stop near step {s.losses.best_step:,.0f}."
    return Recommendation(title, lines, s.losses.finding().text) if lines else None


def _imbalance(s: Studies, recipe: Recipe) -> Recommendation | None:
    if s.classes is None or not s.classes.is_imbalanced:
        return None
    weighable = [i for i, term in enumerate(recipe.loss) if hasattr(term, "class_weights")]
    lines = ["data.sampler=rare"] if recipe.data.sampler == "uniform" else []
    if weighable and all(recipe.loss[i].class_weights == "none" for i in weighable):
        lines.append(f"loss.{weighable[0]}.class_weights=median")
    title = "Let rare classes be seen more often, and weigh more."
    return Recommendation(title, lines, s.classes.finding().text) if lines else None


def _confusions(s: Studies, recipe: Recipe) -> Recommendation | None:
    """Classes that are told apart badly ask for a larger model, if there is one and none over-fits."""
    model = recipe.model
    between_objects = [
        c for c in s.confusions or [] if c.cost >= WORTH and BACKGROUND not in (c.label, c.prediction)
    ]
    if not between_objects or (s.losses and s.losses.is_overfitting):
        return None
    if model.arch != "segformer" or model.encoder or model.variant not in LARGER:
        return None
    variant = LARGER[model.variant]
    lines = [f"model.variant={variant}"]
    if model.weights:
        lines.append(f"model.weights={_pretrained(recipe, variant)}")
    return Recommendation(
        "Try a larger encoder for classes that look alike.", lines, "; ".join(map(str, between_objects)) + "."
    )


def _outlines(s: Studies, recipe: Recipe) -> Recommendation | None:
    if s.edges is None or not s.edges.are_most_errors:
        return None
    terms = [term.model_dump() for term in recipe.loss]
    if any(term["name"] == "boundary" for term in terms):
        return None
    line = f"loss={json.dumps([*terms, {'name': 'boundary', 'weight': 0.5}])}"
    return Recommendation("Add a loss that looks at outlines.", [line], str(s.edges))


def _small_objects(s: Studies, recipe: Recipe) -> Recommendation | None:
    if s.sizes is None or not s.sizes.are_weak_when_small:
        return None
    smallest, largest = recipe.augment.scale
    views = recipe.eval.scales
    lines = [f"augment.scale=[{smallest:g}, {CLOSER * largest:g}]"]
    if len(views) == 1:
        lines.append(f"eval.scales=[{views[0]:g}, {CLOSER * views[0]:g}]")
    return Recommendation("Look closer: larger views in training and in scoring.", lines, str(s.sizes))


def _smoothing(s: Studies, recipe: Recipe) -> Recommendation | None:
    if s.calibration is None or not s.calibration.is_overconfident:
        return None
    lines = [
        f"loss.{i}.label_smoothing=0.05"
        for i, term in enumerate(recipe.loss)
        if term.name == "cross_entropy" and not term.label_smoothing
    ]
    title = "Smooth the labels, so that probabilities are less extreme."
    return Recommendation(title, lines, s.calibration.finding().text) if lines else None


def _data(s: Studies, recipe: Recipe) -> Recommendation | None:
    if s.speed is None or not s.speed.is_data_bound or recipe.data.resident in ("ram", "gpu"):
        return None
    return Recommendation(
        "Keep the decoded images in memory, or pack them into one file (trident prepare pack).",
        ["data.resident=ram"],
        s.speed.finding().text,
    )


def _average(s: Studies, recipe: Recipe) -> Recommendation | None:
    noise = s.growth.noise if s.growth else None
    if noise is None or noise < NOISY or recipe.train.ema:
        return None
    evidence = f"mIoU jumps by {noise:.1f} points around its own trend from one evaluation to the next."
    return Recommendation("Score averaged weights.", ["train.ema=0.999"], evidence)


RULES: list[Callable[[Studies, Recipe], Recommendation | None]] = [
    _weights,
    _longer,
    _regularise,
    _imbalance,
    _confusions,
    _outlines,
    _small_objects,
    _smoothing,
    _data,
    _average,
]
