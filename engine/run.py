"""python -m engine.run RECIPE [key.path=value ...]: train, keep the best, ensemble them, report."""

import argparse
import sys

from engine.command import new_parser, run_command

EXAMPLES = """
examples:
  python -m engine.run recipes/demo.yaml
  python -m engine.run recipes/b2_adv.yaml data.root=data/VOCdevkit/VOC2012 train.batch=8
  python -m engine.run recipes/b2_adv.yaml data.root=... --dry-run      what will it cost?
  python -m engine.run recipes/b2_adv.yaml --explain                    where does each value come from?
  torchrun --nproc-per-node=8 -m engine.run recipes/b2_adv.yaml data.root=...
"""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the input is wrong, 1 the run failed or was stopped."""
    parser = new_parser(
        "run", "Train one recipe; keep the best checkpoints; ensemble them; write a report.", EXAMPLES
    )
    parser.add_argument("recipe", help="a recipe file")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.path=value", help="take the place of recipe values"
    )
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    parser.add_argument("--dry-run", action="store_true", help="build all, make one update, print the cost")
    parser.add_argument("--explain", action="store_true", help="print each value and where it comes from")
    return run_command(parser, run, argv)


def run(arguments: argparse.Namespace) -> int:
    """Load the recipe and do what the flags say."""
    from rich.console import Console

    from engine.recipe import load_recipe

    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    if arguments.explain:
        from engine.reporting.console import explain_table

        console.print(explain_table(recipe))
        return 0

    from engine.training.distributed import start_process, stop_process

    process = start_process()
    try:
        if arguments.dry_run:
            from engine.training.dry_run import dry_run

            dry_run(recipe, process, console)
            return 0
        from engine.training.train import train

        return 0 if train(recipe, process, console, arguments.resume) else 1
    finally:
        stop_process(process)


if __name__ == "__main__":
    raise SystemExit(main())
