"""IoU by class at an evaluation: blocks, changes, absent classes, very many classes."""

import io
import math

from rich.console import Console

from engine.reporting.class_table import change_line, changes, class_table
from engine.scoring.baselines import Baselines
from engine.scoring.confusion import Scores

BASELINES = Baselines("ground", "ground", first=0.1, majority=0.1, uniform=0.05)


def scores(IoU: dict[str, float]) -> Scores:
    absent = [name for name, value in IoU.items() if math.isnan(value)]
    return Scores({"mIoU": 0.5, "mAcc": 0.5, "aAcc": 0.5}, BASELINES, IoU, {}, {}, {}, absent, 100, 0)


def lines(now: dict[str, float], before: dict[str, float] | None, width: int) -> list[str]:
    file = io.StringIO()
    table = class_table(scores(now), scores(before) if before else None, width)
    Console(file=file, width=width, no_color=True).print(table)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_21_classes_take_seven_lines_and_a_heading() -> None:
    now = {f"class_{number:02}": number / 100 for number in range(21)}
    shown = lines(now, None, 120)
    assert len(shown) == 8
    assert shown[0].split() == ["class", "IoU", "change"] * 3
    assert shown[1].split() == ["class_00", "0.0000", "class_07", "0.0700", "class_14", "0.1400"]
    assert len(lines(now, None, 60)) == 12  # two blocks fit
    assert len(lines(now, None, 30)) == 22
    assert max(len(line) for width in (30, 60, 120) for line in lines(now, None, width)) <= 120


def test_changes_are_shown_and_absent_classes_are_not() -> None:
    before = {"ground": 0.5, "cat": 0.25, "bus": math.nan, "dog": 0.1}
    now = {"ground": 0.625, "cat": 0.125, "bus": 0.3, "dog": math.nan}
    shown = lines(now, before, 40)
    assert [line.split() for line in shown[1:]] == [
        ["ground", "0.6250", "+0.1250"],
        ["cat", "0.1250", "-0.1250"],
        ["bus", "0.3000"],
    ]
    assert changes(scores(now), scores(before)) == {"ground": 0.125, "cat": -0.125}


def test_of_150_classes_those_that_changed_most_are_shown() -> None:
    before = {f"c{number:03}": 0.5 for number in range(150)}
    now = before | {f"c{number:03}": 0.5 + (-1) ** number * number / 1000 for number in range(100, 112)}
    shown = lines(now, before, 100)
    assert "12 of 150 classes, those that changed most" in shown[-1]
    words = " ".join(shown).split()
    assert {name for name in words if name in before} == {f"c{number}" for number in range(100, 112)}
    assert "+0.1100" in words and "-0.1110" in words


def test_the_line_names_the_three_that_rose_and_fell_most() -> None:
    before = dict.fromkeys(["a", "b", "c", "d", "[e]", "f"], 0.5)
    now = {"a": 0.6, "b": 0.51, "c": 0.7, "d": 0.52, "[e]": 0.3, "f": 0.5}
    line = change_line(scores(now), scores(before))
    assert line == r"up: c +0.2000, a +0.1000, d +0.0200  down: \[e] -0.2000"
    assert change_line(scores(before), scores(before)) == ""
