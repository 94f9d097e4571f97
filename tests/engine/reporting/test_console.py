"""What shows that a command is at work: a bar on a terminal, lines elsewhere."""

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


HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"  # the cursor


def test_a_bar_is_drawn_from_the_first_call_to_the_last() -> None:
    file = io.StringIO()
    show = counted(Console(file=file, force_terminal=True), "scoring")
    show(4, 8)  # images in batches of four
    assert HIDE in file.getvalue() and "4/8" in file.getvalue() and SHOW not in file.getvalue()
    show(8, 8)
    assert file.getvalue().count(SHOW) == 1


def test_a_bar_that_an_error_ends_gives_the_cursor_back() -> None:
    file = io.StringIO()
    show = counted(Console(file=file, force_terminal=True), "scoring")
    show(1, 3)
    del show
    assert file.getvalue().count(HIDE) == file.getvalue().count(SHOW) == 1
