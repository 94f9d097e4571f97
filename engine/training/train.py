"""A run from its recipe to its report: set up, fit, ensemble the best, write the report."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape

from engine.data.resident import Resident
from engine.data.sample import skipped_ids
from engine.data.sets import scored_further
from engine.recipe import Recipe
from engine.reporting.advisor import Advisor, Note
from engine.reporting.callbacks import Callback, RunContext
from engine.reporting.console import counted, facts_below, scores_table
from engine.reporting.console_log import ConsoleLog
from engine.reporting.log_files import JsonLog
from engine.reporting.loggers import build_loggers, require_callbacks
from engine.reporting.pictures import predict_pictures, sheet
from engine.reporting.report import cautions, open_gallery, read_runs, write_report
from engine.reporting.reporter import Reporter
from engine.reporting.resources import memory_shares
from engine.run_folder import (
    Manifest,
    RunFolder,
    RunFolderError,
    naming_disk_errors,
    read_log,
    require_unused,
    write_json,
    written_in_place,
)
from engine.scoring.confusion import Scores
from engine.scoring.ensembling import (
    Candidate,
    ensemble_report,
    group_candidates,
    load_member,
    open_val,
    score_together,
)
from engine.scoring.label_kinds import label_kind
from engine.scoring.multi_label import thresholds_of
from engine.scoring.predictor import Predictor
from engine.scoring.run import Run
from engine.training.checkpoint import TopKeeper, load_state
from engine.training.checkup import check_data
from engine.training.distributed import Process, any_process, stop_process, sum_in_place, wait_for_all
from engine.training.fit import GoBack, RunError, SkipGuard, fit
from engine.training.freed_memory import give_freed_memory_back
from engine.training.interrupt import (
    RESUME,
    RunStopped,
    StopSignal,
    after_a_stop,
    after_the_training,
    stopped_at_once,
)
from engine.training.memory import in_an_evaluation, in_an_update, in_the_final_scoring, naming_out_of_memory
from engine.training.patience import is_out_of_patience, stopped_early
from engine.training.probe import GradientProbe
from engine.training.saving import SaveSchedule, StateWriter
from engine.training.session import Session, build_session, num_parameters, torch_settings
from engine.training.skipped import report_skipped_images
from engine.training.start import opened_run, with_batch_of
from engine.training.tail import TailKeeper
from engine.training.validation import spread
from engine.wording import quantity

GO_BACK_FACTOR = 0.5  # on the learning rate, where train.on_nan=rollback goes back
GO_ON = "What was saved before is intact: go on with the same command and --resume (in Python: resume=True)."


def train(
    recipe: Recipe,
    process: Process,
    console: Console,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    continue_from: Path | None = None,
) -> Run:
    """Train, keep the best, ensemble them, write the report.

    Args:
        resume: go on from the saved state; start where nothing was saved.
        callbacks: called after the recipe's loggers.
        continue_from: the folder of another run, from whose state a new run goes on.

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
    source = RunFolder(continue_from.expanduser()) if continue_from else None
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
        return _train(recipe, process, console, run, source, goes_on, callbacks)


