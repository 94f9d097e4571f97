"""trident compare RECIPE ... --seeds 3: train each with several seeds, report which is better."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from engine.command import new_console, new_parser, paths_and_overrides, recipe_file, run_command
from engine.wording import quantity

if TYPE_CHECKING:
    from rich.console import Console

    from engine.comparison.grid import Failure
    from engine.comparison.runs import Method

EXAMPLES = """
examples:
  trident compare b0_ce b0_ce_dice b0_adv --seeds 3
  trident compare b0_ce b0_adv --jobs 2 train.steps=2000
  trident compare b0_ce b0_adv --cluster auto       on a Ray cluster
  trident compare checkpoints/a_s0 checkpoints/a_s1 checkpoints/b_s0          what is trained already
"""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the input is wrong, 1 a run failed."""
    parser = new_parser(
        "compare",
        "Train every recipe with seeds 0, 1, ... (continuing existing runs), or take finished runs; "
        "compare each method with the first, over seeds and images; write compare.md, .csv, .json and .html.",
        EXAMPLES,
    )
    parser.add_argument(
        "what",
        nargs="+",
        metavar="recipe | folder | key.path=value",
        help="recipes as files or names, or folders of runs; recipe values, for all",
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each recipe (default 3)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="key.path=value",
        help="the same as key.path=value alone",
    )
    parser.add_argument("--jobs", type=int, default=1, help="parallel runs on this machine (default 1)")
    parser.add_argument("--cluster", metavar="ADDRESS", help="run on this Ray cluster instead, or auto")
    parser.add_argument(
        "--out", help="folder of the grid (default checkpoints/compare), or of the files about given runs"
    )
    return run_command(parser, compare, argv)


def compare(arguments: argparse.Namespace) -> int:
    """Train what is missing, compare, print, write."""
    from rich.markup import escape

    from engine.comparison.files import print_comparison, to_csv, to_markdown
    from engine.comparison.grid import CompareError
    from engine.comparison.page import to_html
    from engine.comparison.runs import require_comparable
    from engine.comparison.table import compare
    from engine.run_folder import require_folder, write_json, write_text

    arguments.what, overrides = paths_and_overrides(arguments.what)
    arguments.set += overrides
    if not arguments.what:
        raise CompareError("Name recipes, to train them, or folders of finished runs.")
    if arguments.out:
        require_folder(Path(arguments.out))
    console = new_console()
    are_folders = {Path(text).is_dir() for text in arguments.what}
    if len(are_folders) > 1:
        raise CompareError(
            "Name recipes, to train them, or folders of finished runs, not both: "
            + ", ".join(
                f"{text} is a {'folder' if Path(text).is_dir() else 'file'}" for text in arguments.what
            )
        )
    methods, failures, out = _finished(arguments) if are_folders == {True} else _trained(arguments, console)
    if methods:
        require_comparable(methods)
        comparison = compare(methods)
        print_comparison(comparison, console)
        write_text(out / "compare.md", to_markdown(comparison))
        write_text(out / "compare.csv", to_csv(comparison))
        write_json(out / "compare.json", comparison.to_dict())
        write_text(out / "compare.html", to_html(comparison))
        console.print(f"written: {escape(str(out))}/compare.md, compare.csv, compare.json, compare.html")
    for failure in failures:
        console.print(f"[bold]{escape(failure.cell.name)} failed[/]: see {escape(str(failure.cell.log))}")
    if failures:
        console.print("The same command continues with what is missing.")
    return 1 if failures else 0


def _finished(arguments: argparse.Namespace) -> "tuple[list[Method], list[Failure], Path]":
    """Methods of the runs below the folders that were named, no failures, and where the files go."""
    from engine.comparison.grid import CompareError
    from engine.comparison.runs import ScoredRun, group_by_recipe
    from engine.run_folder import common_folder, find_runs
    from engine.scoring.run import Run

    if arguments.set or arguments.cluster:
        raise CompareError(
            "key.path=value and --cluster are for recipes: finished runs are compared as they are."
        )
    folders = [Path(text) for text in arguments.what]
    runs = {run.path.resolve(): run for folder in folders for run in find_runs(folder)}
    out = Path(arguments.out) if arguments.out else common_folder(folders)
    out.mkdir(parents=True, exist_ok=True)
    return group_by_recipe(ScoredRun.of(Run(run)) for run in runs.values()), [], out


def _trained(arguments: argparse.Namespace, console: "Console") -> "tuple[list[Method], list[Failure], Path]":
    """Methods of the grid, whose unfinished cells are trained, the cells that failed, and its folder."""
    from rich.markup import escape

    from engine.comparison.grid import CompareError, cells_of, locked, prepare
    from engine.comparison.runs import Method, ScoredRun
    from engine.scoring.run import Run

    if arguments.seeds < 1 or arguments.jobs < 1:
        raise CompareError("--seeds and --jobs: expected a number from 1 on.")
    out = Path(arguments.out or "checkpoints/compare")
    recipes = [recipe_file(name) for name in arguments.what]
    cells = cells_of(recipes, arguments.seeds, arguments.set, out)
    with locked(out):
        unfinished = prepare(cells)
        num_finished = len(cells) - len(unfinished)
        console.print(f"{quantity(len(cells), 'run')} in {escape(str(out))}, {num_finished} of them finished")
        if arguments.cluster and unfinished:
            from engine.comparison.cluster import run_on_cluster

            failures = run_on_cluster(unfinished, arguments.cluster, console)
        elif unfinished:
            from engine.comparison.local import run_locally

            failures = run_locally(unfinished, arguments.jobs, console)
        else:
            failures = []
    scored: dict[str, list[ScoredRun]] = {}
    for cell in cells:
        if cell.is_finished:
            scored.setdefault(cell.method, []).append(ScoredRun.of(Run(cell.run)))
    if cells[0].method not in scored:
        console.print(f"No run of {cells[0].method} has finished, with which the others would be compared.")
        return [], failures, out
    return [Method(name, runs) for name, runs in scored.items()], failures, out


if __name__ == "__main__":
    raise SystemExit(main())
