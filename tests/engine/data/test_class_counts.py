"""The scan of the labels and its cache file."""

import numpy as np
import pytest
import torch
from PIL import Image

from engine.data.class_counts import ClassCounts, CountsFile, count_classes
from engine.data.formats.voc import open_voc
from engine.data.packs.pack import write_pack
from engine.data.packs.packed import PackedDataset
from engine.data.resident import Resident
from engine.data.sample import DataError
from engine.data.synthetic import SyntheticScenes


def quiet(done: int, total: int) -> None:
    pass


@pytest.fixture
def train(voc_folder):
    return open_voc(voc_folder, "train")


def same(one: ClassCounts, two: ClassCounts) -> bool:
    return np.array_equal(one.pixels, two.pixels) and np.array_equal(one.void, two.void)


def test_every_pixel_is_counted_once_and_no_image_is_decoded(train, voc_folder, monkeypatch):
    expected = np.zeros((6, 256), int)
    for index in range(6):
        for value in np.asarray(Image.open(voc_folder / f"SegmentationClass/{train.ids[index]}.png")).flat:
            expected[index, value] += 1
    monkeypatch.setattr(
        "engine.data.formats.files.image_pixels", lambda *_: pytest.fail("an image was decoded")
    )
    calls = []
    counts = count_classes(train, lambda done, total: calls.append((done, total)))
    assert counts.pixels.dtype == counts.void.dtype == np.int64
    assert counts.pixels.tolist() == expected[:, :21].tolist()
    assert counts.void.tolist() == expected[:, 255].tolist()
    assert calls == [(done, 6) for done in range(1, 7)]


def test_shares_leave_void_out():
    counts = ClassCounts(np.array([[30, 0, 10], [50, 0, 10]]), np.array([900, 0]))
    assert counts.shares.tolist() == [0.8, 0.0, 0.2]
    assert ClassCounts(np.zeros((2, 3), int), np.array([5, 5])).shares.tolist() == [0.0, 0.0, 0.0]


def test_an_id_that_is_both_a_class_and_void_is_void(train, voc_folder):
    for id in train.ids:
        Image.new("L", (8, 5), 12).save(voc_folder / f"SegmentationClass/{id}.png")
        Image.new("RGB", (8, 5)).save(voc_folder / f"JPEGImages/{id}.jpg")
    counts = count_classes(open_voc(voc_folder, "train", ignore_index=12), quiet)
    assert counts.void.tolist() == [40] * 6
    assert counts.pixels.sum() == 0


@pytest.mark.parametrize("world_size", [2, 3, 4, 6, 7])
def test_the_shares_of_several_processes_add_up_to_the_whole(train, world_size):
    parts = [count_classes(train, quiet, rank, world_size) for rank in range(world_size)]
    sums = ClassCounts(sum(p.pixels for p in parts), sum(p.void for p in parts))
    assert same(sums, count_classes(train, quiet))
    read = [set(np.flatnonzero(part.pixels.sum(axis=1))) for part in parts]
    assert sum(len(rows) for rows in read) == 6  # each image once


def test_resident_and_synthetic_data_sets_are_counted_too(train):
    assert same(
        count_classes(Resident(train, torch.device("cpu"), quiet), quiet), count_classes(train, quiet)
    )
    counts = count_classes(SyntheticScenes("train", 3, size_px=32), quiet)
    assert (counts.pixels.sum(axis=1) + counts.void).tolist() == [32 * 32] * 3


def test_all_damaged_masks_are_reported_together(train, voc_folder):
    for id in train.ids[1:3]:
        (voc_folder / f"SegmentationClass/{id}.png").write_text("no mask")
    with pytest.raises(DataError) as caught:
        count_classes(train, quiet)
    assert [id in str(caught.value) for id in train.ids] == [False, True, True, False, False, False]


def test_the_cache_is_read_back(train, voc_folder):
    file, counts = CountsFile(voc_folder, train), count_classes(train, quiet)
    assert file.read() is None
    file.write(counts)
    assert same(CountsFile(voc_folder, train).read(), counts)
    assert [path.parent.name for path in voc_folder.rglob("class_counts*")] == [".trident"]
    assert list(voc_folder.rglob("*.part")) == []


