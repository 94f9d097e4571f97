"""Losses for semantic segmentation: pure functions, thin modules around them, and `build_loss`.

Void pixels (`ignore_index`) count nowhere. Knows nothing of models, data, recipes or training loops.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from losses.cross_entropy import CrossEntropy
from losses.dice import Dice
from losses.errors import LossError, choose
from losses.mixed import MixedLoss

__all__ = ["LossError", "MixedLoss", "build_loss"]


class Term(NamedTuple):
    """How a term is logged and built, and the options that it takes beside `name` and `weight`."""

    log_name: str
    build: Callable[..., nn.Module]
    options: tuple[str, ...]


TERMS = {
    "cross_entropy": Term("loss_ce", CrossEntropy, ("class_weights", "label_smoothing")),
    "dice": Term("loss_dice", Dice, ()),
}


def build_loss(
    terms: Sequence[Mapping[str, Any] | object], num_classes: int, ignore_index: int = 255
) -> MixedLoss:
    """The loss of a recipe: `loss(logits, labels)` gives `{"loss": total, "loss_ce": ...}`.

    Args:
        terms: for each term `name` ("cross_entropy", "dice"), `weight` (1 if absent) and its options, as a
            mapping or as an object with these attributes. Options of cross_entropy: `class_weights` ("none"
            or one number a class), `label_smoothing` (0 to below 1).
        num_classes: C.
        ignore_index: the label of void pixels.

    Raises:
        LossError: an unknown name or option, a value out of range, a term given twice, no term.
    """
    if not terms:
        raise LossError(
            "The loss has no terms. Write for example: loss: [{name: cross_entropy}, {name: dice}]"
        )
    built: dict[str, tuple[nn.Module, float]] = {}
    for term in terms:
        fields = dict(term) if isinstance(term, Mapping) else dict(vars(term))
        name, weight = fields.pop("name", None), fields.pop("weight", 1.0)
        log_name, build, allowed = choose(TERMS, name, "loss term")
        if log_name in built:
            raise LossError(
                f"The loss term {name!r} is given twice. Keep one, with the weight that you want."
            )
        if not _is_number(weight) or weight < 0:
            raise LossError(
                f"The weight of the loss term {name!r} must be a number, 0 or above; it is {weight!r}."
            )
        built[log_name] = build(ignore_index, **_options(name, fields, allowed, num_classes)), float(weight)
    return MixedLoss(built, num_classes)


def _options(name: str, fields: dict[str, Any], allowed: tuple[str, ...], num_classes: int) -> dict[str, Any]:
    """The options in use; "none", None and 0 switch one off, so that every term may carry every key."""
    options = {key: value for key, value in fields.items() if value is not None and value not in ("none", 0)}
    for key in options:
        choose(dict.fromkeys(allowed), key, f"option of the loss term {name!r} named")
    if "class_weights" in options:
        _check_class_weights(options["class_weights"], num_classes)
    if "label_smoothing" in options:
        smoothing = options["label_smoothing"]
        if not _is_number(smoothing) or not 0 <= smoothing < 1:
            raise LossError(f"label_smoothing must be a number from 0 to below 1; it is {smoothing!r}.")
    return options


def _check_class_weights(weights: Any, num_classes: int) -> None:
    if isinstance(weights, str) or not isinstance(weights, Sequence):
        raise LossError(f"class_weights must be none or a list of {num_classes} numbers; it is {weights!r}.")
    if len(weights) != num_classes:
        raise LossError(f"class_weights has {len(weights)} numbers, but there are {num_classes} classes.")
    wrong = [weight for weight in weights if not _is_number(weight) or weight < 0]
    if wrong or not any(weights):
        raise LossError(
            f"class_weights must be numbers, 0 or above, not all 0; found {wrong or 'only zeros'}."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
