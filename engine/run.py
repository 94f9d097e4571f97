"""trident run RECIPE [key.path=value ...]: train, keep the best, ensemble them, report."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from engine.command import add_recipe, new_console, new_parser, recipe_file, run_command
from engine.options import seconds_of

if TYPE_CHECKING:
    from rich.table import Table

    from engine.recipe import Recipe

EXAMPLES = """
examples:
  trident run demo
  trident run b2_adv data.root=data/VOCdevkit/VOC2012 train.batch=8
  trident run b2_adv data.root=... --resume       go on, or start: for a job that is queued again and again
  trident run b2_adv data.root=... train.steps=60000 name=longer --continue-from checkpoints/b2_adv
  trident run b2_full data.root=... stages.coco.data.root=...    its stages in turn
  trident run b2_adv data.root=... --dry-run      what will it cost?
  trident run b2_adv --explain                    where does each value come from?
  torchrun --nproc-per-node=8 -m engine.run b2_adv data.root=...
"""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the input is wrong, 1 the run failed or was stopped."""
    parser = new_parser(
        "run", "Train one recipe; keep the best checkpoints; ensemble them; write a report.", EXAMPLES
    )
    add_recipe(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the saved state of the run; start it where nothing was saved",
    )
    parser.add_argument(
        "--continue-from",
        type=Path,
        metavar="RUN",
        help="start a new run from the state of another one, with other values of its recipe",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="time some updates, print the cost, write nothing"
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="print each value, where it comes from, and the optimiser's groups",
    )
    return run_command(parser, run, argv)


def run(arguments: argparse.Namespace) -> int:
    """Load the recipe and do what the flags say."""
    from engine.recipe import load_stages

    console = new_console()
    trains = not arguments.explain and arguments.continue_from is None
    recipes = load_stages(recipe_file(arguments.recipe), arguments.overrides, trains=trains)
    if arguments.explain:
        from engine.reporting.console import explain_table

        for recipe in recipes:
            console.print(explain_table(recipe))
            console.print(_optimizer_table(recipe))
        return 0

    from engine.training.distributed import process_group

    with process_group(seconds_of(recipes[0].train.timeout)) as process:
        if len(recipes) > 1:
            from engine.training.stages import dry_run_stages, require_possible, train_stages

            require_possible(arguments.continue_from)
            if arguments.dry_run:
                dry_run_stages(recipes, process, console)
            else:
                train_stages(recipes, process, console, arguments.resume)
        elif arguments.dry_run:
            from engine.run_folder import RunFolder
            from engine.training.dry_run import dry_run

            source = RunFolder(arguments.continue_from) if arguments.continue_from else None
            dry_run(recipes[0], process, console, source)
        else:
            from engine.training.train import train

            train(recipes[0], process, console, arguments.resume, continue_from=arguments.continue_from)
    return 0


def _optimizer_table(recipe: "Recipe") -> "Table":
    """The parameter groups of the optimiser, from a model without data or download."""
    import torch

    from engine.data import class_names_of
    from engine.data.bands import model_inputs
    from engine.reporting.console import titled_table
    from engine.training.build_step import new_auxiliary
    from engine.training.optim import freeze, parameter_groups
    from models import build_model
    from models.architectures import ARCHITECTURES

    # Not every other model can be built on the meta device: SMP's MiT reads its drop rates from a tensor.
    is_own = recipe.model.arch in ARCHITECTURES and recipe.model.encoder is None
    with torch.device("meta" if is_own else "cpu"):
        names = class_names_of(recipe.data)
        model = build_model(recipe.model, names, **model_inputs(recipe.data))
        auxiliary = new_auxiliary(recipe, model, len(names)) if recipe.model.auxiliary else None
    frozen = freeze(model, recipe.model.freeze)
    headings = ("group", "tensors", "parameters", "peak lr", "x lr", "decay")
    table = titled_table("groups of the optimiser", headings)
    table.caption = frozen
    for group in parameter_groups(model, recipe.optimizer, auxiliary):
        num_parameters = sum(parameter.numel() for parameter in group["params"])
        factor = group["lr"] / recipe.optimizer.lr
        name = group["name"].removesuffix(", no decay")  # as the last column says
        sizes = (f"{len(group['params'])}", f"{num_parameters:,}")
        table.add_row(name, *sizes, f"{group['lr']:.3g}", f"{factor:.3g}", f"{group['weight_decay']:g}")
    return table


if __name__ == "__main__":
    raise SystemExit(main())
