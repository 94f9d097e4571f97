"""trident compare RECIPE ... --seeds 3: train each with several seeds, report which is better."""

import argparse
import shlex
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from engine.command import new_console, new_parser, paths_and_overrides, recipe_file, run_command
from engine.wording import near_path, quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from engine.comparison.grid import Cell, Failure
    from engine.comparison.runs import Method
    from engine.comparison.table import FoldEnsemble

EXAMPLES = """
examples:
  trident compare b0_ce b0_ce_dice b0_adv --seeds 3
  trident compare b0_ce b0_adv --jobs 2 train.steps=2000
  trident compare b0_ce b0_adv --cluster auto       on a Ray cluster
  trident compare mine.yaml --folds 5               by cross-validation
  trident compare a.yaml b.yaml --folds 'lists/fold_*.txt'
  trident compare checkpoints/a_s0 checkpoints/a_s1 checkpoints/b_s0          what is trained already
  trident compare checkpoints/a_s0 checkpoints/together eval.flip=true        with a saved ensemble
"""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the input is wrong, 1 a run failed."""
    parser = new_parser(
        "compare",
        "Train every recipe with seeds 0, 1, ..., or on folds (continuing existing runs), or take finished "
        "runs; compare each method with the first, over seeds and images; write compare.md, .csv, .json and "
        ".html.",
        EXAMPLES,
    )
    parser.add_argument(
        "what",
        nargs="+",
        metavar="recipe | folder | key.path=value",
        help="recipes as files or names, or folders of runs; recipe values, for all",
    )
    parser.add_argument("--seeds", type=int, help="runs of each recipe (default 3; with --folds 1)")
    parser.add_argument(
        "--folds",
        metavar="N | LISTS",
        help="cross-validation: split data.train into N folds, or take the images of each list as a fold",
    )
    parser.add_argument(
        "--group",
        metavar="PATTERN",
        help="with --folds N: pattern of the part of an id that images of one fold share: '(.+)_\\d+'",
    )
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
        "--out",
        type=Path,
        help="folder of the grid (default checkpoints/compare), or of the files about given runs",
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
    from engine.recipe import find_recipe
    from engine.run_folder import write_json, write_text

    arguments.what, overrides = paths_and_overrides(arguments.what)
    arguments.set += overrides
    arguments.what, lists = _without_lists(arguments)
    if not arguments.what:
        raise CompareError("Name recipes, to train them, or folders of finished runs.")
    console = new_console()
    if any((Path(text) / "combination.json").is_file() for text in arguments.what):
        return _with_ensembles(arguments, console)
    are_folders = {Path(text).is_dir() for text in arguments.what}
    if len(are_folders) > 1:
        near = [near_path(text) for text in arguments.what if not find_recipe(text).is_file()]
        raise CompareError(
            "Name recipes, to train them, or folders of finished runs, not both: "
            f"{', '.join(map(_kind, arguments.what))}.{''.join(near)}"
        )
    found = _finished(arguments) if are_folders == {True} else _trained(arguments, lists, console)
    out = found.out
    if found.methods:
        require_comparable(found.methods)
        out.mkdir(parents=True, exist_ok=True)
        comparison = compare(found.methods, found.ensembles)
        print_comparison(comparison, console)
        write_text(out / "compare.md", to_markdown(comparison))
        write_text(out / "compare.csv", to_csv(comparison))
        write_json(out / "compare.json", comparison.to_dict())
        write_text(out / "compare.html", to_html(comparison))
        console.print(f"written: {escape(str(out))}/compare.md, compare.csv, compare.json, compare.html")
    for failure in found.failures:
        console.print(f"[bold]{escape(failure.cell.name)} failed[/]: see {escape(str(failure.cell.log))}")
    if found.failures:
        console.print("The same command continues with what is missing.")
    return 1 if found.failures else 0


def _kind(text: str) -> str:
    """What an argument is, as part of a sentence."""
    from engine.recipe import find_recipe

    if Path(text).is_dir():
        return f"{text} is a folder"
    if find_recipe(text).is_file():
        return f"{text} is a recipe"
    return f"{text} is a file" if Path(text).exists() else f"there is no file or folder {text}"


@dataclass(frozen=True)
class _Found:
    """What to compare, the folder for the files, the cells that failed, and the ensembles over folds."""

    methods: "list[Method]"
    out: Path
    failures: "list[Failure]" = field(default_factory=list)
    ensembles: "list[FoldEnsemble]" = field(default_factory=list)


def _with_ensembles(arguments: argparse.Namespace, console: "Console") -> int:
    """Runs, checkpoints and saved ensembles, scored here on the val images of the first."""
    from engine.comparison.grid import CompareError
    from engine.data import open_split
    from engine.data.overlap import image_files
    from engine.data.ranges import told_of_unused_range
    from engine.recipe import find_recipe
    from engine.reporting.contestants_table import compare_contestants, open_contestants
    from engine.run_folder import common_folder, require_folder
    from engine.scoring.overrides import told_of_no_effect

    if arguments.cluster or arguments.folds or arguments.group or arguments.seeds is not None:
        raise CompareError(
            "--seeds, --cluster, --folds and --group are for recipes: leave them out beside a saved ensemble."
        )
    paths = {text: Path(text) for text in dict.fromkeys(arguments.what)}
    if len(paths) < 2:
        raise CompareError(
            f"{arguments.what[0]} is one ensemble: name a run, or another ensemble, to compare it with. For "
            f"its own scores type trident evaluate {shlex.quote(arguments.what[0])}"
        )
    if recipes := [text for text, path in paths.items() if not path.is_dir() and find_recipe(text).is_file()]:
        raise CompareError(_to_compare_its_run(recipes[0], list(paths)))
    out = arguments.out or common_folder([path.parent for path in paths.values()])
    require_folder(out, "--out")
    contestants = open_contestants(paths, arguments.set)
    recipe = next(iter(contestants.values())).recipe
    dataset = open_split(recipe.data, recipe.data.val)
    without_effect = told_of_no_effect(arguments.set, [recipe.eval.protocol], data_format=recipe.data.format)
    for line in without_effect + told_of_unused_range(arguments.set, image_files(dataset)):
        console.print(line, markup=False)
    title = f"on {recipe.data.val}, {quantity(len(dataset), 'image')}; differences are paired by image"
    compare_contestants(contestants, title, "first", recipe, dataset, out / "contestants.json", console)
    return 0


def _to_compare_its_run(recipe: str, named: "Sequence[str]") -> str:
    """What to type where a recipe was named beside a saved ensemble."""
    from engine.recipe import RecipeError, find_recipe, load_stages
    from engine.run_folder import RunFolder

    what = f"{recipe} is a recipe, and a saved ensemble is compared with what is trained already. "
    try:
        run = RunFolder.of(load_stages(find_recipe(recipe))[-1])
    except RecipeError:  # it needs values that are not in the file
        run = None
    if run and not run.kept_nothing():
        words = [str(run.path) if text == recipe else text for text in named]
        return f"{what}To compare its run, type {shlex.join(['trident', 'compare', *words])}"
    folder = run.path if run else "the folder of its run"
    return f"{what}Train it, and name {folder} instead: trident run {shlex.quote(recipe)}"


def _without_lists(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The recipes or folders, and the lists that the shell made of `--folds fold_*.txt` besides the first."""
    from engine.data.formats import LIST_ENDINGS

    lists = [text for text in arguments.what if Path(text).suffix in LIST_ENDINGS]
    lists = lists if arguments.folds is not None else []
    return [text for text in arguments.what if text not in lists], lists


