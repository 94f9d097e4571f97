"""trident ensemble FOLDER ...: score the best checkpoints of finished runs, each and combined."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from engine.command import new_console, new_parser, paths_and_overrides, run_command
from engine.wording import quantity

if TYPE_CHECKING:
    from engine.scoring.ensembles.comparison import MethodComparison
    from engine.scoring.ensembles.members import Members
    from engine.scoring.ensembling import Candidate
    from engine.training.student import Student

EXAMPLES = """
methods: mean (of probabilities), mean_logit, weighted, class_weighted, greedy (members in order of gain),
  greedy_diverse (of those with a gain, what disagrees most), temperature, soup_uniform, soup_greedy (means of
  weights), lawa, swa (means of weights of the latest states: keep.tail), all

examples:
  trident ensemble checkpoints/
  trident ensemble checkpoints/ --method all --split-half
  trident ensemble checkpoints/ --method mean,greedy --select-split trainval_rest
  trident ensemble checkpoints/b2_adv checkpoints/b4_adv --top 5 --method all --save checkpoints/best
  trident ensemble checkpoints/ --distill checkpoints/small model.variant=b0     one model out of many
  trident ensemble checkpoints/ data.root=/elsewhere/VOC2012 eval.flip=true
"""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the input is wrong."""
    parser = new_parser(
        "ensemble",
        "Find every run below the folders, take the best checkpoints of one data set and class list, score "
        "each of them and their combinations on val at original size, write ensemble.json.",
        EXAMPLES,
    )
    parser.add_argument(
        "folders", nargs="+", metavar="folder | key.path=value", help="folders of runs; recipe values"
    )
    parser.add_argument("--top", type=int, default=3, help="number of members (default 3)")
    parser.add_argument(
        "--latest",
        action="store_true",
        help="the latest states of their runs (keep.tail) are members too, beside the best checkpoints",
    )
    parser.add_argument(
        "--method", action="append", metavar="NAME[,NAME]", help="how they are combined (default mean)"
    )
    parser.add_argument(
        "--select-split", metavar="NAME", help="choose on this split (default data.select, or else val)"
    )
    parser.add_argument(
        "--split-half",
        action="store_true",
        help="unbiased scores from val: choose on one half, score the other",
    )
    parser.add_argument(
        "--repeats", type=int, default=10, help="number of random splits of --split-half (default 10)"
    )
    parser.add_argument("--save", type=Path, metavar="DIR", help="write the ensemble of the best method here")
    parser.add_argument(
        "--distill",
        type=Path,
        metavar="OUT",
        help="save the ensemble there, train one model on its predictions, and compare both; the recipe is "
        "that of the best member's run with the given values; the same command again goes on",
    )
    parser.add_argument("--resume", action="store_true", help="with --distill: go on, as it does anyway")
    return run_command(parser, ensemble, argv)


