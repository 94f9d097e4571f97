"""Confusion counts against a pixel-by-pixel loop, and scores against tables computed by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.scoring.confusion import Scores, confusion_matrices
from engine.scoring.counting import Counts
from engine.scoring.metrics import METRICS, intersection_over_union

VOID = 255
NAMES = ("background", "cat", "dog")

# Two classes with labels, four void pixels under every prediction, and one absent class.
LABELS = torch.tensor([[0, 0, 0, 0, 1], [1, VOID, VOID, 0, 1], [VOID, VOID, 0, 0, 0]])
PREDICTIONS = torch.tensor([[0, 0, 1, 0, 1], [0, 2, 0, 0, 1], [1, 1, 0, 1, 0]])
TABLE = [[6, 2, 0], [1, 2, 0], [0, 0, 0]]


@st.composite
def pixel_maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Predictions and labels (B, h, w), some labels void, and the number of classes."""
    num_classes = draw(st.integers(1, 5))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    size = math.prod(shape)
    ids = st.integers(0, num_classes - 1)
    predictions = draw(st.lists(ids, min_size=size, max_size=size))
    labels = draw(st.lists(ids | st.just(VOID), min_size=size, max_size=size))
    return np.array(predictions).reshape(shape), np.array(labels).reshape(shape), num_classes


