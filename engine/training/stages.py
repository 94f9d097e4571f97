"""The stages of one recipe as one run: a folder each below one parent, and one report over all."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.going_on import STAGES
from engine.recipe import Recipe, load_recipe
from engine.recipe.differences import Values, changes, values_of
from engine.reporting.callbacks import Callback
from engine.reporting.console import titled_table
from engine.reporting.report import read_runs, write_report
from engine.run_folder import (
    Changed,
    RunFolder,
    RunFolderError,
    read_stages,
    require_reachable,
    write_json,
)
from engine.scoring.run import Run
from engine.training.checkup import check_data
from engine.training.distributed import Process, wait_for_all
from engine.training.dry_run import dry_run
from engine.training.stage_checks import check_stages, follows, naming_stage
from engine.training.train import train


def require_possible(continue_from: Path | None) -> None:
    """Raises RunFolderError if --continue-from is given, which is for a single run."""
    if continue_from:
        raise RunFolderError(
            f"--continue-from {continue_from} starts one run, but the recipe has stages: add stage=<name>."
        )


def dry_run_stages(stages: Sequence[Recipe], process: Process, console: Console) -> None:
    """Print what each stage would cost.

    A stage that starts from an unfinished one is timed with the initial weights of the first stage.
    """
    unfinished = [stage for stage in stages if not RunFolder.of(stage).is_finished]
    check_stages(unfinished, process)
    console = console if process.is_main else Console(quiet=True)
    start = {key: getattr(stages[0].model, key) for key in ("weights", "from_scratch")}
    untrained: list[Path] = []
    for stage in stages:
        timed = stage
        if follows(stage.model.weights, untrained):
            timed = timed.model_copy(update={"model": stage.model.model_copy(update=start)})
        if stage.distill and follows(stage.distill.teacher, untrained):
            console.print(f"{stage.name}: timed without its teacher, a stage that is not trained yet")
            timed = timed.model_copy(update={"distill": None})
        dry_run(timed, process, console)
        if stage in unfinished:
            untrained.append(RunFolder.of(stage).path.resolve())


def train_stages(
    stages: Sequence[Recipe],
    process: Process,
    console: Console,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train the stages one after another, each from the best checkpoint of the previous one.

    Args:
        stages: from `engine.recipe.load_stages`.
        resume: skip the finished stages, and go on with the one that was stopped.
        callbacks: called in each stage.

    Returns:
        The run of the last stage.

    Raises:
        RunFolderError: a folder of a stage exists (without `resume`), the recipe of a finished stage has
            changed, or stages.json is damaged.
        Others: see `engine.training.train.train`; mistakes in later stages are found before the first.
    """
    runs = [RunFolder.of(stage) for stage in stages]
    parent = runs[0].path.parent
    require_reachable(parent, None if resume else "output.dir")
    if (parent / "manifest.json").exists():
        raise RunFolderError(f"{parent} is the folder of a run. Train the stages with name=<another name>.")
    for run in () if resume else runs:
        run.require_new()
    num_finished = _num_finished(stages, runs)
    console = console if process.is_main else Console(quiet=True)
    check_stages(stages[num_finished:], process)  # before anything is trained
    for stage in stages[num_finished:]:
        with naming_stage(stage.name):
            check_data(stage, process, console)
    wait_for_all(process)  # so that none writes before all have looked
    if process.is_main:
        parent.mkdir(parents=True, exist_ok=True)
        names = [{"name": stage.name, "values": values_of(stage)} for stage in stages]
        write_json(parent / STAGES, {"stages": names})
    for number, (stage, run) in enumerate(zip(stages, runs, strict=True), 1):
        title = f"stage {number} of {len(stages)}: {stage.name}"
        if number <= num_finished:
            console.print(f"{title} is finished: {escape(str(run.path))}")
            continue
        console.print(f"\n[bold]{title}[/]")
        is_last = number == len(stages)
        choice = f"stage={stage.name} "
        train(stage, process, console, resume, callbacks, leaves_group=is_last, choice=choice)
        if not is_last:
            wait_for_all(process)  # until the main process has scored this stage
    if process.is_main:
        write_report(read_runs(runs), parent / "report.html", {})
        console.print(_table(runs, stages[-1].keep.metric))
        console.print(f"{'all stages':<12} {escape(str(parent / 'report.html'))}")
    return Run(runs[-1])


def _num_finished(stages: Sequence[Recipe], runs: Sequence[RunFolder]) -> int:
    """How many stages are finished, from the first on.

    Raises:
        RunFolderError: one of them was trained with other values, or is not the stage of that number.
    """
    parent = runs[0].path.parent
    saved = read_stages(parent) if (parent / STAGES).exists() else []
    for number, (stage, run) in enumerate(zip(stages, runs, strict=True)):
        if not run.is_finished:
            return number
        before = saved[number] if number < len(saved) else {}
        if before.get("name") != stage.name:
            raise RunFolderError(
                f"{run.path} is finished, but was not stage {number + 1} of {parent}. Train all stages again "
                "with name=<another name>."
            )
        now = values_of(stage)
        if found := changes(_with_newer_keys(before["values"], run, now), now):
            lines = [f"  {Changed(**change._asdict())}" for change in found]
            raise RunFolderError(
                f"Stage {stage.name} is finished, and its recipe was different:\n"
                + "\n".join(lines)
                + "\nUndo these changes, or train all stages again with name=<another name>."
            )
    return len(stages)


def _with_newer_keys(before: Values, run: RunFolder, now: Values) -> Values:
    """The values of a finished stage, with the defaults of keys that its version did not have yet."""
    newer = [key for key in now if key not in before]
    defaults = values_of(load_recipe(run.recipe, imports=False)) if newer else {}
    return before | {key: defaults[key] for key in newer if key in defaults}


def _table(runs: Sequence[RunFolder], metric: str) -> Table:
    table = titled_table("stages", ["stage", "best update", metric, "folder"], texts=["folder"])
    for run in map(Run, runs):
        best = run.best
        table.add_row(run.path.name, f"{best.step:,}", f"{best.scores[metric]:.4f}", escape(str(run.path)))
    return table