def _finished(arguments: argparse.Namespace) -> _Found:
    """The runs below the folders that were named."""
    from engine.comparison.grid import CompareError
    from engine.comparison.runs import ScoredRun, group_by_recipe
    from engine.run_folder import common_folder, find_runs, require_folder
    from engine.scoring.run import Run

    if arguments.set or arguments.cluster or arguments.folds or arguments.group:
        raise CompareError(
            "key.path=value, --cluster, --folds and --group are for recipes: finished runs are compared as "
            "they are. Leave them out."
        )
    folders = [Path(text) for text in arguments.what]
    runs = find_runs(*folders)
    out = arguments.out or common_folder(folders)
    require_folder(out, "--out")
    return _Found(group_by_recipe(ScoredRun.of(Run(run)) for run in runs), out)


def _trained(arguments: argparse.Namespace, lists: list[str], console: "Console") -> _Found:
    """The grid, whose unfinished cells are trained."""
    from rich.markup import escape

    from engine.comparison.fold_ensembles import require_own
    from engine.comparison.folds import folds_of, wish_of
    from engine.comparison.grid import CompareError, cells_of, load_recipes, locked, prepare
    from engine.comparison.runs import require_alike
    from engine.reporting.console import counted
    from engine.run_folder import require_folder

    has_folds = arguments.folds is not None
    seeds = arguments.seeds if arguments.seeds is not None else 1 if has_folds else 3
    if seeds < 1 or arguments.jobs < 1:
        raise CompareError("--seeds and --jobs: expected a number from 1 on.")
    if arguments.group and not has_folds:
        raise CompareError("--group is for --folds: type --folds 5, too, or leave it out.")
    out = arguments.out or Path("checkpoints/compare")
    require_folder(out, "--out")
    wish = wish_of(arguments.folds, lists, arguments.group) if has_folds else None
    recipes, folds = load_recipes([recipe_file(name) for name in arguments.what], arguments.set), None
    is_to_train = not (has_folds or all(cell.run.is_finished for cell in cells_of(recipes, seeds, out)))
    require_alike(recipes, opens_data=is_to_train and not arguments.cluster)
    if wish:
        recipes, folds = folds_of(recipes, wish, out, counted(console, "counting labels"))
        console.print(*folds.notes, sep="\n", markup=False)
    cells = cells_of(recipes, seeds, out, folds.paths if folds else ())
    if folds:
        require_own(cells)
    with locked(out):
        unfinished = prepare(cells)
        if folds:
            folds.write()
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
        return _scored(cells, failures, out, console)


