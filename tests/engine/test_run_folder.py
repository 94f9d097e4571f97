"""The run folder: never overwritten, never partly written, with clear errors for missing files."""

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.run_folder import (
    DataIdentity,
    DiskError,
    EnsembleFolder,
    Manifest,
    Member,
    RunFolder,
    RunFolderError,
    common_folder,
    find_runs,
    naming_disk_errors,
    new_folder,
    read_json,
    read_log,
    sha256_of,
    write_json,
    write_text,
    written_in_place,
)
from engine.run_folder.files import REMEDIES


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "checkpoints" / "demo")


def a_manifest() -> Manifest:
    data = DataIdentity(format="voc", train="train", val="val", train_fingerprint="t", val_fingerprint="v")
    member = Member(file="top/step-0000010.safetensors", step=10, scores={"mIoU": 0.5}, sha256="0" * 64)
    return Manifest(
        name="demo", code_version="1", class_names=["grün", "blau"],
        palette=[(0, 128, 0), (0, 0, 255)], data=data, metric="mIoU", num_parameters=3, members=[member],
    )  # fmt: skip


def test_the_folder_of_a_run_is_in_the_output_folder_under_its_name() -> None:
    recipe = SimpleNamespace(name="b2_adv", output=SimpleNamespace(dir="somewhere"))
    assert RunFolder.of(recipe).path == Path("somewhere/b2_adv")


def test_a_new_folder_has_folders_for_checkpoints_and_state(run: RunFolder) -> None:
    run.create()
    assert run.top.is_dir() and run.last_state.parent.is_dir()


def test_an_empty_folder_counts_as_new(run: RunFolder) -> None:
    run.path.mkdir(parents=True)
    run.create()
    assert run.top.is_dir()


def test_a_run_that_can_be_resumed_is_not_overwritten(run: RunFolder) -> None:
    run.create()
    run.last_state.touch()
    with pytest.raises(RunFolderError, match="demo exists already.*--resume.*name=<another name>"):
        run.require_new()


def test_a_folder_without_state_gets_another_remedy(run: RunFolder) -> None:
    run.path.mkdir(parents=True)
    (run.path / "notes.txt").touch()
    with pytest.raises(RunFolderError, match="no state to resume from.*name=<another name>") as caught:
        run.require_new()
    assert "--resume" not in str(caught.value)
    assert (run.path / "notes.txt").exists()


def test_a_file_in_the_way_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match=f"{tmp_path / 'file'} is a file"):
        RunFolder(tmp_path / "file" / "run").require_new()


def test_a_resume_goes_on_from_a_state_and_starts_where_nothing_was_saved(run: RunFolder) -> None:
    assert not run.can_go_on()
    run.create()
    assert not run.can_go_on()
    (run.path / "manifest.json.part").touch()
    assert not run.can_go_on()
    run.write_manifest(a_manifest().model_copy(update={"members": []}))
    (run.path / "notes.txt").touch()
    assert not run.can_go_on()
    with pytest.raises(RunFolderError, match="Nothing was saved in it: add --resume to the same command"):
        run.require_new()
    run.last_state.touch()
    assert run.can_go_on()


@pytest.mark.parametrize("file", ["notes.txt", "recipe.yaml", "top/step-0000010.safetensors", "last/mine"])
def test_a_resume_does_not_start_among_other_files(run: RunFolder, file: str) -> None:
    run.create()
    (run.path / file).touch()
    with pytest.raises(RunFolderError, match="state.safetensors is not there.*name=<another name>"):
        run.can_go_on()


@pytest.mark.parametrize("change", [{"finished": True, "members": []}, {"finished": False}])
def test_a_run_with_results_but_without_state_is_not_started_again(run: RunFolder, change: dict) -> None:
    run.create()
    run.write_manifest(a_manifest().model_copy(update=change))
    with pytest.raises(RunFolderError, match="state.safetensors is not there"):
        run.can_go_on()


def test_a_manifest_is_read_as_it_was_written(run: RunFolder) -> None:
    run.create()
    run.write_manifest(a_manifest())
    assert run.read_manifest() == a_manifest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "manifest.json is damaged at its start: "),
        (b'{"name": "demo", "code_', "manifest.json is damaged at its start: "),
        (b'{"name": "\xff"}', "manifest.json is damaged at its start: "),
        (b'{"name": "demo"}', "manifest.json is damaged at code_version: Field required"),
        (a_manifest().model_dump_json().replace("10,", '"x",').encode(), r"damaged at members\.0\.step: "),
        (a_manifest().model_dump_json().replace('"metric"', '"meter"').encode(), "damaged at metric: Field"),
        (a_manifest().model_dump_json().replace('"grün",', "").encode(), "1 class_names and a palette of 2"),
    ],
)
def test_the_error_for_a_damaged_manifest_names_the_place(
    run: RunFolder, content: bytes, message: str
) -> None:
    run.create()
    run.manifest.write_bytes(content)
    with pytest.raises(RunFolderError, match=message):
        run.read_manifest()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_something_else_under_the_name_of_a_file_is_refused_at_once(
    run: RunFolder, make: Callable[[Path], None]
) -> None:
    run.create()
    for path, read in ((run.manifest, run.read_manifest), (run.ensemble, lambda: read_json(run.ensemble))):
        make(path)
        with pytest.raises(RunFolderError, match=f"{path} is a folder, a pipe or a device"):
            read()


