"""Combinations of members' probabilities, against values computed by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from engine.scoring.combining import Combination, EarlyExit


def pixel(*probabilities: float) -> Tensor:
    """(1, C, 1, 1)"""
    return torch.tensor(probabilities, dtype=torch.float64).view(1, -1, 1, 1)


def values(probabilities: Tensor) -> list[float]:
    return probabilities.flatten().tolist()


def test_the_mean_of_probabilities_is_arithmetic() -> None:
    both = Combination.mean(2)([pixel(0.9, 0.1), pixel(0.3, 0.7)])
    assert values(both) == pytest.approx([0.6, 0.4])


def test_the_mean_of_logits_is_the_softmax_of_the_mean_logit() -> None:
    logits = torch.randn(2, 3, 5, 4, 4, dtype=torch.float64) * 4  # (M, B, C, h, w)
    combined = Combination.mean(2, "logit")(list(logits.softmax(dim=2)))
    torch.testing.assert_close(combined, logits.mean(dim=0).softmax(dim=1), rtol=1e-9, atol=1e-10)


def test_weights_by_class_are_normalised_over_the_classes() -> None:
    """Class 0 uses only the first member, class 1 the second: 0.9 and 0.7 of 1.6."""
    by_class = Combination("probability", ((1.0, 0.0), (0.0, 1.0)), (1.0, 1.0))
    assert values(by_class([pixel(0.9, 0.1), pixel(0.3, 0.7)])) == pytest.approx([0.9 / 1.6, 0.7 / 1.6])


def test_a_temperature_of_two_gives_the_square_root() -> None:
    softened = Combination("probability", ((1.0,),), (2.0,))([pixel(0.8, 0.2)])
    root = [0.8**0.5, 0.2**0.5]
    assert values(softened) == pytest.approx([part / sum(root) for part in root])


@pytest.mark.parametrize("space", ["probability", "logit"])
def test_a_member_without_weight_is_not_needed(space) -> None:
    one = Combination(space, ((0.0,), (1.0,)), (1.0, 1.0))
    assert one.used == [1]
    assert values(one([pixel(float("nan"), 1.0), pixel(0.3, 0.7)])) == pytest.approx([0.3, 0.7])


@pytest.mark.parametrize("space", ["probability", "logit"])
def test_a_class_with_probability_zero_gives_finite_values(space) -> None:
    combined = Combination.mean(2, space)([pixel(1.0, 0.0), pixel(0.5, 0.5)])
    assert combined.isfinite().all()
    assert float(combined.sum()) == pytest.approx(1)
    assert combined[0, 0] > combined[0, 1]


def test_a_combination_is_restored_from_its_dictionary() -> None:
    combination = Combination("logit", ((0.25, 0.5), (0.75, 0.5)), (1.0, 1.5))
    assert Combination.from_dict(combination.to_dict()) == combination
    early = replace(combination, early_exit=EarlyExit(1, 0.9))
    assert Combination.from_dict(early.to_dict()) == early


def test_one_member_alone_predicts_the_images_that_it_is_sure_of() -> None:
    combination = replace(Combination.mean(2), early_exit=EarlyExit(1, 0.9))
    members = [torch.cat([pixel(0.9, 0.1)] * 2), torch.cat([pixel(0.3, 0.7)] * 2)]
    mixed = combination(members, torch.tensor([False, True]))  # (2, 2, 1, 1)
    assert values(mixed) == pytest.approx([0.6, 0.4, 0.3, 0.7])
    assert values(combination([None, members[1]], torch.tensor([True, True]))) == values(members[1])
    assert values(combination(members)) == pytest.approx([0.6, 0.4] * 2)


def test_the_member_that_decides_keeps_its_place_among_those_that_are_used() -> None:
    combination = Combination("probability", ((0.5,), (0.0,), (0.5,)), (1.0,) * 3, EarlyExit(2, 0.9))
    assert combination.of_used().early_exit == EarlyExit(1, 0.9)
