"""Scores of classes that may overlap, against their definitions on all pixels at once."""

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.scoring.confusion import Scores
from engine.scoring.label_kinds import MultiLabel
from engine.scoring.multi_label import (
    MultiLabelMaps,
    MultiLabelScores,
    MultiLabelTally,
    mean_thresholds,
)

VOID, NAMES = 255, ("a", "b", "never")
CPU = torch.device("cpu")


def drawn(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Probabilities and masks (3, C, 20, 30): the first two classes predictable, the last on no pixel."""
    rng = torch.Generator().manual_seed(seed)
    labels = (torch.rand(3, 3, 20, 30, generator=rng) < 0.3).long()
    labels[:, 2] = 0
    noise = torch.randn(3, 3, 20, 30, generator=rng)
    probabilities = (1.5 * (2 * labels - 1) + noise - 0.7).sigmoid()
    labels[torch.rand(3, 3, 20, 30, generator=rng) < 0.1] = VOID
    return probabilities, labels


def counted(
    probabilities: Tensor, labels: Tensor, thresholds: tuple[float, ...] | None
) -> tuple[MultiLabelScores, MultiLabelMaps]:
    """Counted in strips of 7 rows, as an evaluation does."""
    maps = MultiLabelMaps(tuple(probabilities.shape), CPU, thresholds)
    for start in range(0, probabilities.shape[2], 7):
        rows, all = slice(start, start + 7), slice(0, len(labels))
        strip = labels[:, :, rows]
        maps.put(all, rows, probabilities[:, :, rows], strip, strip == VOID)
    tally = MultiLabelTally.empty(3, CPU, thresholds)
    tally.add(maps.counts(labels, VOID, None), maps.log_loss, (labels == VOID).sum())
    return tally.scores(NAMES), maps


def known(probabilities: Tensor, labels: Tensor, place: int) -> tuple[np.ndarray, np.ndarray]:
    """Of one class, all pixels with a label: their probability, and whether it is there."""
    p, own = probabilities[:, place].flatten().numpy(), labels[:, place].flatten().numpy()
    return p[own != VOID], own[own != VOID] == 1


def test_scores_at_given_thresholds() -> None:
    probabilities, labels = drawn()
    thresholds = (0.3, 0.62, 0.5)
    scores, maps = counted(probabilities, labels, thresholds)
    for place, name in enumerate(NAMES[:2]):
        p, own = known(probabilities, labels, place)
        found = p >= np.float32(thresholds[place])
        tp, fp, fn = (found & own).sum(), (found & ~own).sum(), (~found & own).sum()
        assert scores.IoU[name] == pytest.approx(tp / (tp + fp + fn), abs=1e-12)
        assert scores.F1[name] == pytest.approx(2 * tp / (2 * tp + fp + fn), abs=1e-12)
        assert scores.precision[name] == pytest.approx(tp / (tp + fp), abs=1e-12)
        assert scores.recall[name] == pytest.approx(tp / (tp + fn), abs=1e-12)
        of_images = maps.by_class[:, place].sum(0)
        assert of_images.tolist() == [[(~found & ~own).sum(), fp], [fn, tp]]
    assert scores.IoU["never"] == 0  # predicted somewhere, and on no pixel
    assert np.isnan(scores.recall["never"])
    assert scores.num_pixels == (labels != VOID).sum()
    assert scores.num_void == (labels == VOID).sum()
    right = [(p >= np.float32(t)) == own for t, (p, own) in zip(thresholds, all_known(), strict=True)]
    assert scores.metrics["aAcc"] == pytest.approx(np.concatenate(right).mean(), abs=1e-12)


def all_known() -> list[tuple[np.ndarray, np.ndarray]]:
    return [known(*drawn(), place) for place in range(3)]


def test_average_precision_is_that_of_all_pixels_in_order() -> None:
    """scikit-learn's definition, on every distinct probability instead of steps of 0.001."""
    probabilities, labels = drawn()
    scores, _ = counted(probabilities, labels, None)
    for place, name in enumerate(NAMES[:2]):
        p, own = known(probabilities, labels, place)
        own = own[np.argsort(-p, kind="stable")]
        precision = own.cumsum() / np.arange(1, len(own) + 1)
        exact = precision[own].mean()
        assert scores.AP[name] == pytest.approx(exact, abs=2e-3)
    assert np.isnan(scores.AP["never"])


def test_average_precision_of_a_perfect_and_a_constant_prediction() -> None:
    labels = torch.zeros(1, 3, 10, 10, dtype=torch.long)
    labels[:, :2, :3] = 1
    probabilities = torch.stack([labels[0, 0] * 0.8 + 0.1, torch.full((10, 10), 0.4), labels[0, 2] * 0.0])[
        None
    ]
    scores, _ = counted(probabilities, labels, None)
    assert scores.AP["a"] == 1
    assert scores.AP["b"] == pytest.approx(0.3)


def test_thresholds_are_those_of_the_highest_iou() -> None:
    probabilities, labels = drawn()
    scores, _ = counted(probabilities, labels, None)
    for place, name in enumerate(NAMES[:2]):
        p, own = known(probabilities, labels, place)
        tried = np.array([step / 1000 for step in range(1, 1000)], np.float32)
        iou = [((p >= t) & own).sum() / ((p >= t) | own).sum() for t in tried]
        assert scores.IoU[name] == pytest.approx(max(iou), abs=1e-12)
        assert iou[round(1000 * scores.thresholds[name]) - 1] == max(iou)
    assert scores.thresholds["never"] == 0.5
    again, _ = counted(probabilities, labels, tuple(scores.thresholds.values()))
    assert again.IoU["a"] == scores.IoU["a"]


def test_equal_thresholds_give_that_nearest_to_one_half() -> None:
    labels = torch.zeros(1, 3, 4, 4, dtype=torch.long)
    labels[:, :, :2] = 1
    probabilities = torch.where(labels == 1, 0.9, 0.2)
    scores, _ = counted(probabilities, labels, None)
    assert scores.thresholds["a"] == 0.5
    scores, _ = counted(torch.where(labels == 1, 0.0905, 0.02), labels, None)
    assert scores.thresholds["a"] == 0.09


def test_both_classes_can_be_predicted_at_one_pixel() -> None:
    probabilities = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.1, 0.1]]).T.view(1, 3, 1, 2)
    prediction, confidence = MultiLabel((0.5, 0.5, 0.5)).decide(probabilities)
    assert prediction[0, :, 0, 0].tolist() == [1, 1, 0]
    assert prediction[0, :, 0, 1].tolist() == [0, 0, 0]
    assert confidence[0, 0].tolist() == pytest.approx([0.8, 0.8])
    assert MultiLabel((0.95, 0.1, 0.5)).decide(probabilities)[0][0, :, 0, 0].tolist() == [0, 1, 0]


