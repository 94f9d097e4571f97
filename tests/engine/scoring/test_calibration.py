"""The expected calibration error, against values computed by hand."""

import math

import numpy as np
import pytest
import torch

from engine.scoring.calibration import NUM_BINS, Calibration, reliability_counts


def counts_of(confidence: list[float], right: list[bool], labelled: list[bool]) -> np.ndarray:
    maps = (torch.tensor(values).view(1, 1, -1) for values in (confidence, right, labelled))
    return reliability_counts(*maps)[0].numpy()


def test_ece_is_the_gap_weighted_by_pixels() -> None:
    """Three pixels of 0.9, two of them right: 0.7 less 2 right; one of 0.5, right; a void one."""
    counts = counts_of([0.9, 0.9, 0.9, 0.5, 0.8], [True, True, False, True, False], [True] * 4 + [False])
    found = Calibration.of(counts)
    assert found.ece == pytest.approx((abs(2.7 - 2) + abs(0.5 - 1)) / 4)
    assert found.accuracy[13] == pytest.approx(2 / 3) and found.accuracy[7] == 1
    assert found.confidence[13] == pytest.approx(0.9) and found.confidence[7] == 0.5
    assert found.share[13] == 0.75 and sum(found.share) == 1
    assert math.isnan(found.accuracy[0])


def test_a_bin_holds_its_lower_end_and_the_last_also_one() -> None:
    counts = counts_of([0.0, 1 / 3, 1.0, 0.99], [True] * 4, [True] * 4)
    assert np.flatnonzero(counts[0]).tolist() == [0, 5, NUM_BINS - 1]
    assert counts[0, -1] == 2


def test_a_model_whose_accuracy_equals_its_confidence_has_no_error() -> None:
    counts = np.zeros((3, NUM_BINS))
    counts[:, 10] = 10, 7, 7
    counts[:, 14] = 5, 5, 5
    assert Calibration.of(counts).ece == pytest.approx(0)


def test_each_image_has_its_own_counts() -> None:
    confidence = torch.tensor([[[0.5, 0.5]], [[0.9, 0.1]]])
    right = torch.tensor([[[True, False]], [[True, True]]])
    counts = reliability_counts(confidence, right, torch.ones_like(right))
    assert counts[0, :, 7].tolist() == [2, 1, 1] and counts[0, 0].sum() == 2
    assert counts[1, 0].nonzero().flatten().tolist() == [1, 13]


def test_without_pixels_the_error_is_nan_without_a_warning() -> None:
    with np.errstate(all="raise"):
        assert math.isnan(Calibration.of(np.zeros((3, NUM_BINS))).ece)


def test_counts_are_the_same_in_every_order_of_the_pixels() -> None:
    """To the last bit, as they are integers: a GPU adds in no fixed order."""
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(1, 1, 5000, generator=generator)
    right, labelled = torch.rand(2, 1, 1, 5000, generator=generator) < torch.tensor(0.7)
    order = torch.randperm(5000, generator=generator)
    counts = reliability_counts(confidence, right, labelled)
    assert torch.equal(
        counts, reliability_counts(confidence[..., order], right[..., order], labelled[..., order])
    )
    expected = confidence[labelled].double().sum().item()
    assert counts[0, 1].sum().item() == pytest.approx(expected, rel=1e-7)
    assert counts[0, 2].sum() == (right & labelled).sum()
