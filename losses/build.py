"""`build_loss`: from the names and options of loss terms to the module that adds them up."""

import pkgutil
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from inspect import signature
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from torch import nn

from losses.errors import LossError, choose, wrong_option
from losses.mixed import MixedLoss, Ramp
from losses.terms import STRICT, TERMS, NotNegative

ANY_TYPE = STRICT | ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())
WEIGHT: TypeAdapter[float | Ramp] = TypeAdapter(NotNegative | Ramp, config=STRICT)


def build_loss(
    terms: Sequence[Mapping[str, Any] | object], num_classes: int = 21, ignore_index: int = 255
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

    Raises:
        LossError: an unknown name or option, a value out of range, a term given twice, no term.
    """
    if not terms:
        raise LossError(
            "The loss has no terms. Write for example: loss: [{name: cross_entropy}, {name: dice}]"
        )
    built: dict[str, tuple[nn.Module, float | Ramp]] = {}
    for term in terms:
        options = dict(term) if isinstance(term, Mapping) else dict(vars(term))
        name, weight = options.pop("name", None), options.pop("weight", 1.0)
        if isinstance(name, str) and ":" in name:
            log_name, module = _from_outside(name, options, num_classes, ignore_index)
        else:
            log_name, module = _own(name, options, num_classes, ignore_index)
        if log_name in built:
            raise LossError(
                f"The loss term {name!r} is given twice, or is logged as another one: {log_name}. Keep one, "
                "with the weight that you want."
            )
        built[log_name] = module, _checked_weight(name, weight)
    return MixedLoss(built, num_classes, ignore_index)


def _checked_weight(name: str, weight: Any) -> float | Ramp:
    try:
        return WEIGHT.validate_python(weight)
    except ValidationError:
        raise LossError(
            f"weight of the loss term {name!r}: expected a number, 0 or above, or a ramp "
            f"{{begin, end, start, ramp}} of such numbers with its times in steps, got {weight!r}."
        ) from None


def _own(name: Any, options: dict[str, Any], num_classes: int, ignore_index: int) -> tuple[str, nn.Module]:
    log_name, path, declaration = choose(TERMS, name, "loss term")
    # A term may carry an option of another one that is off: "none", None or 0.
    known = signature(declaration).parameters
    options = {
        key: value
        for key, value in options.items()
        if value is not None and (key in known or (value != "none" and value != 0))
    }
    what = f"the loss term {name!r}"
    weights = options.get("class_weights")
    if isinstance(weights, Sequence) and not isinstance(weights, str) and len(weights) != num_classes:
        raise LossError(
            f"class_weights of {what} has {len(weights)} numbers, but there are {num_classes} classes."
        )
    checked = _validated(declaration, options, what)
    return log_name, pkgutil.resolve_name(path)(ignore_index=ignore_index, **checked)


def _from_outside(
    path: str, options: dict[str, Any], num_classes: int, ignore_index: int
) -> tuple[str, nn.Module]:
    try:
        component = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise LossError(
            f"loss term {path!r}: {error}. Expected the import path of a class, package.module:Name; is the "
            "folder of the package the current one, or on PYTHONPATH?"
        ) from error
    if not callable(component):
        raise LossError(f"loss term {path!r}: expected a class, found {component!r}.")
    declaration = options_of(component, given := {"num_classes": num_classes, "ignore_index": ignore_index})
    checked = _validated(declaration, options, f"the loss term {path!r}")
    given = {key: value for key, value in given.items() if key in signature(component).parameters}
    try:
        module = component(**given, **checked)
    except (TypeError, ValueError) as error:
        raise LossError(f"loss term {path!r} with {checked}: {error}") from error
    if not isinstance(module, nn.Module):
        raise LossError(f"loss term {path!r}: expected a torch.nn.Module, got {module!r}.")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", path.rpartition(":")[2])
    return "loss_" + words.lower().removesuffix("_loss").replace(".", "_"), module


def options_of(component: Callable[..., object], given: Collection[str]) -> type[BaseModel]:
    """A strict model of the keyword parameters of a class or function, without those that are `given`."""
    fields: dict[str, Any] = {
        name: (
            Any if parameter.annotation is parameter.empty else parameter.annotation,
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for name, parameter in signature(component, eval_str=True).parameters.items()
        if name not in given and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    return create_model("Options", __config__=ANY_TYPE, **fields)


def _validated(declaration: Callable[..., Any], options: dict[str, Any], what: str) -> dict[str, Any]:
    """The options given, as the declared types; defaults are left to the constructor."""
    for key in options:
        choose(signature(declaration).parameters, key, f"option of {what} named")
    try:
        checked = declaration(**options)
    except ValidationError as error:
        raise wrong_option(error, what) from None
    return {key: getattr(checked, key) for key in options}
