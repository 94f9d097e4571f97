"""Boundary IoU against a naive reference and by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.scoring.boundary import (
    DISTANCE,
    boundary_iou,
    boundary_matrices,
    edge_counts,
    near_outline,
)

VOID = 255


def eroded(mask: np.ndarray, times: int) -> np.ndarray:
    """Repeated erosion: pixels whose eight neighbours are all in the mask; the image's outside is not."""
    for _ in range(times):
        padded = np.pad(mask, 1)
        h, w = mask.shape
        mask = np.logical_and.reduce([padded[y : y + h, x : x + w] for y in range(3) for x in range(3)])
    return mask


def naive_iou(prediction: np.ndarray, labels: np.ndarray, num_classes: int) -> list[float]:
    """One class after the other, by repeated 3x3 erosion as in the paper's code."""
    times = max(1, round(DISTANCE * math.hypot(*labels.shape)))
    found = []
    for class_id in range(num_classes):
        bands = []
        for ids in (labels, np.where(labels == VOID, VOID, prediction)):
            mask = ids == class_id
            bands.append(mask & ~eroded(mask, times))
        union = (bands[0] | bands[1]).sum()
        found.append((bands[0] & bands[1]).sum() / union if union else math.nan)
    return found


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 70), st.integers(1, 90)),
    void_share=st.sampled_from([0.0, 0.02, 1.0]),
)
def test_it_equals_erosion_of_each_class(seed: int, size: tuple[int, int], void_share: float) -> None:
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 4, (2, 3, 3)).repeat(30, axis=1).repeat(30, axis=2)[:, : size[0], : size[1]]
    prediction, labels = cells
    labels = np.where(rng.random(labels.shape) < void_share, VOID, labels)
    matrices = boundary_matrices(torch.from_numpy(prediction[None]), torch.from_numpy(labels[None]), 4, VOID)
    np.testing.assert_allclose(boundary_iou(matrices[0].numpy()), naive_iou(prediction, labels, 4))


def test_a_square_by_hand() -> None:
    """100 x 100 px: bands of 3 px. A square of 20 px and one shifted by 1 px."""
    labels, shifted = torch.zeros(2, 1, 100, 100, dtype=torch.int64).unbind()
    labels[:, 40:60, 40:60] = 1
    shifted[:, 40:60, 41:61] = 1
    iou = boundary_iou(boundary_matrices(shifted, labels, 2, VOID)[0].numpy())
    ring = 20 * 20 - 14 * 14  # of each square
    # common to both rings: in the rows of the upper and lower bars 19 columns each; in the 14 rows between
    # them, 2 of the 3 columns of each side
    common = 6 * 19 + 14 * 4
    assert iou[1] == pytest.approx(common / (2 * ring - common))


def test_a_perfect_prediction_scores_one_even_where_outlines_are_void() -> None:
    labels = torch.zeros(1, 60, 80, dtype=torch.int64)
    labels[:, 20:40, 20:50] = VOID
    labels[:, 23:37, 23:47] = 2
    prediction = torch.zeros_like(labels)
    prediction[:, 21:39, 21:49] = 2  # its outline lies within the void border
    iou = boundary_iou(boundary_matrices(prediction, labels, 3, VOID)[0].numpy())
    assert iou[[0, 2]].tolist() == [1.0, 1.0] and math.isnan(iou[1])


def test_void_labels_are_not_counted() -> None:
    labels = torch.full((2, 12, 12), VOID)
    assert boundary_matrices(torch.zeros_like(labels), labels, 3, VOID).sum() == 0


def test_edges_are_right_and_wrong_pixels_near_and_far_from_the_outlines_of_the_label() -> None:
    """100 x 100 px: the outlines are the image's edge and the border between the halves, 3 px either side."""
    labels, prediction = torch.zeros(2, 1, 100, 100, dtype=torch.int64).unbind()
    labels[:, :, 50:] = 1
    prediction[:, :, 49:] = 1  # one column too many, near the border
    prediction[:, 50, 20:25] = 1  # and five pixels inside
    labels[:, 10] = VOID
    near = near_outline(labels, labels == VOID)
    [[right_inside, wrong_inside], [right_near, wrong_near]] = edge_counts(prediction, labels, VOID, near)[0]
    assert (wrong_inside, wrong_near) == (5, 99)
    # rows 0 to 2 and 97 to 99, and 3 on either side of the void row, are near in all of their columns
    num_rows_inside = 99 - 6 - 6
    columns_inside = 2 * (50 - 3 - 3)
    assert right_inside + wrong_inside == num_rows_inside * columns_inside
    assert right_near + right_inside + 5 + 99 == 99 * 100
