"""Checks all stages of a recipe before the first one is trained."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from engine.data.bands import RGB
from engine.recipe import Recipe
from engine.reporting.loggers import build_loggers
from engine.run_folder import KEPT, SAVED, RunFolder
from engine.training.distillation import open_teacher, require_same_inputs
from engine.training.distributed import Process
from engine.training.inputs import new_model, open_inputs
from models.origin import UNKNOWN, Origin
from models.weights import fill_from, initialise


@dataclass
class Planned:
    """What later stages need to know of a stage that is not trained yet."""

    recipe: Recipe
    model: nn.Module
    origin: Origin


def check_stages(stages: Sequence[Recipe], process: Process) -> None:
    """Open the data of each stage, build its network, and check that its initial weights fit.

    Only lists, and images that determine the range and the normalisation, are read; labels are not counted.
    With `train.batch: auto`, what depends on the batch is checked when the stage begins. Networks and
    teachers are opened on the CPU.

    Args:
        stages: the unfinished ones, in order.

    Raises:
        RecipeError, DataError, ModelError, LossError: the user's input is wrong; the message names the stage.
    """
    planned: dict[Path, Planned] = {}  # by the folder of the run
    for stage in stages:
        run = RunFolder.of(stage)
        with naming_stage(stage.name):
            planned[run.path.resolve()] = _planned(stage, run, planned, process)


def follows(named: str | None, runs: Collection[Path], folders: Sequence[str] = SAVED) -> Path | None:
    """The stage that a value of a recipe names by its folder, or by a file in one of its `folders`, if any.

    Args:
        runs: folders of the stages, in order. Their parent folder means the last of them.
    """
    if not named:
        return None
    path = Path(named).resolve()
    for run in reversed([*runs]):
        if path in (run, run.parent) or any(run / folder in path.parents for folder in folders):
            return run
    return None


@contextmanager
def naming_stage(name: str) -> Iterator[None]:
    """A context that adds the name of the stage to the message of a user's mistake."""
    try:
        yield
    except Exception as error:
        if getattr(error, "exit_code", None) == 2:
            how = f"To change a value of this stage alone, type stages.{name}.<key>=<value>."
            error.args = (f"Stage {name}: {error}\n{how}",)
        raise


def _planned(stage: Recipe, run: RunFolder, planned: Mapping[Path, Planned], process: Process) -> Planned:
    build_loggers(stage.log.to)
    inputs = open_inputs(stage.model_copy(update={"distill": None}), process)
    recipe, train = inputs.recipe, inputs.train
    names, bands = tuple(train.class_names), train.bands or RGB
    if stage.distill:
        if teacher := follows(stage.distill.teacher, planned, KEPT):
            of_teacher = planned[teacher]
            require_same_inputs(stage.distill, train, of_teacher.recipe, of_teacher.origin.class_names or ())
        else:
            open_teacher(stage.distill, train, torch.device("cpu"))
    if recipe.train.batch != "auto":
        recipe = recipe.in_steps(len(train))
    model, _ = new_model(recipe, train, process)
    before = follows(stage.model.weights, planned)
    if before:
        fill_from(
            model, str(stage.model.weights), planned[before].model, planned[before].origin, names, bands
        )
    elif not run.states:  # else the stage is resumed from its state
        initialise(model, stage.model, names, bands)
    return Planned(stage, model, Origin(names, UNKNOWN, bands))
