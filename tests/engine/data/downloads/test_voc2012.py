"""VOC2012 and SBD from tiny archives on a local server, through the command, interrupted and not."""

import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from engine.data import open_split
from engine.data.downloads import voc2012
from engine.data.formats.voc import voc_palette
from engine.data.options import Data
from engine.prepare import main

TRAIN = ["2007_000001", "2007_000002"]
VAL = ["2007_000003", "2007_000004"]
SBD_TRAIN = ["2007_000001", "2007_000003", "2008_000005"]  # one of VOC train, one of VOC val, one new
SBD_VAL = ["2007_000004", "2008_000006"]
ELSE = ["2009_000009"]  # a photo without a mask, as most of VOC's
TRAINAUG = ["2007_000001", "2007_000002", "2008_000005", "2008_000006"]


def size_of(id: str) -> tuple[int, int]:
    """(h, w), different for each id."""
    return 20 + int(id[-1]), 30


def official_labels(id: str) -> np.ndarray:
    labels = np.full(size_of(id), 255, np.uint8)
    labels[2:-2, 2:-2] = int(id[-1])
    return labels


def sbd_labels(id: str) -> np.ndarray:
    labels = np.zeros(size_of(id), np.uint8)
    labels[5:10, 5:15] = 10 + int(id[-1])
    return labels


