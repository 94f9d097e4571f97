"""The sheet of augmented samples: its size, its pictures in their places, its legend."""

import numpy as np
import pytest
import torch

from engine.data.augment import Augment
from engine.data.batches import TrainBatches
from engine.data.formats.voc import open_voc
from engine.data.mixing import Mixing
from engine.data.options import Augment as Section
from engine.data.order import SampleOrder
from engine.reporting.augment_sheet import OPACITY, augment_sheet
from engine.reporting.colours import VOID
from engine.reporting.pictures import PAPER

STILL = {"scale": [1.0, 1.0], "rotate_deg": 0.0, "flip": 0.0, "brightness": 0.0, "contrast": 0.0,
         "saturation": 0.0, "hue": 0.0}  # fmt: skip


@pytest.fixture
def data(voc_folder):
    return open_voc(voc_folder, "train")


def batches_of(data, **section):
    section = Section(crop=96, **(STILL | section))
    mixing = Mixing(section, 0, len(data), 255)
    augment = Augment(section, 0, 255)
    return TrainBatches(data, SampleOrder(len(data), 2, 0), augment, torch.device("cpu"), mixing=mixing)


def test_one_row_per_sample_and_one_column_per_epoch(data):
    batches = batches_of(data)
    one, more = augment_sheet(batches, [0], 1, 96), augment_sheet(batches, [0, 1, 2], 3, 96)
    assert more.width - one.width == 2 * (96 + 8)
    assert more.height > one.height + 2 * 96


def test_the_outside_of_a_sample_is_void(data):
    sheet = np.array(augment_sheet(batches_of(data), [2], 1, 96))  # 48 x 48 px, in a crop of 96
    crop = sheet[20 + 2 * 23 : 20 + 2 * 23 + 96, -20 - 96 : -20]
    outside = (crop == np.rint(OPACITY * np.array(VOID))).all(-1)  # black under the colour of void
    assert (
        0.70 < outside.mean() < 0.77
    )  # three quarters of the crop, and the sample's own void border is not black
    rows, columns = np.flatnonzero(~outside.all(1)), np.flatnonzero(~outside.all(0))
    assert np.ptp(rows) == pytest.approx(48, abs=2) and np.ptp(columns) == pytest.approx(48, abs=2)


def test_samples_change_with_the_augmentation(data):
    still, moved, mixed = (
        np.array(augment_sheet(batches_of(data, **section), [0], 2, 96))
        for section in ({}, {"rotate_deg": 90.0}, {"mosaic": 1.0})
    )
    stored = np.s_[: 20 + 2 * 23 + 96, : 20 + 134]
    for other in (moved, mixed):
        assert np.array_equal(other[stored], still[stored])
        assert not np.array_equal(other[: len(still) - 60], still[: len(other) - 60])
    assert tuple(still[0, 0]) == PAPER
