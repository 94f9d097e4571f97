"""Hard pixels against hand-computed tables and a float64 reference, alone and inside cross-entropy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from losses.boundary import boundary, boundary_weights
from losses.cross_entropy import cross_entropy
from losses.focal import focal
from losses.hard_pixels import hard_pixels
from losses.terms import Ohem

VOID = 255


def keep(thresh: float, min_kept: int) -> Ohem:
    return Ohem(thresh=thresh, min_kept=min_kept)


def reference(
    p: NDArray[np.float64], valid: NDArray[np.bool_], thresh: float, min_kept: int
) -> NDArray[np.bool_]:
    """The valid pixels are sorted, the least probable first."""
    kept = np.zeros(p.shape, bool)
    places = sorted(np.argwhere(valid).tolist(), key=lambda place: p[tuple(place)])
    for rank, place in enumerate(places):
        kept[tuple(place)] = rank < min_kept * len(p) or p[tuple(place)] <= thresh
    return kept


@pytest.mark.parametrize(
    ("ohem", "kept"),
    [
        (keep(0.5, 1), [[1, 1, 0, 0], [1, 0, 0, 0]]),  # the threshold keeps three, more than 1 an image
        (keep(0.15, 1), [[1, 0, 0, 0], [1, 0, 0, 0]]),  # it keeps one, but the minimum is two
        (keep(0.0, 1), [[1, 0, 0, 0], [1, 0, 0, 0]]),  # it keeps none
        (keep(0.0, 2), [[1, 1, 1, 0], [1, 0, 0, 0]]),  # the four hardest are not two of each image
        (keep(0.15, 3), [[1, 1, 1, 0], [1, 0, 0, 1]]),  # the minimum is six, but only five are not void
        (keep(0.95, 1), [[1, 1, 1, 0], [1, 0, 0, 1]]),
        (keep(0.0, 10**6), [[1, 1, 1, 0], [1, 0, 0, 1]]),
    ],
)
def test_hand_computed(ohem: Ohem, kept: list[list[int]]) -> None:
    p = torch.tensor([[0.1, 0.3, 0.6, 0.2], [0.2, 0.01, 0.02, 0.9]], dtype=torch.float64).view(2, 1, 4)
    valid = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 1]]).bool().view(2, 1, 4)
    assert hard_pixels(-p.log(), valid, ohem).int().view(2, 4).tolist() == kept


def test_equally_hard_pixels_are_all_kept() -> None:
    costs = torch.tensor([[[1.0, 1.0, 1.0, 0.5]]])
    assert hard_pixels(costs, costs > 0, keep(0.1, 2)).tolist() == [[[True, True, True, False]]]


def test_an_image_of_void_keeps_no_pixel() -> None:
    assert not hard_pixels(torch.ones(2, 3, 3), torch.zeros(2, 3, 3, dtype=torch.bool), Ohem()).any()


@given(
    seed=st.integers(0, 2**32 - 1),
    thresh=st.floats(0, 0.99),
    min_kept=st.integers(1, 20),
    void_share=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
)
def test_equals_the_reference(seed: int, thresh: float, min_kept: int, void_share: float) -> None:
    rng = np.random.default_rng(seed)
    p, valid = rng.uniform(0.01, 1, (2, 3, 5)), rng.uniform(size=(2, 3, 5)) >= void_share
    kept = hard_pixels(torch.from_numpy(-np.log(p)), torch.from_numpy(valid), keep(thresh, min_kept))
    np.testing.assert_array_equal(kept.numpy(), reference(p, valid, thresh, min_kept))
    assert kept.sum() >= min(2 * min_kept, valid.sum())


def test_cross_entropy_is_the_mean_over_the_hard_pixels() -> None:
    """Probability 3/4, 1/4, 1/2 for the label; the threshold drops the first, void pixels are ignored."""
    p = torch.tensor([3 / 4, 1 / 4, 1 / 2, 1 / 8], dtype=torch.float64)
    logits = torch.stack([p, 1 - p]).log().view(1, 2, 1, 4)
    labels = torch.tensor([[[0, 0, 0, VOID]]])
    loss = cross_entropy(logits, labels, VOID, ohem=keep(0.6, 1))
    assert loss.item() == pytest.approx((math.log(4) + math.log(2)) / 2, abs=1e-12)
    weights = torch.tensor([3.0, 1.0])  # the weights affect the mean, not the selection
    labels = torch.tensor([[[0, 0, 1, VOID]]])
    loss = cross_entropy(logits, labels, VOID, weights, ohem=keep(0.6, 1))
    assert loss.item() == pytest.approx((3 * math.log(4) + math.log(2)) / 4, abs=1e-12)


def test_focal_is_the_mean_over_the_hard_pixels() -> None:
    p = torch.tensor([3 / 4, 1 / 4, 1 / 2, 1 / 8], dtype=torch.float64)
    logits = torch.stack([p, 1 - p]).log().view(1, 2, 1, 4)
    labels = torch.tensor([[[0, 0, 0, VOID]]])
    loss = focal(logits, labels, VOID, 2.0, ohem=keep(0.6, 1))
    assert loss.item() == pytest.approx((9 / 16 * math.log(4) + 1 / 4 * math.log(2)) / 2, abs=1e-12)
    assert focal(logits, labels, VOID, 0.0, ohem=keep(0.6, 1)) == cross_entropy(
        logits, labels, VOID, ohem=keep(0.6, 1)
    )


def test_boundary_chooses_among_the_pixels_near_boundaries() -> None:
    """Two classes that meet; the hardest pixel is far from there."""
    labels = torch.tensor([0] * 8 + [1] * 8).view(1, 1, 16)
    p = torch.full((16,), 0.9, dtype=torch.float64)
    p[0], p[7], p[9] = 0.01, 0.3, 0.2
    own = torch.stack([p, 1 - p]).log()
    logits = torch.where(labels == 0, own.view(2, 1, 16), own.flip(0).view(2, 1, 16)).unsqueeze(0)
    weights = boundary_weights(labels, VOID, 1.0, torch.float64)[0, 0]
    assert weights[0] == 0 and weights[7] > weights[9] > 0
    expected = -(weights[7] * math.log(0.3) + weights[9] * math.log(0.2)) / (weights[7] + weights[9])
    loss = boundary(logits, labels, VOID, 1.0, ohem=keep(0.5, 1))
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    assert boundary(logits, labels, VOID, 1.0, ohem=keep(0.0, 100)) == boundary(logits, labels, VOID, 1.0)


@given(seed=st.integers(0, 2**32 - 1), smoothing=st.sampled_from([0.0, 0.1]))
def test_keeping_all_changes_nothing_and_an_easy_pixel_has_no_gradient(seed: int, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 4, 3, 5, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, 4, (2, 3, 5), generator=generator)
    weights = torch.rand(4, dtype=torch.float64, generator=generator)
    kept = cross_entropy(logits, labels, VOID, weights, smoothing, ohem=keep(0.0, 10**6))
    assert kept == cross_entropy(logits, labels, VOID, weights, smoothing)
    leaf = logits.clone().requires_grad_()
    cross_entropy(leaf, labels, VOID, weights, smoothing, ohem=keep(0.4, 2)).backward()
    p = logits.softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
    hard = reference(p.numpy(), np.ones(p.shape, bool), 0.4, 2)
    assert leaf.grad is not None
    np.testing.assert_array_equal(leaf.grad.ne(0).any(1).numpy(), hard)
