"""The error of this package, and the two ways it is raised: for an unknown name and for a wrong option."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

Entry = TypeVar("Entry")


class LossError(ValueError):
    """A loss that cannot be built as asked for; the text says what to write instead."""

    exit_code = 2


def choose(table: Mapping[str, Entry], name: object, what: str) -> Entry:
    """The entry `name` of `table`; raises a LossError that lists the choices and suggests the closest one."""
    if isinstance(name, str) and name in table:
        return table[name]
    close = difflib.get_close_matches(str(name), table, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise LossError(f"There is no {what} {name!r}.{hint} Choices: {', '.join(table) or 'none'}.")


def wrong_option(error: ValidationError, what: str) -> LossError:
    """The error that says of the first option refused what was expected and what was given.

    Args:
        what: whose options they are, such as "the loss term 'dice'".
    """
    errors = error.errors()
    # Every member of a union reports why it refused the value; the one that got furthest was meant.
    first = [entry for entry in errors if entry["loc"][0] == errors[0]["loc"][0]]
    depth = max(len(entry["loc"]) for entry in first)
    meant = [entry for entry in first if len(entry["loc"]) == depth]
    path = ".".join(str(part) for part in meant[0]["loc"] if isinstance(part, int) or part.isidentifier())
    expected = " or ".join(entry["msg"].removeprefix("Input should be ") for entry in meant)
    return LossError(f"{path} of {what}: expected {expected}, got {meant[0]['input']!r}.")
