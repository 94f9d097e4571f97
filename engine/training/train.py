"""One run from its recipe to its report: set up, fit, ensemble the best, write down."""

from contextlib import nullcontext

import torch
from rich.console import Console
from rich.markup import escape

import engine.data
from engine import __version__
from engine.data.sample import skipped_ids
from engine.recipe import Recipe, load_recipe
from engine.recipe.changes import changes
from engine.reporting.console import counted, facts_below, scores_table, skipped_images
from engine.reporting.pictures import predict_pictures, sheet
from engine.reporting.report import open_gallery, read_runs, write_report
from engine.reporting.tensorboard import write_hparams
from engine.run_folder import DataIdentity, Manifest, RunFolder, RunFolderError, write_json, write_text
from engine.scoring.ensembling import ensemble_report, group_candidates, load_member, open_val, score_together
from engine.scoring.predictor import Predictor
from engine.training.checkpoint import TopKeeper, load_state, require_room, save_state
from engine.training.checkup import check_data
from engine.training.distributed import Process, stop_process, sum_in_place, wait_for_all
from engine.training.environment import environment
from engine.training.fit import Plan, fit
from engine.training.guards import RunError
from engine.training.interrupt import StopSignal
from engine.training.session import Session, build_session
from engine.training.validation import spread
from engine.training.watch import open_journal


def train(recipe: Recipe, process: Process, console: Console, resume: bool) -> bool:
    """Train, keep, ensemble, report; True if it went to its end, False if it was asked to stop.

    Raises:
        RunFolderError: the folder of the run is there (without `resume`) or is not (with it).
        RunError: the run failed; what it saved is whole.
        RecipeError, DataError, ModelError, LossError: the user's input is wrong.
    """
    run = RunFolder.of(recipe)
    run.require_resumable() if resume else run.require_new()
    console = console if process.is_main else Console(quiet=True)
    diagnosis = check_data(recipe, process, console)
    session = build_session(recipe, process, lambda what: counted(console, what), resume)
    manifest = _open_run(run, session, resume)
    if diagnosis:
        write_json(run.doctor, diagnosis.to_dict())
    console.print(_introduction(run, session))

    step, plan = session.step, session.recipe
    journal = open_journal(run, session, console)
    keeper = TopKeeper(run, manifest, plan.keep.top)

    def evaluate_and_keep() -> None:
        scores = session.validation(step.evaluated, step.count, journal)
        if process.is_main:
            keeper.offer(step.count, scores.metrics, step.evaluated.state_dict)

    def save() -> None:
        if process.is_main:
            save_state(run, step)

    try:
        with StopSignal(process, plan.log.every) as stop:
            finished = fit(
                Plan(plan.train.steps, plan.eval.every, plan.log.every),
                step,
                session.batches,
                journal,
                evaluate_and_keep,
                save,
                stop.requested,
            )
    finally:
        journal.close()
    _report_skipped(session, console)
    if not finished:
        console.print(
            f"Stopped after step {step.count}; the state is saved. Type --resume behind the same command."
        )
        return False
    wait_for_all(process)
    stop_process()  # what is left takes one process, and may outlast the patience of a collective
    if process.is_main:
        _conclude(run, session, keeper.manifest, console)
    return True


def _open_run(run: RunFolder, session: Session, resume: bool) -> Manifest:
    """A new folder, or the state of the old one put into the step."""
    if resume:
        manifest = run.read_manifest()
        _require_same_training(run, manifest, session)
        load_state(run, session.step)
        return manifest
    require_room(run, session.step, session.recipe.keep.top)
    data = session.recipe.data
    val = session.val if not data.select else engine.data.open_split(data, data.val)
    manifest = Manifest(
        name=session.recipe.name,
        code_version=__version__,
        class_names=list(session.train.class_names),
        palette=list(session.train.palette),
        data=DataIdentity(
            format=data.format,
            train=data.train,
            val=data.val,
            train_fingerprint=session.train.fingerprint(),
            val_fingerprint=val.fingerprint(),
        ),
        metric=session.recipe.keep.metric,
        weights=session.weights.to_dict() if session.weights else None,
        num_parameters=num_parameters(session.step.model),
        environment=environment(session.process),
    )
    if session.process.is_main:
        run.create()
        write_text(run.recipe, session.recipe.to_yaml())
        run.write_manifest(manifest)
    wait_for_all(session.process)
    return manifest


