"""The error of this package, and the two ways it is raised: for an unknown name and for a wrong option."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from pydantic import ValidationError


class ModelError(ValueError):
    """The model or its weights cannot be what the user asked for; the text says what to change."""

    exit_code = 2


def unknown_choice(
    key: str, value: object, choices: Iterable[str], shown: Iterable[str] | None = None
) -> ModelError:
    """The error for a value outside `choices`; `shown` shortens the list that is printed."""
    choices = list(choices)
    close = get_close_matches(str(value), choices, n=3)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    return ModelError(
        f"{key}: {value!r} is not known.{hint} Choices: {', '.join(shown or choices) or 'none'}."
    )


def wrong_option(error: ValidationError) -> ModelError:
    """The error that says of the first option refused what was expected and what was given."""
    first = error.errors()[0]
    key = "model." + ".".join(str(part) for part in first["loc"])
    if first["type"] == "literal_error":
        return unknown_choice(key, first["input"], re.findall(r"'(.*?)'", first["ctx"]["expected"]))
    expected = first["msg"].removeprefix("Input should be ")
    return ModelError(f"{key}: expected {expected}, got {first['input']!r}.")
