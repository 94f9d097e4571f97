"""A student beside the ensemble that taught it and the best member: scores and cost, as table and as JSON."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.data.sample import Dataset
from engine.recipe import Recipe
from engine.reporting.console import counted
from engine.reporting.ensemble_table import gain_text
from engine.run_folder import write_json
from engine.scoring.contestants import Contestant, score_side_by_side
from engine.scoring.ensembles.comparison import Estimate, estimate
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.trained import open_trained

TEACHER, STUDENT, BEST = "ensemble", "student", "best member"


def compare_student(
    paths: Mapping[str, Path],
    recipe: Recipe,
    dataset: Dataset,
    overrides: Sequence[str],
    out: Path,
    console: Console,
) -> None:
    """Score TEACHER, STUDENT and BEST on the same images, print the table, write `out`.

    Args:
        recipe: by whose protocol they are scored on `dataset`, its val split.
        overrides: of the data and the evaluation, for the recipe of each.
    """
    protocol = EvaluationProtocol.of(recipe.eval)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    contestants = {name: open_trained(path, device, overrides=overrides) for name, path in paths.items()}
    show = partial(counted, console)
    found = score_side_by_side(contestants, dataset, protocol, device, recipe.data.workers, show)
    to_ensemble = {name: estimate(found[TEACHER].overlaps, one.overlaps) for name, one in found.items()}
    console.print(_table(found, to_ensemble))
    of_images = {"split": recipe.data.val, "num_images": len(found[TEACHER].overlaps)}
    of_three = {name: _entry(one, to_ensemble[name]) for name, one in found.items()}
    write_json(out, {"contestants": of_three, "dataset": of_images, "protocol": protocol.card()})
    console.print(f"written: {escape(str(out))}")


def _table(found: Mapping[str, Contestant], to_ensemble: Mapping[str, Estimate]) -> Table:
    """One row for each of the three; differences to the ensemble are paired by image."""
    table = Table(title="the student, beside the ensemble that taught it", title_justify="left")
    table.add_column("")
    for heading in ("mIoU", "to the ensemble [95 %]", "forward passes", "images/s", "parameters"):
        table.add_column(heading, justify="right")
    table.add_column("what", overflow="fold")
    for name, one in found.items():
        difference = "" if name == TEACHER else gain_text(to_ensemble[name])
        cost = (f"{one.forward_passes}", f"{one.images_per_second:.2f}", f"{one.num_parameters:,}")
        table.add_row(name, f"{to_ensemble[name].mIoU:.4f}", difference, *cost, escape(one.name))
    return table


def _entry(one: Contestant, to_ensemble: Estimate) -> dict[str, object]:
    return {
        "name": one.name,
        "mIoU": to_ensemble.mIoU,
        "to_ensemble": to_ensemble.to_dict()["gain"],
        "forward_passes": one.forward_passes,
        "images_per_second": one.images_per_second,
        "num_parameters": one.num_parameters,
    }
