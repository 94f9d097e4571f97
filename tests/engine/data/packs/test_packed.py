"""Reading packs: the same samples as the source, also in forks, threads and workers, without a copy."""

import multiprocessing
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine.data import open_split
from engine.data.augment import Augment
from engine.data.batches import TrainBatches
from engine.data.formats.voc import open_voc
from engine.data.options import Augment as Section
from engine.data.order import SampleOrder
from engine.data.packs.pack import write_pack
from engine.data.packs.packed import PackedDataset
from engine.data.resident import Resident, choose_residence
from models.class_names import VOC
from tests.engine.data.refusals import message_of

CPU = torch.device("cpu")
LAYOUTS = ("encoded", "decoded")
one_pack = pytest.mark.parametrize("pack", [("decoded", None)], indirect=True, ids=str)  # of the four


@pytest.fixture(params=[(layout, shard) for layout in LAYOUTS for shard in (None, 12_000)], ids=str)
def pack(request, voc_folder, tmp_path) -> Path:
    layout, shard_bytes = request.param
    splits = {split: open_voc(voc_folder, split) for split in ("train", "val")}
    files = write_pack(splits, tmp_path / "voc.h5", layout, shard_bytes)
    assert (len(files) > 1) == (shard_bytes is not None)
    return tmp_path / "voc.h5"


def assert_same_samples(found, expected) -> None:
    assert len(found) == len(expected) and found.ids == expected.ids
    for index in range(len(expected)):
        one, other = found[index], expected[index]
        assert one.id == other.id
        assert torch.equal(one.image, other.image) and torch.equal(one.labels, other.labels)
        assert torch.equal(found.labels(index), other.labels)


# The same data set


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_pack_equals_the_data_set_that_was_packed(pack, voc_folder, split):
    source, packed = open_voc(voc_folder, split), PackedDataset(pack, split)
    assert_same_samples(packed, source)
    assert packed.fingerprint() == source.fingerprint()
    assert packed.sizes() == source.sizes()
    assert (packed.class_names, packed.palette) == (source.class_names, source.palette)
    assert packed.ignore_index == source.ignore_index
    assert packed[-1].id == source.ids[-1]
    with pytest.raises(IndexError):
        packed[len(source)]
    with pytest.raises(IndexError):
        packed.labels(len(source))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_real_photos_come_back_bitwise(shared_voc, tmp_path, layout):
    source = open_voc(shared_voc, "val")
    source._pairs, source.ids = source._pairs[:20], source.ids[:20]
    write_pack({"val": source}, tmp_path / "voc.h5", layout)
    assert_same_samples(PackedDataset(tmp_path / "voc.h5", "val"), source)


@one_pack
def test_open_split_opens_a_pack(pack, voc_folder):
    section = SimpleNamespace(
        format="packed",
        root=str(pack),
        classes="voc21",
        ignore_index=255,
        on_error="raise",
        range="auto",
        bands=None,
        also=[],
        fold=None,
    )
    assert_same_samples(open_split(section, "val"), open_voc(voc_folder, "val"))


@one_pack
def test_the_error_for_a_missing_split_suggests_one(pack):
    message = message_of(lambda: PackedDataset(pack, "vall"))
    assert "train, val" in message and "Did you mean val?" in message


@one_pack
def test_other_classes_or_another_ignore_index_than_in_the_recipe_are_refused(pack):
    PackedDataset(pack, "val", VOC, 255)
    swapped = (*VOC[:-2], VOC[-1], VOC[-2])
    assert "data.classes=[background, aeroplane" in message_of(
        lambda: PackedDataset(pack, "val", swapped, 255)
    )
    assert "data.ignore_index=255" in message_of(lambda: PackedDataset(pack, "val", VOC, 0))


# Processes and threads


def test_a_forked_process_reads_on(pack):
    packed = PackedDataset(pack, "train")
    expected = packed[0].image.clone()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    children = [
        context.Process(target=lambda: queue.put([packed[i].image.sum().item() for i in range(6)]))
        for _ in range(3)
    ]
    for child in children:
        child.start()
    sums = [packed[i].image.sum().item() for i in range(6)]
    assert [queue.get() for _ in children] == [sums] * 3
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert torch.equal(packed[0].image, expected)


def test_threads_share_a_pack(pack, voc_folder):
    source, packed = open_voc(voc_folder, "train"), PackedDataset(pack, "train")
    indices = [*range(6)] * 20
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: packed[i], indices))
    expected = [source[i] for i in range(6)]
    for index, sample in zip(indices, found, strict=True):
        assert torch.equal(sample.image, expected[index].image)
        assert torch.equal(sample.labels, expected[index].labels)


def test_a_pickled_pack_is_opened_again_by_name(pack):
    packed = PackedDataset(pack, "val")
    sent = pickle.dumps(packed)
    assert len(sent) < 1000  # no pixels in it
    assert_same_samples(pickle.loads(sent), packed)


def test_workers_give_the_batches_of_the_source(pack, voc_folder):
    def batches(dataset, workers):
        augment = Augment(Section(crop=32), 0, 255)
        order = SampleOrder(len(dataset), 4, 0)
        return list(islice(TrainBatches(dataset, order, augment, CPU, workers=workers).starting_at(0), 4))

    expected = batches(open_voc(voc_folder, "train"), 0)
    for one, other in zip(batches(PackedDataset(pack, "train"), 2), expected, strict=True):
        assert one.ids == other.ids
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


# Memory


def test_decoded_samples_are_views_of_the_file_and_writing_to_them_does_not_change_it(scenes):
    before = scenes.read_bytes()
    packed = PackedDataset(scenes, "train")
    first, again = packed[1], packed[1]
    if packed.layout == "decoded":
        assert first.image.data_ptr() == again.image.data_ptr()
    assert first.image.untyped_storage().nbytes() == 3 * 32 * 32  # a worker sends only the sample
    assert first.labels.untyped_storage().nbytes() == 32 * 32
    first.image.zero_()
    first.labels.zero_()
    assert scenes.read_bytes() == before
    assert PackedDataset(scenes, "train")[1].image.sum() > 0


def test_a_resident_data_set_keeps_no_view_of_the_file(scenes):
    packed = PackedDataset(scenes, "train")
    resident = Resident(packed, CPU, lambda done, total: None)
    assert_same_samples_of_scenes(resident, packed)
    assert resident.fingerprint() == packed.fingerprint()
    assert choose_residence(packed, "disk", CPU) == ("disk", 3 * 4 * 32 * 32)
    for index in range(3):
        assert resident[index].image.data_ptr() != packed[index].image.data_ptr()
        assert resident[index].labels.data_ptr() != packed[index].labels.data_ptr()


def assert_same_samples_of_scenes(found, expected) -> None:
    for index in range(3):
        assert torch.equal(found[index].image, expected[index].image)
        assert torch.equal(found[index].labels, expected[index].labels)


def test_a_pack_larger_than_memory_is_mapped(scenes, tmp_path):
    """Linux reserves memory for a private mapping by default."""
    path = tmp_path / "large.h5"
    shutil.copy(scenes, path)
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # 1 TiB, a hole
    try:
        assert_same_samples(PackedDataset(path, "train"), PackedDataset(scenes, "train"))
    finally:
        path.unlink()
