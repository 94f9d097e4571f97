"""trident ensemble FOLDER ...: score the best checkpoints of finished runs, each and combined."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from engine.command import new_console, new_parser, paths_and_overrides, run_command
from engine.wording import quantity

if TYPE_CHECKING:
    from rich.console import Console

    from engine.run_folder import RunFolder
    from engine.scoring.agreement import Agreement
    from engine.scoring.ensembles.comparison import MethodComparison
    from engine.scoring.ensembles.early_exit import Exiting
    from engine.scoring.ensembles.members import Members
    from engine.scoring.ensembles.request import Request
    from engine.scoring.ensembling import Candidate
    from engine.training.student import Student

EXAMPLES = """
methods: mean (of probabilities), mean_logit, weighted, class_weighted, greedy (members in order of gain),
  greedy_diverse (of those with a gain, what disagrees most), temperature, soup_uniform, soup_greedy (means of
  weights), lawa, swa (means of weights of the latest states: keep.tail), ema_post_hoc (a moving average of
  any width: train.ema_widths), all

examples:
  trident ensemble checkpoints/
  trident ensemble checkpoints/ --per-run 1                  of three seeds, the best checkpoint of each
  trident ensemble checkpoints/ --method all --split-half
  trident ensemble checkpoints/ --method mean,greedy --select-split trainval_rest
  trident ensemble checkpoints/b2_adv checkpoints/b4_adv --top 5 --method all --save checkpoints/best
  trident ensemble checkpoints/ --early-exit 0.001 --save checkpoints/quick      fewer forward passes
  trident ensemble checkpoints/ --distill checkpoints/small model.variant=b0     one model out of many
  trident ensemble checkpoints/ data.root=/elsewhere/VOC2012 eval.flip=true
