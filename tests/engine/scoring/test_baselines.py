"""Baselines against confusion matrices that such predictors would have."""

import math

import numpy as np
import pytest

from engine.scoring.baselines import Baselines
from engine.scoring.metrics import mean_iou

NAMES = ("background", "road", "sky")


@pytest.mark.parametrize("labelled", [(20, 70, 10), (70, 20, 10), (0, 30, 70), (0, 0, 5)])
def test_one_class_everywhere_scores_as_its_confusion_matrix(labelled: tuple[int, ...]) -> None:
    pixels = np.array(labelled)
    found = Baselines.of(pixels, NAMES)
    for place, value in ((0, found.first), (int(pixels.argmax()), found.majority)):
        confusion = np.zeros((3, 3), np.int64)
        confusion[:, place] = pixels
        assert value == pytest.approx(mean_iou(confusion))
    assert found.majority_class == NAMES[int(pixels.argmax())]


def test_uniform_guessing_scores_as_its_expected_confusion_matrix() -> None:
    pixels = np.array([30, 60, 0])
    confusion = np.repeat(pixels[:, None] // 3, 3, axis=1)
    assert Baselines.of(pixels, NAMES).uniform == pytest.approx(mean_iou(confusion))


def test_the_majority_class_is_named_beside_class_0() -> None:
    text = str(Baselines.of(np.array([20, 70, 10]), NAMES))
    assert "only road (most pixels) 0.2333" in text and "only background 0.0667" in text


def test_class_0_is_given_once_where_it_is_the_majority() -> None:
    found = Baselines.of(np.array([70, 20, 10]), NAMES)
    assert list(found.rows()) == ["only background (most pixels)", "classes at random"]


def test_no_labelled_pixel_gives_no_baseline() -> None:
    found = Baselines.of(np.zeros(3, np.int64), NAMES)
    assert all(math.isnan(value) for value in (found.first, found.majority, found.uniform))
    assert "not known" in str(found) and "nan" not in str(found)
