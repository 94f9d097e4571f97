"""Batches: the same for every number of processes and workers, from disk and memory; scored once each."""

import multiprocessing
import os
import signal
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from engine.data.augment import Augment
from engine.data.batches import (
    TrainBatches,
    num_workers,
    scoring_batches,
)
from engine.data.class_counts import count_classes
from engine.data.formats.files import FileDataset
from engine.data.formats.voc import open_voc
from engine.data.mixing import Mixing
from engine.data.options import Augment as Section
from engine.data.options import SmallerCrop
from engine.data.order import SampleOrder
from engine.data.resident import Resident
from engine.data.sample import DataError
from engine.data.workers import STOPPING_SIGNALS, WorkerError

CPU = torch.device("cpu")


def in_memory(dataset):
    return Resident(dataset, CPU, lambda done, total: None)


@pytest.fixture
def train(voc_folder):
    return open_voc(voc_folder, "train")


def batches_of(dataset, batch=6, seed=0, **options):
    order = SampleOrder(len(dataset), batch, seed)
    augmentation = Augment(Section(crop=32), seed, dataset.ignore_index)
    return TrainBatches(dataset, order, augmentation, CPU, **({"workers": 0} | options))


def first(batches, count, start=0):
    return list(islice(batches.starting_at(start), count))


