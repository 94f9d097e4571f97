"""The schemes of class weights: tables computed by hand, and properties for any counts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.class_counts import ClassCounts
from engine.data.class_weights import REACH, SCHEMES, bounded, class_weights

# Four images of 100 labelled px: 300, 90, 10 and 0 px of four classes.
TABLE = [[60, 40, 0, 0], [90, 0, 10, 0], [50, 50, 0, 0], [100, 0, 0, 0]]


def counts_of(pixels) -> ClassCounts:
    array = np.asarray(pixels, dtype=np.int64)
    return ClassCounts(array, np.full(len(array), 7))


counts = st.integers(1, 5).flatmap(  # N images, C classes, many of the counts 0
    lambda num_classes: st.lists(
        st.lists(st.one_of(st.just(0), st.integers(1, 200_000)), min_size=num_classes, max_size=num_classes),
        min_size=1,
        max_size=6,
    )
)


@pytest.mark.parametrize(
    ("scheme", "raw"),
    [
        ("inverse", [4 / 3, 40 / 9, 40]),  # 400 / 300, 400 / 90, 400 / 10
        ("median", [0.6, 1, 4.5]),  # 0.45 / (300 / 400), 0.45 / (90 / 200), 0.45 / (10 / 100)
        ("enet", [1 / math.log(1.77), 1 / math.log(1.245), 1 / math.log(1.045)]),
        # beta = 3/4; in 4, 2 and 1 images: 1 / (1 + 3/4 + 9/16 + 27/64), 1 / (1 + 3/4), 1
        ("effective", [64 / 175, 4 / 7, 1]),
    ],
)
def test_a_scheme_by_hand(scheme, raw):
    mean = sum(raw) / 3
    assert class_weights(scheme, counts_of(TABLE)) == pytest.approx([w / mean for w in raw] + [1], abs=1e-6)


def test_the_numbers_of_one_scheme_written_out():
    weights = class_weights("median", counts_of(TABLE))
    assert weights == [0.295082, 0.491803, 2.213115, 1.0]  # 1.8 / 6.1, 3 / 6.1, 13.5 / 6.1


def test_every_scheme_of_the_recipe_exists():
    assert set(SCHEMES) == {"inverse", "median", "enet", "effective"}


def test_no_weight_is_over_ten_times_or_under_a_tenth_of_the_median():
    assert bounded(np.array([1.0, 1, 1, 1000])).tolist() == pytest.approx([4 / 13, 4 / 13, 4 / 13, 40 / 13])
    assert bounded(np.array([0.001, 1, 1])).tolist() == pytest.approx([1 / 7, 10 / 7, 10 / 7])
    assert bounded(np.array([5.0])).tolist() == [1.0]
    # 990,000, 9,000 and 1 px: inverse is 1.0091, 111.0, 999,001; cut to 11.1, 111.0, 1110
    assert class_weights("inverse", counts_of([[990_000, 9_000, 1]])) == pytest.approx(
        [3 / 111, 30 / 111, 300 / 111], abs=1e-6
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_labelled_pixels_all_weights_are_equal(scheme):
    assert class_weights(scheme, counts_of([[0, 0], [0, 0]])) == [1.0, 1.0]


@given(counts, st.sampled_from(sorted(SCHEMES)))
def test_the_mean_weight_of_present_classes_is_one_and_absent_classes_have_one(pixels, scheme):
    weights = np.array(class_weights(scheme, counts_of(pixels)))
    present = np.sum(pixels, axis=0) > 0
    assert (weights[~present] == 1).all()
    if present.any():
        assert weights[present].mean() == pytest.approx(1, abs=1e-6)
        assert weights[present].max() <= REACH**2 * weights[present].min() * (1 + 1e-3)  # six decimals


@given(counts, st.sampled_from(sorted(SCHEMES)), st.randoms(use_true_random=False))
def test_neither_the_order_of_images_nor_that_of_classes_matters(pixels, scheme, random):
    array = np.array(pixels)
    images = random.sample(range(array.shape[0]), array.shape[0])
    classes = random.sample(range(array.shape[1]), array.shape[1])
    shuffled = class_weights(scheme, counts_of(array[images][:, classes]))
    expected = class_weights(scheme, counts_of(pixels))
    assert shuffled == pytest.approx([expected[c] for c in classes], abs=2e-6)


@given(counts, st.sampled_from(["inverse", "enet"]))
def test_a_class_with_more_pixels_never_has_a_larger_weight(pixels, scheme):
    total = np.sum(pixels, axis=0)
    weights = class_weights(scheme, counts_of(pixels))
    for a in np.flatnonzero(total):
        for b in np.flatnonzero(total > total[a]):
            assert weights[b] <= weights[a]


@given(counts)
def test_effective_numbers_count_images_not_pixels(pixels):
    few = [[min(count, 1) for count in row] for row in pixels]
    assert class_weights("effective", counts_of(pixels)) == class_weights("effective", counts_of(few))


@given(counts, st.integers(2, 50), st.sampled_from(["inverse", "median", "enet"]))
def test_the_size_of_images_does_not_matter(pixels, factor, scheme):
    larger = (factor * np.array(pixels)).tolist()
    assert class_weights(scheme, counts_of(larger)) == pytest.approx(
        class_weights(scheme, counts_of(pixels)), abs=2e-6
    )