def test_the_name_of_the_cache_depends_on_the_labels_and_the_id_of_void(train, voc_folder):
    before = CountsFile(voc_folder, train).path
    assert CountsFile(voc_folder, open_voc(voc_folder, "train")).path == before
    assert CountsFile(voc_folder, open_voc(voc_folder, "val")).path != before
    assert CountsFile(voc_folder, open_voc(voc_folder, "train", ignore_index=0)).path != before
    path = voc_folder / f"SegmentationClass/{train.ids[0]}.png"
    labels = np.array(Image.open(path))
    labels[0, 0] = 3
    Image.fromarray(labels).save(path)
    assert CountsFile(voc_folder, open_voc(voc_folder, "train")).path != before


def test_the_cache_of_packed_data_is_next_to_the_file(train, voc_folder):
    packed = voc_folder / "train.h5"
    packed.write_text("")
    assert CountsFile(packed, train).path.parent == voc_folder / ".trident"


@pytest.mark.parametrize("damage", ["text", "cut", "other arrays", "other shape", "pickle"])
def test_a_damaged_cache_is_ignored_and_replaced(train, voc_folder, damage):
    file, counts = CountsFile(voc_folder, train), count_classes(train, quiet)
    file.write(counts)
    if damage == "text":
        file.path.write_text("not a cache file")
    elif damage == "cut":
        file.path.write_bytes(file.path.read_bytes()[:-40])
    elif damage == "other arrays":
        np.savez(file.path, pixels=counts.pixels)
    elif damage == "other shape":
        np.savez(file.path, pixels=counts.pixels[:, :5], void=counts.void)
    else:
        np.savez(file.path, pixels=counts.pixels.astype(object), void=counts.void)
    assert file.read() is None
    file.write(counts)
    assert same(file.read(), counts)


def test_each_altered_byte_of_the_cache_is_noticed_or_changes_nothing(train, voc_folder):
    file, counts = CountsFile(voc_folder, train), count_classes(train, quiet)
    file.write(counts)
    content = file.path.read_bytes()
    num_ignored = 0
    for place in range(len(content)):
        file.path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        found = file.read()
        num_ignored += found is None
        assert found is None or same(found, counts)
    assert num_ignored > len(content) / 2


def test_a_folder_that_cannot_be_written_is_an_os_error_and_unchanged(train, voc_folder):
    (voc_folder / ".trident").write_text("a file where the folder should be")
    before = sorted(voc_folder.rglob("*"))
    with pytest.raises(OSError):
        CountsFile(voc_folder, train).write(count_classes(train, quiet))
    assert sorted(voc_folder.rglob("*")) == before


def test_a_read_only_folder_is_not_written_even_by_root(train, voc_folder):
    counts = count_classes(train, quiet)
    voc_folder.chmod(0o555)
    try:
        with pytest.raises(PermissionError):
            CountsFile(voc_folder, train).write(counts)
        assert not (voc_folder / ".trident").exists()
    finally:
        voc_folder.chmod(0o755)


def test_real_masks_have_the_classes_listed_in_their_readme(shared_voc):
    has = sum(
        (count_classes(open_voc(shared_voc, split), quiet).pixels > 0).sum(axis=0)
        for split in ("trainaug", "val")
    )
    names = open_voc(shared_voc, "val").class_names
    assert {name: int(number) for name, number in zip(names, has, strict=True) if number} == {
        "background": 1017, "dog": 327, "cat": 309, "person": 203, "horse": 162, "sheep": 132, "cow": 113,
        "chair": 40, "sofa": 39, "car": 21, "pottedplant": 20, "bottle": 15, "tvmonitor": 14,
        "diningtable": 10, "bird": 4, "bus": 1, "boat": 1,
    }  # fmt: skip


@pytest.mark.parametrize("ignore_index", [255, 12])
@pytest.mark.parametrize("rank, world_size", [(0, 1), (1, 4)])
def test_a_pack_has_the_counts_of_its_source_without_reading_label_maps(
    voc_folder, tmp_path, monkeypatch, ignore_index, rank, world_size
):
    for path in (voc_folder / "SegmentationClass").iterdir():
        ids = np.asarray(Image.open(path))
        Image.fromarray(np.where(ids == 255, ignore_index, ids).astype(np.uint8)).save(path)
    source = open_voc(voc_folder, "train", ignore_index=ignore_index)
    write_pack({"train": source}, tmp_path / "pack.h5")
    packed = PackedDataset(tmp_path / "pack.h5", "train")
    monkeypatch.setattr(packed, "labels", lambda index: pytest.fail("a label map was read"))
    assert same(
        count_classes(packed, quiet, rank, world_size), count_classes(source, quiet, rank, world_size)
    )