def assert_same_batches(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.ids == other.ids
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


class Recorder:
    """Replaces the augmentation, and records its calls."""

    def __init__(self, ignore_index):
        self.ignore_index = ignore_index
        self.sizes, self.parameters_given = [], []

    def at(self, step):
        return self

    def parameters(self, id, epoch, host):
        return (id, epoch)

    def __call__(self, images, labels, sizes, parameters):
        self.sizes.append(sizes)
        self.parameters_given.append(parameters)
        return images, labels


# Training


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_processes_share_each_update_and_see_the_same_samples(train, world_size):
    data = in_memory(train)
    whole = first(batches_of(data), 4)
    shares = [first(batches_of(data, rank=rank, world_size=world_size), 4) for rank in range(world_size)]
    for update, batch in enumerate(whole):
        assert len(batch.ids) == 6
        for rank in range(world_size):
            share = shares[rank][update]
            assert share.ids == batch.ids[rank::world_size]
            assert torch.equal(share.images, batch.images[rank::world_size])
            assert torch.equal(share.labels, batch.labels[rank::world_size])


def test_a_damaged_image_is_reported_when_its_batch_is_read(train, voc_folder):
    batches = batches_of(train, batch=2)
    ids = [batch.ids for batch in first(batches, 3)]  # an epoch
    (voc_folder / "JPEGImages" / f"{ids[2][0]}.jpg").write_text("no image")
    stream = batches.starting_at(0)
    assert [next(stream).ids, next(stream).ids] == ids[:2]
    with pytest.raises(DataError, match=ids[2][0]):
        next(stream)


def test_starting_at_a_step_equals_having_trained_up_to_it(train):
    batches = batches_of(in_memory(train), batch=4)
    assert_same_batches(first(batches, 3, start=5), first(batches, 8)[5:])


def test_workers_and_memory_give_the_same_batches(train):
    expected = first(batches_of(train, batch=4), 4, start=1)
    assert {tuple(batch.images.shape) for batch in expected} == {(4, 3, 32, 32)}
    assert_same_batches(first(batches_of(train, batch=4, workers=1), 4, start=1), expected)
    assert_same_batches(first(batches_of(train, batch=4, workers=2), 4, start=1), expected)
    assert_same_batches(first(batches_of(in_memory(train), batch=4), 4, start=1), expected)


def growing(dataset, **options):
    order = SampleOrder(len(dataset), 4, 0)
    smaller = [SmallerCrop(crop=16, until=2), SmallerCrop(crop=24, until=5)]
    augment = Augment(Section(crop=32, progressive=smaller), 0, dataset.ignore_index)
    return TrainBatches(dataset, order, augment, CPU, **({"workers": 0} | options))


def test_the_crop_grows_with_the_update_alone(train):
    """Whatever the update at which a training starts, the workers and the processes."""
    data = in_memory(train)
    whole = first(growing(data), 7)
    assert [batch.images.shape[-1] for batch in whole] == [16, 16, 24, 24, 24, 32, 32]
    assert [batch.labels.shape[-1] for batch in whole] == [16, 16, 24, 24, 24, 32, 32]
    plain = TrainBatches(data, SampleOrder(6, 4, 0), Augment(Section(crop=32), 0, 255), CPU, workers=0)
    assert_same_batches(whole[5:], first(plain, 2, start=5))
    for start in (1, 2, 4, 5, 6):
        assert_same_batches(first(growing(data), 7 - start, start), whole[start:])
    assert_same_batches(first(growing(train, workers=2), 6, start=1), whole[1:])
    for rank in range(2):
        for batch, share in zip(whole, first(growing(data, rank=rank, world_size=2), 7), strict=True):
            assert torch.equal(share.images, batch.images[rank::2])


def test_what_is_read_beside_the_training_has_the_largest_crop(train):
    """The memory of an update, the pictures of the doctor and the statistics of a soup."""
    batches = growing(in_memory(train))
    assert batches.of(batches.order.update(0)).images.shape[-1] == 32


def test_a_sample_changes_from_epoch_to_epoch(train):
    data = in_memory(train)
    epochs = [dict(zip(b.ids, b.images, strict=True)) for b in first(batches_of(data), 2)]
    assert epochs[0].keys() == epochs[1].keys() == set(train.ids)
    for id in train.ids:
        assert not torch.equal(epochs[0][id], epochs[1][id])


# Mixing

MIXED = Section(
    crop=32, cutmix=0.5, classmix=0.5, mosaic=0.5, copy_paste=0.5, category_max_ratio=0.75, elastic=2, blur=1
)


def mixed_batches_of(dataset, batch=12, **options):
    counts = count_classes(dataset, lambda done, total: None)
    mixing = Mixing(MIXED, 0, len(dataset), dataset.ignore_index, counts)
    order = SampleOrder(len(dataset), batch, 0)
    augmentation = Augment(MIXED, 0, dataset.ignore_index)
    return TrainBatches(dataset, order, augmentation, CPU, **({"workers": 0, "mixing": mixing} | options))


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6])
def test_processes_see_the_same_mixed_samples(train, world_size):
    data = in_memory(train)
    whole = first(mixed_batches_of(data), 3)
    for rank in range(world_size):
        share = first(mixed_batches_of(data, rank=rank, world_size=world_size), 3)
        for update, batch in enumerate(whole):
            assert share[update].ids == batch.ids[rank::world_size]
            assert torch.equal(share[update].images, batch.images[rank::world_size])
            assert torch.equal(share[update].labels, batch.labels[rank::world_size])


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_and_a_late_start_give_the_same_mixed_batches(train, workers):
    expected = first(mixed_batches_of(train, batch=4), 6)
    assert {tuple(batch.images.shape) for batch in expected} == {(4, 3, 32, 32)}
    assert_same_batches(first(mixed_batches_of(train, batch=4, workers=workers), 3, start=3), expected[3:])
    assert_same_batches(first(mixed_batches_of(in_memory(train), batch=4), 1, start=5), expected[5:])


def test_a_late_start_reads_only_the_samples_of_its_updates(voc_folder, monkeypatch):
    reads = []
    read = FileDataset.__getitem__
    monkeypatch.setattr(FileDataset, "__getitem__", lambda self, i: [reads.append(i), read(self, i)][1])
    data = open_voc(voc_folder, "train")
    batches = mixed_batches_of(data, batch=4)
    hosts = batches.order.update(10**6)
    guests = [guest for host in hosts for guest in batches.mixing.guests(data.ids[host.index], host.epoch)]
    first(batches, 1, start=10**6)
    assert guests and reads == [draw.index for draw in (*hosts, *guests)]


def test_mixing_does_not_change_which_samples_are_in_a_batch(train):
    plain, mixed = (first(mixed_batches_of(train, **options), 2) for options in ({"mixing": None}, {}))
    for one, other in zip(plain, mixed, strict=True):
        assert one.ids == other.ids
        same = [torch.equal(a, b) for a, b in zip(one.images, other.images, strict=True)]
        assert not all(same) and one.images.shape == other.images.shape