def counted_one_by_one(predictions: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    matrices = np.zeros((len(labels), num_classes, num_classes), np.int64)
    for image in range(len(labels)):
        for predicted, label in zip(predictions[image].flat, labels[image].flat, strict=True):
            if label != VOID:
                matrices[image, label, predicted] += 1
    return matrices


def test_rows_are_labels_columns_are_predictions_and_void_is_not_counted() -> None:
    assert confusion_matrices(PREDICTIONS[None], LABELS[None], 3, VOID).tolist() == [TABLE]


@given(pixel_maps())
def test_the_confusion_equals_that_of_a_loop_over_pixels(maps: tuple[np.ndarray, np.ndarray, int]) -> None:
    predictions, labels, num_classes = maps
    counts = confusion_matrices(torch.from_numpy(predictions), torch.from_numpy(labels), num_classes, VOID)
    assert counts.dtype == torch.int64
    np.testing.assert_array_equal(counts.numpy(), counted_one_by_one(predictions, labels, num_classes))


@given(pixel_maps(), st.randoms(use_true_random=False))
def test_predictions_on_void_pixels_are_ignored(maps, random) -> None:
    predictions, labels, num_classes = maps
    changed = np.where(labels == VOID, random.randrange(num_classes), predictions)
    before, after = (
        confusion_matrices(torch.from_numpy(p), torch.from_numpy(labels), num_classes, VOID)
        for p in (predictions, changed)
    )
    assert torch.equal(before, after)
    assert after.sum() == (labels != VOID).sum()


def test_each_image_has_its_own_matrix() -> None:
    labels = torch.tensor([[[0, 1]], [[1, 1]]])
    predictions = torch.tensor([[[0, 0]], [[1, 0]]])
    assert confusion_matrices(predictions, labels, 2, VOID).tolist() == [[[1, 0], [1, 0]], [[0, 0], [1, 1]]]


@pytest.mark.parametrize("label_type", [torch.uint8, torch.int64])
@pytest.mark.parametrize("prediction_type", [torch.uint8, torch.int64])
def test_integer_types_do_not_matter(label_type: torch.dtype, prediction_type: torch.dtype) -> None:
    """With 21 classes the cell number of class 20 is 440 and beyond, which uint8 cannot hold."""
    labels = torch.tensor([[[20, 20, VOID]]], dtype=label_type)
    predictions = torch.tensor([[[20, 3, 20]]], dtype=prediction_type)
    matrix = confusion_matrices(predictions, labels, 21, VOID)[0]
    assert matrix[20, 20] == matrix[20, 3] == 1
    assert matrix.sum() == 2


def test_a_void_id_inside_the_class_range_is_void() -> None:
    labels, predictions = torch.tensor([[[0, 1, 1]]]), torch.tensor([[[1, 1, 0]]])
    assert confusion_matrices(predictions, labels, 2, ignore_index=0).tolist() == [[[0, 0], [1, 1]]]


def test_scores_equal_those_computed_by_hand() -> None:
    scores = Scores.of(np.array(TABLE), NAMES, num_void=4)
    assert scores.IoU["background"] == pytest.approx(6 / 9)  # 8 labelled + 7 predicted - 6 both
    assert scores.IoU["cat"] == pytest.approx(2 / 5)  # 3 + 4 - 2
    assert math.isnan(scores.IoU["dog"])
    assert scores.absent == ["dog"]
    assert scores.mIoU == pytest.approx((6 / 9 + 2 / 5) / 2)
    assert scores.metrics["mAcc"] == pytest.approx((6 / 8 + 2 / 3) / 2)
    assert scores.metrics["aAcc"] == pytest.approx(8 / 11)
    assert scores.baselines.first == pytest.approx((8 / 11 + 0) / 2)  # background everywhere: 8 right of 11
    assert (scores.num_pixels, scores.num_void) == (11, 4)


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    """Its union is not empty, so it lowers mIoU; it has no labels, so it is not part of mAcc."""
    scores = Scores.of(np.array([[3, 0, 1], [0, 4, 0], [0, 0, 0]]), NAMES)
    assert scores.absent == []
    assert scores.IoU["dog"] == 0
    assert scores.mIoU == pytest.approx((3 / 4 + 1 + 0) / 3)
    assert scores.metrics["mAcc"] == pytest.approx((3 / 4 + 1) / 2)
    assert scores.baselines.first == pytest.approx((4 / 8 + 0) / 2)  # which predicts no dog


def test_a_split_that_is_all_void_has_no_scores_and_no_warning() -> None:
    with np.errstate(all="raise"):
        scores = Scores.of(np.zeros((3, 3), np.int64), NAMES, num_void=9)
    assert list(scores.metrics) == list(METRICS)
    assert all(
        math.isnan(value)
        for value in (*scores.metrics.values(), scores.baselines.first, scores.baselines.uniform)
    )
    assert scores.absent == list(NAMES)


def test_counts_too_large_for_float32_are_exact() -> None:
    many = 2**40
    assert intersection_over_union(np.array([[many, 0], [1, many - 1]])).tolist() == [
        many / (many + 1),
        (many - 1) / many,
    ]


def test_each_class_needs_a_name() -> None:
    with pytest.raises(ValueError):
        Scores.of(np.array(TABLE), ("background", "cat"))


def test_precision_recall_and_f1_equal_those_computed_by_hand() -> None:
    scores = Scores.of(np.array(TABLE), NAMES)
    table = {"precision": scores.precision, "recall": scores.recall, "F1": scores.F1}
    assert table["precision"]["background"] == pytest.approx(6 / 7)
    assert table["recall"]["background"] == pytest.approx(6 / 8)
    assert table["F1"]["background"] == pytest.approx(2 * 6 / (7 + 8))
    assert table["precision"]["cat"] == pytest.approx(2 / 4)
    assert all(math.isnan(values["dog"]) for values in table.values())


def test_a_class_that_is_only_predicted_has_no_recall_and_one_never_predicted_no_precision() -> None:
    scores = Scores.of(np.array([[3, 0, 1], [2, 0, 0], [0, 0, 0]]), NAMES)
    assert math.isnan(scores.recall["dog"]) and scores.precision["dog"] == scores.F1["dog"] == 0
    assert math.isnan(scores.precision["cat"]) and scores.recall["cat"] == scores.F1["cat"] == 0


def test_the_miou_of_an_image_is_over_the_classes_present_in_it() -> None:
    of_table = torch.tensor(TABLE)
    alone = torch.tensor([[4, 0, 0], [0, 0, 0], [0, 0, 0]])
    found = Counts(torch.stack([of_table, alone, torch.zeros(3, 3, dtype=torch.int64)])).image_iou()
    assert found[:2].tolist() == pytest.approx([(6 / 9 + 2 / 5) / 2, 1.0])
    assert math.isnan(found[2])


def test_counting_does_not_modify_labels_and_predictions() -> None:
    labels, predictions = LABELS[None].short(), PREDICTIONS[None].short()
    before = labels.clone(), predictions.clone()
    confusion_matrices(predictions, labels, 3, VOID)
    assert torch.equal(labels, before[0]) and torch.equal(predictions, before[1])


@pytest.mark.parametrize(("B", "C"), [(1, 181), (1, 182), (40, 150), (2, 256)])
def test_many_classes_and_images_do_not_overflow(B: int, C: int) -> None:
    """16 bits hold the cells of one image of 181 classes, and no more."""
    labels = torch.full((B, 1, 2), C - 1)
    matrices = confusion_matrices(labels, labels, C, ignore_index=-1)
    assert (matrices[:, C - 1, C - 1] == 2).all() and matrices.sum() == 2 * B