def _train(
    recipe: Recipe,
    process: Process,
    console: Console,
    run: RunFolder,
    source: RunFolder | None,
    goes_on: bool,
    callbacks: Sequence[Callback],
) -> Run:
    others = [*build_loggers(recipe.log.to), *callbacks]
    data_report = check_data(recipe, process, console)
    settings = partial(torch_settings, recipe.train.deterministic, process.device)
    with settings():
        session = build_session(recipe, process, partial(counted, console), goes_on or source is not None)
    opened = opened_run(run, session, data_report, goes_on, source)
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
            stop_process(process)  # the rest needs one process, and may take longer than train.timeout
            if process.is_main:
                full = partial(in_the_final_scoring, session, run, len(keeper.manifest.members))
                with stopped_at_once(partial(after_the_training, run)), naming_out_of_memory(full):
                    reporter.end("finished", _conclude(run, session, keeper.manifest, console))
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
    rows = [row for row in rows if row.get("mIoU") is not None]
    return RunContext(
        path=run.path,
        recipe=session.recipe,
        model=step.model if step.template is None else step.template,
        class_names=tuple(val.class_names),
        palette=val.palette,
        ignore_index=val.ignore_index,
        first_step=first,
        best_mIoU=max((row["mIoU"] for row in rows), default=None),
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
    step, recipe, is_main = session.step, session.recipe, session.process.is_main
    first = step.count
    log_every = int(recipe.log.every)
    wait_for_all(session.process)  # loggers may be slow to start
    step.probe = GradientProbe(step.model, recipe.log.gradients, log_every, step.count)

    def out_of_memory() -> str:
        is_removed = step.count == first and not goes_on  # the new folder, as nothing was trained
        return in_an_update(session, None if is_removed else run)

    def evaluate_and_keep() -> None:
        with naming_out_of_memory(partial(in_an_evaluation, session, run)):
            evaluated = step.evaluated()
            give_freed_memory_back()  # its blocks have other sizes, so they would come on top
            scores = session.validation(evaluated, step.count, reporter)
        thresholds = thresholds_of(scores)
        if is_main and keeper.offer(step.count, scores.metrics, evaluated.state_dict, thresholds):
            [file] = [member.file for member in keeper.manifest.members if member.step == step.count]
            reporter.checkpoint(step.count, run.path / file)
        step.evaluations.append((step.count, scores.metrics))
        if step.count < int(recipe.train.steps) and is_out_of_patience(recipe, step.evaluations):
            reporter.note(step.count, stopped_early(recipe, step.evaluations, step.lr_scale))

    def keep_latest() -> None:
        state = step.evaluated().state_dict()  # by all processes together
        if is_main:
            tail.keep(step.count, state)

    schedule = SaveSchedule(session.process, recipe.train.save_every, log_every)

    def save() -> None:
        if step.is_sharded:
            wait_for_all(session.process)  # the main process may have kept a checkpoint
        if is_main or step.is_sharded:
            writer.save(step)
        wait_for_all(session.process)  # the main process has also kept a checkpoint, and drawn pictures
        schedule.saved()

    def agree(flags: torch.Tensor) -> None:
        sum_in_place(session.process, [flags])

    def report_skipped(count: int) -> None:
        draws = session.batches.order.update(count - 1)
        reporter.skipped(count, [(session.train.ids[draw.index], draw.epoch) for draw in draws])

    with (
        naming_out_of_memory(out_of_memory),
        StopSignal(session.process, log_every) as stop,
        StateWriter(run, keeper.manifest.run_id) as writer,  # inside: a signal must not end the last writing
    ):
        while True:
            section, went_back = recipe.train, step.lr_scale < 1
            guard = SkipGuard(run, agree, section.on_nan, section.max_skipped, report_skipped, went_back)
            try:
                return fit(
                    step,
                    session.batches,
                    reporter,
                    num_steps=int(section.steps),
                    eval_every=int(recipe.eval.every),
                    log_every=log_every,
                    evaluate_and_keep=evaluate_and_keep,
                    tail_due=tail.is_due,
                    keep_latest=keep_latest,
                    save_state=save,
                    save_due=schedule.is_due,
                    stop_requested=stop.requested,
                    is_out_of_patience=lambda: is_out_of_patience(recipe, step.evaluations),
                    guard=guard,
                )
            except GoBack:
                writer.wait()
                wait_for_all(session.process)  # until the main process has written the state
                _go_back(run, session, keeper.manifest, reporter)


def _go_back(run: RunFolder, session: Session, manifest: Manifest, reporter: Reporter) -> None:
    """Load the last state, and halve the learning rate from there to the end of the training."""
    step, broken = session.step, session.step.count
    load_state(run, step, manifest.run_id)
    step.lr_scale *= GO_BACK_FACTOR
    were = quantity(session.recipe.train.max_skipped, "update in a row was", "updates in a row were")
    text = (
        f"{were} left out up to update {broken}, so the training goes on from the state of "
        f"update {step.count}, with {step.lr_scale:g} times the learning rate of the recipe. If it happens "
        "again, it stops."
    )
    reporter.note(step.count, Note("rollback", text, ()))


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
            f"{quantity(int(recipe.train.steps), 'update')} of "
            f"{quantity(int(recipe.train.batch), 'image')} on {how}, "
            f"from update {step.count}",
            *map(escape, session.advice),
        ]
    )


