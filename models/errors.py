"""The error of this package, and how it is raised for an unknown name."""

from collections.abc import Iterable
from difflib import get_close_matches


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
    return ModelError(f"{key}: {value!r} is not known.{hint} Choices: {', '.join(shown or choices)}.")
