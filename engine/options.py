"""What declarations of options are made of: strict sections, ranges, durations, and the wording of mistakes.

A duration is steps, `12 epochs`, `10%` of the training or, where it is no part of the training, `10 min`.
"""

import math
import os
import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

# No unknown key, no text for a number, no number for a switch, no infinity.
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, ser_json_inf_nan="constants")

Text = Annotated[str, Field(min_length=1)]
PathText = Annotated[Text, AfterValidator(os.path.expanduser)]  # a ~ at its start is the home folder
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


def mistake(text: str) -> PydanticCustomError:
    """A mistake whose text needs no rewriting."""
    return PydanticCustomError("mistake", "{text}", {"text": text})


def key(default: Any, meaning: str, **limits: Any) -> Any:
    """A key with its default and the line that editors show."""
    return Field(default, description=meaning, validate_default=True, **limits)


def plain_path(value: Any) -> str:
    """A path that a file names, if it is relative and stays below the folder of that file on every system.

    Raises:
        PydanticCustomError: it is absolute, or contains `..`, a drive, a backslash or an empty part.
    """
    parts = value.split("/") if isinstance(value, str) else [""]
    if any(part in ("", ".", "..") or set(part) & set("\\:\0") for part in parts):
        raise mistake(
            f"expected the name of a file below this folder, such as top/best.safetensors, not {value!r}"
        )
    return str(value)


PlainPath = Annotated[str, BeforeValidator(plain_path)]


class Section(BaseModel):
    """A strict and frozen section of a recipe."""

    model_config = STRICT | ConfigDict(frozen=True)


EPOCHS = re.compile(r"(\d+(?:\.\d+)?) ?epochs?")
PERCENT = re.compile(r"(\d+(?:\.\d+)?) ?%")
MINUTES = re.compile(r"(\d+(?:\.\d+)?) ?min")


def _minutes(value: Any) -> str:
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not (time := MINUTES.fullmatch(text)) or Fraction(time[1]) <= 0:
        raise mistake("expected a time, such as '10 min'")
    return text


Minutes = Annotated[
    str, BeforeValidator(_minutes), WithJsonSchema({"type": "string", "pattern": f"^{MINUTES.pattern}$"})
]


def seconds_of(minutes: str) -> float:
    """The seconds of such as "10 min"."""
    time = MINUTES.fullmatch(minutes)
    assert time
    return float(60 * Fraction(time[1]))


def _checked(least: int, percent: bool, minutes: bool = False, auto: bool = False) -> BeforeValidator:
    def check(value: Any) -> int | str:
        """Steps as they are, text with single blanks; refuses everything else."""
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        if isinstance(value, str):
            text = " ".join(value.split())
            if auto and text == "auto":
                return text
            epochs, share = EPOCHS.fullmatch(text), PERCENT.fullmatch(text)
            if epochs and (least == 0 or Fraction(epochs[1]) > 0):
                return text
            if share and percent and (least == 0 or Fraction(share[1]) > 0) and Fraction(share[1]) <= 100:
                return text
            if minutes and (time := MINUTES.fullmatch(text)) and Fraction(time[1]) > 0:
                return text
        forms = [f"steps (a whole number, at least {least})", "'12 epochs'"]
        forms += ["'10%' of train.steps"] * percent + ["'10 min'"] * minutes + ["auto"] * auto
        text = " or ".join([", ".join(forms[:-1]), forms[-1]])
        raise PydanticCustomError("duration", "{text}", {"text": text})

    return BeforeValidator(check)


def _schema(least: int, percent: bool, minutes: bool = False, auto: bool = False) -> WithJsonSchema:
    patterns = [EPOCHS.pattern] + [PERCENT.pattern] * percent + [MINUTES.pattern] * minutes + ["auto"] * auto
    return WithJsonSchema(
        {"type": ["integer", "string"], "minimum": least, "pattern": f"^({'|'.join(patterns)})$"}
    )


Length = Annotated[int | str, _checked(1, percent=False), _schema(1, percent=False)]  # of the whole training
Interval = Annotated[int | str, _checked(1, percent=True), _schema(1, percent=True)]
LogInterval = Annotated[int | str, _checked(1, percent=True, auto=True), _schema(1, percent=True, auto=True)]
SaveInterval = Annotated[
    int | str, _checked(1, percent=True, minutes=True), _schema(1, percent=True, minutes=True)
]
Duration = Annotated[int | str, _checked(0, percent=True), _schema(0, percent=True)]


def in_steps(
    duration: int | str, epoch_steps: int | None, total_steps: int | None, least: int = 0
) -> int | str:
    """`duration` as a rounded number of steps; or itself, where what it is a part of is unknown.

    Args:
        duration: as in a recipe.
        epoch_steps: steps of one epoch.
        total_steps: steps of the training.
        least: the result is not smaller.
    """
    if isinstance(duration, int):
        return duration
    epochs, share = EPOCHS.fullmatch(duration), PERCENT.fullmatch(duration)
    if epochs and epoch_steps is not None:
        return max(least, _round(Fraction(epochs[1]) * epoch_steps))
    if share and total_steps is not None:
        return max(least, _round(Fraction(share[1]) / 100 * total_steps))
    return duration


def _round(steps: Fraction) -> int:
    return math.floor(steps + Fraction(1, 2))  # halves go up; exact, as no float is involved


def listed(overrides: Iterable[str]) -> list[str]:
    """`key.path=value` texts; a single one may be given without a list."""
    return [overrides] if isinstance(overrides, str) else list(overrides)
