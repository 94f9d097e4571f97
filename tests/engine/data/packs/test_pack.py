"""Writing packs: the contents, that nothing is lost or overwritten, and places that cannot be written."""

import hashlib
import os
import signal
from collections import namedtuple

import h5py
import numpy as np
import pytest
import torch

from engine.data.formats.voc import open_voc
from engine.data.packs.pack import write_pack
from engine.data.packs.packed import PackedDataset, shard_paths
from engine.data.synthetic import SyntheticScenes
from tests.engine.data.refusals import message_of
from tests.processes import Python


@pytest.fixture
def splits(voc_folder):
    return {split: open_voc(voc_folder, split) for split in ("train", "val")}


def scenes(num_samples: int = 5):
    return {"train": SyntheticScenes("train", num_samples, 32), "val": SyntheticScenes("val", 3, 32)}


# What is in the file


@pytest.mark.parametrize("layout", ["encoded", "decoded"])
def test_plain_h5py_finds_the_documented_layout(splits, tmp_path, layout):
    write_pack(splits, tmp_path / "voc.h5", layout)
    with h5py.File(tmp_path / "voc.h5") as file:
        assert file.attrs["sha256"].decode() == hashlib.sha256(file.attrs["header"]).hexdigest()
        for split, dataset in splits.items():
            group = file[split]
            assert [id.decode() for id in group["ids"]] == dataset.ids
            assert [tuple(size) for size in group["sizes"]] == dataset.sizes()
            assert group["images"].chunks is None and group["labels"].chunks is None  # contiguous
            for index, sample in enumerate(dataset[i] for i in range(len(dataset))):
                contents = {
                    "image": dataset.image_path(index).read_bytes(),
                    "label": dataset.mask_path(index).read_bytes(),
                }
                if layout == "decoded":
                    contents = {
                        "image": sample.image.numpy().tobytes(),
                        "label": sample.labels.numpy().tobytes(),
                    }
                for what, content in contents.items():
                    start, end = group[f"{what}_offsets"][index : index + 2]
                    assert group[f"{what}s"][start:end].tobytes() == content
                    assert group[f"{what}_sha256"][index].tobytes() == hashlib.sha256(content).digest()
                expected = [int((sample.labels == c).sum()) for c in range(21)]
                assert group["label_counts"][index].tolist() == expected


def test_the_same_data_give_the_same_bytes(splits, tmp_path):
    for name in ("one.h5", "two.h5"):
        write_pack(splits, tmp_path / name)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_progress_counts_each_step_to_its_end(splits, tmp_path):
    seen = []
    write_pack(
        splits, tmp_path / "voc.h5", counter=lambda what: lambda done, total: seen.append((what, done, total))
    )
    assert seen == [
        *(("checking train", done, 6) for done in range(1, 7)),
        *(("checking val", done, 4) for done in range(1, 5)),
        *(("packing", done, 10) for done in range(1, 11)),
    ]


# Shards


def test_shards_stay_below_their_size_and_hold_consecutive_samples(tmp_path):
    record = 4 * 32 * 32
    paths = write_pack(scenes(), tmp_path / "s.h5", "decoded", shard_bytes=3 * record + 1)
    assert [path.name for path in paths] == [f"s-0000{n}-of-00003.h5" for n in range(3)]
    assert shard_paths(tmp_path / "s.h5") == paths
    held = []
    for path in paths:
        with h5py.File(path) as file:
            held.append({split: [id.decode() for id in file[split]["ids"]] for split in file})
    assert held == [
        {"train": ["train_00000", "train_00001", "train_00002"]},
        {"train": ["train_00003", "train_00004"], "val": ["val_00000"]},
        {"val": ["val_00001", "val_00002"]},
    ]


def test_a_sample_above_the_size_has_a_shard_of_its_own(tmp_path):
    assert len(write_pack(scenes(), tmp_path / "s.h5", "decoded", shard_bytes=1)) == 8


# Nothing is overwritten, nothing is left half written


@pytest.mark.parametrize("shard_bytes", [None, 4096])
def test_a_pack_is_replaced_only_with_overwrite(tmp_path, shard_bytes):
    out = tmp_path / "s.h5"
    before = write_pack(scenes(2), out, "decoded", shard_bytes)
    contents = [path.read_bytes() for path in before]
    for other_size in (None, 4096, 9999):
        message = message_of(lambda size=other_size: write_pack(scenes(), out, "decoded", size))
        assert str(before[0]) in message and "--overwrite" in message
    assert [path.read_bytes() for path in before] == contents
    for other_size in (9999, None, 4096):
        written = write_pack(scenes(), out, "decoded", other_size, overwrite=True)
        assert sorted(tmp_path.iterdir()) == written  # the old files are gone
        assert PackedDataset(out, "train").ids == scenes()["train"].ids


