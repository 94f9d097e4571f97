"""Rare classes and how often each image is drawn: by hand, by the paper's formula, and by counting draws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.class_counts import ClassCounts
from engine.data.order import WeightedOrder
from engine.data.rare_classes import class_probabilities, image_probabilities, rare_classes, temperature


def counts_of(pixels) -> ClassCounts:
    array = np.asarray(pixels, dtype=np.int64)
    return ClassCounts(array, np.zeros(len(array), np.int64))


share_lists = st.lists(st.one_of(st.just(0), st.integers(1, 10**6)), min_size=1, max_size=8)


def test_rare_is_present_and_under_one_percent_and_the_rarest_comes_first():
    counts = counts_of([[9_800, 90, 0, 10], [9_990, 9, 0, 101]])
    assert rare_classes(counts) == [(1, pytest.approx(99 / 20_000)), (3, pytest.approx(111 / 20_000))]
    assert rare_classes(counts_of([[99, 1]])) == []  # 1 % is not under 1 %
    assert rare_classes(counts_of([[0, 0]])) == []


def test_the_rarest_class_is_drawn_ten_times_as_often_as_the_most_frequent():
    shares = np.array([0.7, 0.2, 0.0, 0.1])
    T = temperature(shares)
    assert pytest.approx(0.6 / math.log(10)) == T
    appeal = [0.1, 10 ** (-1 / 6), 0.0, 1.0]
    assert class_probabilities(shares, T).tolist() == pytest.approx([a / sum(appeal) for a in appeal])


def test_equally_frequent_classes_are_drawn_equally_often():
    shares = np.array([0.25, 0.25, 0.0, 0.25, 0.25])
    assert class_probabilities(shares, temperature(shares)).tolist() == [0.25, 0.25, 0, 0.25, 0.25]
    assert class_probabilities(np.array([0.0, 1.0]), temperature(np.array([0.0, 1.0]))).tolist() == [0, 1]


@given(share_lists, st.sampled_from([0.01, 0.1, 1.0]))
def test_class_probabilities_are_the_softmax_of_the_paper(pixels, T):
    shares = counts_of([pixels]).shares
    weights = [math.exp((1 - f) / T) if f else 0.0 for f in shares.tolist()]
    expected = [w / sum(weights) if w else 0.0 for w in weights]
    assert class_probabilities(shares, T).tolist() == pytest.approx(expected, abs=1e-12)


def test_image_probabilities_by_hand():
    # The 1 px of class 1 in image 1 is not enough of it, so class 1 is drawn from image 0 only.
    counts = counts_of([[500, 500, 0], [999, 1, 0], [1000, 0, 0], [600, 0, 400]])
    a, b, c = 0.1, 10 ** -((501 / 4000 - 0.1) / (3099 / 4000 - 0.1)), 1.0  # shares .77475, .12525, .1
    a, b, c = a / (a + b + c), b / (a + b + c), c / (a + b + c)
    wanted = [a / 4 + b, a / 4, a / 4, a / 4 + c]
    least = (wanted[0] + wanted[1]) / 2 / 10  # a tenth of the median
    assert least > a / 4
    drawn = [wanted[0], least, least, wanted[3]]
    assert image_probabilities(counts).tolist() == pytest.approx([w / sum(drawn) for w in drawn])


def test_a_class_with_too_few_pixels_in_every_image_is_drawn_from_all_that_have_it():
    counts = counts_of([[100_000, 3], [100_000, 1], [100_000, 0], [100_000, 0]])
    probabilities = image_probabilities(counts)
    assert probabilities[0] == probabilities[1] > probabilities[2] == probabilities[3] > 0


def test_images_without_a_label_are_not_drawn_unless_no_image_has_one():
    assert image_probabilities(counts_of([[0, 0], [5, 5], [0, 0], [5, 5]])).tolist() == [0, 0.5, 0, 0.5]
    assert image_probabilities(counts_of([[0, 0], [0, 0]])).tolist() == [0.5, 0.5]


@given(st.lists(st.lists(st.integers(0, 5000), min_size=3, max_size=3), min_size=1, max_size=12))
def test_every_labelled_image_is_drawn_and_none_a_hundred_times_as_often_as_another(pixels):
    probabilities = image_probabilities(counts_of(pixels))
    labelled = np.sum(pixels, axis=1) > 0
    assert probabilities.sum() == pytest.approx(1)
    if labelled.any():
        assert (probabilities[~labelled] == 0).all()
        assert probabilities[labelled].min() > 0
        assert probabilities.max() <= 100 * probabilities[labelled].min() * (1 + 1e-9)


def test_classes_are_drawn_as_often_as_the_formula_says():
    """15 images of one class each, so a class is drawn when one of its images is; no probability is clipped.

    The images of a class are consecutive, so an epoch draws them 15 * P(c) times, rounded up or down, and in
    E epochs E * 15 * P(c) times on average. Hoeffding's inequality for E numbers in an interval of width 1:
    P(|drawn - mean| > t) <= 2 exp(-2 t^2 / E), which is below 1e-8 for t = 3.1 sqrt(E).
    """
    of_image, num_epochs = np.repeat([0, 1, 2], (6, 5, 4)), 400
    counts = counts_of(1000 * np.eye(3, dtype=int)[of_image])
    appeal = [0.1, 10**-0.5, 1.0]  # shares 6/15, 5/15, 4/15
    by_class = np.array(appeal) / sum(appeal)
    order = WeightedOrder.of(image_probabilities(counts), batch=15, seed=3)
    drawn = np.array([[of_image[draw.index] for draw in order.update(e)] for e in range(num_epochs)])
    by_epoch = np.stack([(drawn == class_id).sum(axis=1) for class_id in range(3)], axis=1)  # (E, 3)
    assert (abs(by_epoch - 15 * by_class) < 1).all()
    assert (abs(by_epoch.sum(axis=0) - num_epochs * 15 * by_class) < 3.1 * math.sqrt(num_epochs)).all()
