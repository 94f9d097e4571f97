"""A run from its recipe to its report: set up, fit, ensemble the best, write the report."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from engine.data.resident import Resident
from engine.recipe import Recipe
from engine.reporting.advisor import Advisor
from engine.reporting.callbacks import Callback, RunContext
from engine.reporting.console import counted
from engine.reporting.console_log import ConsoleLog
from engine.reporting.log_files import JsonLog
from engine.reporting.loggers import build_loggers, require_callbacks
from engine.reporting.reporter import Reporter
from engine.reporting.resources import memory_shares
from engine.run_folder import (
    RunFolder,
    RunFolderError,
    naming_disk_errors,
    read_log,
    require_unused,
)
from engine.scoring.run import Run
from engine.training.checkpoint import TopKeeper
from engine.training.checkup import check_data
from engine.training.conclusion import conclude
from engine.training.distributed import Process, any_process, stop_process, wait_for_all
from engine.training.fit import GO_ON, GoBack, fit
from engine.training.hooks import RunHooks
from engine.training.interrupt import (
    RESUME,
    RunStopped,
    StopSignal,
    after_a_stop,
    after_the_training,
    stopped_at_once,
)
from engine.training.memory import in_an_update, in_the_final_scoring, naming_out_of_memory
from engine.training.probe import GradientProbe
from engine.training.resume import resumed_run, with_batch_of
from engine.training.saving import StateWriter
from engine.training.session import Session, build_session, num_parameters, torch_settings
from engine.training.skipped import report_skipped_images
from engine.training.start import new_run
from engine.training.tail import TailKeeper
from engine.wording import quantity


def train(
    recipe: Recipe,
    process: Process,
    console: Console,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    continue_from: Path | None = None,
    leaves_group: bool = True,
    choice: str = "",
) -> Run:
    """Train, keep the best, ensemble them, write the report.

    Args:
        resume: go on from the saved state; start where nothing was saved.
        callbacks: called after the recipe's loggers.
        continue_from: the folder of another run, from whose state a new run goes on.
        leaves_group: whether all processes but the main one may end after the last update.
        choice: `stage=<name> `, where the recipe has stages: what chooses this one in a command.

    Raises:
        RunFolderError: the folder of the run exists (without `resume`), holds other files than a run's, or
            another process trains in it.
        RunStopped: a signal stopped it; its state is saved.
        RunError: the run failed; the files that it saved are intact.
        OutOfMemory: the memory was full; what was saved before is intact.
        DiskError: the disk refused a file; what was saved before is intact.
        RecipeError, DataError, ModelError, LossError, ComponentError: the user's input is wrong.
    """
    run = RunFolder.of(recipe)
    source = RunFolder(continue_from) if continue_from else None
    if source and source.path.resolve() == run.path.resolve():
        raise RunFolderError(
            f"--continue-from {source.path} starts a new run, which needs a name of its own: add "
            f"name={source.another_name()}."
        )
    if process.is_main:
        require_unused(run.path)
    goes_on = resume and run.can_go_on()
    if not resume:
        run.require_new()
    if source and not goes_on:
        source.read_manifest()  # before any time is spent on the data
    require_callbacks(callbacks)
    goes_on = any_process(process, goes_on)  # so that none writes before all have looked
    console = console if process.is_main else Console(quiet=True)
    if resume:
        what = "going on from its saved state" if goes_on else "nothing was saved there, so the run starts"
        console.print(f"--resume: {escape(str(run.path))}: {what}")
    if goes_on:
        recipe = with_batch_of(run, recipe)
    with stopped_at_once(partial(after_a_stop, run)):
        return _train(recipe, process, console, run, source, goes_on, callbacks, leaves_group, choice)


def _train(
    recipe: Recipe,
    process: Process,
    console: Console,
    run: RunFolder,
    source: RunFolder | None,
    goes_on: bool,
    callbacks: Sequence[Callback],
    leaves_group: bool,
    choice: str,
) -> Run:
    others = [*build_loggers(recipe.log.to), *callbacks]
    data_report = check_data(recipe, process, console)
    settings = partial(torch_settings, recipe.train.deterministic, process.device)
    with settings():
        session = build_session(recipe, process, partial(counted, console), goes_on or source is not None)
    if goes_on:
        opened = resumed_run(run, session, data_report, choice)
    else:
        opened = new_run(run, session, data_report, source)
    with naming_disk_errors(run.path, GO_ON), opened as manifest:
        keep = session.recipe.keep
        keeper = TopKeeper(run, manifest, keep.top, int(keep.spacing))
        tail = TailKeeper(run, manifest, session.recipe)
        console.print(_introduction(run, session))
        context = _context(run, session, console)
        with _reporter(session, [JsonLog(), ConsoleLog(console), *others]) as reporter:
            reporter.start(context)
            with settings():
                finished = _fit(run, session, keeper, tail, reporter, goes_on)
            report_skipped_images(session, console)
            if not finished:
                reporter.end("stopped")
                _report_failures(reporter, console)
                raise RunStopped(
                    f"Stopped after step {session.step.count}; the state is saved in {run.path}. {RESUME}"
                )
            wait_for_all(process)
            if leaves_group:  # the rest needs one process, and may take longer than train.timeout
                stop_process(process)
            if process.is_main:
                full = partial(in_the_final_scoring, session, run, len(keeper.manifest.members))
                with stopped_at_once(partial(after_the_training, run)), naming_out_of_memory(full):
                    reporter.end("finished", conclude(run, session, keeper.manifest, console))
                    run.write_final(keeper.manifest, run.log)
                _report_failures(reporter, console)
    return Run(run)


def _reporter(session: Session, callbacks: Sequence[Callback]) -> Reporter:
    step, device = session.step, session.process.device
    if not session.process.is_main:
        return Reporter([], step.learning_rates, device)
    loaded = session.weights.parts.get("head") if session.weights else None
    advisor = Advisor(
        session.recipe,
        num_classes=len(session.train.class_names),
        first_step=step.count,
        head_is_random=not (loaded and loaded.matched),
        data_is_resident=isinstance(session.train, Resident),
        memory_shares=partial(memory_shares, device),
    )
    return Reporter(callbacks, step.learning_rates, device, advisor)


def _context(run: RunFolder, session: Session, console: Console) -> RunContext:
    val, step = session.val, session.step
    first = step.count
    rows = [row for row in read_log(run.log) if row["split"] == "val" and row["step"] <= first]
    return RunContext(
        path=run.path,
        recipe=session.recipe,
        model=step.model if step.template is None else step.template,
        class_names=tuple(val.class_names),
        palette=val.palette,
        ignore_index=val.ignore_index,
        first_step=first,
        best_mIoU=max((row["mIoU"] for row in rows if row.get("mIoU") is not None), default=None),
        console=console,
    )


def _fit(
    run: RunFolder,
    session: Session,
    keeper: TopKeeper,
    tail: TailKeeper,
    reporter: Reporter,
    goes_on: bool,
) -> bool:
    """True at the end, False where a signal stopped it."""
    step, recipe = session.step, session.recipe
    first, log_every = step.count, int(recipe.log.every)
    wait_for_all(session.process)  # loggers may be slow to start
    step.probe = GradientProbe(step.model, recipe.log.gradients, log_every, step.count)

    def out_of_memory() -> str:
        is_removed = step.count == first and not goes_on  # the new folder, as nothing was trained
        return in_an_update(session, None if is_removed else run)

    with (
        naming_out_of_memory(out_of_memory),
        StopSignal(session.process, log_every) as stop,
        StateWriter(run, keeper.manifest.run_id) as writer,  # inside: a signal must not end the last writing
    ):
        hooks = RunHooks(run, session, keeper, tail, reporter, stop, writer)
        while True:
            try:
                return fit(
                    step,
                    session.batches,
                    reporter,
                    hooks,
                    num_steps=int(recipe.train.steps),
                    eval_every=int(recipe.eval.every),
                    log_every=log_every,
                )
            except GoBack:
                hooks.go_back()


def _introduction(run: RunFolder, session: Session) -> str:
    step, process, recipe = session.step, session.process, session.recipe
    if session.weights:
        weights = session.weights.summary()
    else:
        weights = "as it was saved" if step.count else "from random weights, as model.from_scratch says"
    how = (
        f"{process.device}, {step.settings.precision.name}, "
        f"{quantity(process.world_size, 'process', 'processes')}"
    )
    return "\n".join(
        [
            f"[bold]{recipe.name}[/] in {run.path}",
            *map(escape, session.notes),
            f"{recipe.model.arch}, {num_parameters(step.model):,} parameters, {weights}",
            f"{quantity(int(recipe.train.steps), 'update')} of {quantity(int(recipe.train.batch), 'image')} "
            f"on {how}, from update {step.count}",
            *map(escape, session.advice),
        ]
    )


def _report_failures(reporter: Reporter, console: Console) -> None:
    """Repeat which callbacks failed, as the messages may have scrolled away."""
    for failure in reporter.failures:
        console.print(f"[bold yellow]{escape(failure)}[/]")
