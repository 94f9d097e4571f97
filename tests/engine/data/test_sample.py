"""data.on_error: skip: the same batches wherever the data is kept; every skipped image is reported."""

import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.data import Skipped, open_split
from engine.data.augment import Augment
from engine.data.batches import TrainBatches, scoring_batches
from engine.data.formats.voc import open_voc
from engine.data.options import Augment as Section
from engine.data.options import Data
from engine.data.order import SampleOrder
from engine.data.resident import Resident, choose_residence
from engine.data.sample import DataError, skipped_ids

CPU = torch.device("cpu")


@pytest.fixture
def broken(voc_folder: Path):
    """The split train of six; the header of sample 1 and the pixels of samples 2 and 5 cannot be read."""
    paths = [voc_folder / "JPEGImages" / f"train_{n:06d}.jpg" for n in (1, 2)]
    paths.append(voc_folder / "SegmentationClass" / "train_000005.png")
    paths[0].write_text("no image")
    paths[1].write_bytes(paths[1].read_bytes()[:700])
    paths[2].write_bytes(paths[2].read_bytes()[:60])

    def open_it():
        dataset = open_voc(voc_folder, "train")
        dataset.skipped = Skipped()
        return dataset

    return open_it


def in_memory(dataset):
    return Resident(dataset, CPU, lambda done, total: None)


def batches_of(dataset, rank: int = 0, world_size: int = 1, workers: int = 0, count: int = 3):
    order = SampleOrder(len(dataset), 6, 0)
    augment = Augment(Section(crop=32), 0, 255)
    batches = TrainBatches(dataset, order, augment, CPU, rank, world_size, workers)
    return list(islice(batches.starting_at(0), count))


def test_the_next_readable_sample_replaces_an_unreadable_one(broken) -> None:
    dataset = broken()
    order = SampleOrder(6, 6, 0)
    instead = {1: 3, 2: 3, 5: 0}
    for step, batch in enumerate(batches_of(dataset)):
        drawn = [draw.index for draw in order.update(step)]
        assert batch.ids == [dataset.ids[instead.get(index, index)] for index in drawn]
    assert skipped_ids(dataset) == [dataset.ids[index] for index in (1, 2, 5)]


def test_a_sample_that_replaces_others_is_augmented_differently_each_time(broken) -> None:
    [batch] = batches_of(broken(), count=1)
    same = [image for id, image in zip(batch.ids, batch.images, strict=True) if id == "train_000003"]
    assert len(same) == 3  # its own place and those of 1 and 2
    assert not torch.equal(same[0], same[1]) and not torch.equal(same[1], same[2])


def test_workers_memory_and_processes_give_the_same_batches(broken) -> None:
    expected = batches_of(broken())
    elsewhere = [batches_of(broken(), workers=1), batches_of(broken(), workers=2)]
    for found in (*elsewhere, batches_of(in_memory(broken()))):
        for one, other in zip(found, expected, strict=True):
            assert one.ids == other.ids
            assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
    shares = [batches_of(broken(), rank, 3) for rank in range(3)]
    for step, batch in enumerate(expected):
        for rank in range(3):
            assert shares[rank][step].ids == batch.ids[rank::3]


@pytest.mark.parametrize("workers", [0, 2])
def test_scoring_leaves_unreadable_images_out_and_lists_them(broken, workers: int) -> None:
    for dataset in (broken(), in_memory(broken())):
        ids = [id for batch in scoring_batches(dataset, CPU, workers=workers) for id in batch.ids]
        assert sorted(ids) == [f"train_{n:06d}" for n in (0, 3, 4)]
        assert skipped_ids(dataset) == [f"train_{n:06d}" for n in (1, 2, 5)]


def test_each_unreadable_file_is_logged_once(broken, caplog: pytest.LogCaptureFixture) -> None:
    dataset = broken()
    dataset.sizes()
    batches_of(dataset)
    list(scoring_batches(dataset, CPU, workers=0))
    lines = caplog.messages
    assert len(lines) == 3 and all("left out" in line and "data.on_error=skip" in line for line in lines)
    assert ["train_000001.jpg" in lines[0], "train_000002" in lines[0]] == [True, False]


def test_without_logging_configuration_the_message_goes_to_stderr() -> None:
    code = "from engine.data.sample import *; Skipped().note('a', UnreadableSample('a.jpg is damaged'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "" and "left out" in done.stderr and "a.jpg is damaged" in done.stderr


def test_sizes_and_memory_count_only_readable_images(broken) -> None:
    dataset = broken()
    sizes = dataset.sizes()
    assert sizes[1] == (0, 0) and sizes[2] == (48, 48)
    assert choose_residence(dataset, "ram", CPU)[1] == 4 * sum(h * w for h, w in sizes)
    assert in_memory(dataset).sizes() == [size if n in (0, 3, 4) else (0, 0) for n, size in enumerate(sizes)]
    assert in_memory(dataset).fingerprint() == dataset.fingerprint()


def test_where_nothing_can_be_read_the_run_ends(voc_folder: Path) -> None:
    for path in voc_folder.glob("JPEGImages/train*"):
        path.write_text("no image")
    dataset = open_voc(voc_folder, "train")
    dataset.skipped = Skipped()
    with pytest.raises(DataError, match="None of the 6 images can be read"):
        batches_of(dataset)


def test_scoring_a_split_without_readable_images_is_an_error(voc_folder: Path) -> None:
    for path in (voc_folder / "JPEGImages").glob("train_*.jpg"):
        path.write_text("no image")
    dataset = open_voc(voc_folder, "train")
    dataset.skipped = Skipped()
    with pytest.raises(DataError, match=r"None of the 6 images can be read\. The first: .*train_000000\.jpg"):
        list(scoring_batches(dataset, CPU, workers=0))


def test_a_mask_that_does_not_fit_the_recipe_is_not_skipped(broken, voc_folder: Path) -> None:
    Image.fromarray(np.full((40, 56), 99, np.uint8)).save(voc_folder / "SegmentationClass/train_000000.png")
    for dataset in (broken, lambda: in_memory(broken())):
        with pytest.raises(DataError, match="label ids 99"):
            batches_of(dataset())
    with pytest.raises(DataError, match="label ids 99"):
        list(scoring_batches(broken(), CPU, workers=0))


def test_on_error_of_the_recipe_is_used_and_raise_is_the_default(broken, voc_folder: Path) -> None:
    broken()
    section = {"format": "voc", "root": str(voc_folder), "train": "train"}
    with pytest.raises(DataError, match="train_00000"):
        batches_of(open_split(Data.model_validate(section), "train"))
    skipping = open_split(Data.model_validate({**section, "on_error": "skip"}), "train")
    assert len(batches_of(skipping)) == 3 and len(skipped_ids(skipping)) == 3
    assert skipped_ids(open_split(Data.model_validate(section), "train")) == []
