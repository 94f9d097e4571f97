"""`build_loss`: makes the module that adds up loss terms, from their names and options."""

import pkgutil
import re
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import nn

from engine.components import (
    ComponentError,
    build_component,
    import_component,
    is_import_path,
    unknown,
)
from engine.options import STRICT, NotNegative
from engine.wording import quantity
from losses.mixed import MixedLoss, Ramp
from losses.multi_label import PerClass
from losses.terms import TERMS, LossError, require_multi

WEIGHT: TypeAdapter[float | Ramp] = TypeAdapter(NotNegative | Ramp, config=STRICT)


def build_loss(
    terms: Sequence[Mapping[str, Any] | object],
    num_classes: int = 21,
    ignore_index: int = 255,
    align_corners: bool = False,
    multi_label: bool = False,
) -> MixedLoss:
    """The loss of a recipe: `loss(logits, labels)` gives `{"loss": total, "loss_ce": ...}`.

    Args:
        terms: for each term `name`, `weight` (1 if absent) and its options, as a mapping or as an object with
            these attributes. A weight is a number, or a ramp {begin, end, start, ramp}, its times in steps.
            `losses.terms` declares the names and options; `docs/losses.md` says what they do. A name with a
            colon is the import path of a class, as `my_package.losses:MyLoss`. Its constructor takes the
            options, and num_classes and ignore_index if it has parameters of these names; its instances are
            modules called with (logits, labels), or with (logits, labels, reduce) as `MixedLoss` says.
        num_classes: C.
        ignore_index: the label of void pixels.
        align_corners: how logits are upsampled to the labels; the attribute of that name of a model.
        multi_label: labels are masks (B, C, H, W) of classes that may overlap, 1 where the class is; a loss
            that is named by its import path gets them unchanged.

    Raises:
        LossError: an unknown name or option, a value out of range, a term given twice, no term; or one that
            is not defined for classes that may overlap.
    """
    if not terms:
        raise LossError(
            "The loss has no terms. Write for example: loss: [{name: cross_entropy}, {name: dice}]"
        )
    built: dict[str, tuple[nn.Module, float | Ramp]] = {}
    for term in terms:
        if isinstance(term, str):
            raise LossError(
                f"loss term {term!r}: expected a mapping with its name, such as [{{'name': 'dice'}}]."
            )
        options = dict(term) if isinstance(term, Mapping) else dict(vars(term))
        name, weight = options.pop("name", None), options.pop("weight", 1.0)
        build = _from_outside if is_import_path(name) else _own
        try:
            log_name, module = build(name, options, num_classes, ignore_index)
        except ComponentError as error:
            raise LossError(f"loss term {name!r}: {error}") from error
        if multi_label and not is_import_path(name):
            require_multi(SimpleNamespace(name=name, **options))
            module = module if getattr(module, "takes_sums", False) else PerClass(module)
        if log_name in built:
            raise LossError(
                f"The loss term {name!r} is given twice, or is logged as another one: {log_name}. Keep one, "
                "with the weight that you want."
            )
        built[log_name] = module, _checked_weight(name, weight)
    return MixedLoss(built, num_classes, ignore_index, align_corners, multi_label)


def _checked_weight(name: str, weight: Any) -> float | Ramp:
    try:
        return WEIGHT.validate_python(weight)
    except ValidationError:
        raise LossError(
            f"weight of the loss term {name!r}: expected a number, 0 or above, or a ramp "
            f"{{begin, end, start, ramp}} of such numbers with its times in steps, got {weight!r}."
        ) from None


def _own(name: object, options: dict[str, Any], num_classes: int, ignore_index: int) -> tuple[str, nn.Module]:
    if not isinstance(name, str) or name not in TERMS:
        raise unknown("loss term", name, TERMS)
    log_name, path, declaration, _ = TERMS[name]
    weights = options.get("class_weights")
    if isinstance(weights, Sequence) and not isinstance(weights, str) and len(weights) != num_classes:
        numbers = quantity(len(weights), "number")
        raise LossError(
            f"class_weights has {numbers}, but there are {num_classes} classes. Give one for each class, by "
            "label id."
        )
    return log_name, build_component(
        pkgutil.resolve_name(path), declaration, options, {"ignore_index": ignore_index}
    )


def _from_outside(
    path: str, options: dict[str, Any], num_classes: int, ignore_index: int
) -> tuple[str, nn.Module]:
    component = import_component(path)
    given = {"num_classes": num_classes, "ignore_index": ignore_index}
    module = build_component(component, component, options, given)
    if not isinstance(module, nn.Module):
        raise LossError(f"expected a torch.nn.Module, got {module!r}.")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", path.rpartition(":")[2])
    return "loss_" + words.lower().removesuffix("_loss").replace(".", "_"), module
