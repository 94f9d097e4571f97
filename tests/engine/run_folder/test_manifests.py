"""A manifest that was damaged or altered is refused with its place."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.run_folder import (
    EnsembleFolder,
    RunFolder,
    RunFolderError,
    read_json,
)
from tests.engine.run_folder.conftest import a_manifest


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


@pytest.mark.parametrize("content", ['{"name": "my web app", "icons": []}', "[1]", '{"name": "b", "mem'])
def test_a_manifest_that_is_no_runs_says_how_to_go_on(run: RunFolder, content: str) -> None:
    run.create()
    run.manifest.write_text(content)
    with pytest.raises(RunFolderError, match=r"manifest.json is damaged at .* or leave .* out"):
        run.read_manifest()
