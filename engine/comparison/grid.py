"""The grid of a comparison: a cell is one recipe with one seed, and one fold, and a run folder of its own.

<out>/<recipe name>-s<seed>/          the run; with folds <recipe name>-s<seed>-f<fold>
<out>/cells/<recipe name>-s<seed>.yaml    the recipe that was given, .log the output of its run
<out>/folds/fold_<fold>.txt           the images that the run of this fold does not see
"""

import fcntl
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import engine
from engine.recipe import Recipe, load_recipe
from engine.recipe.differences import changes
from engine.run_folder import RunFolder, write_text

OWN_KEYS = ("name", "seed", "output.dir")


class CompareError(ValueError):
    """The recipes or runs cannot be compared."""

    exit_code = 2


def module_paths() -> list[str]:
    """PYTHONPATH of a cell's process: this code first, the working folder last.

    A working folder with its own `engine`, `models` or `losses` does not hide ours, and import paths of a
    recipe such as my_package:MyLoss are found in it.
    """
    root = str(Path(engine.__file__).parents[1])
    return [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), os.getcwd()]


@dataclass(frozen=True)
class Cell:
    """One recipe with one seed, and one fold; these, name and folder are already in the recipe."""

    method: str
    recipe: Recipe
    out: Path

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.out / self.name)

    @property
    def recipe_file(self) -> Path:
        return self.out / "cells" / f"{self.name}.yaml"

    @property
    def log(self) -> Path:
        return self.out / "cells" / f"{self.name}.log"

    @property
    def arguments(self) -> list[str]:
        """Of `engine.run`, to start its training or to continue it."""
        resume = ["--resume"] if self.run.states else []
        return [str(self.recipe_file), *resume]

    @property
    def command(self) -> list[str]:
        """Trains it in a process of its own, with `module_paths` as PYTHONPATH.

        Without -P, packages of the working folder that are named `models` or `losses` would hide ours.
        """
        return [sys.executable, "-P", "-m", "engine.run", *self.arguments]


@dataclass(frozen=True)
class Failure:
    """A cell whose run failed, and the end of its output."""

    cell: Cell
    text: str

    @classmethod
    def of(cls, cell: Cell, num_lines: int = 15) -> "Failure":
        lines = cell.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return cls(cell, "\n".join(lines[-num_lines:]))


def load_recipes(paths: Sequence[str | Path], overrides: Sequence[str]) -> list[Recipe]:
    """The recipes to compare.

    Raises:
        RecipeError: a recipe or an override is wrong.
        CompareError: two recipes share a name, or an override sets what the comparison sets.
    """
    for text in overrides:
        if text.split("=")[0].strip() in OWN_KEYS:
            raise CompareError(
                f"{text}: {', '.join(OWN_KEYS)} are set by the comparison: runs go to --out, "
                "seeds are 0, 1, ... up to --seeds."
            )
    loaded = [load_recipe(path, overrides, trains=True) for path in paths]
    for name, uses in Counter(recipe.name for recipe in loaded).items():
        if uses > 1:
            raise CompareError(
                f"{uses} recipes are named {name!r}, and would share their runs. Give each a `name:`."
            )
    for recipe in loaded:
        if "auto" in (recipe.train.batch, recipe.train.accumulate):
            raise CompareError(
                f"{recipe.name}: with auto for train.batch or train.accumulate, each run would choose its "
                "own number. Type train.batch=16 train.accumulate=1, or what trident run --dry-run chooses."
            )
    return loaded


def cells_of(recipes: Sequence[Recipe], num_seeds: int, out: Path, folds: Sequence[Path] = ()) -> list[Cell]:
    """Every recipe with seeds 0, 1, ..., recipe by recipe; where there are folds, once for each of them."""
    return [
        cell for recipe in recipes for seed in range(num_seeds) for cell in _cells(recipe, seed, out, folds)
    ]


def _cells(recipe: Recipe, seed: int, out: Path, folds: Sequence[Path]) -> list[Cell]:
    name = f"{recipe.name}-s{seed}"
    output = recipe.output.model_copy(update={"dir": str(out)})
    recipe, method = recipe.model_copy(update={"name": name, "seed": seed, "output": output}), recipe.name
    if not folds:
        return [Cell(method, recipe, out)]
    parts = [recipe.data.model_copy(update={"fold": str(path)}) for path in folds]
    return [
        Cell(method, recipe.model_copy(update={"name": f"{name}-f{fold}", "data": data}), out)
        for fold, data in enumerate(parts)
    ]


def prepare(cells: Sequence[Cell]) -> list[Cell]:
    """Write the recipe of each cell, and return those that have not finished.

    A folder without a saved state, of a run that was stopped before its first evaluation, is removed: it
    holds only the first lines of a log.

    Raises:
        CompareError: a folder holds a different training.
    """
    problems = [problem for cell in cells for problem in _problems(cell)]
    if problems:
        raise CompareError(
            "\n".join(problems) + "\nUse another --out, or the same recipe and values as before."
        )
    for cell in cells:
        cell.recipe_file.parent.mkdir(parents=True, exist_ok=True)
        write_text(cell.recipe_file, cell.recipe.to_yaml())
    unfinished = [cell for cell in cells if not cell.run.is_finished]
    for cell in unfinished:
        remove_unsaved(cell)
    return unfinished


def remove_unsaved(cell: Cell) -> None:
    """Remove the folder of a run that holds neither a checkpoint nor a saved state."""
    run = cell.run
    if run.path.exists() and not run.states and not any(run.top.glob("*.safetensors")):
        shutil.rmtree(run.path)


def _problems(cell: Cell) -> Iterator[str]:
    if not cell.run.path.exists():
        return
    if not cell.recipe_file.exists():
        yield f"{cell.run.path} exists, but was not made by a comparison: {cell.recipe_file} is missing."
        return
    for change in changes(load_recipe(cell.recipe_file), cell.recipe):
        yield f"{cell.run.path} was trained with {change.key}: {change.before}; now it is {change.now}."


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Lock the folder against a second comparison, which would train the same cells.

    Raises:
        CompareError: another comparison has locked it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CompareError(
                f"Another comparison is running in {out}. Wait for it, or use another --out."
            ) from None
        yield
