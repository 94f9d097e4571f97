"""Counts of val images with planted faults: confusions, imbalance, outlines, sizes, confidence."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.diagnosis import study
from engine.diagnosis.classes import costs, describe_confusions, study_classes, study_confusions
from engine.diagnosis.places import study_confidence, study_edges, study_sizes
from engine.diagnosis.recommendations import recommend
from engine.recipe import load_recipe
from engine.scoring.metrics import intersection_over_union
from engine.scoring.run import Run
from tests.engine.diagnosis.written_runs import MakeRun

NAMES = ["background", "chair", "sofa"]


def test_the_cost_of_a_confusion_by_hand(make_run: MakeRun) -> None:
    """100 px background right; chair 60 right, 40 predicted as sofa; sofa 100 right.

    IoU: 1, 60 / 100, 100 / 140: mIoU 77.14. If the 40 were right: all 1, so the confusion costs 22.86.
    """
    confusion = np.array([[[100, 0, 0], [0, 60, 40], [0, 0, 100]]])
    [found] = study_confusions(Run(make_run(counts={"confusion": confusion}, names=NAMES)))
    assert (found.label, found.prediction, found.share, found.num_images) == ("chair", "sofa", 0.4, 1)
    assert found.cost == pytest.approx(100 * (1 - (1 + 0.6 + 100 / 140) / 3))
    assert str(found) == "chair predicted as sofa: 22.9 points (40 % of its pixels, in 1 image)"
    assert "chair predicted as sofa: 22.9 points" in describe_confusions([found])


def test_the_costliest_comes_first_and_each_image_counts_once(make_run: MakeRun) -> None:
    images = np.array([[[90, 5, 5], [0, 50, 50], [0, 0, 100]], [[100, 0, 0], [0, 70, 30], [0, 10, 90]]])
    first, *rest = study_confusions(Run(make_run(counts={"confusion": images}, names=NAMES)))
    assert (first.label, first.prediction, first.num_images) == ("chair", "sofa", 2)
    assert [c.cost for c in rest] == sorted((c.cost for c in rest), reverse=True)


@given(arrays(np.int64, (4, 4), elements=st.integers(0, 50)))
def test_costs_are_what_moving_the_pixels_would_gain(confusion: np.ndarray) -> None:
    """Against a naive loop; a class that disappears by the move is no longer averaged."""

    def miou(matrix: np.ndarray) -> float:
        iou = intersection_over_union(matrix)
        return float(np.nanmean(iou)) if not np.isnan(iou).all() else 0.0

    found = costs(confusion)
    for a in range(4):
        for b in range(4):
            moved = confusion.copy()
            if a != b:
                moved[a, a] += moved[a, b]
                moved[a, b] = 0
            assert found[a, b] == pytest.approx(100 * (miou(moved) - miou(confusion)), abs=1e-9)


def planted(shares: list[float], right: list[float], num_images: int = 4) -> np.ndarray:
    """(N, C, C): classes with so many pixels per image, of which a share is right, the rest is background."""
    num = len(shares)
    image = np.zeros((num, num), np.int64)
    for c, (pixels, share) in enumerate(zip(shares, right, strict=True)):
        image[c, c] = round(pixels * share)
        image[c, 0] += round(pixels * (1 - share))
    return np.tile(image, (num_images, 1, 1))


def test_class_imbalance_is_found_with_a_remedy(make_run: MakeRun) -> None:
    names = ["background", *"abcdefgh"]
    pixels = [100_000, 10, 20, 50, 100, 500, 1000, 5000, 20_000]
    right = [1.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9]
    run = make_run(counts={"confusion": planted(pixels, right)}, names=names)
    studies = study(Run(run))
    assert studies.classes.is_imbalanced
    assert studies.classes.with_pixels.rho == pytest.approx(1.0)
    assert [names[c] for c in studies.classes.worst[:2]] == ["a", "b"]
    [found] = [r for r in recommend(studies, load_recipe(run.recipe)) if "rare classes" in r.title]
    assert found.recipe_lines == ["data.sampler=rare", "augment.crop_on=rare"]
    load_recipe(run.recipe, found.recipe_lines)


def test_rare_classes_with_high_scores_are_not_reported(make_run: MakeRun) -> None:
    names = ["background", *"abcdefgh"]
    pixels = [100_000, 10, 20, 50, 100, 500, 1000, 5000, 20_000]
    right = [1.0, 0.8, 0.5, 0.9, 0.6, 0.7, 0.5, 0.9, 0.6]
    classes = study_classes(Run(make_run(counts={"confusion": planted(pixels, right)}, names=names)))
    assert not classes.is_imbalanced and "No clear sign" in str(classes)


def test_a_class_without_labels_is_not_among_the_worst(make_run: MakeRun) -> None:
    confusion = planted([100, 50, 0], [0.9, 0.5, 0.0])
    classes = study_classes(Run(make_run(counts={"confusion": confusion}, names=NAMES)))
    assert classes.worst == [1, 0] and "1 class has no label" in str(classes)


@pytest.mark.parametrize(("near_wrong", "most"), [(90, True), (10, False)])
def test_errors_near_outlines(make_run: MakeRun, near_wrong: int, most: bool) -> None:
    """10 % of 1,000 px are near an outline; 40 px are wrong inside."""
    edges = np.array([[[860, 40], [100 - near_wrong, near_wrong]]] * 3)
    counts = {"confusion": planted([100, 50, 50], [1, 1, 1], 3), "edges": edges}
    run = make_run(counts=counts, names=NAMES)
    studies = study(Run(run))
    assert studies.edges.share_of_errors == pytest.approx(near_wrong / (near_wrong + 40))
    assert studies.edges.share_of_pixels == pytest.approx(0.1)
    assert (studies.edges.error_near, studies.edges.error_inside) == pytest.approx(
        (near_wrong / 100, 40 / 900)
    )
    assert studies.edges.are_most_errors == most
    remedies = [r for r in recommend(studies, load_recipe(run.recipe)) if "outlines" in r.title]
    assert len(remedies) == most
    for remedy in remedies:
        assert [term.name for term in load_recipe(run.recipe, remedy.recipe_lines).loss][-1] == "boundary"


@pytest.mark.parametrize("small_is_worse", [True, False])
def test_small_objects(make_run: MakeRun, small_is_worse: bool) -> None:
    """Objects of 1 % to 40 % of an image, of which 2 % to 80 % are right, or half of each."""
    images = []
    for percent in range(1, 41):
        share = percent / 50 if small_is_worse else 0.5
        right = round(100 * percent * share)
        images.append([[10_000 - 100 * percent, 0, 0], [100 * percent - right, right, 0], [0, 0, 0]])
    run = make_run(counts={"confusion": np.array(images)}, names=NAMES)
    sizes = study_sizes(Run(run))
    assert sizes.num_objects == 40 and sizes.are_weak_when_small == small_is_worse
    np.testing.assert_allclose(sizes.limits, [0.1, 0.2, 0.3])
    if small_is_worse:
        np.testing.assert_allclose(sizes.iou, [11, 31, 51, 71], atol=0.1)


@pytest.mark.parametrize(("right", "over"), [(80, True), (97, False), (100, False)])
def test_confidence(make_run: MakeRun, right: int, over: bool) -> None:
    """100 px at a mean confidence of 0.98 in each of 20 images; two images give no verdict."""
    reliability = np.zeros((20, 3, 15))
    reliability[:, :, 14] = [100, 98, right]
    counts = {"confusion": planted([100, 50, 50], [1, 1, 1], 20), "reliability": reliability}
    confidence = study_confidence(Run(make_run(counts=counts, names=NAMES)))
    assert confidence.is_overconfident == over
    assert "too few to judge" in str(replace(confidence, num_images=2))
    assert not replace(confidence, num_images=2).is_overconfident
    assert confidence.error == pytest.approx(abs(98 - right))
    assert (confidence.confidence, confidence.accuracy) == pytest.approx((98, right))


def test_errors_of_opposite_bins_do_not_cancel(make_run: MakeRun) -> None:
    reliability = np.zeros((1, 3, 15))
    reliability[0, :, 3] = [100, 20, 40]
    reliability[0, :, 14] = [100, 98, 78]
    counts = {"confusion": planted([100, 50, 50], [1, 1, 1], 1), "reliability": reliability}
    confidence = study_confidence(Run(make_run(counts=counts, names=NAMES)))
    assert confidence.error == pytest.approx(20)


def test_outlines_are_not_reported_where_errors_follow_the_pixels(make_run: MakeRun) -> None:
    """Three quarters of the pixels are near an outline, and of the errors too: 10 % everywhere."""
    counts = {"confusion": planted([100, 50, 50], [1, 1, 1], 1), "edges": np.array([[[90, 10], [270, 30]]])}
    edges = study_edges(Run(make_run(counts=counts, names=NAMES)))
    assert edges.share_of_errors == 0.75 and not edges.are_most_errors


def test_a_run_without_errors_has_no_finding_about_outlines(make_run: MakeRun) -> None:
    counts = {"confusion": planted([100, 50, 50], [1, 1, 1], 1), "edges": np.array([[[90, 0], [10, 0]]])}
    assert study_edges(Run(make_run(counts=counts, names=NAMES))) is None
