"""The analysis of counts, against tables computed by hand."""

import numpy as np
import pytest

from engine.reporting.report.analysis import Analysis, extremes
from engine.scoring.scores_file import ImageScores
from engine.scoring.statistics import draws

pytestmark = pytest.mark.filterwarnings("ignore:Mean of empty slice")  # a draw of void images only

# two classes and one that never occurs; rows labels, columns predictions
FIRST = [[6, 2, 0], [1, 3, 0], [0, 0, 0]]  # IoU 6/9, 3/6
SECOND = [[4, 0, 0], [0, 0, 0], [0, 0, 0]]  # IoU 1, absent
VOID = np.zeros((3, 3), int).tolist()
MATRICES = np.array([FIRST, SECOND, VOID])


def analysis(**more: dict) -> Analysis:
    empty: dict = {"boundary": {}, "edges": {}, "reliability": {}}
    scores = ImageScores(["a", "b", "c"], ["x", "y", "z"], [], {"best": MATRICES}, **(empty | more))
    return Analysis.of(scores, "best", draws(3))


def test_an_image_is_scored_over_the_classes_present_in_it() -> None:
    first, second, void = analysis().image_mIoU
    assert first == pytest.approx((6 / 9 + 3 / 6) / 2) and second == 1.0 and np.isnan(void)


def test_sums_and_intervals() -> None:
    """Twenty images, half of them the first, half the second."""
    more = np.array([FIRST, SECOND] * 10)
    scores = ImageScores([str(i) for i in range(20)], ["x", "y", "z"], [], {"best": more}, {}, {}, {})
    many = Analysis.of(scores, "best", draws(20))
    low, high = many.IoU_intervals[0]
    assert 6 / 9 < low < 10 / 13 < high < 1.0
    assert many.few_images() == ""
    found = analysis()
    assert found.confusion.tolist() == [[10, 2, 0], [1, 3, 0], [0, 0, 0]]
    assert found.IoU[:2] == pytest.approx([10 / 13, 3 / 6]) and np.isnan(found.IoU[2])
    assert np.isnan(found.IoU_intervals[0]).all() and "Only 2" in found.few_images()
    assert found.boundary_IoU is None and found.reliability is None
    assert found.mean_boundary_iou() is None and found.calibration_error() is None


def test_the_most_frequent_confusion_is_first() -> None:
    assert analysis().confused(5) == [(0, 1, 2 / 12, 2), (1, 0, 1 / 4, 1)]
    assert analysis().confused(1) == [(0, 1, 2 / 12, 2)]


def test_calibration_error_by_hand() -> None:
    """30 pixels of confidence 0.5 and 0.6 right, 10 of 0.9 and all right: (30 * 0.1 + 10 * 0.1) / 40."""
    bins = np.array([[0, 30, 10], [0, 15, 9], [0, 18, 10]], float)
    halves = np.stack([bins / 2, bins / 2, bins * 0])
    assert analysis(reliability={"best": halves}).calibration_error() == pytest.approx(0.1)


def test_boundary_iou_is_a_mean_over_classes_with_outlines() -> None:
    bands = np.zeros((3, 4, 4), np.int64)
    bands[0, 0, 0], bands[0, 0, 3], bands[1, 1, 1] = 3, 1, 5  # IoU 3/4, 1, none
    found = analysis(boundary={"best": bands})
    assert found.boundary_IoU is not None and found.boundary_IoU[:2].tolist() == [0.75, 1.0]
    assert found.mean_boundary_iou() == pytest.approx(0.875)


def test_worst_and_best_share_no_image_and_omit_images_without_a_score() -> None:
    scores = np.array([0.5, np.nan, 0.1, 0.9, 0.3, 0.7])
    assert extremes(scores, 2) == ([2, 4], [3, 5])
    assert extremes(scores, 9) == ([2, 4], [3, 5])  # five scores: two of each
    assert extremes(scores, 0) == ([], [])
    assert extremes(np.array([np.nan, 0.5]), 1) == ([], [])


def test_of_sixty_classes_those_that_take_the_pixels_are_shown() -> None:
    """Class 0 scores well and takes a third of every class of 1 to 20; 59 loses all of its few pixels."""
    matrix = np.diag([100_000, *[600] * 20, *[900] * 38, 0])
    matrix[1:21, 0], matrix[59, 30] = 300, 2
    scores = ImageScores(["a"], [str(i) for i in range(60)], [], {"best": matrix[None]}, {}, {}, {})
    found = Analysis.of(scores, "best", draws(1))
    assert found.most_confused(23) == [0, 30, 59, *range(1, 21)]
    assert sorted(found.most_confused(99)) == [*range(60)]