def as_image(array: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def as_mat(labels: np.ndarray) -> bytes:
    """A file as in SBD: a struct GTcls of Boundaries, Segmentation and CategoriesPresent."""
    file = io.BytesIO()
    boundaries = np.empty((20, 1), object)
    boundaries[:, 0] = [np.zeros((2, 2), np.uint8)] * 20
    content = {"Boundaries": boundaries, "Segmentation": labels, "CategoriesPresent": np.unique(labels)}
    savemat(file, {"GTcls": content}, do_compression=True)
    return file.getvalue()


def as_list(ids: list[str]) -> bytes:
    return "".join(f"{id}\n" for id in ids).encode()


def as_tar(files: dict[str, bytes], mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return file.getvalue()


def voc_files() -> dict[str, bytes]:
    lists = {"train": TRAIN, "val": VAL, "trainval": TRAIN + VAL}
    photos = sorted({*TRAIN, *VAL, *SBD_TRAIN, *SBD_VAL, *ELSE})
    files = {f"ImageSets/Segmentation/{name}.txt": as_list(ids) for name, ids in lists.items()}
    files |= {
        f"JPEGImages/{id}.jpg": as_image(np.zeros((*size_of(id), 3), np.uint8), "JPEG") for id in photos
    }
    files |= {f"SegmentationClass/{id}.png": as_image(official_labels(id), "PNG") for id in TRAIN + VAL}
    files |= {"Annotations/2007_000001.xml": b"<xml/>", "ImageSets/Main/cat_train.txt": b"none"}
    return {f"VOCdevkit/VOC2012/{name}": content for name, content in files.items()}


def sbd_files() -> dict[str, bytes]:
    files = {f"cls/{id}.mat": as_mat(sbd_labels(id)) for id in SBD_TRAIN + SBD_VAL}
    files |= {"train.txt": as_list(SBD_TRAIN), "val.txt": as_list(SBD_VAL), "img/2008_000005.jpg": b"jpeg"}
    return {f"benchmark_RELEASE/dataset/{name}": content for name, content in files.items()}


@pytest.fixture
def publish(loopback, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], None]:
    """Put the bytes of VOC or SBD on the server, and their size and checksum into the published ones."""

    def put(which: str, content: bytes) -> None:
        remote = getattr(voc2012, which)
        loopback.files[remote.name] = content
        checksum = f"md5:{hashlib.md5(content).hexdigest()}"
        monkeypatch.setattr(voc2012, which, replace(remote, size=len(content), checksum=checksum))

    put("VOC", as_tar(voc_files(), "w"))
    put("SBD", as_tar(sbd_files(), "w:gz"))
    return put


@pytest.fixture
def prepare(loopback, publish, tmp_path: Path) -> Callable[..., int]:
    """The command, with the root <tmp_path>/VOC2012 and the server as its mirror."""
    return lambda *more: main(
        ["voc2012", "--root", str(tmp_path / "VOC2012"), "--mirror", loopback.url, *more]
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "VOC2012"


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Modification time and bytes of each file."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def require_whole(root: Path) -> None:
    """The folder holds all that the archives contain, and nothing else."""
    labels = {id: official_labels(id) for id in TRAIN + VAL}
    labels |= {id: sbd_labels(id) for id in ("2008_000005", "2008_000006")}
    for split, ids in {"train": TRAIN, "val": VAL, "trainaug": TRAINAUG}.items():
        data = open_split(Data(format="voc", root=str(root)), split)
        assert data.ids == ids
        for index, id in enumerate(ids):
            np.testing.assert_array_equal(data[index].labels.numpy(), labels[id])
    assert {path.stem for path in (root / "SegmentationClass").iterdir()} == set(labels)
    assert len(list((root / "JPEGImages").iterdir())) == 7
    assert not list(root.rglob("*.part*")) and not list(root.rglob("*.mat"))
    assert {path.name for path in root.iterdir()} == {
        "JPEGImages", "SegmentationClass", "ImageSets", "archives",
    }  # fmt: skip


def test_the_first_call_downloads_everything(
    prepare, root: Path, loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare() == 0
    require_whole(root)
    out = capsys.readouterr().out
    assert f"train 2, trainaug 4, val 2 images, for data.root={root}\n" in out
    assert "Note: trainaug usually has 10,582 images" in out
    assert "convert the masks of SBD: 2\n" in out
    assert len(loopback.requests) == 2


def test_masks_of_sbd_have_the_palette_of_voc(prepare, root: Path) -> None:
    prepare()
    with Image.open(root / "SegmentationClass/2008_000005.png") as mask:
        assert mask.mode == "P"
        assert mask.getpalette() == [value for colour in voc_palette() for value in colour]


def test_a_second_call_does_nothing(prepare, root: Path, loopback) -> None:
    prepare()
    before = tree(root)
    loopback.requests.clear()
    assert prepare() == 0
    assert tree(root) == before
    assert loopback.requests == []


def test_archives_may_be_deleted_or_placed_by_hand(prepare, root: Path, loopback) -> None:
    (root / "archives").mkdir(parents=True)
    for name, content in loopback.files.items():
        (root / "archives" / name).write_bytes(content)
    assert prepare() == 0
    assert loopback.requests == []
    require_whole(root)
    for archive in (root / "archives").iterdir():
        archive.unlink()
    assert prepare() == 0
    assert loopback.requests == []


@pytest.mark.parametrize("which", ["VOC", "SBD"])
def test_a_broken_connection_is_resumed(prepare, root: Path, loopback, good, which: str) -> None:
    name = getattr(voc2012, which).name
    loopback.plan[name] = [replace(good, cut=300), good]
    assert prepare() == 0
    require_whole(root)
    assert loopback.ranges().count("bytes=300-") == 1


STOPS = ("VOCtrainval", "unpack VOC", "download benchmark", "list benchmark", "convert", "sync")


@pytest.mark.parametrize("where", STOPS)
def test_a_call_interrupted_anywhere_is_completed_by_the_next(
    prepare, root: Path, loopback, monkeypatch: pytest.MonkeyPatch, capsys, where: str
) -> None:
    from engine.reporting import transfers

    tracked = transfers.tracked

    @contextmanager
    def stopping(console, what: str, unit: str):
        with tracked(console, what, unit) as show:

            def stop_after_a_while(done: int, total: int | None) -> None:
                show(done, total)
                if where in what and done > 0:
                    raise KeyboardInterrupt

            yield stop_after_a_while

    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(transfers, "tracked", stopping)
    if where == "sync":
        monkeypatch.setattr(os, "sync", stop)
    assert prepare() == 1
    assert "interrupted" in capsys.readouterr().err
    assert not (root / "ImageSets/Segmentation/trainaug.txt").exists()
    monkeypatch.setattr(transfers, "tracked", tracked)
    monkeypatch.setattr(os, "sync", lambda: None)
    assert prepare() == 0
    require_whole(root)


LOST = (
    "JPEGImages/2007_000003.jpg",
    "JPEGImages/2008_000006.jpg",
    "SegmentationClass/2007_000001.png",
    "SegmentationClass/2008_000005.png",
    "ImageSets/Segmentation/val.txt",
    "ImageSets/Segmentation/trainaug.txt",
)


@pytest.mark.parametrize("lost", LOST)
def test_missing_files_are_restored(prepare, root: Path, lost: str) -> None:
    prepare()
    (root / lost).unlink()
    assert prepare() == 0
    require_whole(root)


def test_existing_masks_are_kept(prepare, root: Path) -> None:
    mine = as_image(np.full(size_of("2008_000005"), 7, np.uint8), "PNG")
    (root / "SegmentationClass").mkdir(parents=True)
    (root / "SegmentationClass/2008_000005.png").write_bytes(mine)
    assert prepare() == 0
    assert (root / "SegmentationClass/2008_000005.png").read_bytes() == mine


def test_bytes_with_another_checksum_are_refused(prepare, root: Path, loopback, good, capsys) -> None:
    content = loopback.files[voc2012.VOC.name]
    loopback.plan[voc2012.VOC.name] = [replace(good, body=content[:-1] + b"x")]
    assert prepare() == 1
    err = capsys.readouterr().err
    assert "sent other bytes than the published ones: MD5" in err and "Traceback" not in err
    assert tree(root) == {}


def test_not_found_says_what_to_do(prepare, root: Path, loopback, good, capsys) -> None:
    loopback.plan[voc2012.SBD.name] = [replace(good, status=404)]
    assert prepare() == 1
    err = capsys.readouterr().err
    assert f"place benchmark.tgz by hand at {root}/archives/benchmark.tgz" in err and "Traceback" not in err


def test_a_malicious_archive_is_refused(publish, prepare, root: Path, capsys) -> None:
    publish("VOC", as_tar(voc_files() | {"VOCdevkit/VOC2012/JPEGImages/../../../../evil.jpg": b"x"}, "w"))
    assert prepare() == 2
    assert "evil.jpg' (leaves the folder)" in capsys.readouterr().err
    assert [path.name for path in root.iterdir()] == ["archives"]
    assert not (root.parent / "evil.jpg").exists()


BAD_SBD = {
    "another size": (
        {"cls/2008_000005.mat": as_mat(np.zeros((9, 9), np.uint8))},
        "(9, 9) uint8, not (25, 30) uint8",
    ),
    "an id without a class": (
        {"cls/2008_000005.mat": as_mat(np.full((25, 30), 21, np.uint8))},
        "holds the id 21; SBD has 0 to 20",
    ),
    "no struct": ({"cls/2008_000005.mat": b"x" * 200}, "is damaged"),
    "a list without masks": ({"val.txt": b"2008_000007\n"}, "is not SBD"),
}


@pytest.mark.parametrize(("files", "message"), BAD_SBD.values(), ids=BAD_SBD)
def test_invalid_masks_are_refused(publish, prepare, root: Path, files, message: str, capsys) -> None:
    bad = {f"benchmark_RELEASE/dataset/{name}": content for name, content in files.items()}
    publish("SBD", as_tar(sbd_files() | bad, "w:gz"))
    assert prepare() == 2
    assert message in capsys.readouterr().err
    assert not (root / "SegmentationClass/2008_000005.png").exists()
    assert not (root / "ImageSets/Segmentation/trainaug.txt").exists()


def test_a_list_of_the_user_is_kept_and_checked(prepare, root: Path, loopback, capsys) -> None:
    prepare()
    trainaug = root / "ImageSets/Segmentation/trainaug.txt"
    trainaug.write_bytes(as_list([*TRAIN, "2007_000003"]))
    assert prepare() == 2
    assert "names 1 image of val, such as 2007_000003" in capsys.readouterr().err
    trainaug.write_bytes(as_list([*TRAIN, "2009_000009"]))
    assert prepare() == 2
    assert "1 of 3 masks (2009_000009)" in capsys.readouterr().err
    assert trainaug.read_bytes() == as_list([*TRAIN, "2009_000009"])


def test_a_folder_with_other_files_is_refused(prepare, root: Path, loopback, capsys) -> None:
    root.mkdir()
    (root / "thesis.tex").write_text("...")
    assert prepare() == 2
    message = capsys.readouterr().err
    assert "thesis.tex" in message and "--root" in message
    assert [path.name for path in root.iterdir()] == ["thesis.tex"] and loopback.requests == []
    (root / "thesis.tex").unlink()
    root.rmdir()
    root.write_text("a file")
    assert prepare() == 2
    assert "is a file. Name a folder" in capsys.readouterr().err


def test_a_full_disk_is_reported_before_the_first_byte(
    prepare, root: Path, loopback, monkeypatch, capsys
) -> None:
    from engine.data.downloads import download

    usage = download.shutil.disk_usage(root.parent)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert prepare() == 2
    assert "VOC2012 needs 0.0 GB on the disk of" in capsys.readouterr().err
    assert loopback.requests == []


def test_the_published_checksums_are_those_of_torchvision() -> None:
    from torchvision.datasets.sbd import SBDataset
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    official = DATASET_YEAR_DICT["2012"]
    assert (voc2012.VOC.url, voc2012.VOC.checksum) == (official["url"], f"md5:{official['md5']}")
    assert (voc2012.SBD.url, voc2012.SBD.checksum) == (SBDataset.url, f"md5:{SBDataset.md5}")
