"""Which guests a sample gets, and where they are pasted; `test_operators.py` tests it on any labels."""

import numpy as np
import pytest
import torch

from engine.data.class_counts import ClassCounts
from engine.data.mixing import (
    BoxLayer,
    Guest,
    HalfClassesLayer,
    Mixing,
    OneClassLayer,
    paste_guests,
)
from engine.data.options import Augment as Section
from engine.data.sample import DataError

COUNTS = np.array([[90, 0, 0], [50, 40, 0], [90, 0, 10], [80, 20, 0]])


def mixing(seed=0, num_samples=4, counts=COUNTS, **shares):
    counts = None if counts is None else ClassCounts(counts, np.zeros(len(counts), np.int64))
    return Mixing(Section.model_construct(**shares), seed, num_samples, 255, counts)


def test_guests_are_a_pure_function_of_seed_epoch_and_id():
    shares = {"mosaic": 0.5, "copy_paste": 0.5, "classmix": 0.5, "cutmix": 0.5}
    expected = {(seed, epoch, id): mixing(seed, **shares).guests(id, epoch)
                for seed in (0, 1) for epoch in (0, 1) for id in "abcd"}  # fmt: skip
    again = [mixing(seed, **shares) for seed in (0, 1)]
    for (seed, epoch, id), guests in reversed(expected.items()):
        assert again[seed].guests(id, epoch) == guests
    assert len({str(guests) for guests in expected.values()}) >= 13  # of 16; a few have no guest


def test_without_a_share_nothing_is_pasted():
    assert mixing(counts=None).guests("a", 0) == []


def test_each_operator_is_applied_as_often_as_its_share():
    mixed = mixing(cutmix=0.2, classmix=0.4, mosaic=0.6, copy_paste=0.8)
    layers = [[guest.layer for guest in mixed.guests(f"{n}", 0)] for n in range(1000)]
    num_boxes = [sum(isinstance(layer, BoxLayer) for layer in row) for row in layers]
    assert np.mean([n % 3 == 1 for n in num_boxes]) == pytest.approx(0.2, abs=0.04)  # mosaic has three
    assert np.mean([n >= 3 for n in num_boxes]) == pytest.approx(0.6, abs=0.05)
    assert np.mean([HalfClassesLayer in map(type, row) for row in layers]) == pytest.approx(0.4, abs=0.05)
    assert np.mean([OneClassLayer in map(type, row) for row in layers]) == pytest.approx(0.8, abs=0.04)
    indices = [guest.index for n in range(500) for guest in mixing(mosaic=1).guests(f"{n}", 0)]
    assert np.bincount(indices) / len(indices) == pytest.approx([0.25] * 4, abs=0.04)


def test_the_box_of_cutmix_has_a_uniform_area_before_clipping():
    boxes = [mixing(cutmix=1).guests(f"{n}", 0)[0].layer for n in range(1000)]
    inside = [b for b in boxes if b.left > 0 and b.right < 1 and b.top > 0 and b.bottom < 1]
    for b in inside:
        assert b.right - b.left == pytest.approx(b.bottom - b.top)
    assert len(inside) > 100
    assert all(0 <= b.left <= b.right <= 1 and 0 <= b.top <= b.bottom <= 1 for b in boxes)
    # A square of area u around a uniform point keeps (1 - sqrt(u) / 4) of each side on average.
    expected = np.mean([u * (1 - np.sqrt(u) / 4) ** 2 for u in (np.arange(1000) + 0.5) / 1000])
    areas = [(b.right - b.left) * (b.bottom - b.top) for b in boxes]
    assert np.mean(areas) == pytest.approx(expected, abs=0.025)


def test_half_of_the_classes_rounded_down_and_never_void():
    order = tuple(id for id in (7, 3, 5, *range(255)) if id not in (7, 3, 5))
    guest_labels = torch.tensor([[3, 3, 5], [7, 255, 5], [5, 255, 7]])
    image, labels = torch.zeros(3, 3, 3), torch.zeros(3, 3, dtype=torch.int64)
    HalfClassesLayer((7, 3, 5, *order)).paste(image, labels, torch.ones(3, 3, 3), guest_labels)
    assert labels.tolist() == [[0, 0, 0], [7, 0, 0], [0, 0, 7]]  # one of three: the first in the order
    assert torch.equal(image, (labels == 7).float().expand(3, -1, -1))
    alone = torch.full((3, 3), 5)
    HalfClassesLayer((7, 3, 5, *order)).paste(image, labels, torch.ones(3, 3, 3), alone)
    assert labels.tolist() == [[0, 0, 0], [7, 0, 0], [0, 0, 7]]  # none of one


def test_later_guests_are_pasted_over_earlier_ones():
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(-1, 3, 4, 4).clone()
    labels = torch.arange(3).view(3, 1, 1).expand(-1, 4, 4).clone()
    guests = [[Guest(0, BoxLayer(0, 0, 1, 0.5)), Guest(0, BoxLayer(0, 0, 0.5, 1))]]
    [image], [found] = paste_guests(images, labels, guests)
    assert found.tolist() == [[2, 2, 1, 1], [2, 2, 1, 1], [2, 2, 0, 0], [2, 2, 0, 0]]
    assert torch.equal(image, found.float().expand(3, -1, -1))


# Rare classes


def test_nothing_to_paste_is_a_clear_error():
    for counts in (None, np.zeros((2, 3), np.int64)):
        with pytest.raises(DataError, match="augment.copy_paste: no label map"):
            mixing(copy_paste=1, counts=counts)


def test_copy_paste_takes_rare_classes_from_samples_that_have_them():
    """The rarest class is drawn ten times as often as the most frequent one, as by the sampler `rare`."""
    mixed = mixing(copy_paste=1)
    guests = [mixed.guests(f"{n}", 0)[0] for n in range(2000)]
    classes = np.bincount([guest.layer.id for guest in guests])
    assert classes[2] / classes[0] == pytest.approx(10, rel=0.35)
    assert {guest.index for guest in guests if guest.layer.id == 2} == {2}  # the only sample that has it
    assert {guest.index for guest in guests if guest.layer.id == 1} == {1, 3}
    even = mixing(copy_paste=1, counts=np.array([[50, 0, 0], [0, 50, 0], [0, 0, 25], [0, 0, 25]]))
    pairs = {(g.index, g.layer.id) for n in range(200) for g in even.guests(f"{n}", 0)}
    assert pairs == {(0, 0), (1, 1), (2, 2), (3, 2)}


def test_a_box_is_pasted_in_all_masks_of_classes_that_overlap():
    labels = torch.zeros(2, 2, 4, 4, dtype=torch.int64)
    labels[1] = torch.tensor([1, 255]).view(2, 1, 1)
    _, [found] = paste_guests(torch.zeros(2, 3, 4, 4), labels, [[Guest(0, BoxLayer(0.5, 0, 1, 0.5))]])
    assert found[0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert torch.equal(found[1], 255 * found[0])
