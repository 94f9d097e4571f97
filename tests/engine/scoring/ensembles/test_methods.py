"""The choices of the methods, from made-up evidence."""

import numpy as np
import pytest

from engine.scoring.combining import Combination
from engine.scoring.ensembles.methods import (
    METHODS,
    Ensemble,
    SelectionData,
    choose_ensemble,
    mean_of,
    one_hot,
)


def counts(right: int, wrong: int, images: int = 2) -> np.ndarray:
    """(N, 2, 2) overlaps, equal for two classes: more right pixels give a higher mIoU."""
    union = right + 2 * wrong
    return np.tile(np.array([[right, right], [union, union]]), (images, 1, 1))


def evidence(members: list[int], soups: dict[tuple[int, ...], int], averageable=(0, 1, 2)) -> SelectionData:
    """`members` and `soups` by the number of right pixels of ten; a soup not listed may not be asked for."""
    return SelectionData(
        names=[f"m{number}" for number in range(len(members))],
        ids=["a", "b"],
        overlaps=[counts(right, 10 - right) for right in members],
        samples=None,
        averageable=averageable,
        overlaps_of_soup=lambda soup: counts(soups[soup], 10 - soups[soup]),
    )


def test_equal_weights_need_no_evidence() -> None:
    seen = evidence([5, 6, 7], {})
    assert choose_ensemble("mean", seen) == Ensemble(Combination.mean(3))
    assert choose_ensemble("mean_logit", seen) == Ensemble(Combination.mean(3, "logit"))
    assert choose_ensemble("mean", seen).cost == 3


def test_the_uniform_soup_averages_all_it_can_and_costs_one_pass() -> None:
    chosen = choose_ensemble("soup_uniform", evidence([5, 6, 7], {(0, 1, 2): 8}))
    assert (chosen.soup, chosen.cost, chosen.accepted, chosen.single_member) == ((0, 1, 2), 1, True, None)
    assert chosen.note == "weights of m0, m1, m2"


def test_a_soup_as_good_as_the_best_member_is_accepted() -> None:
    assert choose_ensemble("soup_uniform", evidence([5, 6, 7], {(0, 1, 2): 7})).accepted


@pytest.mark.parametrize("method", ["soup_uniform", "soup_greedy"])
def test_a_soup_worse_than_the_best_member_is_rejected_for_it(method: str) -> None:
    soups = {(0, 1, 2): 6, (1, 2): 6, (0, 1): 6, (0, 2): 6}
    chosen = choose_ensemble(method, evidence([5, 6, 7], soups))
    assert not chosen.accepted and chosen.soup == ()
    assert chosen.single_member == 2 and chosen.cost == 1
    assert "rejected" in chosen.note and "m2 is used instead" in chosen.note


def test_the_greedy_soup_keeps_members_that_do_not_lower_the_miou_best_first() -> None:
    """2 is the best; with 1 it is worse, so 0 is tried with 2 only."""
    chosen = choose_ensemble("soup_greedy", evidence([5, 6, 7], {(1, 2): 6, (0, 2): 8}))
    assert chosen.soup == (0, 2) and chosen.accepted


def test_a_soup_is_compared_with_the_best_member_of_any_architecture() -> None:
    seen = evidence([5, 6, 9], {(0, 1): 8}, averageable=(0, 1))
    assert choose_ensemble("soup_uniform", seen).single_member == 2
    assert not choose_ensemble("soup_greedy", seen).accepted


def test_without_two_of_one_architecture_there_is_no_soup() -> None:
    chosen = choose_ensemble("soup_uniform", evidence([5, 6], {}, averageable=(0,)))
    assert "no two members share an architecture" in chosen.note
    assert chosen.single_member == 1


def test_evidence_can_be_restricted_to_some_images() -> None:
    seen = evidence([5, 6], {(0, 1): 7}, averageable=(0, 1))
    seen.overlaps[0][1] = [[10, 10], [10, 10]]  # member 0 is perfect on the second image
    assert seen.best_member == 0
    first = seen.of_images(np.array([True, False]))
    assert first.ids == ["a"]
    assert first.best_member == 1
    assert first.overlaps_of_soup((0, 1)).shape == (1, 2, 2)


def test_a_single_member_and_a_subset_of_one_are_equal() -> None:
    assert one_hot(1, 3) == mean_of([1], 3)
    assert mean_of([2, 0], 3).weights == ((0.5,), (0.0,), (0.5,))
    assert Ensemble(one_hot(1, 3)).single_member == 1
    assert Ensemble(mean_of([0, 1], 3)).single_member is None


def test_every_method_has_a_line_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    from engine.ensemble import main

    assert main(["--help"]) == 0
    output = capsys.readouterr().out.replace(",", " ").split()
    assert set(METHODS) <= set(output)
