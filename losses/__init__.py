"""Losses for semantic segmentation: pure functions, thin modules around them, and `build_loss`.

Void pixels (`ignore_index`) count nowhere. Knows nothing of models, data, recipes or training loops.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from losses import options
from losses.boundary import Boundary
from losses.cross_entropy import CrossEntropy
from losses.dice import Dice
from losses.errors import LossError, choose
from losses.focal import Focal
from losses.jaccard import Jaccard
from losses.lovasz import Lovasz
from losses.mixed import MixedLoss, Ramp
from losses.tversky import Tversky

__all__ = ["LossError", "MixedLoss", "build_loss"]


class Term(NamedTuple):
    """How a term is logged and built, and the options that it takes beside `name` and `weight`."""

    log_name: str
    build: Callable[..., nn.Module]
    options: Mapping[str, options.Check]


NOT_NEGATIVE = options.number("0 or above", lambda x: x >= 0)
POSITIVE = options.number("above 0", lambda x: x > 0)
TERMS = {
    "cross_entropy": Term(
        "loss_ce",
        CrossEntropy,
        {
            "class_weights": options.class_weights,
            "label_smoothing": options.number("from 0 to below 1", lambda x: 0 <= x < 1),
            "ohem": options.ohem,
        },
    ),
    "dice": Term("loss_dice", Dice, {"per_image": options.switch}),
    "focal": Term("loss_focal", Focal, {"gamma": NOT_NEGATIVE, "class_weights": options.class_weights}),
    "lovasz": Term("loss_lovasz", Lovasz, {"per_image": options.switch}),
    "tversky": Term("loss_tversky", Tversky, {"alpha": NOT_NEGATIVE, "beta": POSITIVE, "gamma": POSITIVE}),
    "jaccard": Term("loss_jaccard", Jaccard, {}),
    "boundary": Term("loss_boundary", Boundary, {"sigma_px": options.number("1 or above", lambda x: x >= 1)}),
}


def build_loss(
    terms: Sequence[Mapping[str, Any] | object], num_classes: int, ignore_index: int = 255
) -> MixedLoss:
    """The loss of a recipe: `loss(logits, labels)` gives `{"loss": total, "loss_ce": ...}`.

    Args:
        terms: for each term `name`, `weight` (1 if absent) and its options, as a mapping or as an object with
            these attributes. A weight is a number, or a ramp {begin, end, start, ramp}, its times in steps.
            `TERMS` has the names and the options; `docs/losses.md` says what they do.
        num_classes: C.
        ignore_index: the label of void pixels.

    Raises:
        LossError: an unknown name or option, a value out of range, a term given twice, no term.
    """
    if not terms:
        raise LossError(
            "The loss has no terms. Write for example: loss: [{name: cross_entropy}, {name: dice}]"
        )
    built: dict[str, tuple[nn.Module, float | Ramp]] = {}
    for term in terms:
        fields = dict(term) if isinstance(term, Mapping) else dict(vars(term))
        name, weight = fields.pop("name", None), fields.pop("weight", 1.0)
        log_name, build, allowed = choose(TERMS, name, "loss term")
        if log_name in built:
            raise LossError(
                f"The loss term {name!r} is given twice. Keep one, with the weight that you want."
            )
        module = build(ignore_index, **_options(name, fields, allowed, num_classes))
        built[log_name] = module, options.weight(f"The weight of the loss term {name!r}", weight)
    return MixedLoss(built, num_classes, ignore_index)


def _options(
    name: str, fields: dict[str, Any], allowed: Mapping[str, options.Check], num_classes: int
) -> dict[str, Any]:
    """The options given, checked; a term may carry another's option if that is off: "none", None or 0."""
    checked = {}
    for key, value in fields.items():
        if value is None or value == "none" or (key not in allowed and value == 0):
            continue
        check = choose(allowed, key, f"option of the loss term {name!r} named")
        checked[key] = check(f"{key} of the loss term {name!r}", value, num_classes)
    return checked
