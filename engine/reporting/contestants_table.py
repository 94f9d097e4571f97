"""Trained predictors side by side on the same images: scores and cost, as table and as JSON."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.data.sample import Dataset
from engine.recipe import Recipe
from engine.reporting.console import counted, titled_table
from engine.reporting.ensemble_table import gain_text
from engine.run_folder import write_json
from engine.scoring.contestants import Contestant, score_side_by_side
from engine.scoring.ensembles.comparison import Estimate, estimate
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.timing import NUM_TIMED_IMAGES
from engine.scoring.trained import Trained, open_trained, require_classes, require_read_alike
from engine.scoring.training_images import num_trained_on, trained_on


def open_contestants(paths: Mapping[str, Path], overrides: Sequence[str]) -> dict[str, Trained]:
    """Runs, checkpoints and saved ensembles by name, on the GPU if there is one.

    Args:
        overrides: of the data and the evaluation, for the recipe of each.

    Raises:
        RunFolderError: one of them is missing or altered, or reads images or labels otherwise than the first,
            or has other classes.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = {name: open_trained(path, device, overrides=overrides) for name, path in paths.items()}
    by_path = {str(paths[name]): one for name, one in found.items()}
    require_read_alike(
        {path: one.recipe.data for path, one in by_path.items()},
        {path: one.class_names for path, one in by_path.items()},
    )
    return found


def compare_contestants(
    contestants: Mapping[str, Trained],
    title: str,
    reference: str,
    recipe: Recipe,
    dataset: Dataset,
    out: Path,
    console: Console,
) -> None:
    """Score trained predictors on the same images, print the table, write `out`.

    Args:
        contestants: of `open_contestants`; differences are to the first of them.
        reference: what the first is called in the heading, and in the JSON: "to_<reference>".
        recipe: by whose protocol they are scored on `dataset`, its val split.

    Raises:
        RunFolderError: one of them is of other classes than the data.
    """
    protocol = EvaluationProtocol.of(recipe.eval)
    for name, one in contestants.items():
        require_classes(dataset, one.class_names, Path(name))
    show = partial(counted, console)
    found = score_side_by_side(contestants, dataset, protocol, recipe.data.workers, show)
    first = next(iter(found.values()))
    to_first = {name: estimate(first.overlaps, one.overlaps) for name, one in found.items()}
    console.print(_table(found, to_first, title, reference))
    if any(one.combination.early_exit for one in contestants.values()):
        console.print(
            f"With an early exit the forward passes are a mean over all images; images/s is timed on "
            f"{NUM_TIMED_IMAGES} of them, and depends on whether these exit."
        )
    for name, one in contestants.items():
        if seen := trained_on(num_trained_on(one, dataset), len(dataset)):
            console.print(f"[bold]{escape(name)}: {seen}[/]")
    of_images = {"split": recipe.data.val, "num_images": len(first.overlaps)}
    of_each = {name: _entry(one, to_first[name], reference) for name, one in found.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, {"contestants": of_each, "dataset": of_images, "protocol": protocol.card()})
    console.print(f"written: {escape(str(out))}")


def _table(
    found: Mapping[str, Contestant], to_first: Mapping[str, Estimate], title: str, reference: str
) -> Table:
    """One row for each; differences to the first are paired by image."""
    numbers = ("mIoU", f"to the {reference} [95 %]", "forward passes", "images/s", "parameters")
    table = titled_table(title, ["", *numbers, "what"], texts=["what"])
    for place, (name, one) in enumerate(found.items()):
        difference = gain_text(to_first[name]) if place else ""
        cost = (
            f"{round(one.forward_passes, 2):g}",
            f"{one.images_per_second:.2f}",
            f"{one.num_parameters:,}",
        )
        table.add_row(escape(name), f"{to_first[name].mIoU:.4f}", difference, *cost, escape(one.name))
    return table


def _entry(one: Contestant, to_first: Estimate, reference: str) -> dict[str, object]:
    return {
        "name": one.name,
        "mIoU": to_first.mIoU,
        f"to_{reference}": to_first.to_dict()["gain"],
        "forward_passes": one.forward_passes,
        "images_per_second": one.images_per_second,
        "num_parameters": one.num_parameters,
    }
