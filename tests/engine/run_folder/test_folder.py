"""The folder of a run: never overwritten, found again, and swept of what a killed writing left."""

import errno
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.run_folder import (
    DiskError,
    RunFolder,
    RunFolderError,
    common_folder,
    find_runs,
)
from tests.engine.run_folder.conftest import a_manifest


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


def test_runs_are_found_at_any_depth_in_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b", "a/deep/er", "."):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "manifest.json").touch()
    (tmp_path / "c").mkdir()
    assert {run.path for run in find_runs(tmp_path)} == {tmp_path, tmp_path / "a/deep/er", tmp_path / "b"}
    assert [run.path for run in find_runs(tmp_path / "b")] == [tmp_path / "b"]
    paths = [run.manifest for run in find_runs(tmp_path)]
    assert paths == sorted(paths)


def test_a_run_that_goes_on_has_no_other_folder(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(DiskError, match=r"Or name another folder with output\.dir\.$"):
        run.require_new()
    with pytest.raises(DiskError, match=r"chmod u\+w.* administrator\)\.$"):
        run.can_go_on()


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


def test_the_folder_of_several_is_never_the_root_of_the_disk(tmp_path: Path) -> None:
    one, other = tmp_path / "a" / "run", tmp_path / "b" / "run"
    assert common_folder([one]) == one
    assert common_folder([one, other]) == tmp_path.resolve()
    assert common_folder([Path("/x1/run"), Path("/x2/run")]) == Path()
