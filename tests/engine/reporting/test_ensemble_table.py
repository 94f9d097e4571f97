"""The table of methods on the console, from made-up results."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from rich.console import Console

from engine.reporting.ensemble_table import (
    methods_table,
    optimism_fact,
    print_exit,
    saved_fact,
    selection_facts,
)
from engine.scoring.combining import Combination, EarlyExit
from engine.scoring.ensembles.comparison import Estimate, MethodComparison, MethodResult, Selection
from engine.scoring.ensembles.early_exit import Exiting, ExitPoint
from engine.scoring.ensembles.selection import Ensemble

SAME = Selection("val", 9, same_images=True, repeats=0)
HALVED = Selection("val", 9, same_images=True, repeats=5)
ELSEWHERE = Selection("held", 7, same_images=False, repeats=0)
OPTIMISTIC, HONEST = Estimate(0.75, 0.05, 0.01, 0.08, 0.0, 0.1), Estimate(0.72, 0.03, -0.01, 0.06, -0.02, 0.1)


def comparison(honest: Estimate | None, accepted: bool = True) -> MethodComparison:
    ensemble = Ensemble(Combination.mean(3), note="weights [1]", accepted=accepted)
    result = MethodResult(ensemble, None, OPTIMISTIC, honest, 0.74, 12.5)
    return MethodComparison({}, "step 8", 30.0, {"weighted": result})


def table_of(honest: Estimate | None) -> list[list[str]]:
    return cells_of(comparison(honest))


def cells_of(compared: MethodComparison) -> list[list[str]]:
    """The cells of each row."""
    console = Console(width=200)
    with console.capture() as capture:
        console.print(methods_table(compared))
    lines = [line for line in capture.get().splitlines() if line.startswith(("│", "┃"))]
    return [[cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in lines]


def test_without_an_honest_score_the_heading_says_same_images() -> None:
    heading, best, row = table_of(None)
    assert heading == ["method", "mIoU, same images", "gain [95 %]", "images/s", "cost", "note"]
    assert best == ["best member: step 8", "0.7000", "", "30.00", "1", ""]
    assert row == ["weighted", "0.7500", "+0.0500 [+0.0100, +0.0800]", "12.50", "3", "weights [1]"]


def test_the_honest_score_is_first_with_its_own_gain() -> None:
    heading, best, row = table_of(HONEST)
    assert heading[1:4] == ["honest mIoU", "gain [95 %]", "optimistic mIoU"]
    assert best[1:4] == ["0.6900", "", "0.7000"]
    assert row[1:4] == ["0.7200", "+0.0300 [-0.0100, +0.0600]", "0.7500"]


def test_the_images_that_methods_were_chosen_on_are_named() -> None:
    loud = selection_facts(SAME, "val", ["mean", "greedy"])
    assert "SELECTED AND SCORED ON THE SAME 9 images of val" in loud and "--split-half" in loud
    assert "Only the best member was selected on 9 images of val" in selection_facts(SAME, "val", ["mean"])
    assert "halved at random 5 times" in selection_facts(HALVED, "val", ["greedy"])
    assert "Honest: selected on 7 images of held, scored on val" in selection_facts(
        ELSEWHERE, "val", ["greedy"]
    )


def test_the_saved_method_is_named_with_its_score() -> None:
    path = Path("best")
    assert saved_fact(path, comparison(None), SAME, "val") == (
        "saved: best (weighted: mIoU 0.7400 on val, on which it was selected: optimistic)"
    )
    assert "other halves of val" in saved_fact(path, comparison(HONEST), HALVED, "val")
    assert "on held, on which it was selected" in saved_fact(path, comparison(HONEST), ELSEWHERE, "val")
    assert "(step 8 alone: " in saved_fact(path, comparison(None, accepted=False), SAME, "val")


def test_an_early_exit_is_saved_with_its_own_score_and_where_that_is_from() -> None:
    path, point = Path("best"), ExitPoint(0.9, 0.5, 2.0, 0.71)
    exiting = Exiting(
        "step 8", 0.01, False, EarlyExit(0, 0.9), Ensemble(Combination.mean(3)), SimpleNamespace(mIoU=0.71),
        point, Estimate(0.71, -0.01, -0.02, 0.0, -0.1, 0.1), [ExitPoint(None, 0.0, 3.0, 0.72), point],
    )  # fmt: skip
    said = saved_fact(path, comparison(HONEST), ELSEWHERE, "val", exiting)
    assert said == "saved: best (weighted with early exit: mIoU 0.7100 on val, selected on held)"
    without = replace(exiting, early_exit=None)
    expected = saved_fact(path, comparison(HONEST), ELSEWHERE, "val")
    assert saved_fact(path, comparison(HONEST), ELSEWHERE, "val", without) == expected
    console = Console(width=200)
    with console.capture() as capture:
        print_exit(console, exiting, "weighted", "val")
    assert "On val it changes mIoU by -0.0100 [-0.0200, +0.0000] against the whole" in capture.get()


def test_several_methods_are_compared_with_the_best_and_its_luck_is_named() -> None:
    one = comparison(HONEST)
    result = one.results["weighted"]
    behind = Estimate(0.7, -0.02, -0.03, -0.01, 0.0, 0.0)
    both = replace(
        one,
        results={"weighted": result, "mean": replace(result, ranking_mIoU=0.7)},
        to_winner={"mean": behind},
        optimism=0.004,
    )
    heading, best, first, second = cells_of(both)
    place = heading.index("to the best method [95 %]")
    cells = ["", "the best", "-0.0200 [-0.0300, -0.0100]"]
    assert [row[place] for row in (best, first, second)] == cells
    said = optimism_fact(both, HALVED, "val")
    assert "weighted is the best of 2 methods" in said and "by about 0.0040 (" in said and "0.7360" in said
    assert "the bias of fitting" in optimism_fact(both, SAME, "val")
    assert (
        optimism_fact(one, SAME, "val") == optimism_fact(replace(both, optimism=math.nan), SAME, "val") == ""
    )