def _scored(cells: "Sequence[Cell]", failures: "list[Failure]", out: Path, console: "Console") -> _Found:
    """The finished cells as methods; of folds only where all have finished, with their ensembles."""
    from rich.markup import escape

    from engine.comparison.fold_ensembles import ensemble_of
    from engine.comparison.runs import Method, ScoredRun
    from engine.reporting.console import counted
    from engine.scoring.run import Run

    scored: dict[str, list[ScoredRun]] = {}
    ensembles = []
    for (method, _), group in groupby(cells, key=lambda cell: (cell.method, cell.recipe.seed)):
        of_seed = list(group)
        finished = [cell for cell in of_seed if cell.run.is_finished]
        if len(finished) < len(of_seed):
            if finished:
                console.print(
                    f"{len(finished)} of {quantity(len(of_seed), 'fold')} of {escape(method)} have finished: "
                    "no score until all have."
                )
            continue
        runs = [ScoredRun.of(Run(cell.run)) for cell in of_seed]
        scored.setdefault(method, []).append(ScoredRun.pooled(runs) if len(runs) > 1 else runs[0])
        if len(runs) > 1:
            ensembles.append(ensemble_of(of_seed, counted(console, "scoring the ensemble")))
    first = cells[0].method
    if first not in scored:
        console.print(f"No run of {escape(first)} has finished, but the others are compared with it.")
        return _Found([], out, failures)
    return _Found([Method(name, runs) for name, runs in scored.items()], out, failures, ensembles)


if __name__ == "__main__":
    raise SystemExit(main())