"""
DEFAULT_REPEATS = 10


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
        "--per-run", type=int, metavar="N", help="at most N members from one run, such as 1 for runs of seeds"
    )
    parser.add_argument(
        "--latest",
        action="store_true",
        help="the latest states of the runs (keep.tail) are members too, in addition to the best checkpoints",
    )
    parser.add_argument(
        "--method", action="append", metavar="NAME[,NAME]", help="how they are combined (default mean)"
    )
    parser.add_argument(
        "--select-split", metavar="NAME", help="select on this split (default: data.select, or else val)"
    )
    parser.add_argument(
        "--split-half",
        action="store_true",
        help="unbiased scores from val: select on one half, score the other",
    )
    parser.add_argument("--repeats", type=int, help="number of random splits of --split-half (default 10)")
    parser.add_argument(
        "--early-exit",
        type=float,
        metavar="LOSS",
        help="run the other members only on images of which the first one is not certain; the threshold is "
        "selected so that at most this much mIoU is lost, such as 0.001",
    )
    parser.add_argument("--save", type=Path, metavar="DIR", help="write the ensemble of the best method here")
    parser.add_argument(
        "--distill",
        type=Path,
        metavar="OUT",
        help="save the ensemble there, train one model on its predictions, and compare both; its recipe is "
        "the recipe of the best member's run with the given values; repeat the command to resume",
    )
    parser.add_argument("--resume", action="store_true", help="with --distill, which resumes in any case")
    return run_command(parser, ensemble, argv)


def ensemble(arguments: argparse.Namespace) -> int:
    """Find, group, choose, score, print, write."""
    named, given = paths_and_overrides(arguments.folders)
    overrides = [text for text in given if not arguments.distill or text.startswith(("data.", "eval."))]
    folders = [Path(text) for text in named]
    _check(arguments, overrides, folders)

    from engine.reporting.console import counted
    from engine.reporting.ensemble_table import print_comparison, print_exit
    from engine.run_folder import common_folder, last_stage, require_reachable
    from engine.scoring.ensembles.comparison import compare_methods
    from engine.scoring.ensembles.early_exit import choose_early_exit
    from engine.scoring.ensembles.opening import open_members
    from engine.scoring.ensembling import agreement_of

    folders = [last_stage(folder) for folder in folders]
    runs = _runs(folders, arguments.distill)
    require_reachable(common_folder(folders) / "ensemble.json")
    request = _request(arguments, runs, overrides)
    student = None
    if arguments.distill:
        from engine.training.student import Student

        student = Student.planned(arguments.distill, request.chosen[0], given)
    console = new_console()
    _print_members(console, runs, request, arguments.latest)
    for line in [] if student else _without_effect(overrides, request):  # else they are of its training
        console.print(line, markup=False)
    members = open_members(
        request.chosen,
        request.states,
        request.widths,
        overrides,
        request.recipe,
        lambda task: counted(console, task),
    )
    agreement = agreement_of(request.chosen, request.dataset)
    comparison = compare_methods(
        members, request.methods, request.dataset, request.select, request.repeats, agreement
    )
    print_comparison(console, comparison, request, agreement)
    exiting = None
    if arguments.early_exit is not None:
        exiting = choose_early_exit(
            members, comparison, request.dataset, request.select, arguments.early_exit
        )
        print_exit(console, exiting, comparison.winner, request.recipe.data.val)
    _write(console, common_folder(folders), request, comparison, agreement, exiting)
    if arguments.save or student:
        _keep(arguments, student, members, request, comparison, exiting, overrides, console)
    if student:
        member = request.chosen[list(comparison.members).index(comparison.best)]
        del members  # their memory is for the training
        _distill(student, member, request, overrides, console)
    return 0


def _runs(folders: list[Path], distill: Path | None) -> "list[RunFolder]":
    """Each run in the folders once, without the student of an earlier --distill into the same folder."""
    from engine.run_folder import RunFolderError, find_runs

    student = (distill / "student").resolve() if distill else None
    runs = [run for run in find_runs(*folders) if run.path.resolve() != student]
    if not runs:
        raise RunFolderError(f"{student} is the student of --distill {distill}: name the runs that teach it.")
    return runs


def _request(arguments: argparse.Namespace, runs: "list[RunFolder]", overrides: list[str]) -> "Request":
    """What the arguments ask for.

    Raises:
        RunFolderError: it is not possible with these runs, or --save names an existing folder.
    """
    from engine.data.sample import require_one_class_a_pixel
    from engine.run_folder import require_folder
    from engine.scoring.ensembles.request import Request, methods_named
    from engine.scoring.ensembles.saved import require_unused

    methods = methods_named(arguments.method or ["mean"])
    if arguments.save:
        require_unused(arguments.save)
    if arguments.distill:
        require_folder(arguments.distill, "--distill")
    request = Request.of(
        runs,
        [*overrides, *([f"data.select={arguments.select_split}"] if arguments.select_split else [])],
        methods,
        arguments.top,
        arguments.per_run,
        arguments.latest,
        (arguments.repeats or DEFAULT_REPEATS) if arguments.split_half else 0,
        bool(arguments.save or arguments.distill),
    )
    if arguments.early_exit is not None:
        require_one_class_a_pixel(request.recipe.data, "--early-exit", "Leave it out.")
    return request


def _print_members(
    console: "Console", runs: "list[RunFolder]", request: "Request", with_latest: bool
) -> None:
    from rich.markup import escape

    what = "best checkpoints and latest states" if with_latest else "best checkpoints"
    images = quantity(len(request.dataset), "image")
    console.print(f"found {quantity(len(runs), 'run')} on {request.title}, {images}; the {what}:")
    for candidate in request.chosen:
        console.print(f"  {escape(str(candidate.path))}")
    kept = [member.sha256 for run in runs for member in run.read_manifest().members]
    if num_copies := len(kept) - len({*kept}):
        console.print(f"left out: {quantity(num_copies, 'checkpoint')} with the same content as another one")


def _without_effect(overrides: list[str], request: "Request") -> list[str]:
    """A sentence for each value that was typed and changes nothing here."""
    from engine.data.overlap import image_files
    from engine.data.ranges import told_of_unused_range
    from engine.scoring.overrides import told_of_no_effect

    recipe = request.recipe
    lines = told_of_no_effect(overrides, [recipe.eval.protocol], data_format=recipe.data.format)
    return lines + told_of_unused_range(overrides, image_files(request.dataset))


def _write(
    console: "Console",
    folder: Path,
    request: "Request",
    comparison: "MethodComparison",
    agreement: "Agreement | None",
    exiting: "Exiting | None",
) -> None:
    """ensemble.json, and ensemble.png, which shows the same."""
    from engine.reporting.ensemble_plot import draw_costs
    from engine.run_folder import RunFolder, write_json
    from engine.scoring.ensembles.comparison import comparison_report
    from engine.scoring.ensembling import ensemble_report
    from engine.scoring.protocols import EvaluationProtocol

    out, protocol = folder / "ensemble.json", EvaluationProtocol.of(request.recipe.eval)
    report = ensemble_report(
        request.chosen, comparison.shown, protocol, request.dataset, folder, agreement=agreement
    )
    report["latest_states"] = [os.path.relpath(state.path, folder) for state in request.states]
    report["averages"] = [one.to_dict(folder) for one in request.widths]
    report |= comparison_report(comparison, request.selection)
    if exiting:
        report["early_exit"] = exiting.to_dict()
    write_json(out, report)
    run = RunFolder(folder)
    if run.manifest.is_file() and (manifest := run.read_manifest()).finished:
        run.write_final(manifest, out)
    console.print(f"written: {out}", markup=False)
    draw_costs(folder / "ensemble.png", report)
    console.print(f"written: {folder / 'ensemble.png'}", markup=False)


def _keep(
    arguments: argparse.Namespace,
    student: "Student | None",
    members: "Members",
    request: "Request",
    comparison: "MethodComparison",
    exiting: "Exiting | None",
    overrides: list[str],
    console: "Console",
) -> None:
    """Write the ensemble of the best method to --save, and as the teacher of --distill.

    Raises:
        RunFolderError: the teacher is there already, and is another ensemble.
    """
    from engine.reporting.ensemble_table import saved_fact
    from engine.scoring.ensembles.saved import is_saved, save_ensemble

    method, candidates = comparison.winner, request.candidates
    best = exiting or comparison.results[method]  # with an early exit, the ensemble that has it
    soup = members.average_weights(best.ensemble.soup) if best.ensemble.soup else None
    told = comparison, request.selection, request.recipe.data.val, exiting

    def save(path: Path) -> None:
        save_ensemble(path, method, best.ensemble, best.scores.metrics, candidates, overrides, soup)

    if arguments.save:
        save(arguments.save)
        console.print(saved_fact(arguments.save, *told))
    if student:
        teacher = student.teacher
        if not teacher.manifest.is_file():
            save(teacher.path)
        elif not is_saved(teacher.path, method, best.ensemble, candidates, soup):
            raise student.of_another_teacher()
        student.write_recipe()
        console.print(saved_fact(teacher.path, *told))


def _distill(
    student: "Student", best: "Candidate", request: "Request", overrides: list[str], console: "Console"
) -> None:
    """Train the student, and compare it with the ensemble and the best member."""
    from engine.reporting.contestants_table import compare_contestants, open_contestants

    student.train(console)
    paths = {"ensemble": student.teacher.path, "student": student.run.path, "best member": best.path}
    compare_contestants(
        open_contestants(paths, overrides),
        "the student, beside the ensemble that taught it",
        "ensemble",
        request.recipe,
        request.dataset,
        student.table,
        console,
    )


def _check(arguments: argparse.Namespace, overrides: list[str], folders: list[Path]) -> None:
    """Raises RunFolderError where arguments contradict each other or are out of range."""
    from engine.run_folder import RunFolderError, require_trained_alike

    if arguments.top < 1:
        raise RunFolderError(f"--top {arguments.top}: an ensemble has at least one member.")
    if arguments.per_run is not None and arguments.per_run < 1:
        raise RunFolderError(f"--per-run {arguments.per_run}: at least 1, or leave it out.")
    if arguments.repeats is not None and not arguments.split_half:
        raise RunFolderError("--repeats needs --split-half: add that, or leave --repeats out.")
    if arguments.repeats is not None and arguments.repeats < 1:
        raise RunFolderError(f"--repeats {arguments.repeats}: at least 1.")
    if arguments.select_split == "":
        raise RunFolderError("--select-split is empty: name a split of other images, or leave it out.")
    if arguments.resume and not arguments.distill:
        raise RunFolderError("--resume is for --distill: leave it out.")
    if arguments.early_exit is not None and not 0 <= arguments.early_exit < 1:
        raise RunFolderError(f"--early-exit {arguments.early_exit:g}: a loss of mIoU, such as 0.001.")
    if arguments.early_exit is not None and arguments.split_half:
        raise RunFolderError(
            "--early-exit is selected on one split, not on halves of val: leave --split-half out, and name a "
            "split with --select-split if there is one."
        )
    typed = None if arguments.distill else _typed_select(overrides)  # with --distill the student's
    named = typed or ("--select-split" if arguments.select_split else None)
    if named and arguments.split_half:
        raise RunFolderError(f"{named} and --split-half exclude each other: leave one out.")
    if typed and arguments.select_split:
        raise RunFolderError(f"{typed} and --select-split name the same: leave one out.")
    if arguments.save and arguments.distill and arguments.save.resolve() == arguments.distill.resolve():
        raise RunFolderError(
            f"--distill writes the ensemble to {arguments.distill / 'teacher'}: leave --save out, or name "
            "another folder."
        )
    require_trained_alike(overrides)
    if not folders:
        raise RunFolderError("No folder was named; type trident ensemble checkpoints/")


def _typed_select(overrides: list[str]) -> str | None:
    """The override that names a selection split: the last one wins, and null names none."""
    typed = [text for text in overrides if text.startswith("data.select=")]
    return typed[-1] if typed and typed[-1].partition("=")[2].strip() not in ("", "~", "null") else None


if __name__ == "__main__":
    raise SystemExit(main())
