"""Halves that choose for each other, with methods that record which images they have seen."""

from dataclasses import replace

import numpy as np
import pytest

import engine.scoring.ensembles.cross_validation as cross_validation
from engine.run_folder import RunFolderError
from engine.scoring.combining import Combination
from engine.scoring.ensembles.cross_validation import BEST_MEMBER, cross_validate
from engine.scoring.ensembles.selection import Ensemble, SelectionData, one_hot

N, REPEATS = 7, 4


def evidence() -> SelectionData:
    """Member 0 is right on the even images alone, member 1 on the odd ones alone."""
    right, wrong = [[4, 4], [4, 4]], [[0, 0], [8, 8]]  # intersection, union of two classes
    rows = [np.array([right if (row + member) % 2 == 0 else wrong for row in range(N)]) for member in (0, 1)]

    def of_soup(soup):
        return np.tile(np.array(right), (N, 1, 1))

    return SelectionData(
        ["even", "odd"], [f"{row}" for row in range(N)], rows, None, (0, 1), of_soup, of_soup
    )


def run(monkeypatch: pytest.MonkeyPatch, method) -> tuple[dict, list[tuple[int, Combination]]]:
    """The totals, and the counted combinations, each with a single right pixel."""
    monkeypatch.setattr(cross_validation, "choose_ensemble", lambda name, seen: method(seen))
    asked = []

    def count(wanted, on_row) -> None:
        for row in range(N):
            asked.extend((row, combination) for combination in wanted(row))
            on_row(row, {combination: np.array([[1, 0], [1, 0]]) for combination in wanted(row)})

    return cross_validate(["method"], evidence(), REPEATS, count, lambda done, total: None), asked


def test_no_image_is_scored_by_a_choice_that_used_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen_by: dict[Combination, set[str]] = {}

    def telling(seen: SelectionData) -> Ensemble:
        share = 0.3 + 0.01 * len(seen_by)
        combination = Combination("probability", ((share,), (1 - share,)), (1.0, 1.0))
        seen_by[combination] = set(seen.ids)
        return Ensemble(combination)

    totals, asked = run(monkeypatch, telling)
    assert len(seen_by) == 2 * REPEATS
    assert {len(ids) for ids in seen_by.values()} == {N // 2, N - N // 2}
    assert all(str(row) not in seen_by[combination] for row, combination in asked)
    assert totals["method"][:, 1].sum(axis=1).tolist() == [REPEATS] * N  # each time once
    assert len({frozenset(ids) for ids in seen_by.values()}) > 2  # new halves in each repeat


def test_members_and_soups_are_not_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    totals, asked = run(monkeypatch, lambda seen: Ensemble(one_hot(1, 2)))
    assert asked == []
    assert np.array_equal(totals["method"], REPEATS * evidence().overlaps[1])
    totals, asked = run(monkeypatch, lambda seen: Ensemble(one_hot(0, 2), soup=(0, 1)))
    assert asked == []
    assert np.array_equal(totals["method"], REPEATS * evidence().overlaps_of_soup((0, 1)))


def test_the_best_member_is_chosen_on_the_other_half_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 7 images 4 are even. Where more of a half are even, "even" is its best, and then fewer of the other
    half are: so on the whole its choice does worse than "even" does on all."""
    totals, _ = run(monkeypatch, lambda seen: Ensemble(one_hot(0, 2)))
    right = totals[BEST_MEMBER][:, 0].sum()
    assert (right + totals[BEST_MEMBER][:, 1].sum()) == REPEATS * N * 16  # 8 and 8, or 0 and 16
    assert right < totals["method"][:, 0].sum()


def test_each_half_has_a_labelled_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of seven images two have labels: one is in each half, and selects for the other."""
    labelled = np.zeros((N, 1, 1), np.int64)
    labelled[[2, 5]] = 1
    halves = []

    def seen(name: str, data: SelectionData) -> Ensemble:
        halves.append({"2", "5"} & set(data.ids))
        return Ensemble(one_hot(0, 2))

    monkeypatch.setattr(cross_validation, "choose_ensemble", seen)

    def validated(data: SelectionData) -> dict:
        return cross_validate(["method"], data, 2, lambda wanted, on_row: None, lambda done, total: None)

    data = evidence()
    validated(replace(data, overlaps=[of_one * labelled for of_one in data.overlaps]))
    assert sorted(map(sorted, halves)) == [["2"], ["2"], ["5"], ["5"]]
    labelled[5] = 0
    with pytest.raises(RunFolderError, match="--split-half: fewer than two .* Leave it out"):
        validated(replace(data, overlaps=[of_one * labelled for of_one in data.overlaps]))
