"""The cells of a grid: their names, which have to be trained, and which conflict with existing folders."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.comparison.grid import Cell, CompareError, cells_of, load_recipes, locked, module_paths, prepare
from engine.recipe import RecipeError, load_recipe
from engine.run_folder import RunFolder
from tests.engine.comparison.conftest import MakeRun


@pytest.fixture
def recipes(tmp_path: Path) -> list[str]:
    """a.yaml, and b.yaml that trains longer."""
    for name, steps in (("a", 10), ("b", 20)):
        (tmp_path / f"{name}.yaml").write_text(
            "data: {format: synthetic}\nmodel: {variant: b0, from_scratch: true}\n"
            f"train: {{steps: {steps}, batch: 4}}\nschedule: {{warmup: 1}}\n"
        )
    return [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]


def make_cells(recipes: list[str], tmp_path: Path, *overrides: str) -> list[Cell]:
    return cells_of(load_recipes(recipes, overrides), 2, tmp_path / "out")


def finish(cell: Cell, make_run: MakeRun) -> RunFolder:
    return make_run(f"out/{cell.name}", seed=cell.recipe.seed)


def test_a_cell_for_each_recipe_and_seed(recipes: list[str], tmp_path: Path) -> None:
    cells = make_cells(recipes, tmp_path, "train.batch=2")
    assert [(cell.method, cell.name, cell.recipe.seed) for cell in cells] == [
        ("a", "a-s0", 0), ("a", "a-s1", 1), ("b", "b-s0", 0), ("b", "b-s1", 1),
    ]  # fmt: skip
    assert {cell.recipe.train.batch for cell in cells} == {2}
    assert prepare(cells) == cells
    for cell in cells:
        assert load_recipe(cell.recipe_file) == cell.recipe
        assert RunFolder.of(cell.recipe).path == cell.run.path == tmp_path / "out" / cell.name
        assert cell.command[1:] == ["-P", "-m", "engine.run", str(cell.recipe_file)]


def test_a_working_folder_does_not_hide_our_packages_and_is_searched_last(
    recipes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own `models`, `losses` and `engine` are not taken; a package of the user is found."""
    folder = tmp_path / "working"
    for name in ("models", "losses", "engine", "my_package"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"where = {name!r}\n")
    monkeypatch.chdir(folder)
    _, *options, _, module, _ = make_cells(recipes, tmp_path)[0].command
    code = f"import {module}, models, losses, my_package; print(engine.__file__, models.__file__, losses)"
    process = subprocess.run(
        [sys.executable, *options, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(module_paths())},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout and str(folder) not in process.stdout


def test_finished_runs_are_kept_and_stopped_ones_continue(
    recipes: list[str], tmp_path: Path, make_run: MakeRun
) -> None:
    cells = make_cells(recipes, tmp_path)
    prepare(cells)
    finish(cells[0], make_run)
    cells[1].run.create()
    cells[1].run.last_state.write_text("a state")
    cells[2].run.create()  # stopped before its first save
    cells[2].run.log.write_text("a line")
    assert prepare(cells) == cells[1:]
    assert cells[0].run.is_finished
    assert cells[1].command[-1] == "--resume" and cells[1].run.last_state.exists()
    assert not cells[2].run.path.exists() and "--resume" not in cells[2].command


def test_another_recipe_in_the_folder_is_refused_with_each_difference(
    recipes: list[str], tmp_path: Path, make_run: MakeRun
) -> None:
    prepare(make_cells(recipes, tmp_path))
    finish(make_cells(recipes, tmp_path)[0], make_run)
    changed = make_cells(recipes, tmp_path, "optimizer.lr=1e-3", "train.batch=8", "data.workers=0")
    before = changed[0].recipe_file.read_text()
    with pytest.raises(CompareError) as refused:
        prepare(changed)
    printed = str(refused.value)
    assert (
        "a-s0 was trained with optimizer.lr: 6e-05; now it is 0.001" in printed
        and "train.batch: 4" in printed
    )
    assert "workers" not in printed and "--out" in printed  # workers do not change the training
    assert changed[0].recipe_file.read_text() == before


def test_a_run_that_was_not_made_by_a_comparison_is_not_changed(
    recipes: list[str], tmp_path: Path, make_run: MakeRun
) -> None:
    cells = make_cells(recipes, tmp_path)
    run = finish(cells[3], make_run)
    with pytest.raises(CompareError, match="b-s1.*b-s1.yaml is missing"):
        prepare(cells)
    assert run.read_manifest().finished and not cells[0].recipe_file.exists()


@pytest.mark.parametrize("override", ["name=x", "seed=3", "output.dir=/elsewhere"])
def test_keys_that_the_grid_sets_cannot_be_overridden(
    override: str, recipes: list[str], tmp_path: Path
) -> None:
    with pytest.raises(CompareError, match=f"{override}.*--out.*--seeds"):
        make_cells(recipes, tmp_path, override)


def test_recipes_of_one_name_are_refused(recipes: list[str], tmp_path: Path) -> None:
    with pytest.raises(CompareError, match="2 recipes are named 'a'"):
        make_cells([recipes[0], recipes[0]], tmp_path)


@pytest.mark.parametrize("key", ["batch", "accumulate"])
def test_runs_that_would_choose_their_own_batch_are_refused(
    recipes: list[str], tmp_path: Path, key: str
) -> None:
    with pytest.raises(CompareError, match="Type train.batch=16 train.accumulate=1"):
        make_cells(recipes, tmp_path, f"train.{key}=auto")
    assert make_cells(recipes, tmp_path, "train.batch=16", "train.accumulate=1")


def test_a_mistake_in_a_recipe_is_reported_before_anything_is_written(
    recipes: list[str], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="did you mean"):
        make_cells(recipes, tmp_path, "train.step=5")
    assert not (tmp_path / "out").exists()


def test_two_comparisons_do_not_share_a_folder(tmp_path: Path) -> None:
    with locked(tmp_path / "out"):
        with pytest.raises(CompareError, match="Another comparison"), locked(tmp_path / "out"):
            raise AssertionError("the second came in")
        with locked(tmp_path / "other"):
            pass
    with locked(tmp_path / "out"):
        pass