def test_a_killed_packing_leaves_the_old_pack_and_the_next_one_succeeds(tmp_path):
    out = tmp_path / "s.h5"
    write_pack(scenes(2), out, "decoded")
    old = out.read_bytes()
    script = f"""
import time
from pathlib import Path
from engine.data.packs.pack import write_pack
from engine.data.synthetic import SyntheticScenes

def counter(what):
    def progress(done, total):
        if (what, done) == ("packing", 4):
            print("half way", flush=True)
            time.sleep(60)
    return progress

splits = {{"train": SyntheticScenes("train", 5, 32), "val": SyntheticScenes("val", 3, 32)}}
write_pack(splits, Path({str(out)!r}), "decoded", overwrite=True, counter=counter)
"""
    ours, theirs = os.pipe()
    packing = Python("-c", script, outputs=(theirs, 2))
    os.close(theirs)
    with open(ours) as output:
        assert output.readline() == "half way\n"
    os.kill(packing.pid, signal.SIGKILL)
    assert packing.end().returncode == -signal.SIGKILL
    assert out.read_bytes() == old
    assert PackedDataset(out, "train").ids == ["train_00000", "train_00001"]
    write_pack(scenes(), out, "decoded", overwrite=True)
    assert len(PackedDataset(out, "train")) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]


@pytest.mark.parametrize("layout", ["encoded", "decoded"])
def test_a_damaged_image_stops_the_packing_and_leaves_nothing(splits, tmp_path, voc_folder, layout):
    path = splits["val"].image_path(2)
    path.write_bytes(path.read_bytes()[:-100])
    out = tmp_path / "out"
    out.mkdir()
    assert str(path) in message_of(lambda: write_pack(splits, out / "voc.h5", layout))
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("layout", ["encoded", "decoded"])
def test_files_that_change_during_packing_are_an_error(splits, tmp_path, layout):
    val = splits["val"]

    def counter(what):
        if what == "packing":  # after each sample has been planned
            for path_of in (val.image_path, val.mask_path):
                path_of(3).write_bytes(path_of(1).read_bytes())  # 48 x 64 px in place of 45 x 45
        return lambda done, total: None

    message = message_of(lambda: write_pack(splits, tmp_path / "voc.h5", layout, counter=counter))
    assert val.ids[3] in message and "changed" in message
    assert not (tmp_path / "voc.h5").exists()


def test_a_full_disk_is_reported_before_anything_is_written(splits, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        "engine.data.packs.pack.shutil.disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6)
    )
    out = tmp_path / "out"
    out.mkdir()
    assert "0.0 GB free" in message_of(lambda: write_pack(splits, out / "voc.h5"))
    assert list(out.iterdir()) == []


def test_the_disk_space_required_is_enough_and_not_much_more(shared_voc, tmp_path, monkeypatch):
    val = open_voc(shared_voc, "val")
    val._pairs, val.ids = val._pairs[:40], val.ids[:40]
    splits = {"val": val}
    [path] = write_pack(splits, tmp_path / "voc.h5")
    usage = namedtuple("usage", "total used free")
    size = path.stat().st_size
    for free, fits in ((size, False), (1.5 * size, True)):
        monkeypatch.setattr(
            "engine.data.packs.pack.shutil.disk_usage", lambda path, free=free: usage(0, 0, int(free))
        )
        if fits:
            write_pack(splits, tmp_path / "more.h5")
        else:
            assert "GB free" in message_of(lambda: write_pack(splits, tmp_path / "more.h5"))
        assert (tmp_path / "more.h5").exists() == fits


def test_places_that_cannot_be_written_are_reported(tmp_path):
    assert "no folder" in message_of(lambda: write_pack(scenes(), tmp_path / "absent" / "s.h5"))
    assert "pack.h5" in message_of(lambda: write_pack(scenes(), tmp_path))


def test_counts_add_up_to_the_labelled_pixels(splits, tmp_path):
    write_pack(splits, tmp_path / "voc.h5")
    counts = PackedDataset(tmp_path / "voc.h5", "val").label_counts()
    assert counts.shape == (4, 21)
    labelled = [int((splits["val"][i].labels != 255).sum()) for i in range(4)]
    assert counts.sum(1).tolist() == labelled
    assert np.flatnonzero(counts.sum(0)).tolist() == [0, 8, 12, 15]
    assert torch.equal(splits["val"].labels(0), splits["val"][0].labels)
