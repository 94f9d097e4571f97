"""Packs that are altered, truncated, mixed up or missing: each is refused with the file and a remedy."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data import DataError
from engine.data.packs.pack import write_pack
from engine.data.packs.packed import PackedDataset
from engine.data.synthetic import SyntheticScenes
from tests.engine.data.refusals import message_of


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
