"""Opens the candidates of an ensemble as its members."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch
from torch import nn

from engine.recipe import Recipe, load_recipe
from engine.scoring.ensembles.members import Members, Show
from engine.scoring.ensembles.power_average import Width, load_width
from engine.scoring.ensembles.weight_averaging import start_of
from engine.scoring.ensembling import Candidate, distinct_names, kind_of, load_member, tails_of
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.trained import require_read_alike


def open_members(
    chosen: list[Candidate],
    states: list[Candidate],
    widths: list[Width],
    overrides: list[str],
    recipe: Recipe,
    show: Show,
) -> Members:
    """The candidates, with models on the GPU if there is one; states and averages are loaded when needed.

    Args:
        overrides: applied to the recipes of their runs.
        recipe: of the first candidate; all are scored by it.

    Raises:
        RunFolderError: a checkpoint is missing or altered, or its classes differ from its recipe; or one
            reads images or labels differently from the first.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    every = [*chosen, *states, *widths]
    recipes = [load_recipe(candidate.run.recipe, overrides, imports=False) for candidate in every]
    of_each = zip(every, recipes, strict=True)
    require_read_alike({str(candidate.path): own.data for candidate, own in of_each})
    models = [load_member(candidate, device) for candidate in chosen]
    by_name = dict(zip(distinct_names(chosen), models, strict=True))
    weights = [candidate.manifest.weights for candidate in every]
    first = len(chosen) + len(states)  # of the averages
    loaders: list[Callable[[], nn.Module]] = [partial(load_member, one, device) for one in states]
    loaders += [partial(load_width, *one, device) for one in zip(widths, recipes[first:], strict=True)]
    return Members(
        models=by_name,
        recipes=recipes,
        starts=list(map(start_of, recipes, weights)),
        predictor=Predictor(EvaluationProtocol.of(recipe.eval), nullcontext, kind_of(chosen)),
        device=device,
        workers=recipe.data.workers,
        show=show,
        states=dict(zip(distinct_names(every)[len(chosen) :], loaders, strict=True)),
        tails=tails_of(every[:first]),
        widths=tuple(range(first, len(every))),
    )
