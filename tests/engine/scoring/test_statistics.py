"""Intervals of scores, on counts whose answer is known."""

import numpy as np
import pytest

from engine.scoring.metrics import intersection_over_union, overlaps
from engine.scoring.statistics import (
    drawn_iou,
    draws,
    few_images,
    gain_interval,
    interval,
    mean_iou_interval,
    optimism_of_the_best,
)

RNG = np.random.default_rng(3)
CONFUSION = RNG.integers(0, 50, (40, 3, 3))
OVERLAPS = overlaps(CONFUSION)


def test_every_draw_has_as_many_images_as_there_are() -> None:
    drawn = draws(7, 100, seed=1)
    assert drawn.shape == (100, 7)
    assert (drawn.sum(axis=1) == 7).all()
    assert (draws(7, 100, seed=1) == drawn).all()
    assert (draws(7, 100, seed=2) != drawn).any()


def test_drawing_each_image_once_gives_the_plain_scores() -> None:
    [iou] = drawn_iou(OVERLAPS, np.ones((1, len(CONFUSION))))
    assert iou == pytest.approx(intersection_over_union(CONFUSION.sum(axis=0)))


def test_equal_images_give_an_interval_of_one_point() -> None:
    """Each image: class 0 has 8 of 10 right, class 1 6 of 8: IoU 8/12 and 6/10."""
    same = np.array([[[8, 2], [2, 6]]] * 30)
    low, high = mean_iou_interval(overlaps(same), draws(30, 50))
    assert low == pytest.approx((8 / 12 + 6 / 10) / 2)
    assert high == pytest.approx(low)


def test_an_absent_class_has_no_interval_and_does_not_count() -> None:
    counts = np.zeros((20, 2, 2), dtype=np.int64)
    counts[:, 0, 0] = 10
    present, absent = (interval(iou) for iou in drawn_iou(overlaps(counts), draws(20, 20)).T)
    assert present == (1.0, 1.0)
    assert np.isnan(absent).all()
    assert mean_iou_interval(overlaps(counts), draws(20, 20)) == (1.0, 1.0)


def test_a_gain_is_paired() -> None:
    """No gain on any image: the interval of the difference is a point, that of the scores is not."""
    drawn = draws(len(CONFUSION))
    assert gain_interval(OVERLAPS, OVERLAPS, drawn) == (0.0, 0.0)
    low, high = mean_iou_interval(OVERLAPS, drawn)
    assert high - low > 0.01


def test_overlaps_are_intersection_and_union() -> None:
    """Class 0: 5 right, 5 + 1 labelled, 5 + 2 predicted, so 8 in all; class 1: 3 right, 3 + 2 + 1 in all."""
    assert overlaps(np.array([[[5, 1], [2, 3]]])).tolist() == [[[5, 3], [8, 6]]]


@pytest.mark.filterwarnings("error")
def test_a_draw_of_void_images_only_is_left_out() -> None:
    """One image with IoU 3/4, 19 without labels: the draws that hold the first give 3/4."""
    counts = np.array([[[3, 1], [0, 0]], *[[[0, 0], [0, 0]]] * 19])
    found = mean_iou_interval(overlaps(counts), draws(20, 50))
    assert found == (3 / 8, 3 / 8)  # 3/4, and 0 of the other class
    assert np.isnan(mean_iou_interval(overlaps(np.zeros_like(counts)), draws(20, 50))).all()


@pytest.mark.parametrize(("num_images", "has_interval"), [(2, False), (19, False), (20, True)])
def test_few_images_have_no_interval_and_a_statement_instead(num_images: int, has_interval: bool) -> None:
    found, drawn = OVERLAPS[:num_images], draws(num_images, 50)
    assert np.isfinite(mean_iou_interval(found, drawn)).all() == has_interval
    assert np.isfinite(gain_interval(found, found, drawn)).all() == has_interval
    assert (few_images(num_images, 0.2, 0.6) == "") == has_interval


def test_the_statement_about_few_images_is_that_of_the_binomial() -> None:
    """All of 4 images on one side of the median: 2 of 16 cases."""
    assert "range from 0.2000 to 0.6000" in few_images(4, 0.2, 0.6)
    assert "at least 87.5 %" in few_images(4, 0.2, 0.6)
    assert "Only 1 image " in few_images(1, 0.2, 0.2)
    assert "100 %" not in few_images(19, 0.2, 0.6)


def of_rates(rates: np.ndarray) -> np.ndarray:
    """(N, 2, 1) overlaps of one class: of 1000 pixels of each image, this share is right."""
    right = np.rint(1000 * rates).astype(np.int64)
    return np.stack([right, np.full_like(right, 1000)], axis=1)[..., None]


def test_of_equal_methods_the_lead_of_the_best_is_luck_alone() -> None:
    """Nine methods of one expectation on 40 images, whose rates vary by 0.05.

    The highest mean is expected 1.485 standard errors above the others, the expected maximum of nine normal
    numbers: 0.0117.
    """
    rng = np.random.default_rng(5)
    drawn = draws(40, 200)
    found = [
        optimism_of_the_best([of_rates(rng.normal(0.7, 0.05, 40)) for _ in range(9)], drawn)
        for _ in range(60)
    ]
    assert np.mean(found) == pytest.approx(1.485 * 0.05 / np.sqrt(40), abs=0.0015)


def test_a_method_that_is_better_on_every_image_owes_its_lead_to_no_luck() -> None:
    rates = np.random.default_rng(0).uniform(0.4, 0.6, 30)
    methods = [of_rates(rates), of_rates(rates), of_rates(rates + 0.2)]
    assert optimism_of_the_best(methods, draws(30, 300)) == pytest.approx(0, abs=1e-3)


def test_of_few_images_nothing_is_said_about_luck() -> None:
    assert np.isnan(optimism_of_the_best([OVERLAPS[:10], OVERLAPS[10:20]], draws(10, 50)))


def test_the_interval_of_a_gain_is_that_of_a_bootstrap_image_by_image() -> None:
    """Images of each draw are listed and counted one by one; a class that none of them has is left out."""
    rng = np.random.default_rng(3)
    union = rng.integers(0, 30, (2, 25, 3)) * (rng.random((1, 25, 3)) < 0.3)  # most images lack a class
    before, after = (np.stack([rng.binomial(of_one, 0.6), of_one], axis=1) for of_one in union)
    drawn = draws(25, 200)

    def mIoU(counts: np.ndarray) -> float:
        of_classes = [(inside, either) for inside, either in counts.sum(axis=0).T if either]
        return float(np.mean([inside / either for inside, either in of_classes]))

    gains = []
    for times in drawn.astype(int):
        images = [image for image, number in enumerate(times) for _ in range(number)]
        gains.append(mIoU(after[images]) - mIoU(before[images]))
    gains.sort()
    low, high = gain_interval(before, after, drawn)
    place = 0.025 * 199  # of 200 values, between two of them
    expected = gains[4] + (place - 4) * (gains[5] - gains[4])
    assert low == pytest.approx(expected)
    gains.reverse()
    assert high == pytest.approx(gains[4] + (place - 4) * (gains[5] - gains[4]))
