"""The error of this package, and the look-up that raises it with the choices."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

Entry = TypeVar("Entry")


class LossError(ValueError):
    """A loss that was asked for in a wrong way; its text says what to write instead."""

    exit_code = 2


def choose(table: Mapping[str, Entry], name: str, what: str) -> Entry:
    """The entry `name` of `table`; raises LossError that says what there is, and what was probably meant."""
    if name in table:
        return table[name]
    close = difflib.get_close_matches(str(name), table, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise LossError(f"There is no {what} {name!r}.{hint} Choices: {', '.join(table) or 'none'}.")
