"""A path that is no run is answered with what to type."""

import re
from pathlib import Path

import pytest

from engine.run_folder import (
    RunFolder,
    RunFolderError,
    find_runs,
    no_checkpoint,
    no_model,
)
from tests.engine.run_folder.conftest import a_manifest


def test_a_folder_without_manifest_is_no_run(run: RunFolder) -> None:
    run.create()
    with pytest.raises(
        RunFolderError,
        match="demo is not a run folder: it has no manifest.json. Runs are written to checkpoints/",
    ):
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


def test_where_an_ensemble_may_be_named_it_is_suggested(run: RunFolder) -> None:
    run.create()
    run.write_manifest(a_manifest())
    together = run.path.with_name("together")
    together.mkdir()
    (together / "combination.json").touch()
    assert no_model(run.path.with_name("togethr")).endswith(
        f"togethr does not exist. Did you mean {together}?"
    )
    assert f"Name one of these: {run.path}, {together}." in no_model(run.path.with_name("x"))
    with pytest.raises(RunFolderError, match=f"Name one of these: {run.path}\\."):
        find_runs(run.path.with_name("togethr"))


def test_a_run_without_a_checkpoint_is_answered_with_the_command_wherever_it_is(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its place the command would start another run where the recipe says, as --resume may."""
    run.create()
    monkeypatch.chdir(run.path)
    for typed in (run.path, Path()):
        place = f"output.dir={run.path.parent} name={run.path.name} --resume"
        said = no_checkpoint(typed)
        assert "Wait for it, or, if the run was stopped, go on." in said  # a run that trains is locked
        assert said.endswith(f"type trident run {run.recipe} {place}")


def test_a_part_of_a_run_is_answered_with_the_run(run: RunFolder) -> None:
    run.create()
    run.write_manifest(a_manifest())
    (run.top / "step-0000001.safetensors").touch()
    for part in (run.top, run.top / "step-0000001.safetensors"):
        with pytest.raises(RunFolderError, match=rf"Name .*: {re.escape(str(run.path))}\b"):
            RunFolder(part).read_manifest()


def test_a_recipe_in_place_of_a_run_is_called_a_file(run: RunFolder) -> None:
    run.create()
    recipe = run.path.with_name("r.yaml")
    recipe.touch()
    with pytest.raises(RunFolderError, match=r"r\.yaml is a file, not the folder of a run\."):
        RunFolder(recipe).read_manifest()
