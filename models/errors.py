"""The error of this package."""

from collections.abc import Iterable

from engine.components import ComponentError, unknown


class ModelError(ComponentError):
    """The requested model or weights cannot be used; the text says what to change."""


def unknown_choice(
    key: str, value: object, choices: Iterable[str], shown: Iterable[str] | None = None
) -> ModelError:
    """The error for a value outside `choices`; `shown` shortens the list that is printed."""
    return ModelError(f"{key}: {unknown('value', value, choices, shown)}")
