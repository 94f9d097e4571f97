"""The message of an error about data."""

from collections.abc import Callable

import pytest

from engine.data import DataError


def message_of(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    assert caught.value.exit_code == 2
    return str(caught.value)