def _require_same_training(run: RunFolder, manifest: Manifest, session: Session) -> None:
    """Raises RunFolderError where the recipe or the images are not those that the run began with."""
    other_images = session.train.fingerprint() != manifest.data.train_fingerprint
    changed = [
        f"  {key}: {before} in the run, {now} now"
        for key, before, now in changes(load_recipe(run.recipe), session.recipe)
        if not (other_images and key.endswith(".class_weights"))  # then they differ by themselves
    ]
    if changed:
        raise RunFolderError(
            f"--resume goes on with the very training of {run.path}, but the recipe differs:\n"
            + "\n".join(changed)
            + "\nTake the changes back, or start a new run from its weights: "
            + f"model.weights={run.path} name=<another name>"
        )
    if other_images:
        raise RunFolderError(
            f"--resume: the images of split {manifest.data.train!r} are not those that the run began with."
        )


def _introduction(run: RunFolder, session: Session) -> str:
    step, process, recipe = session.step, session.process, session.recipe
    if session.weights:
        weights = session.weights.summary()
    else:
        weights = "as it was saved" if step.count else "from random weights, as model.from_scratch says"
    how = f"{process.device}, {step.settings.precision.name}, {process.world_size} process(es)"
    return "\n".join(
        [
            f"[bold]{recipe.name}[/] in {run.path}",
            *map(escape, session.notes),
            f"{recipe.model.arch}, {num_parameters(step.model):,} parameters, {weights}",
            f"{recipe.train.steps} updates of {recipe.train.batch} images on {how}, from update {step.count}",
            *map(escape, session.advice),
        ]
    )


def _report_skipped(session: Session, console: Console) -> None:
    """Say which images no process could read, and what was done instead."""
    for what, dataset, done in (
        (session.recipe.data.train, session.train, "The next one of the split was trained on in its place."),
        (session.recipe.data.select or session.recipe.data.val, session.val, "Scores are of the others."),
    ):
        if dataset.skipped is None:
            continue
        here = set(skipped_ids(dataset))
        flags = torch.tensor([id in here for id in dataset.ids], dtype=torch.int64)
        flags = flags.to(session.process.device)
        sum_in_place(session.process, [flags])
        ids = [id for id, flag in zip(dataset.ids, flags.tolist(), strict=True) if flag]
        if ids:
            console.print(f"{what}: {skipped_images(ids)} {done}")


def _conclude(run: RunFolder, session: Session, manifest: Manifest, console: Console) -> None:
    """Score the kept checkpoints alone and together on val, write it down, say where it lies."""
    groups = group_candidates([run])
    if not groups:
        raise RunError(
            f"No checkpoint was kept: the {manifest.metric} of split {manifest.data.val!r} had no score."
        )
    candidates, device = groups[0].candidates, session.process.device
    recipe, val = open_val(candidates[0], ())
    protocol = session.validation.predictor.protocol
    bar = counted(console, "scoring")
    scores = score_together(candidates, val, protocol, device, recipe.data.workers, run.scores, bar)
    write_json(run.ensemble, ensemble_report(candidates, scores, protocol, val, run.path))
    write_hparams(run.path, session.recipe, scores)
    manifest.finished = True
    run.write_manifest(manifest)

    best = load_member(candidates[0], device)
    predictor = Predictor(protocol, nullcontext)
    pictures = predict_pictures(best, val, spread(recipe.log.images, len(val)), predictor, device)
    if pictures:
        sheet(pictures, val.palette, val.class_names, val.ignore_index).save(run.predictions)
    contents = read_runs([run])
    gallery = open_gallery(contents[0], recipe.log.images // 2, device)
    write_report(contents, run.report, {run.path: gallery})
    console.print(scores_table(scores, val.class_names))
    console.print(facts_below(next(iter(scores.values())), skipped_ids(val), protocol.card()))
    if not recipe.data.select:
        console.print(f"The members were chosen on {recipe.data.val} too, which flatters them a little.")
    for what, where in {"report": run.report, "pictures": run.predictions, "checkpoints": run.top}.items():
        console.print(f"{what:<12} {where}")
    console.print(f"{'TensorBoard':<12} tensorboard --logdir {run.path}")


def num_parameters(model: torch.nn.Module) -> int:
    """Of a model, trained or not."""
    return sum(parameter.numel() for parameter in model.parameters())