def _report_failures(reporter: Reporter, console: Console) -> None:
    """Repeat which callbacks failed, as those messages may be far above."""
    for failure in reporter.failures:
        console.print(f"[bold yellow]{escape(failure)}[/]")


def _scores_on_further_sets(
    candidates: Sequence[Candidate], session: Session, console: Console
) -> dict[str, dict[str, Scores]]:
    """By split, as `open_split` knows it, the scores of the kept checkpoints and their ensemble."""
    protocol, device = session.validation.predictor.protocol, session.process.device
    workers, bar = session.recipe.data.workers, partial(counted, console)
    return {
        split: score_together(
            candidates, session.further[name], protocol, device, workers, progress=bar(f"scoring {split}")
        )
        for name, split in scored_further(session.recipe.data).items()
    }


def _conclude(run: RunFolder, session: Session, manifest: Manifest, console: Console) -> dict[str, Scores]:
    """Score the kept checkpoints and their ensemble on val, write the report, print where the files are."""
    groups = group_candidates([run])
    if not groups:
        raise RunError(
            f"No checkpoint was kept: the {manifest.metric} of split {manifest.data.val!r} had no score."
        )
    candidates, device = groups[0].candidates, session.process.device
    recipe, val = open_val(candidates[0], ())
    protocol = session.validation.predictor.protocol
    bar = counted(console, "scoring")
    give_freed_memory_back()
    scores = score_together(candidates, val, protocol, device, recipe.data.workers, run.scores, bar)
    further = _scores_on_further_sets(candidates, session, console)
    report = ensemble_report(candidates, scores, protocol, val, run.path, further)
    write_json(run.ensemble, report)
    manifest.finished, manifest.files = True, {}
    run.write_final(manifest, run.recipe, run.log, run.scores, run.ensemble, run.doctor)

    best = load_member(candidates[0], device)
    predictor = Predictor(protocol, nullcontext, label_kind(recipe.data, candidates[0].member.thresholds))
    pictures = predict_pictures(best, val, spread(recipe.log.images, len(val)), predictor, device)
    if pictures:
        with written_in_place(run.predictions) as temporary:
            drawn = sheet(pictures, val.palette, val.class_names, val.ignore_index)
            drawn.save(temporary, format="PNG")
    contents = read_runs([run])
    gallery = open_gallery(contents[0], recipe.log.images // 2, device)
    write_report(contents, run.report, {run.path: gallery})
    console.print(scores_table(scores, val.class_names))
    console.print(facts_below(next(iter(scores.values())), skipped_ids(val), protocol.card()))
    for split, on_split in further.items():
        console.print(scores_table(on_split, val.class_names, f"IoU by class on {split}"))
    for line in cautions(contents[0]):
        console.print(escape(line))
    if not recipe.data.select:
        console.print(
            f"The members were chosen on {recipe.data.val} too, so their scores are slightly optimistic."
        )
    for what, where in {"report": run.report, "pictures": run.predictions, "checkpoints": run.top}.items():
        console.print(f"{what:<12} {where}")
    if len(manifest.tail) > 1:
        console.print(f"{'latest':<12} {run.tail}: trident ensemble {run.path} --method lawa,swa")
    if any(run.path.glob("events.out.tfevents.*")):
        console.print(f"{'TensorBoard':<12} tensorboard --logdir {run.path}")
    return scores
