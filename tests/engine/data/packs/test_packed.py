"""Reading packs: the same samples as the source, also in forks, threads and workers; damage is refused."""

import multiprocessing
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data import DataError, open_split
from engine.data.augment import Augment
from engine.data.batches import TrainBatches
from engine.data.formats.voc import open_voc
from engine.data.options import Augment as Section
from engine.data.order import SampleOrder
from engine.data.packs.pack import write_pack
from engine.data.packs.packed import PackedDataset
from engine.data.resident import Resident, choose_residence
from engine.data.synthetic import SyntheticScenes
from models.class_names import VOC
from tests.engine.data.refusals import message_of

CPU = torch.device("cpu")
LAYOUTS = ("encoded", "decoded")


@pytest.fixture(params=[(layout, shard) for layout in LAYOUTS for shard in (None, 12_000)], ids=str)
def pack(request, voc_folder, tmp_path) -> Path:
    layout, shard_bytes = request.param
    splits = {split: open_voc(voc_folder, split) for split in ("train", "val")}
    files = write_pack(splits, tmp_path / "voc.h5", layout, shard_bytes)
    assert (len(files) > 1) == (shard_bytes is not None)
    return tmp_path / "voc.h5"


@pytest.fixture(scope="module", params=LAYOUTS)
def scenes(request, tmp_path_factory) -> Path:
    """A small pack whose bytes tests alter."""
    path = tmp_path_factory.mktemp("scenes") / "scenes.h5"
    splits = {"train": SyntheticScenes("train", 3, 32), "val": SyntheticScenes("val", 2, 32)}
    write_pack(splits, path, request.param)
    return path


def assert_same_samples(found, expected) -> None:
    assert len(found) == len(expected) and found.ids == expected.ids
    for index in range(len(expected)):
        one, other = found[index], expected[index]
        assert one.id == other.id
        assert torch.equal(one.image, other.image) and torch.equal(one.labels, other.labels)
        assert torch.equal(found.labels(index), other.labels)


def content(path: Path) -> list:
    """All public values of a pack of scenes."""
    everything = []
    for split in ("train", "val"):
        data = PackedDataset(path, split)
        facts = (
            data.ids,
            data.sizes(),
            data.fingerprint(),
            data.class_names,
            data.palette,
            data.ignore_index,
        )
        samples = [(s.id, s.image.tolist(), s.labels.tolist()) for s in (data[i] for i in range(len(data)))]
        everything.append((facts, samples, data.label_counts().tolist()))
    return everything


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


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_batches_of_the_source(pack, voc_folder, workers):
    def batches(dataset, workers):
        augment = Augment(Section(crop=32), 0, 255)
        order = SampleOrder(len(dataset), 4, 0)
        return list(islice(TrainBatches(dataset, order, augment, CPU, workers=workers).starting_at(0), 4))

    expected = batches(open_voc(voc_folder, "train"), 0)
    for one, other in zip(batches(PackedDataset(pack, "train"), workers), expected, strict=True):
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


# Damage


@settings(max_examples=100)
@given(data=st.data())
def test_altered_bytes_are_refused_unless_they_are_unused(scenes, tmp_path_factory, data):
    good = scenes.read_bytes()
    altered = bytearray(good)
    start = data.draw(st.integers(0, len(good) - 1), label="start")
    flips = data.draw(st.binary(min_size=1, max_size=16).filter(any), label="flips")
    for offset, flip in enumerate(flips[: len(good) - start]):
        altered[start + offset] ^= flip
    path = tmp_path_factory.mktemp("altered") / "scenes.h5"
    path.write_bytes(altered)
    try:
        found = content(path)
    except DataError as error:
        assert str(path) in str(error)  # the file is named
    else:
        assert found == content(scenes)


def test_a_changed_byte_of_a_record_is_an_error_that_names_the_sample(scenes, tmp_path):
    good = scenes.read_bytes()
    with h5py.File(scenes) as file:
        offsets = {what: file[f"train/{what}s"].id.get_offset() for what in ("image", "label")}
        start, end = {what: file[f"train/{what}_offsets"][1:3] for what in offsets}["image"]
        label_start = file["train/label_offsets"][1]
    places = {
        "image": [offsets["image"] + p for p in range(start, end, 97)],
        "label": [offsets["label"] + label_start],
    }
    path = tmp_path / "scenes.h5"
    for what, positions in places.items():
        for position in positions:
            altered = bytearray(good)
            altered[position] ^= 1
            path.write_bytes(altered)
            packed = PackedDataset(path, "train")
            for index in (0, 2):
                packed[index]  # the others are intact
            message = message_of(lambda packed=packed: packed[1])
            assert all(part in message for part in (str(path), what, "'train_00001'", "trident prepare pack"))
            if what == "image":
                assert packed.labels(1).shape == (32, 32)


@settings(max_examples=60)
@given(data=st.data())
def test_a_truncated_pack_is_refused_at_once(scenes, tmp_path_factory, data):
    good = scenes.read_bytes()
    length = data.draw(st.integers(0, len(good) - 1), label="length")
    path = tmp_path_factory.mktemp("truncated") / "scenes.h5"
    path.write_bytes(good[:length])
    message = message_of(lambda: PackedDataset(path, "train"))
    assert str(path) in message
    if length > 100:  # enough to recognise a pack
        assert f"is truncated: {length:,} of its {len(good):,} bytes are there" in message


