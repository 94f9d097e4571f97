"""Folds of a split: every image once, groups whole, classes and sizes even."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.folds import group_pattern, make_folds
from engine.data.sample import DataError
from engine.data.sequences import group_name


def names(num_images: int) -> list[str]:
    return [f"image{number:03}" for number in range(num_images)]


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 6), st.integers(6, 40), st.integers(1, 5), st.integers(0, 99))
def test_every_image_is_in_one_fold_and_none_is_empty(k: int, num: int, C: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 100, (num, C)) * rng.integers(0, 2, (num, C))
    folds = make_folds(names(num), pixels, k)
    assert sorted(id for fold in folds for id in fold) == names(num)
    assert all(folds) and all(fold == sorted(fold) for fold in folds)
    assert folds == make_folds(names(num), pixels, k)


def test_a_rare_class_is_spread_over_the_folds() -> None:
    """Class 2 is in 5 of 50 images, one after the other: each of 5 folds gets one of them, and 10 images."""
    pixels = np.zeros((50, 3), np.int64)
    pixels[:, 0] = 1000
    pixels[20:40, 1] = 300
    pixels[:5, 2] = 50
    folds = make_folds(names(50), pixels, 5)
    rows = [[int(id[5:]) for id in fold] for fold in folds]
    assert [len(fold) for fold in rows] == [10] * 5
    assert [sum(number < 5 for number in fold) for fold in rows] == [1] * 5
    assert [sum(20 <= number < 40 for number in fold) for fold in rows] == [4] * 5


def test_large_objects_of_a_class_are_not_all_in_one_fold() -> None:
    """All images have class 1; four of eight have a hundred times as much of it."""
    pixels = np.full((8, 2), 10, np.int64)
    pixels[:4, 1] = 1000
    folds = make_folds(names(8), pixels, 2)
    assert [sum(int(id[5:]) < 4 for id in fold) for fold in folds] == [2, 2]


def test_groups_are_not_divided() -> None:
    ids = [f"{video}_{frame}" for video in "abcdefg" for frame in range(6)]
    rng = np.random.default_rng(0)
    folds = make_folds(ids, rng.integers(0, 9, (len(ids), 4)), 3, r"^(.+)_\d+$")
    of_folds = [{id[0] for id in fold} for fold in folds]
    assert sum(map(len, of_folds)) == 7 and set.union(*of_folds) == set("abcdefg")
    assert sorted(map(len, folds)) == [12, 12, 18]


def test_fewer_groups_than_folds_are_refused() -> None:
    with pytest.raises(DataError, match="3 folds need as many groups, and there are 2"):
        make_folds(["a_1", "a_2", "b_1"], np.ones((3, 2), np.int64), 3, r"(.)_\d")


def test_names_of_frames_are_groups_and_years_are_not() -> None:
    frames = [f"{video}_{frame:04}" for video in "abc" for frame in range(0, 40, 4)]
    pattern = group_pattern(frames)
    assert pattern and {group_name(id, pattern) for id in frames} == {"a_", "b_", "c_"}
    rng = np.random.default_rng(0)
    years = [f"{year}_{number:06}" for year in range(2007, 2012) for number in rng.integers(0, 9999, 40)]
    assert group_pattern(years) is None  # as in PASCAL VOC
    assert group_pattern(["a", "b", "c"]) is None