@pytest.mark.parametrize("ignore_index", [255, 200])
def test_padding_is_void_and_black_around_each_sample(voc_folder, ignore_index):
    for path in voc_folder.glob("SegmentationClass/*.png"):
        labels = np.array(Image.open(path))
        Image.fromarray(np.where(labels == 255, ignore_index, labels).astype(np.uint8)).save(path)
    data = open_voc(voc_folder, "train", ignore_index=ignore_index)
    recorder = Recorder(ignore_index)
    batches = TrainBatches(data, SampleOrder(6, 6, 0), recorder, CPU, workers=0)
    [_, batch] = first(batches, 2)

    assert batch.images.dtype == batch.labels.dtype == torch.uint8
    assert batch.images.shape == (6, 3, 72, 64) and batch.labels.shape == (6, 72, 64)  # multiples of 8
    assert recorder.parameters_given[1] == [(id, 1) for id in batch.ids]
    for row, id in enumerate(batch.ids):
        sample = data[data.ids.index(id)]
        h, w = sample.labels.shape
        assert recorder.sizes[1][row] == (h, w)
        assert torch.equal(batch.images[row, :, :h, :w], sample.image)
        assert torch.equal(batch.labels[row, :h, :w], sample.labels)
        for outside in (np.s_[h:, :], np.s_[:, w:]):
            assert (batch.images[row][:, *outside] == 0).all()
            assert (batch.labels[row][outside] == ignore_index).all()


def test_padding_reaches_the_next_multiple_of_8(train):
    sizes = []
    for start in range(6):
        batches = TrainBatches(train, SampleOrder(6, 1, 0), Recorder(255), CPU, workers=0)
        sizes.append(tuple(first(batches, 1, start)[0].labels.shape))
    expected = [
        (40, 56),
        (64, 48),
        (48, 48),
        (40, 56),
        (72, 48),
        (56, 64),
    ]  # of 72 x 41 and 53 x 64, the last two
    assert sorted(sizes) == sorted((1, h, w) for h, w in expected)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_damaged_image_in_a_worker_keeps_its_message(train, voc_folder, workers):
    path = voc_folder / "JPEGImages" / f"{train.ids[3]}.jpg"
    path.write_bytes(path.read_bytes()[:200])
    for read in (
        lambda: first(batches_of(train, workers=workers), 1),
        lambda: list(scoring_batches(train, CPU, workers=workers)),
    ):
        with pytest.raises(DataError) as caught:
            read()
        message = str(caught.value)
        assert message.startswith(str(path)) and "Replace it" in message
        assert "Traceback" not in message and "worker" not in message and "\n" not in message


# Scoring


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("max_px", [1, 40 * 56, 40 * 56 * 2, 1 << 21])
def test_scoring_reads_every_image_once_and_unchanged(train, world_size, max_px):
    seen = Counter()
    for rank in range(world_size):
        for batch in scoring_batches(train, CPU, rank, world_size, max_px, workers=0):
            assert batch.images.dtype == batch.labels.dtype == torch.uint8
            assert len(batch.ids) == len(batch.images) == len(batch.labels)
            assert len(batch.ids) == 1 or batch.labels.numel() <= max_px
            seen.update(batch.ids)
            for id, image, labels in zip(batch.ids, batch.images, batch.labels, strict=True):
                sample = train[train.ids.index(id)]
                assert torch.equal(image, sample.image) and torch.equal(labels, sample.labels)
    assert seen == Counter(train.ids)


def test_scoring_batches_images_of_equal_size(train):
    batches = list(scoring_batches(train, CPU, workers=0))
    assert sorted(len(batch.ids) for batch in batches) == [1, 1, 1, 1, 2]  # two of the six are 40 x 56
    pair = next(batch for batch in batches if len(batch.ids) == 2)
    assert pair.images.shape == (2, 3, 40, 56) and pair.ids == [train.ids[0], train.ids[3]]


