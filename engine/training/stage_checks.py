"""What would stop a stage of a recipe, found before the first of them is trained."""

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from engine.data.bands import RGB, model_inputs
from engine.recipe import Recipe
from engine.reporting.loggers import build_loggers
from engine.run_folder import RunFolder
from engine.training.distillation import require_same_inputs
from engine.training.distributed import Process
from engine.training.inputs import new_model, open_inputs
from models import build_model
from models.origin import UNKNOWN, Origin
from models.weights import fill_from, initialise


@dataclass
class Planned:
    """A stage that is not trained yet, as far as later ones depend on it."""

    recipe: Recipe
    model: nn.Module
    origin: Origin


def check_stages(stages: Sequence[Recipe], process: Process) -> None:
    """Open the data of each stage, build its network, and try whether it can start from where it is to start.

    Reads no more of the data than its lists, and counts no labels. With a batch that is searched for
    (`auto`), what depends on its size is checked when the stage begins.

    Args:
        stages: those that are not finished, in their order.

    Raises:
        RecipeError, DataError, ModelError, LossError: the user's input is wrong; the message names the stage.
    """
    planned: dict[Path, Planned] = {}  # by what a later stage may name in model.weights or distill.teacher
    for stage in stages:
        run = RunFolder.of(stage)
        with naming_stage(stage.name):
            found = _planned(stage, run, planned, process)
        planned[run.path.resolve()] = planned[run.path.parent.resolve()] = found


def follows(named: str | None, planned: Container[Path]) -> Path | None:
    """The folder among `planned` that a value of a recipe names."""
    path = Path(named).expanduser().resolve() if named else None
    return path if path in planned else None


@contextmanager
def naming_stage(name: str) -> Iterator[None]:
    """A mistake of the user in this block is said to be one of the stage."""
    try:
        yield
    except Exception as error:
        if getattr(error, "exit_code", None) == 2:
            how = f"A value of this stage alone is changed with stages.{name}.<key>=<value>."
            error.args = (f"Stage {name}: {error}\n{how}",)
        raise


def _planned(stage: Recipe, run: RunFolder, planned: Mapping[Path, Planned], process: Process) -> Planned:
    build_loggers(stage.log.to)
    teacher = follows(stage.distill.teacher, planned) if stage.distill else None
    inputs = open_inputs(stage.model_copy(update={"distill": None}) if teacher else stage, process)
    train, data = inputs.train, inputs.recipe.data
    names, bands = tuple(train.class_names), train.bands or RGB
    if teacher and stage.distill:
        require_same_inputs(
            stage.distill, train, planned[teacher].recipe, planned[teacher].origin.class_names or ()
        )
    if "auto" in (stage.train.batch, stage.train.accumulate):
        model = build_model(stage.model, names, **model_inputs(data))
    else:
        model, _ = new_model(inputs.recipe.in_steps(len(train)), train, process)
    before = follows(stage.model.weights, planned)
    if before:
        fill_from(
            model, str(stage.model.weights), planned[before].model, planned[before].origin, names, bands
        )
    elif not run.states:  # else the stage goes on from what it has saved
        initialise(model, stage.model, names, bands)
    return Planned(stage, model, Origin(names, UNKNOWN, bands))