@pytest.mark.parametrize("table", ["ids", "sizes", "image_offsets", "label_sha256", "label_counts"])
def test_an_edited_table_is_named(scenes, tmp_path, table):
    path = tmp_path / "scenes.h5"
    shutil.copy(scenes, path)
    with h5py.File(path, "r+") as file:
        values = file[f"val/{table}"]
        values[...] = values[()][::-1] if table == "ids" else values[()] + 1
    message = message_of(lambda: PackedDataset(path, "val").label_counts())
    assert f"table val/{table} is altered" in message and str(path) in message


def test_an_edited_header_is_refused(scenes, tmp_path):
    path = tmp_path / "scenes.h5"
    shutil.copy(scenes, path)
    with h5py.File(path, "r+") as file:
        file.attrs["header"] = np.bytes_(bytes(file.attrs["header"]).replace(b'"fish"', b'"kelp"'))
    assert "header is altered" in message_of(lambda: PackedDataset(path, "val"))


@pytest.mark.parametrize("name", ["train", "train/ids", "train/images"])
@pytest.mark.parametrize(
    "link",
    [
        lambda path, name: h5py.ExternalLink(path, name),
        lambda path, name: h5py.SoftLink(f"/val{name.removeprefix('train')}"),
    ],
)
def test_a_link_to_another_file_or_place_is_refused(scenes, tmp_path, name, link):
    path = tmp_path / "scenes.h5"
    shutil.copy(scenes, path)
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = link(str(scenes), name)
    message = message_of(lambda: PackedDataset(path, "train"))
    assert f"its {name} is a link" in message and str(path) in message


def test_bytes_in_another_file_are_refused(scenes, tmp_path):
    path = tmp_path / "scenes.h5"
    shutil.copy(scenes, path)
    with h5py.File(path, "r+") as file:
        num_bytes = len(file["val/images"])
        del file["val/images"]
        file.create_dataset("val/images", (num_bytes,), "u1", external=[(str(scenes), 0, num_bytes)])
    assert "its val/images are in another file" in message_of(lambda: PackedDataset(path, "val"))


# Missing files


def test_other_files_are_refused_as_packs(tmp_path):
    (tmp_path / "text.h5").write_text("no pack " * 500)
    (tmp_path / "empty.h5").touch()
    h5py.File(tmp_path / "hdf5.h5", "w").close()
    for name in ("text.h5", "empty.h5", "hdf5.h5"):
        message = message_of(lambda name=name: PackedDataset(tmp_path / name, "train"))
        assert str(tmp_path / name) in message and "trident prepare pack" in message


def test_the_error_for_a_missing_pack_lists_the_packs_there(scenes, tmp_path):
    message = message_of(lambda: PackedDataset(scenes.parent / "scene.h5", "train"))
    assert "scene.h5" in message and "Packs there: scenes.h5" in message
    assert "Packs there: scenes.h5" in message_of(lambda: PackedDataset(scenes.parent, "train"))
    assert "trident prepare pack" in message_of(lambda: PackedDataset(tmp_path / "x.h5", "train"))


def test_the_error_for_a_missing_split_suggests_one(pack):
    message = message_of(lambda: PackedDataset(pack, "vall"))
    assert "train, val" in message and "Did you mean val?" in message


def test_other_classes_or_another_ignore_index_than_in_the_recipe_are_refused(pack):
    PackedDataset(pack, "val", VOC, 255)
    swapped = (*VOC[:-2], VOC[-1], VOC[-2])
    assert "data.classes=[background, aeroplane" in message_of(
        lambda: PackedDataset(pack, "val", swapped, 255)
    )
    assert "data.ignore_index=255" in message_of(lambda: PackedDataset(pack, "val", VOC, 0))


def test_a_missing_shard_is_named(tmp_path):
    splits = {"train": SyntheticScenes("train", 3, 32)}
    paths = write_pack(splits, tmp_path / "s.h5", "decoded", shard_bytes=1)
    paths[1].unlink()
    message = message_of(lambda: PackedDataset(tmp_path / "s.h5", "train"))
    assert "s-00001-of-00003.h5" in message
    assert f"data.root={tmp_path / 's.h5'}" in message_of(
        lambda: PackedDataset(paths[0], "train")
    )  # one shard alone


def test_shards_of_different_packs_do_not_mix(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        write_pack({"train": SyntheticScenes("train", 2, 32, seed)}, tmp_path / f"{name}.h5", "decoded", 1)
    shutil.copy(tmp_path / "b-00001-of-00002.h5", tmp_path / "a-00001-of-00002.h5")
    message = message_of(lambda: PackedDataset(tmp_path / "a.h5", "train"))
    assert "a-00001-of-00002.h5" in message and "different packs" in message
    shutil.copy(tmp_path / "a-00000-of-00002.h5", tmp_path / "a-00001-of-00002.h5")  # the same shard twice
    assert "parts [0, 0] of 2" in message_of(lambda: PackedDataset(tmp_path / "a.h5", "train"))