OUTSIDE = [
    "/etc/passwd",
    "../other/a",
    "top/../../a",
    "top//a",
    "./a",
    "",
    ".",
    "C:\\a",
    "top\\..\\..\\a",
    "top/\0",
]


@pytest.mark.parametrize("file", OUTSIDE)
def test_a_path_that_leaves_the_folder_is_refused(run: RunFolder, file: str) -> None:
    run.create()
    content = json.loads(a_manifest().model_dump_json())
    content["members"][0]["file"] = file
    run.manifest.write_text(json.dumps(content))
    with pytest.raises(RunFolderError, match=r"manifest.json is damaged at members\.0\.file: "):
        run.read_manifest()


@pytest.mark.parametrize("file", OUTSIDE)
@pytest.mark.parametrize("key", ["file", "recipe"])
def test_an_ensemble_has_its_files_in_its_folder(tmp_path: Path, file: str, key: str) -> None:
    run = a_manifest()
    member = {"name": "a", "file": "members/a", "recipe": "members/a.yaml", "sha256": ""}
    content = {
        "name": "e", "code_version": "1", "method": "mean", "class_names": run.class_names,
        "palette": run.palette, "data": run.data.model_dump(), "members": [member], "scores": {},
        "combination": {"space": "logit", "weights": [[1.0]], "temperatures": [1.0]},
    }  # fmt: skip
    folder = EnsembleFolder(tmp_path)
    folder.manifest.write_text(json.dumps(content))
    assert folder.read_manifest().members[0].file == "members/a"
    member[key] = file
    folder.manifest.write_text(json.dumps(content))
    with pytest.raises(RunFolderError, match=rf"combination.json is damaged at members\.0\.{key}: "):
        folder.read_manifest()


def test_each_altered_byte_of_a_manifest_is_noticed_or_changes_nothing(run: RunFolder) -> None:
    run.create()
    run.write_manifest(a_manifest())
    whole = run.manifest.read_bytes()
    for place in range(0, len(whole), 5):
        run.manifest.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            found = run.read_manifest()
        except RunFolderError as error:
            assert str(run.manifest) in str(error)
        else:
            assert found == a_manifest(), place  # white space, or the name of "sha256" itself


def test_the_layout_of_a_manifest_may_change(run: RunFolder) -> None:
    run.create()
    run.write_manifest(a_manifest())
    content = json.loads(run.manifest.read_text())
    run.manifest.write_text(json.dumps(dict(reversed(content.items()))))
    assert run.read_manifest() == a_manifest()


def test_without_a_sha256_the_checkpoints_have_to_be_in_order(run: RunFolder) -> None:
    """As version 0.1.0 wrote none."""
    run.create()
    best = a_manifest().members[0]
    other = best.model_copy(update={"file": "top/b", "step": 20, "scores": {"mIoU": 0.25}})
    for members, is_in_order in (([best, other], True), ([other, best], False)):
        content = a_manifest().model_copy(update={"members": members}).model_dump(mode="json")
        run.manifest.write_text(json.dumps(content))
        if is_in_order:
            assert run.read_manifest().members == members
        else:
            with pytest.raises(RunFolderError, match="its members are not in order, best mIoU first"):
                run.read_manifest()


def test_a_checkpoint_without_the_score_of_its_run_is_refused(run: RunFolder) -> None:
    run.create()
    run.manifest.write_text(json.dumps(a_manifest().model_dump(mode="json") | {"metric": "mAcc"}))
    with pytest.raises(RunFolderError, match="each member needs the score mAcc"):
        run.read_manifest()


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


def test_a_folder_without_manifest_is_no_run(run: RunFolder) -> None:
    run.create()
    with pytest.raises(RunFolderError, match="demo is not a run folder: it has no manifest.json"):
        run.read_manifest()


@pytest.mark.parametrize(("name", "hint"), [("", "Name one of these: {}."), ("dem", "Did you mean {}?")])
def test_a_wrong_folder_is_answered_with_the_runs_there(run: RunFolder, name: str, hint: str) -> None:
    run.create()
    run.write_manifest(a_manifest())
    with pytest.raises(RunFolderError, match=re.escape(hint.format(run.path))):
        RunFolder(run.path.parent / name).read_manifest()


