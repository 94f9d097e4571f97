"""What shows that a command is at work where no terminal draws a bar."""

import io

import pytest
from rich.console import Console

from engine.reporting import console as reported
from engine.reporting.console import counted


@pytest.mark.parametrize("every_s, expected", [(0.0, ["[x]: 1 of 2,000", "[x]: 2 of 2,000"]), (1e9, [])])
def test_a_log_file_has_a_line_at_intervals(every_s: float, expected: list[str], monkeypatch) -> None:
    monkeypatch.setattr(reported, "LINE_EVERY_S", every_s)
    file = io.StringIO()
    show = counted(Console(file=file), "[x]")
    for done in (1, 2, 2000):
        show(done, 2000)
    assert file.getvalue().splitlines() == expected
