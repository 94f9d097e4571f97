"""Files are never partly written, and errors of the disk name the file and a remedy."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from engine.run_folder import (
    DiskError,
    RunFolder,
    RunFolderError,
    naming_disk_errors,
    new_folder,
    read_log,
    sha256_of,
    write_json,
    write_text,
    written_in_place,
)
from engine.run_folder.files import REMEDIES


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"[" * 20_000,
        b"{}",
        b"3",
        b'{"step": "1", "split": "val"}',
        b'{"step": null, "split": "val"}',
    ],
)
def test_a_damaged_line_of_a_log_is_named(run: RunFolder, line: bytes) -> None:
    run.create()
    run.log.write_bytes(b'{"step": 1, "split": "val"}\n' + line + b"\n")
    with pytest.raises(RunFolderError, match="log.jsonl is damaged at line 2"):
        read_log(run.log)


def test_a_file_is_replaced_when_the_block_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with written_in_place(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent  # a rename works within one file system only
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_file_is_unchanged_when_the_block_fails(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error), written_in_place(path) as temporary:
        temporary.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_block_that_writes_no_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), written_in_place(path):
        pass
    assert path.read_text() == "old"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_new_folder_is_removed_when_the_block_fails(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), new_folder(tmp_path / "out"):
        (tmp_path / "out/file").write_text("half")
        raise error
    assert not (tmp_path / "out").exists()
    with new_folder(tmp_path / "out"):
        (tmp_path / "out/file").write_text("theirs")
    with pytest.raises(FileExistsError), new_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out/file").read_text() == "theirs"


def test_a_text_keeps_the_bytes_of_names_that_are_no_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "file", os.fsdecode(b"gr\xc3\xbcn caf\xe9"))
    assert (tmp_path / "file").read_bytes() == b"gr\xc3\xbcn caf\xe9"


@pytest.mark.parametrize("number", sorted(REMEDIES))
def test_an_error_of_the_disk_names_the_file_the_reason_and_a_remedy(tmp_path: Path, number: int) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with (
        pytest.raises(DiskError) as caught,
        naming_disk_errors(tmp_path, "Then repeat."),
        written_in_place(path) as temporary,
    ):
        temporary.write_text("ne")
        raise OSError(number, os.strerror(number))
    assert str(caught.value) == f"{path}: {os.strerror(number)}. {REMEDIES[number]} Then repeat."
    assert caught.value.exit_code == (2 if number in (errno.EACCES, errno.EPERM, errno.EROFS) else 1)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_of_an_error_that_names_another_file_that_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="^/data/image.png: Input/output error"):  # noqa: SIM117
        with written_in_place(tmp_path / "picture.png"):
            raise OSError(errno.EIO, "Input/output error", "/data/image.png")


def test_of_a_copy_the_file_that_is_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="^/full/copy: No space"), naming_disk_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", "/data/original", None, "/full/copy")


def test_text_and_json_are_written_as_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "küste\n")
    write_json(tmp_path / "json", {"IoU": [0.5, None]})
    assert (tmp_path / "text").read_bytes() == b"k\xc3\xbcste\n"
    assert (tmp_path / "json").read_text() == '{\n  "IoU": [\n    0.5,\n    null\n  ]\n}\n'


def test_sha256_is_that_of_the_whole_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_nan_and_infinity_become_null(tmp_path: Path) -> None:
    content = {"IoU": [0.5, float("nan")], "gain": (float("inf"), 1), "name": "nan"}
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "IoU": [0.5, None],
        "gain": [None, 1],
        "name": "nan",
    }
