"""Deliberately wrong labels, checked by a simulated predictor that is right except for some noise."""

import numpy as np
import pytest
from scipy import ndimage

from engine.data.synthetic import IGNORE_INDEX, SCENE_CLASSES, SyntheticScenes
from engine.diagnosis.label_check import fitting_move
from engine.diagnosis.suspects import Region, Suspicion, find_regions
from tests.engine.diagnosis.corruption import KINDS, corrupt, corrupt_some, share_found

C = len(SCENE_CLASSES)
VOID = 255


def certain(labels: np.ndarray, num_classes: int, confidence: float = 0.9) -> np.ndarray:
    """(C, h, w) probabilities of a predictor that predicts `labels`."""
    classes = np.arange(num_classes)[:, None, None]
    rest = (1 - confidence) / (num_classes - 1)
    return np.where(classes == labels, confidence, rest).astype(np.float32)


def noisy(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A predictor with errors of its own: shifted outlines, and low confidence for one class in five."""
    filled = labels[tuple(ndimage.distance_transform_edt(labels == VOID, None, False, True))]
    seen = ndimage.median_filter(filled, 5)
    probabilities = certain(seen, C, 0.75)
    for c in range(1, C):
        if rng.random() < 0.2:
            other = 1 + (c + rng.integers(1, C - 1) - 1) % (C - 1)
            probabilities[other][seen == c] += rng.uniform(0.3, 1.0)
    blurred = ndimage.gaussian_filter(probabilities, (0, 1.5, 1.5)) + 0.02 * rng.random(probabilities.shape)
    return (blurred / blurred.sum(axis=0)).astype(np.float32)


def square(background: int = 0, inside: int = 1) -> np.ndarray:
    labels = np.full((40, 40), background, np.uint8)
    labels[10:30, 10:30] = inside
    return labels


def test_a_swapped_class_is_one_region_with_its_figures() -> None:
    [(region, mask)] = find_regions(certain(square(), 3), square(inside=2), VOID)
    assert region == Region(
        label=2, prediction=1, box=(10, 10, 30, 30), num_pixels=400, confidence=pytest.approx(0.9),
        label_confidence=pytest.approx(0.05), excess=pytest.approx(400 * 0.85), of_label=1.0,
        of_prediction=1.0,
    )  # fmt: skip
    np.testing.assert_array_equal(mask, square() == 1)
    assert region.kind(background=0) == "other class"


@pytest.mark.parametrize(
    ("labels", "seen", "kind"),
    [
        (square(inside=0), square(), "object without a label"),
        (square(), square(inside=0), "label without an object"),
        (square(inside=2), square(), "other class"),
        (np.roll(square(), 5, axis=1), square(), "outline elsewhere"),
    ],
)
def test_kinds(labels: np.ndarray, seen: np.ndarray, kind: str) -> None:
    regions = [region for region, _ in find_regions(certain(seen, 3), labels, VOID)]
    assert {region.kind(background=0) for region in regions} == {kind}


def test_a_rim_and_void_disagree_with_nothing() -> None:
    moved = np.roll(square(), 2, axis=1)  # strips of 2 px, thinner than a region has to be
    assert find_regions(certain(moved, 3), square(), VOID) == []
    void = square()
    void[void == 1] = VOID
    assert find_regions(certain(square(), 3), void, VOID) == []


def test_thresholds_are_the_mean_confidence_by_label() -> None:
    suspicion = Suspicion(3, VOID)
    suspicion.add("a", certain(square(), 3, 0.9), square())
    suspicion.add("b", certain(square(), 3, 0.6), square())
    np.testing.assert_allclose(suspicion.thresholds, [0.75, 0.75, 1.0], rtol=1e-6)
    assert suspicion.trust == pytest.approx(0.75)  # the class without labels is not averaged


def test_confident_disagreement_ranks_first_and_agreement_last() -> None:
    suspicion = Suspicion(3, VOID)
    suspicion.add("right", certain(square(), 3), square())
    suspicion.add("doubtful", certain(square(), 3, 0.5), square(inside=2))
    suspicion.add("wrong", certain(square(), 3, 0.9), square(inside=2))
    ranking = suspicion.ranking()
    assert [suspect.id for suspect in ranking] == ["wrong", "doubtful", "right"]
    assert ranking[-1].score == 0 and ranking[-1].reason(0) == "nothing"
    assert ranking[0].reason(0) == "other class"


@pytest.mark.parametrize("move", [(5, 0), (0, -4), (-3, 6)])
def test_the_shift_of_a_shifted_label_is_found(move: tuple[int, int]) -> None:
    right, down = move
    shifted = np.roll(square(), (-down, -right), axis=(0, 1))
    assert fitting_move(shifted, square(), VOID) == move


def test_labels_that_fit_have_no_shift() -> None:
    assert fitting_move(square(), square(), VOID) is None
    assert fitting_move(square(inside=2), square(), VOID) is None
    assert fitting_move(np.full((8, 8), VOID, np.uint8), np.zeros((8, 8), int), VOID) is None


def test_each_kind_of_wrong_label_differs_as_described() -> None:
    rng = np.random.default_rng(0)
    labels = square(inside=3)
    swapped, shifted, missing = (corrupt(labels, kind, C, VOID, rng) for kind in KINDS)
    assert ((swapped != labels) == (labels == 3)).all() and swapped[20, 20] not in (0, 3)
    assert (shifted == 3).sum() == 400 and (shifted != labels).any()
    assert (missing == 0).all()
    assert corrupt(np.zeros_like(labels), KINDS[0], C, VOID, rng) is None


@pytest.mark.parametrize("seed", range(3))
def test_most_of_three_percent_wrong_labels_are_ranked_in_the_first_tenth(seed: int) -> None:
    """200 drawn scenes, 6 with wrong labels; the predictor has errors of its own."""
    rng = np.random.default_rng(seed)
    scenes = SyntheticScenes("val", 200, 48, seed)
    labels = {scene.id: scene.labels.numpy() for scene in (scenes[i] for i in range(200))}
    spoiled, kinds = corrupt_some(labels, 0.03, C, IGNORE_INDEX, rng)
    assert len(kinds) == 6
    suspicion = Suspicion(C, IGNORE_INDEX)
    for id, right in labels.items():
        suspicion.add(id, noisy(right, rng), spoiled[id])
    ranking = [suspect.id for suspect in suspicion.ranking()]
    assert share_found(ranking, kinds) >= 0.7
    assert share_found(sorted(ranking), kinds) < 0.7  # because of the ranking
