"""Packs and scores.h5 whose content lies elsewhere: refused, and the bytes of other files are not read."""

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from engine.command import main as command_line
from engine.data import DataError
from engine.data.packs.pack import write_pack
from engine.data.packs.packed import PackedDataset
from engine.data.synthetic import SyntheticScenes
from engine.run_folder import Manifest, RunFolder, RunFolderError
from engine.scoring.scores_file import read_scores, recorder


def external_link(file: h5py.File, name: str, other: Path) -> None:
    file[name] = h5py.ExternalLink(str(other), name)


def relative_external_link(file: h5py.File, name: str, other: Path) -> None:
    file[name] = h5py.ExternalLink(f"../{other.parent.name}/{other.name}", name)


def external_link_to_nothing(file: h5py.File, name: str, other: Path) -> None:
    file[name] = h5py.ExternalLink(str(other.with_name("gone")), name)


def soft_link(file: h5py.File, name: str, other: Path) -> None:
    file[name] = h5py.SoftLink("/elsewhere")


def soft_link_in_a_circle(file: h5py.File, name: str, other: Path) -> None:
    file[name] = h5py.SoftLink(f"/{name}")


def external_bytes(file: h5py.File, name: str, other: Path) -> None:
    file.create_dataset(name, (100,), "u1", external=[(str(other), 0, 100)])


def bytes_of_a_device(file: h5py.File, name: str, other: Path) -> None:
    file.create_dataset(name, (100,), "u1", external=[("/dev/zero", 0, 100)])


def virtual_bytes(file: h5py.File, name: str, other: Path) -> None:
    layout = h5py.VirtualLayout(shape=(100,), dtype="u1")
    layout[:] = h5py.VirtualSource(str(other), name, shape=(100,))
    file.create_virtual_dataset(name, layout)


WAYS = (
    external_link, relative_external_link, external_link_to_nothing, soft_link, soft_link_in_a_circle,
    external_bytes, bytes_of_a_device, virtual_bytes,
)  # fmt: skip
Way = Callable[[h5py.File, str, Path], None]


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A pack, and another one in another folder."""
    paths = tuple(tmp_path_factory.mktemp(name) / "scenes.h5" for name in ("mine", "theirs"))
    for seed, path in enumerate(paths):
        splits = {split: SyntheticScenes(split, 2, 32, seed=seed) for split in ("train", "val")}
        write_pack(splits, path)
    return paths


def changed(path: Path, way: Way, name: str, other: Path) -> None:
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        way(file, name, other)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["train", "train/images", "train/ids", "val/label_counts", "unused"])
def test_a_pack_has_all_of_its_content(
    packs: tuple[Path, Path], tmp_path: Path, secret: Path, way: Way, name: str
) -> None:
    path = Path(shutil.copy(packs[0], tmp_path / "scenes.h5"))
    changed(path, way, name, secret if "bytes" in way.__name__ else packs[1])
    with pytest.raises(DataError, match="scenes.h5") as caught:
        PackedDataset(path, "train")
    assert caught.value.exit_code == 2 and "TOP-SECRET" not in str(caught.value)


@pytest.mark.parametrize("way", [external_link, external_bytes])
def test_a_run_on_such_a_pack_is_refused_before_anything_is_created(
    packs: tuple[Path, Path], tmp_path: Path, way: Way, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(shutil.copy(packs[0], tmp_path / "scenes.h5"))
    changed(path, way, "train/images", packs[1])
    data = ["data.format=packed", f"data.root={path}", f"output.dir={tmp_path / 'runs'}"]
    assert command_line(["run", "demo", *data]) == 2
    said = capsys.readouterr().err
    assert str(path) in said and "Traceback" not in said
    assert not (tmp_path / "runs").exists()


def test_a_pack_that_is_a_link_of_the_file_system_is_read(packs: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "scenes.h5").symlink_to(packs[0])
    assert len(PackedDataset(tmp_path / "scenes.h5", "train")) == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["ids", "class_names", "skipped", "confusion", "confusion/mean", "unused"])
def test_scores_have_all_of_their_content(tmp_path: Path, secret: Path, way: Way, name: str) -> None:
    for path in (tmp_path / "scores.h5", tmp_path / "other.h5"):
        with recorder(path, ["one"], ["a", "b"], ["mean"]):
            pass
    changed(tmp_path / "scores.h5", way, name, secret if "bytes" in way.__name__ else tmp_path / "other.h5")
    with pytest.raises(RunFolderError, match="scores.h5 is damaged") as caught:
        read_scores(tmp_path / "scores.h5")
    assert "TOP-SECRET" not in str(caught.value)


@pytest.mark.parametrize("name", ["header", "sha256", "train/ids"])
def test_a_pack_with_texts_that_hdf5_reads_without_end_is_refused(
    packs: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    path = Path(shutil.copy(packs[0], tmp_path / "scenes.h5"))
    with h5py.File(path, "r+", libver="latest") as file:
        if name == "train/ids":
            del file[name]
            file[name] = ["one", "two"]
        else:
            file.attrs[name] = "a text of any length"
    content = bytearray(path.read_bytes())
    texts = content.index(b"GCOL") + 16
    content[texts : texts + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{name} has no fixed size"):
        PackedDataset(path, "train")


@pytest.mark.parametrize("command", ["report", "diagnose"])
def test_a_command_on_such_scores_ends_with_a_message(
    tmp_path: Path, manifest: Manifest, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path / "run")
    run.create()
    run.recipe.write_text("name: run\ndata: {format: synthetic}\n")
    run.write_manifest(manifest)
    with recorder(run.scores, ["one"], ["a", "b"], ["mean"]):
        pass
    changed(run.scores, external_link, "confusion", tmp_path / "other.h5")
    assert command_line([command, str(run.path)]) == 2
    said = capsys.readouterr().err
    assert str(run.scores) in said and "Traceback" not in said
    assert not run.report.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(2000), b"<html>" * 99]
)
def test_a_file_that_is_no_hdf5_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "scores.h5").write_bytes(content)
    with pytest.raises(RunFolderError, match="scores.h5 is damaged"):
        read_scores(tmp_path / "scores.h5")
    with pytest.raises(DataError, match="scores.h5"):
        PackedDataset(tmp_path / "scores.h5", "train")


def test_a_table_of_pickled_objects_is_not_read(tmp_path: Path, canary: Path) -> None:
    """h5py keeps Python objects as bytes only, and never unpickles."""
    with h5py.File(tmp_path / "scores.h5", "w") as file:
        file["ids"] = np.void(b"cposix\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR.")
        file["class_names"] = file["skipped"] = file["ids"]
    with pytest.raises(RunFolderError, match="scores.h5 is damaged"):
        read_scores(tmp_path / "scores.h5")