def test_images_are_scored_by_the_classes_on_them() -> None:
    labels = torch.zeros(2, 3, 2, 2, dtype=torch.long)
    labels[0, 0], labels[0, 1, 0] = 1, 1
    probabilities = torch.zeros(2, 3, 2, 2)
    probabilities[0, 0], probabilities[0, 1] = 0.9, 0.9
    _, maps = counted(probabilities, labels, (0.5, 0.5, 0.5))
    iou = maps.counts(labels, VOID, None).image_iou()
    assert iou[0] == pytest.approx((1 + 0.5) / 2)
    assert iou[1].isnan()


def test_log_loss_is_the_binary_cross_entropy_of_known_pixels() -> None:
    probabilities, labels = drawn()
    _, maps = counted(probabilities, labels, None)
    of_label = torch.where(labels == 1, probabilities, 1 - probabilities).double()
    expected = -of_label.log()[labels != VOID].sum()
    assert float(maps.log_loss) == pytest.approx(float(expected), rel=1e-5)


def test_mean_thresholds_lie_on_a_step() -> None:
    assert mean_thresholds([(0.5, 0.25), (0.4, 0.25), (0.4, 0.25)]) == (0.433, 0.25)


def test_they_are_scores_like_others() -> None:
    scores, _ = counted(*drawn(), None)
    assert isinstance(scores, Scores)
    assert list(scores.metrics) == ["mIoU", "mAcc", "aAcc"]
    assert scores.mIoU == pytest.approx(np.nanmean(list(scores.IoU.values())))
