"""The certainty from which one member predicts an image alone, against counts by hand."""

import numpy as np
import pytest

from engine.scoring.ensembles.early_exit import ExitPoint, Seen, least_certainty


def overlaps(*right: int) -> np.ndarray:
    """(N, 2, 1): of one class with 10 pixels in each image, so many of them right, and no others."""
    return np.array([[[number], [10]] for number in right])


# One class: the mIoU is the mean of the images' shares. Sorted by certainty, the member alone has 9, 8, 4, 2
# of 10 right and the ensemble 9, 9, 8, 6: together 32 of 40.
# Exits of the first one to four have 32, 31, 27, 23.
SEEN = Seen(np.array([0.5, 0.9, 0.7, 0.2]), overlaps(4, 9, 8, 2), overlaps(8, 9, 9, 6))


@pytest.mark.parametrize(
    ("tolerance", "certainty"),
    [
        (0.0, 0.8),  # halfway between the first and the second
        (1 / 40 + 1e-9, 0.6),
        (0.12, 0.6),
        (5 / 40 + 1e-9, 0.35),
        (0.9, 0.1),  # all, also those of an image a little less certain
    ],
)
def test_the_lowest_certainty_within_the_tolerance_is_taken(tolerance: float, certainty: float) -> None:
    assert least_certainty(SEEN, tolerance) == pytest.approx(certainty)


def test_there_is_none_where_the_surest_image_already_loses_too_much() -> None:
    worse = Seen(SEEN.certainty, overlaps(0, 0, 0, 0), SEEN.together)
    assert least_certainty(worse, 0.1) is None


def test_images_of_one_certainty_exit_together() -> None:
    equal = Seen(np.array([0.5, 0.9, 0.9, 0.2]), overlaps(8, 9, 0, 6), overlaps(8, 9, 9, 6))
    assert least_certainty(equal, 0.0) is None


def test_the_cost_is_the_mean_number_of_members_that_see_an_image() -> None:
    point = SEEN.at(0.6, 3)
    assert (point.share, point.cost) == (0.5, 2.0)
    assert point.mIoU == pytest.approx((9 + 8 + 8 + 6) / 40)


def test_without_an_exit_all_see_each_image() -> None:
    assert SEEN.at(None, 3) == ExitPoint(None, 0.0, 3.0, pytest.approx(32 / 40))


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.05, 0.5])
def test_of_all_certainties_the_cheapest_within_the_tolerance_is_found(tolerance: float) -> None:
    """On drawn counts of three classes, by trying every image's certainty, image by image."""
    rng = np.random.default_rng(7)
    union = rng.integers(5, 20, (2, 12, 3))
    inside = rng.binomial(union, [[[0.6]], [[0.8]]])
    alone, together = (np.stack(counts, axis=1) for counts in zip(inside, union, strict=True))
    certainty = rng.integers(1, 9, 12) / 10  # some images are equally sure

    def mIoU(least: float) -> float:
        chosen = [alone[row] if sure >= least else together[row] for row, sure in enumerate(certainty)]
        intersection, of_either = np.sum(chosen, axis=0)
        return float(np.mean(intersection / of_either))

    possible = [least for least in certainty if mIoU(least) >= mIoU(2.0) - tolerance]
    found = least_certainty(Seen(certainty, alone, together), tolerance)
    if not possible:
        assert found is None
        return
    assert found is not None
    assert (certainty >= found).tolist() == (certainty >= min(possible)).tolist()
    point = Seen(certainty, alone, together).at(found, 4)
    assert point.mIoU == pytest.approx(mIoU(found))
    assert point.cost == pytest.approx(np.mean([1 if sure >= found else 4 for sure in certainty]))
