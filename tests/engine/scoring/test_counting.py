"""The values that are kept and counted per pixel, against loops over pixels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.scoring.boundary import DISTANCE, near_outline
from engine.scoring.counting import Maps, Tally, most_likely

VOID = 255
CPU = torch.device("cpu")


@given(seed=st.integers(0, 2**32 - 1), C=st.integers(1, 300), levels=st.sampled_from([2, 5, 1 << 20]))
def test_of_equal_probabilities_the_first_class_is_predicted(seed: int, C: int, levels: int) -> None:
    """With few levels there are many ties."""
    rng = np.random.default_rng(seed)
    probabilities = rng.integers(0, levels, (2, C, 3, 4)).astype(np.float32)
    ids, largest = most_likely(torch.from_numpy(probabilities))
    np.testing.assert_array_equal(ids.numpy(), probabilities.argmax(axis=1))
    np.testing.assert_array_equal(largest.numpy(), probabilities.max(axis=1))


def test_nan_probabilities_give_a_valid_class_and_a_nan_log_loss() -> None:
    probabilities = torch.full((1, 3, 2, 2), math.nan)
    labels = torch.zeros(1, 2, 2, dtype=torch.uint8)
    maps = Maps((1, 3, 2, 2), CPU, with_confidence=False)
    maps.put(slice(0, 1), slice(0, 2), probabilities, labels, labels == VOID)
    assert maps.prediction.max() <= 2
    assert maps.log_loss.isnan()


@st.composite
def images_(draw) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (B, C, h, w) and labels (B, h, w), of regions, with void."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    B, C, h, w = (draw(st.integers(1, most)) for most in (2, 4, 9, 9))
    C += 1
    probabilities = rng.dirichlet(np.ones(C), (B, h, w)).transpose(0, 3, 1, 2).astype(np.float32)
    labels = rng.integers(0, C, (B, 3, 3)).repeat(3, 1).repeat(3, 2)[:, :h, :w]
    return probabilities, np.where(rng.random((B, h, w)) < 0.2, VOID, labels)


def counts_of(probabilities: np.ndarray, labels: np.ndarray, rows_at_once: int):
    p, y = torch.from_numpy(probabilities), torch.from_numpy(labels)
    void = y == VOID
    maps = Maps(p.shape, CPU, with_confidence=True)
    for start in range(0, p.shape[2], rows_at_once):
        rows = slice(start, min(start + rows_at_once, p.shape[2]))
        maps.put(slice(0, len(p)), rows, p[:, :, rows], y[:, rows], void[:, rows])
    return maps, maps.counts(y, VOID, near_outline(y, void))


def is_near(labels: np.ndarray, y: int, x: int) -> bool:
    """Whether another id, or the edge, is within the distance, pixel by pixel."""
    h, w = labels.shape
    reach = max(1, round(DISTANCE * math.hypot(h, w)))
    return any(
        not (0 <= v < h and 0 <= u < w) or labels[v, u] != labels[y, x]
        for v in range(y - reach, y + reach + 1)
        for u in range(x - reach, x + reach + 1)
    )


@given(images_(), st.integers(1, 9))
def test_counts_are_those_of_a_loop_over_pixels(drawn, rows_at_once: int) -> None:
    probabilities, labels = drawn
    B, C, h, w = probabilities.shape
    confusion, edges = np.zeros((B, C, C), int), np.zeros((B, 2, 2), int)
    reliability, log_loss = np.zeros((B, 3, 15)), 0.0
    for b, y, x in np.ndindex(B, h, w):
        label, p = labels[b, y, x], probabilities[b, :, y, x]
        if label == VOID:
            continue
        guess = int(p.argmax())
        confusion[b, label, guess] += 1
        edges[b, int(is_near(labels[b], y, x)), int(guess != label)] += 1
        confidence = float(p[guess])
        reliability[b, :, min(14, int(np.float32(confidence) * np.float32(15)))] += (
            1,
            confidence,
            guess == label,
        )
        log_loss -= math.log(p[label])
    maps, counts = counts_of(probabilities, labels, rows_at_once)
    np.testing.assert_array_equal(counts.confusion.numpy(), confusion)
    np.testing.assert_array_equal(counts.edges.numpy(), edges)
    np.testing.assert_allclose(counts.reliability.numpy(), reliability)
    assert float(maps.log_loss) == pytest.approx(log_loss, rel=1e-5)
    assert counts.boundary.sum() == counts.confusion.sum() == counts.edges.sum()


@given(images_(), st.integers(1, 9))
def test_the_height_of_strips_does_not_change_the_counts(drawn, rows_at_once: int) -> None:
    one, other = (counts_of(*drawn, rows)[1] for rows in (rows_at_once, drawn[0].shape[2]))
    for (name, mine), (_, theirs) in zip(one.items(), other.items(), strict=True):
        assert torch.equal(mine, theirs), name


def test_a_tally_is_the_sum_of_its_images() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), (4, 8, 8)).transpose(0, 3, 1, 2).astype(np.float32)
    labels = rng.integers(0, 3, (4, 8, 8))
    labels[2], labels[0, :4] = VOID, VOID
    maps, counts = counts_of(probabilities, labels, 8)
    tally = Tally.empty(3, CPU)
    for _ in range(2):
        tally.add(counts, maps.log_loss, torch.tensor(96))
    for name, rows in counts.items():
        assert torch.equal(getattr(tally, name), 2 * rows.sum(0)), name
    assert tally.num_void == 2 * 96
    assert tally.image_iou[1] == 2 * 3  # an image without labels has no mIoU
