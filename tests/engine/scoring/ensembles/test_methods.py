"""The choices of the methods, from made-up evidence."""

import numpy as np
import pytest

from engine.scoring.combining import Combination
from engine.scoring.ensembles.methods import METHODS, choose_ensemble
from engine.scoring.ensembles.selection import Ensemble, SelectionData, mean_of, one_hot


def counts(right: int, wrong: int, images: int = 2) -> np.ndarray:
    """(N, 2, 2) overlaps, equal for two classes: more right pixels give a higher mIoU."""
    union = right + 2 * wrong
    return np.tile(np.array([[right, right], [union, union]]), (images, 1, 1))


def evidence(
    members: list[int],
    soups: dict[tuple[int, ...], int],
    averageable=(0, 1, 2),
    tails=(),
    widths=(),
    losses: dict[tuple[int, ...], float] | None = None,
) -> SelectionData:
    """`members` and `soups` by the number of right pixels of ten; a soup not listed may not be asked for.

    losses: of a pixel, of each of the members and means that are not 1.
    """

    def losses_of_soup(soup: tuple[int, ...]) -> np.ndarray:
        return np.array([[10 * (losses or {}).get(soup, 1.0), 10]] * 2)

    return SelectionData(
        names=[f"m{number}" for number in range(9)],
        ids=["a", "b"],
        overlaps=[counts(right, 10 - right) for right in members],
        samples=None,
        averageable=averageable,
        overlaps_of_soup=lambda soup: counts(soups[soup], 10 - soups[soup]),
        losses_of_soup=losses_of_soup,
        tails=tails,
        widths=widths,
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
    assert "m1 left out: another initialisation or architecture" in chosen.note
    assert chosen.single_member == 1


@pytest.mark.parametrize("method", ["soup_uniform", "soup_greedy"])
def test_a_soup_leaves_out_what_is_behind_a_barrier_and_says_so(method: str) -> None:
    """The best is 2; halfway to 0 the loss is 1.5, and the mean of the two ends is (1 + 1.4) / 2 = 1.2."""
    losses = {(0,): 1.4, (0, 2): 1.5}
    chosen = choose_ensemble(method, evidence([5, 6, 7], {(1, 2): 8}, losses=losses))
    assert chosen.soup == (1, 2)
    assert "m0 left out: averaged with m2, the log-loss is 25.0 % above the mean of both" in chosen.note
    without = choose_ensemble(method, evidence([5, 6, 7], {(0, 2): 7, (1, 2): 8, (0, 1, 2): 9}))
    assert without.soup == (0, 1, 2)


def test_lawa_takes_as_many_of_the_latest_states_as_are_best() -> None:
    soups = {(4, 5): 6, (3, 4, 5): 8, (2, 3, 4, 5): 7}
    chosen = choose_ensemble("lawa", evidence([5, 6], soups, tails=[(2, 3, 4, 5)]))
    assert (chosen.soup, chosen.cost, chosen.accepted) == ((3, 4, 5), 1, True)
    assert choose_ensemble("swa", evidence([5, 6], soups, tails=[(2, 3, 4, 5)])).soup == (2, 3, 4, 5)


def test_states_from_before_a_barrier_are_in_no_mean() -> None:
    losses = {(2, 5): 2.0}
    seen = evidence([5, 6], {(4, 5): 7, (3, 4, 5): 7}, tails=[(2, 3, 4, 5)], losses=losses)
    chosen = choose_ensemble("swa", seen)
    assert chosen.soup == (3, 4, 5) and "m2 left out: averaged with m5" in chosen.note
    assert choose_ensemble("lawa", seen).soup == (4, 5)


def test_the_width_of_the_best_average_is_chosen() -> None:
    seen = evidence([5, 6], {(4,): 6, (5,): 8, (6,): 7}, widths=(4, 5, 6))
    chosen = choose_ensemble("ema_post_hoc", seen)
    assert (chosen.soup, chosen.cost, chosen.accepted) == ((5,), 1, True)
    assert chosen.note == "weights of m5; mIoU m4 0.4286, m5 0.6667, m6 0.5385"  # 6 / 14, 8 / 12, 7 / 13
    worse = choose_ensemble("ema_post_hoc", evidence([5, 9], {(4,): 6}, widths=(4,)))
    assert not worse.accepted and worse.combination == one_hot(1, 2)
    assert not choose_ensemble("ema_post_hoc", evidence([5, 6], {})).accepted


def test_of_several_runs_the_best_tail_is_taken_and_states_are_of_one_run() -> None:
    seen = evidence([5, 6], {(2, 3): 7, (4, 5): 8}, tails=[(2, 3), (4, 5)])
    assert choose_ensemble("swa", seen).soup == choose_ensemble("lawa", seen).soup == (4, 5)
    worse = evidence([5, 9], {(2, 3): 7, (4, 5): 8}, tails=[(2, 3), (4, 5)])
    rejected = choose_ensemble("swa", worse)
    assert rejected.single_member == 1 and not rejected.accepted


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
