"""The boundary term and its weights against hand-computed tables and a reference over all pairs of pixels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from losses.boundary import boundary, boundary_weights

VOID = 255


def reference_weights(labels: NDArray[np.int64], sigma_px: float) -> NDArray[np.float64]:
    """Of one image: each pixel is compared with every other one."""
    weights = np.zeros(labels.shape)
    places = np.argwhere(labels != VOID)
    for place in places:
        others = [other for other in places if labels[tuple(other)] != labels[tuple(place)]]
        distance = min((np.abs(place - other).max() for other in others), default=np.inf)
        if distance <= 3 * sigma_px:
            weights[tuple(place)] = np.exp(-(distance**2) / (2 * sigma_px**2))
    return weights


def reference(logits: NDArray[np.float64], labels: NDArray[np.int64], sigma_px: float) -> float:
    total, weight = 0.0, 0.0
    for image, image_labels in zip(logits, labels, strict=True):
        weights = reference_weights(image_labels, sigma_px)
        for y, x in np.argwhere(weights > 0):
            z = image[:, y, x]
            total += weights[y, x] * (np.log(np.exp(z).sum()) - z[image_labels[y, x]])
        weight += weights.sum()
    return total / weight if weight else 0.0


def near(distance_px: int, sigma_px: float) -> float:
    return math.exp(-(distance_px**2) / (2 * sigma_px**2))


@pytest.mark.parametrize(
    ("labels", "distances"),
    [
        ([0, 0, 0, 1, 1], [3, 2, 1, 1, 2]),
        ([0, 0, 0, 0, 0], [None] * 5),
        ([0, 0, VOID, VOID, VOID], [None] * 5),  # a region that ends at void has no boundary there
        ([0, 0, VOID, 1, 1], [3, 2, None, 2, 3]),  # another class on the other side of void counts
        ([0, VOID, VOID, VOID, 2], [None] * 5),  # four steps are beyond three sigma
        ([2, 2, 1, 2, 2], [2, 1, 1, 1, 2]),
        ([VOID] * 5, [None] * 5),
    ],
)
def test_hand_computed_weights(labels: list[int], distances: list[int | None]) -> None:
    weights = boundary_weights(torch.tensor([[labels]]), VOID, 1.0, torch.float64)
    expected = [0.0 if d is None else near(d, 1.0) for d in distances]
    assert weights.flatten().tolist() == pytest.approx(expected, abs=1e-12)


def test_a_diagonal_step_counts_as_one() -> None:
    labels = torch.tensor([[[1, 0, 0], [0, 0, 0], [0, 0, 0]]])
    steps = [[1, 1, 2], [1, 1, 2], [2, 2, 2]]
    expected = [[near(d, 2.0) for d in row] for row in steps]
    weights = boundary_weights(labels, VOID, 2.0, torch.float64)[0]
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64))


def test_hand_computed() -> None:
    """Probability 3/4 for class 0; the label changes once, so two pixels are at distance 1, one at 2."""
    logits = torch.tensor([math.log(3), 0.0], dtype=torch.float64).view(1, 2, 1, 1).repeat(1, 1, 1, 4)
    loss = boundary(logits, torch.tensor([[[0, 0, 1, VOID]]]), VOID, sigma_px=1.0)
    one, two = near(1, 1.0), near(2, 1.0)
    expected = ((one + two) * math.log(4 / 3) + one * math.log(4)) / (2 * one + two)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


@given(
    seed=st.integers(0, 2**32 - 1),
    num_ids=st.integers(1, 4),
    sigma_px=st.floats(1, 3),
    void_share=st.sampled_from([0.0, 0.3, 0.9]),
)
def test_equals_the_reference(seed: int, num_ids: int, sigma_px: float, void_share: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_ids, (2, 3, 4)).repeat(2, 1).repeat(2, 2)
    labels[rng.uniform(size=labels.shape) < void_share] = VOID
    logits = rng.normal(0, 3, (2, 4, *labels.shape[1:]))
    weights = boundary_weights(torch.from_numpy(labels), VOID, sigma_px, torch.float64).numpy()
    expected = np.stack([reference_weights(image, sigma_px) for image in labels])
    np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-12)
    loss = boundary(torch.from_numpy(logits), torch.from_numpy(labels), VOID, sigma_px)
    assert loss.item() == pytest.approx(reference(logits, labels, sigma_px), abs=1e-12)


def test_images_do_not_affect_each_other() -> None:
    labels = torch.stack([torch.zeros(4, 4), torch.ones(4, 4)]).long()
    assert boundary_weights(labels, VOID, 3.0, torch.float32).eq(0).all()


@given(seed=st.integers(0, 2**32 - 1))
def test_void_around_an_image_changes_nothing(seed: int) -> None:
    """Neither the edge of a crop nor void is a boundary, so one may replace the other."""
    labels = torch.randint(0, 3, (1, 3, 4), generator=torch.Generator().manual_seed(seed))
    framed = torch.full((1, 9, 10), VOID)
    framed[:, 3:6, 3:7] = labels
    weights = boundary_weights(framed, VOID, 2.0, torch.float64)
    assert weights[:, 3:6, 3:7].equal(boundary_weights(labels, VOID, 2.0, torch.float64))