@pytest.mark.parametrize(
    "typed", ["checkpoints/dmeo", "demo", "checkpoints/demo2", "checkpoint/demo", "runs/dmeo"]
)
def test_a_misspelt_run_is_answered_with_the_nearest(run: RunFolder, typed: str, monkeypatch) -> None:
    monkeypatch.chdir(run.path.parents[1])
    other = RunFolder(run.path.with_name("b2_adv"))
    for each in (run, other):
        each.create()
        each.write_manifest(a_manifest())
    for look in (lambda: RunFolder(Path(typed)).read_manifest(), lambda: find_runs(Path(typed))):
        with pytest.raises(RunFolderError, match=r"Did you mean checkpoints/demo\?"):
            look()


def test_a_misspelt_checkpoint_is_answered_with_the_nearest(run: RunFolder) -> None:
    run.create()
    for step in (100, 200):
        (run.top / f"step-{step:07d}.safetensors").touch()
    with pytest.raises(RunFolderError, match=r"Did you mean .*/step-0000200\.safetensors\?"):
        RunFolder(run.top / "step-200.safetensors").read_manifest()


def test_runs_are_found_at_any_depth_in_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b", "a/deep/er", "."):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "manifest.json").touch()
    (tmp_path / "c").mkdir()
    assert {run.path for run in find_runs(tmp_path)} == {tmp_path, tmp_path / "a/deep/er", tmp_path / "b"}
    assert [run.path for run in find_runs(tmp_path / "b")] == [tmp_path / "b"]
    paths = [run.manifest for run in find_runs(tmp_path)]
    assert paths == sorted(paths)


def test_no_folder_and_no_run_in_it_are_two_errors(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="No folder .*nowhere"):
        find_runs(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match="No run in .*trident run"):
        find_runs(tmp_path)


def test_what_is_no_folder_of_runs_is_named_with_what_to_type(run: RunFolder) -> None:
    run.create()
    run.write_manifest(a_manifest())
    checkpoint = run.top / "step-0000002.safetensors"
    for file in (checkpoint, run.manifest):
        file.touch()
        with pytest.raises(RunFolderError, match=f"{file} is a file. Name .* such as {run.path}$"):
            find_runs(file)
    ensemble = run.path.with_name("together")
    ensemble.mkdir()
    (ensemble / "combination.json").touch()
    for look in (lambda: find_runs(ensemble), lambda: RunFolder(ensemble).read_manifest()):
        with pytest.raises(RunFolderError, match=f"is a saved ensemble.* trident evaluate {ensemble}$"):
            look()


@pytest.mark.parametrize("content", ['{"name": "my web app", "icons": []}', "[1]", '{"name": "b", "mem'])
def test_a_manifest_that_is_no_runs_says_how_to_go_on(run: RunFolder, content: str) -> None:
    run.create()
    run.manifest.write_text(content)
    with pytest.raises(RunFolderError, match=r"manifest.json is damaged at .* or leave .* out"):
        run.read_manifest()


def test_a_run_that_goes_on_has_no_other_folder(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(DiskError, match=r"Or name another folder with output\.dir\.$"):
        run.require_new()
    with pytest.raises(DiskError, match=r"chmod u\+w.* administrator\)\.$"):
        run.can_go_on()


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


def test_only_what_a_killed_writing_left_is_swept(run: RunFolder) -> None:
    run.create()
    for folder in (run.path / "notes", run.path / "last/.tmpfolder", run.tail):
        folder.mkdir()
    left = [
        "manifest.json.part", "scores.h5.part", "top/step-0000010.safetensors.part", "top/.tmpAb3xY9",
        "last/state.safetensors.part", "last/.tmp00aaZZ", "tail/step-0000010-width-0.05.safetensors.part",
    ]  # fmt: skip
    others = [
        "manifest.json", "notes.part", ".tmpAb3xY9", "notes/.tmpAb3xY9", "notes/manifest.json.part",
        "top/.tmpAb3xY", "top/.tmpAb3xY9.txt", "last/mine.part", "top/step-10.safetensors.part",
    ]  # fmt: skip
    for name in left + others:
        (run.path / name).touch()
    run.sweep()
    found = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    assert found == set(others)


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


def test_the_folder_of_several_is_never_the_root_of_the_disk(tmp_path: Path) -> None:
    one, other = tmp_path / "a" / "run", tmp_path / "b" / "run"
    assert common_folder([one]) == one
    assert common_folder([one, other]) == tmp_path.resolve()
    assert common_folder([Path("/x1/run"), Path("/x2/run")]) == Path()
