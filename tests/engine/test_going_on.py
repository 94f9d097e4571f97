from pathlib import Path

import pytest

from engine.going_on import STAGES, to_go_on


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    folder = tmp_path / "two/first"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").touch()
    (folder.parent / STAGES).touch()
    return folder


@pytest.mark.parametrize("typed", [".", "../first", "../../two/first", "../../link"])
def test_a_stage_is_one_however_its_folder_is_typed(
    stage: Path, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stage.parents[1] / "link").symlink_to(stage)
    monkeypatch.chdir(stage)
    said = to_go_on(Path(typed))
    assert said.startswith("To go on with this stage and those after it, add --resume")
    assert said.endswith(" --resume") and "For this stage alone type trident run " in said


def test_the_folder_around_stages_is_answered_with_all_of_them(
    stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stage.parent)
    for typed in (Path(), stage.parent):
        assert to_go_on(typed).startswith("To go on with these stages, add --resume")


def test_a_run_beside_no_stages_is_answered_with_its_command(stage: Path) -> None:
    (stage.parent / STAGES).unlink()
    place = f"output.dir={stage.parent} name=first --resume"
    assert to_go_on(stage) == f"To go on with this run type trident run {stage}/recipe.yaml {place}"