def ensemble(arguments: argparse.Namespace) -> int:
    """Find, group, choose, score, print, write."""
    named, given = paths_and_overrides(arguments.folders)
    overrides = [text for text in given if not arguments.distill or text.startswith(("data.", "eval."))]
    folders = [Path(text) for text in named]

    from engine.run_folder import RunFolder, RunFolderError, common_folder, find_runs, last_stage, write_json

    _check(arguments, overrides, folders)
    folders = [last_stage(folder) for folder in folders]
    runs = list({run.path.resolve(): run for folder in folders for run in find_runs(folder)}.values())
    if arguments.distill:  # without the student of the same command before
        own = (arguments.distill.expanduser() / "student").resolve()
        runs = [run for run in runs if run.path.resolve() != own]

    from rich.markup import escape

    from engine.data.sample import require_one_class_a_pixel, skipped_ids
    from engine.reporting.console import counted, facts_below, scores_table
    from engine.reporting.ensemble_table import (
        agreement_table,
        methods_table,
        optimism_fact,
        saved_fact,
        selection_facts,
    )
    from engine.reporting.student_table import BEST, STUDENT, TEACHER, compare_student
    from engine.scoring.ensembles.comparison import Selection, compare_methods, comparison_report
    from engine.scoring.ensembles.opening import open_members
    from engine.scoring.ensembles.request import (
        best_of_the_only_group,
        methods_named,
        possible_methods,
        require_several,
        was_kept_on_val,
        with_latest,
    )
    from engine.scoring.ensembles.saved import require_unused
    from engine.scoring.ensembling import agreement_of, ensemble_report, latest_states, open_val
    from engine.scoring.protocols import EvaluationProtocol
    from engine.scoring.selection_split import open_select
    from engine.scoring.statistics import few_images
    from engine.scoring.trained import trained_on

    asked = methods_named(arguments.method or ["mean"])
    if arguments.save:
        require_unused(arguments.save)
    title, chosen = best_of_the_only_group(runs, arguments.top)
    states = latest_states(chosen)
    methods = possible_methods(asked, chosen)
    if arguments.latest:
        chosen, states = with_latest(chosen, states), []
    require_several(chosen, methods, bool(arguments.save or arguments.distill))
    student = None
    if arguments.distill:
        from engine.training.student import Student

        student = Student.planned(arguments.distill.expanduser(), chosen[0], given)
    select_too = [f"data.select={arguments.select_split}"] if arguments.select_split else []
    recipe, dataset = open_val(chosen[0], [*overrides, *select_too])
    if arguments.split_half and len(dataset) < 2:
        raise RunFolderError(f"--split-half: {recipe.data.val} has one image, which cannot be halved.")
    if methods != ["mean"] or arguments.split_half:
        how = "The mean is what there is: leave --method and --split-half out."
        require_one_class_a_pixel(recipe.data, "A choice of ensembles", how)
    select = None if arguments.split_half else open_select(recipe, chosen, dataset)
    protocol = EvaluationProtocol.of(recipe.eval)
    console = new_console()
    what = "best checkpoints and latest states" if arguments.latest else "best checkpoints"
    console.print(
        f"found {quantity(len(runs), 'run')} on {title}, {quantity(len(dataset), 'image')}; the {what}:"
    )
    for candidate in chosen:
        console.print(f"  {escape(str(candidate.path))}")
    members = open_members(chosen, states, overrides, recipe, lambda task: counted(console, task))
    repeats = arguments.repeats if arguments.split_half else 0
    agreement = agreement_of(chosen, dataset)
    comparison = compare_methods(members, methods, dataset, select, repeats, agreement)

    chosen_on = dataset if select is None else select
    selection = Selection(
        split=recipe.data.select if select and recipe.data.select else recipe.data.val,
        num_images=len(chosen_on) - len(skipped_ids(chosen_on)),
        same_images=select is None,
        repeats=repeats,
    )
    console.print(methods_table(comparison, selection))
    console.print(selection_facts(selection, recipe.data.val, methods))
    if optimism := optimism_fact(comparison, selection, recipe.data.val):
        console.print(optimism)
    won = comparison.results[comparison.winner]
    shown = comparison.members | {comparison.winner: won.scores}
    console.print(scores_table(shown, dataset.class_names))
    if agreement:
        console.print(agreement_table(agreement.shares(dataset.class_names)))
    console.print(facts_below(next(iter(shown.values())), skipped_ids(dataset), protocol.card()))
    gain = won.honest or won.flattering
    num_images, gains = len(dataset) - len(skipped_ids(dataset)), f"gains of {comparison.winner} in mIoU"
    if few := few_images(num_images, gain.lowest, gain.highest, gains):
        console.print(f"[bold]{few}[/]")
    num_seen = max(candidate.manifest.data.num_trained_on(len(dataset)) for candidate in chosen)
    if seen := trained_on(num_seen, len(dataset)):
        console.print(f"[bold]{seen}[/]")
    if any(was_kept_on_val(candidate) for candidate in chosen):
        console.print(
            f"The checkpoints were kept by their scores on {recipe.data.val}, which flatters all of them."
        )
    folder = common_folder(folders)
    out = folder / "ensemble.json"
    report = ensemble_report(chosen, shown, protocol, dataset, folder, agreement=agreement)
    report["latest_states"] = [os.path.relpath(state.path, folder) for state in states]
    write_json(out, report | comparison_report(comparison, selection))
    run = RunFolder(folder)
    if run.manifest.is_file() and (manifest := run.read_manifest()).finished:
        run.write_final(manifest, out)
    console.print(f"written: {out}")
    if arguments.save:
        _save(arguments.save, comparison, members, [*chosen, *states], overrides)
        console.print(saved_fact(arguments.save, comparison, selection, recipe.data.val))
    if student:
        _save_teacher(student, comparison, members, [*chosen, *states], overrides)
        console.print(saved_fact(student.teacher.path, comparison, selection, recipe.data.val))
        del members  # their memory is for the training
        student.train(console)
        best = chosen[list(comparison.members).index(comparison.best)]
        paths = {TEACHER: student.teacher.path, STUDENT: student.run.path, BEST: best.path}
        compare_student(paths, recipe, dataset, overrides, student.table, console)
    return 0


def _check(arguments: argparse.Namespace, overrides: list[str], folders: list[Path]) -> None:
    """Raises RunFolderError where arguments contradict each other or are out of range."""
    from engine.run_folder import RunFolderError, require_trained_alike

    if arguments.top < 1:
        raise RunFolderError(f"--top {arguments.top}: an ensemble has at least one member.")
    if arguments.repeats < 1:
        raise RunFolderError(f"--repeats {arguments.repeats}: at least 1.")
    if arguments.resume and not arguments.distill:
        raise RunFolderError("--resume goes on with the student of --distill: leave it out.")
    if arguments.select_split and arguments.split_half:
        raise RunFolderError("--select-split and --split-half exclude each other: leave one out.")
    require_trained_alike(overrides)
    if not folders:
        raise RunFolderError("No folder was named; type trident ensemble checkpoints/")


def _save(
    path: Path,
    comparison: "MethodComparison",
    members: "Members",
    candidates: list["Candidate"],
    overrides: list[str],
) -> None:
    """Write the ensemble of the best method; `candidates` are the members, then the latest states."""
    from engine.scoring.ensembles.saved import save_ensemble

    result = comparison.results[comparison.winner]
    soup = members.average_weights(result.ensemble.soup) if result.ensemble.soup else None
    save_ensemble(
        path, comparison.winner, result.ensemble, result.scores.metrics, candidates, overrides, soup
    )


def _save_teacher(
    student: "Student",
    comparison: "MethodComparison",
    members: "Members",
    candidates: list["Candidate"],
    overrides: list[str],
) -> None:
    """Write the student's recipe and its teacher, or see that these are there.

    Raises:
        RunFolderError: the ensemble that is there is another one.
    """
    from engine.scoring.ensembles.saved import is_saved

    ensemble = comparison.results[comparison.winner].ensemble
    if not student.teacher.manifest.is_file():
        _save(student.teacher.path, comparison, members, candidates, overrides)
    elif not is_saved(student.teacher.path, comparison.winner, ensemble, candidates):
        raise student.of_another_teacher()
    student.write_recipe()


if __name__ == "__main__":
    raise SystemExit(main())
