"""`train` and `evaluate` of the Python interface."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from engine.command import new_console
from engine.options import seconds_of
from engine.recipe import Recipe, RecipeError, find_recipe, load_recipe, load_stages
from engine.reporting.callbacks import Callback
from engine.scoring.confusion import Scores
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.results import evaluate_trained, open_for_scoring
from engine.scoring.run import Run
from engine.training.distributed import process_group
from engine.training.stages import require_possible, train_stages
from engine.training.train import train as train_recipe

RecipeOrPath = Recipe | str | os.PathLike[str]


def train(
    recipe: RecipeOrPath,
    overrides: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
    resume: bool = False,
    *,
    continue_from: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> Run:
    """Train a recipe, keep the best checkpoints, ensemble them, write the report: what `trident run` does.

    Works in a notebook and outside the main thread; there, Ctrl-C does not save the state. Under torchrun,
    every process calls it, and the first one writes the report. Torch's global random state is changed.

    Args:
        recipe: the path of a recipe file, the name of one that Trident ships, or a Recipe.
        overrides: such as ["train.steps=300"].
        callbacks: called after the loggers of `log.to`.
        resume: go on from the saved state, with the same recipe; start where nothing was saved.
        continue_from: the folder of another run, from whose state a new run goes on with this recipe.
        quiet: print nothing.

    Returns:
        The finished run, of a recipe with stages that of the last: `run.best`, `run.scores`, `run.load()`.

    Raises:
        ValueError: the recipe, the data or another input is wrong; no folder is left behind.
        RunStopped: Ctrl-C or SIGTERM stopped it between two updates, with its state saved.
        KeyboardInterrupt: one of them came before the first update or while the end was scored.
        RunError: it failed, or one of several processes ended; the files that it saved are intact.
    """
    stages = _loaded(recipe, overrides, trains=continue_from is None)
    source = Path(continue_from).expanduser() if continue_from is not None else None
    console = new_console(quiet)
    with process_group(seconds_of(stages[0].train.timeout)) as process:
        if len(stages) == 1:
            return train_recipe(stages[0], process, console, resume, callbacks, source)
        require_possible(source)
        return train_stages(stages, process, console, resume, callbacks)


def evaluate(path: str | os.PathLike[str], overrides: Sequence[str] = (), split: str | None = None) -> Scores:
    """Score a run, a checkpoint or an ensemble on a split, as `trident evaluate` does.

    Args:
        path: a run folder, whose best checkpoint is taken, a file of its top/, or a saved ensemble's folder.
        overrides: of the `data` and `eval` sections, such as ["eval.flip=true"].
        split: None takes val.

    Raises:
        ValueError: there is nothing to score at `path`, the data is not there, or an override is wrong.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trained, dataset, split = open_for_scoring(Path(path).expanduser(), overrides, split, device)
    protocol = EvaluationProtocol.of(trained.recipe.eval)
    return evaluate_trained(protocol, trained, dataset, split, device).scores


def _loaded(recipe: RecipeOrPath, overrides: Sequence[str], trains: bool) -> list[Recipe]:
    """The recipe of each stage, or the only one."""
    if not isinstance(recipe, Recipe | str | os.PathLike):
        raise RecipeError(
            f"Expected a recipe file, the name of a shipped recipe or a trident.Recipe; got a "
            f"{type(recipe).__name__}. trident.Recipe(**values) makes one of a dict."
        )
    if not isinstance(recipe, Recipe):
        return load_stages(find_recipe(recipe), overrides, trains=trains)
    if not overrides:
        return [recipe]
    with tempfile.TemporaryDirectory() as folder:  # overrides change a file
        path = Path(folder) / f"{recipe.name}.yaml"
        path.write_text(recipe.to_yaml())
        return [load_recipe(path, overrides, trains=trains)]
