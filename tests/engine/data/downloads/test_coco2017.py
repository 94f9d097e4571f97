"""COCO 2017 from tiny zips on a local server, through the command."""

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.data.downloads import coco2017
from engine.prepare import main

COUNTS = {"train2017": 3, "val2017": 2}
TREE = {
    **{f"{split}/{number:012d}.jpg": b"photo" for split, count in COUNTS.items() for number in range(count)},
    **{
        f"stuffthingmaps/{split}/{number:012d}.png": b"map"
        for split, count in COUNTS.items()
        for number in range(count)
    },
    **{f"annotations/instances_{split}.json": b"{}" for split in COUNTS},
}


def as_zip(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def archives() -> dict[str, bytes]:
    """As in COCO: photos in a folder per split, more annotations than needed, label maps without a folder."""
    photos = {split: {k: v for k, v in TREE.items() if k.startswith(f"{split}/")} for split in COUNTS}
    maps = {k.removeprefix("stuffthingmaps/"): v for k, v in TREE.items() if k.startswith("stuff")}
    annotations = {k: v for k, v in TREE.items() if k.startswith("annotations/")}
    return {
        "train2017.zip": as_zip({"train2017/": b"", **photos["train2017"]}),
        "val2017.zip": as_zip({"val2017/": b"", **photos["val2017"]}),
        "stuffthingmaps_trainval2017.zip": as_zip(maps),
        "annotations_trainval2017.zip": as_zip({**annotations, "annotations/captions_val2017.json": b"[]"}),
    }


@pytest.fixture
def publish(loopback, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, bytes]], None]:
    """Put zips on the server, and their sizes, checksums and counts into the published ones."""

    def put(zips: dict[str, bytes]) -> None:
        loopback.files |= zips
        parts = []
        for part in coco2017.PARTS:
            content = zips[part.remote.name]
            remote = part.remote
            if remote.checksum:
                checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
                remote = replace(remote, size=len(content), checksum=checksum)
            num_files = {
                pattern: 1 if "json" in pattern else COUNTS[pattern.split("/")[-2]]
                for pattern in part.num_files
            }
            parts.append(replace(part, remote=remote, num_files=num_files))
        monkeypatch.setattr(coco2017, "PARTS", tuple(parts))

    put(archives())
    return put


@pytest.fixture
def prepare(loopback, publish, tmp_path: Path) -> Callable[[], int]:
    return lambda: main(["coco2017", "--root", str(tmp_path / "coco"), "--mirror", loopback.url])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "coco"


def tree(root: Path) -> dict[str, bytes]:
    """The files in the folder, without the archives."""
    files = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    return {name: content for name, content in files.items() if not name.startswith("archives/")}


def test_the_first_call_downloads_everything_and_the_second_nothing(
    prepare, root: Path, loopback, capsys
) -> None:
    assert prepare() == 0
    assert tree(root) == TREE
    assert f"COCO 2017 is complete: 12 files in {root}, for data.root={root}" in capsys.readouterr().out
    assert len(loopback.requests) == 4
    for archive in (root / "archives").iterdir():
        archive.unlink()
    assert prepare() == 0
    assert len(loopback.requests) == 4


@pytest.mark.parametrize("name", TREE)
def test_missing_files_are_restored_from_the_kept_archive(name: str, prepare, root: Path, loopback) -> None:
    prepare()
    (root / name).unlink()
    loopback.requests.clear()
    assert prepare() == 0
    assert tree(root) == TREE
    assert loopback.requests == []


def test_existing_photos_are_not_downloaded(prepare, root: Path, loopback) -> None:
    for name, content in TREE.items():
        if name.endswith(".jpg"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
    assert prepare() == 0
    assert tree(root) == TREE
    assert {name for name, _ in loopback.requests} == {
        "stuffthingmaps_trainval2017.zip", "annotations_trainval2017.zip",
    }  # fmt: skip


def test_an_archive_with_too_few_files_is_an_error(publish, prepare, root: Path, capsys) -> None:
    few = as_zip({"val2017/000000000000.jpg": b"photo"})
    publish(archives() | {"val2017.zip": few})
    assert prepare() == 2
    assert "is unpacked, but there are only 1 of 2 val2017/*.jpg" in capsys.readouterr().err


def test_the_crc_detects_damage_where_no_checksum_is_published(publish, prepare, root: Path, capsys) -> None:
    maps = archives()["stuffthingmaps_trainval2017.zip"]
    publish(archives() | {"stuffthingmaps_trainval2017.zip": maps.replace(b"map", b"mop", 1)})
    assert prepare() == 2
    err = capsys.readouterr().err
    assert "stuffthingmaps_trainval2017.zip is damaged" in err and "CRC" in err
    assert b"mop" not in tree(root).values()


def test_a_malicious_zip_is_refused(publish, prepare, root: Path, capsys) -> None:
    publish(archives() | {"annotations_trainval2017.zip": as_zip({"../instances_val2017.json": b"{}"})})
    assert prepare() == 2
    assert "malicious: '../instances_val2017.json' (leaves the folder)" in capsys.readouterr().err
    assert tree(root) == {} and not (root.parent / "instances_val2017.json").exists()
