"""Opens the candidates of an ensemble as its members."""

from contextlib import nullcontext
from functools import partial

import torch

from engine.recipe import Recipe, load_recipe
from engine.scoring.ensembles.members import Members, Show
from engine.scoring.ensembles.weight_averaging import start_of
from engine.scoring.ensembling import Candidate, distinct_names, kind_of, load_member, tails_of
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.trained import require_read_alike


def open_members(
    chosen: list[Candidate],
    states: list[Candidate],
    overrides: list[str],
    recipe: Recipe,
    show: Show,
) -> Members:
    """The candidates with their models on the GPU, if there is one; latest states are loaded when needed.

    Args:
        overrides: of the recipes of their runs.
        recipe: of the first one, by which all are scored.

    Raises:
        RunFolderError: a checkpoint is missing, altered, or of other classes than its recipe says; or one
            reads images or labels otherwise than the first.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    both = [*chosen, *states]
    recipes = [load_recipe(candidate.run.recipe, overrides, imports=False) for candidate in both]
    of_each = zip(both, recipes, strict=True)
    require_read_alike({str(candidate.path): own.data for candidate, own in of_each})
    models = [load_member(candidate, device) for candidate in chosen]
    by_name = dict(zip(distinct_names(chosen), models, strict=True))
    weights = [candidate.manifest.weights for candidate in both]
    names = distinct_names(both)[len(chosen) :]
    return Members(
        models=by_name,
        recipes=recipes,
        starts=list(map(start_of, recipes, weights)),
        predictor=Predictor(EvaluationProtocol.of(recipe.eval), nullcontext, kind_of(chosen)),
        device=device,
        workers=recipe.data.workers,
        show=show,
        states={name: partial(load_member, one, device) for name, one in zip(names, states, strict=True)},
        tails=tails_of(both),
    )
