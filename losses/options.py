"""The options of the loss terms: each is checked, and a wrong one is refused with what it may be."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from losses.errors import LossError, choose
from losses.mixed import Ramp
from losses.ohem import Ohem

Check = Callable[[str, Any, int], Any]  # its name, its value and C -> the value as the term takes it


def is_number(value: Any) -> bool:
    """Finite, and not a switch, which Python counts among the numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(allowed: str, holds: Callable[[float], bool]) -> Check:
    """A number for which `holds` is true; `allowed` says which these are, in words."""

    def check(name: str, value: Any, num_classes: int) -> float:
        if not is_number(value) or not holds(value):
            raise LossError(f"{name} must be a number {allowed}; it is {value!r}.")
        return float(value)

    return check


def weight(name: str, value: Any) -> float | Ramp:
    """A number, or a mapping or object with what a Ramp has."""
    if is_number(value) and value >= 0:
        return float(value)
    parts = ("begin", "end", "start", "ramp")
    fields = dict(value) if isinstance(value, Mapping) else getattr(value, "__dict__", {})
    if sorted(fields) == sorted(parts) and all(is_number(part) and part >= 0 for part in fields.values()):
        return Ramp(**fields)
    raise LossError(
        f"{name} must be a number, 0 or above, or a ramp {{begin, end, start, ramp}} of such numbers; "
        f"it is {value!r}."
    )


def switch(name: str, value: Any, num_classes: int) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise LossError(f"{name} must be true or false; it is {value!r}.")
    return value


def class_weights(name: str, value: Any, num_classes: int) -> Sequence[float]:
    """One number a class, not all of them 0."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise LossError(f"{name} must be none or a list of {num_classes} numbers; it is {value!r}.")
    if len(value) != num_classes:
        raise LossError(f"{name} has {len(value)} numbers, but there are {num_classes} classes.")
    wrong = [weight for weight in value if not is_number(weight) or weight < 0]
    if wrong or not any(value):
        raise LossError(f"{name} must be numbers, 0 or above, not all 0; found {wrong or 'only zeros'}.")
    return value


def ohem(name: str, value: Any, num_classes: int) -> Ohem:
    """`thresh` and `min_kept`, as a mapping or as an object with these attributes; each may be left out."""
    if not isinstance(value, Mapping) and not hasattr(value, "__dict__"):
        raise LossError(
            f"{name} must be a section, such as {{thresh: 0.7, min_kept: 100000}}; it is {value!r}."
        )
    fields = dict(value) if isinstance(value, Mapping) else dict(vars(value))
    for key in fields:
        choose(dict.fromkeys(Ohem._fields), key, f"option of {name} named")
    chosen = Ohem(**fields)
    if not is_number(chosen.thresh) or not 0 <= chosen.thresh < 1:
        raise LossError(f"{name}.thresh must be a number from 0 to below 1; it is {chosen.thresh!r}.")
    if not isinstance(chosen.min_kept, int) or isinstance(chosen.min_kept, bool) or chosen.min_kept < 1:
        raise LossError(f"{name}.min_kept must be a whole number, at least 1; it is {chosen.min_kept!r}.")
    return chosen