def test_by_default_scoring_reads_no_more_images_at_once_than_a_forward_pass_takes(train, monkeypatch):
    monkeypatch.setattr("engine.data.batches.forward_px", lambda device: 40 * 56)
    assert [len(batch.ids) for batch in scoring_batches(train, CPU, workers=0)] == [1] * 6


@pytest.mark.parametrize("workers", [1, 2])
def test_scoring_with_workers_equals_scoring_without(train, workers):
    expected = list(scoring_batches(train, CPU, workers=0))
    assert_same_batches(scoring_batches(train, CPU, workers=workers), expected)
    assert_same_batches(scoring_batches(in_memory(train), CPU), expected)


def test_more_processes_than_images_leaves_some_without_work(train):
    shares = [list(scoring_batches(train, CPU, rank, 8, workers=0)) for rank in range(8)]
    assert sum(len(batch.ids) for share in shares for batch in share) == 6
    assert [] in shares


# Workers


def test_a_resident_data_set_needs_no_worker(train):
    assert num_workers(in_memory(train), 4, 1) == 0
    assert num_workers(train, 4, 1) == 4
    assert num_workers(train, 0, 1) == 0


def test_auto_shares_the_cores_between_processes(train, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)), raising=False)
    assert [num_workers(train, "auto", world_size) for world_size in (1, 2, 4, 16)] == [8, 7, 3, 0]


# Real photos


def test_real_photos_become_batches(shared_voc):
    data = open_voc(shared_voc, "trainaug")
    order = SampleOrder(len(data), 4, 0)
    batches = TrainBatches(data, order, Augment(Section(crop=128), 0, 255), CPU, workers=0)
    [batch] = first(batches, 1)
    assert batch.images.shape == (4, 3, 128, 128) and batch.images.std() > 10
    assert set(batch.labels.unique().tolist()) <= {*range(21), 255}
    [scored] = islice(scoring_batches(data, CPU, max_px=1, workers=0), 1)
    assert scored.ids == data.ids[:1] and torch.equal(scored.images[0], data[0].image)


class Deadly:
    """A split whose image 2 ends the process that reads it, as the system does where memory is full."""

    def __init__(self, dataset, deaths, times):
        self.dataset, self.deaths, self.times = dataset, deaths, times
        deaths.mkdir()

    def __getattr__(self, name):
        return getattr(self.dataset, name)

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        if index == 2 and multiprocessing.parent_process() and len(list(self.deaths.iterdir())) < self.times:
            (self.deaths / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.dataset[index]


def test_the_batch_of_a_worker_that_died_is_read_again(train, tmp_path, capsys):
    deadly = Deadly(train, tmp_path / "deaths", times=1)
    assert_same_batches(first(batches_of(deadly, workers=2), 4), first(batches_of(train), 4))
    error = capsys.readouterr().err
    assert "was ended by SIGKILL" in error and "reads that batch again" in error
    assert len(list((tmp_path / "deaths").iterdir())) == 1


def test_workers_that_die_twice_in_a_row_are_an_error(train, tmp_path):
    with pytest.raises(WorkerError, match=r"so did the one before.*data\.workers=1"):
        first(batches_of(Deadly(train, tmp_path / "deaths", times=9), workers=2), 4)
    assert 2 <= len(list((tmp_path / "deaths").iterdir())) <= 4  # both workers may die before it is noticed


def test_the_handler_of_ended_processes_is_not_that_of_torch(train):
    """It would raise in the middle of an update."""
    before = signal.getsignal(signal.SIGCHLD)
    first(batches_of(train, workers=1), 1)
    assert signal.getsignal(signal.SIGCHLD) == before


def test_workers_ignore_what_stops_a_run_and_end_with_it(train):
    before = multiprocessing.active_children()
    batches = batches_of(train, workers=2).starting_at(0)
    for _ in range(2):  # one of each worker: both have started
        next(batches)
    workers = [process for process in multiprocessing.active_children() if process not in before]
    assert len(workers) == 2
    for worker in workers:
        for number in STOPPING_SIGNALS:
            os.kill(worker.pid, number)
    next(batches)
    assert all(worker.is_alive() for worker in workers)
    batches.close()
    for worker in workers:
        worker.join(timeout=20)
        assert not worker.is_alive()
