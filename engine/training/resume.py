"""Resumes a run: loads its saved state into the step, and records changes of its recipe."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from engine.data.doctor import DataReport
from engine.recipe import Recipe, load_recipe
from engine.recipe.differences import MADE_FROM_IMAGES, changes
from engine.run_folder import (
    Changed,
    Manifest,
    Resumption,
    RunFolder,
    RunFolderError,
    read_log,
    require_intact,
    write_json,
    write_text,
)
from engine.training.checkpoint import load_state
from engine.training.distributed import wait_for_all
from engine.training.session import Session
from engine.training.start import held
from engine.wording import quantity


def with_batch_of(run: RunFolder, recipe: Recipe) -> Recipe:
    """The recipe with the numbers that a run found at its start in place of `auto`."""
    if "auto" not in (recipe.train.batch, recipe.train.accumulate):
        return recipe
    saved = load_recipe(run.recipe).train
    values = {
        key: getattr(saved, key) for key in ("batch", "accumulate") if getattr(recipe.train, key) == "auto"
    }
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=values)})


@contextmanager
def resumed_run(
    run: RunFolder, session: Session, report: DataReport | None, choice: str = ""
) -> Iterator[Manifest]:
    """Load the saved state of a run into the step; the folder is locked for the time of the training.

    Args:
        report: the doctor's findings in the data, which are kept in the folder.
        choice: what chooses the stage in a command that is suggested, `stage=<name> `.

    Raises:
        RunFolderError: another process trains in the folder; the recipe or the images differ; no state is
            intact.
    """
    with held(run, session.process):
        manifest = run.read_manifest()
        if session.process.is_main:
            run.sweep()
        before = load_recipe(run.recipe)
        _require_same_training(run, manifest, session, before, choice)
        if report:
            write_json(run.doctor, report.to_dict())
            run.write_final(manifest, run.doctor)
        _go_on(run, session, manifest)
        _take_changes(run, session, manifest, before)
        gaps = _gaps_in_log(run, session, manifest)
        if session.process.is_main and run.log_was_altered() and not gaps:
            gaps = [f"{run.log} was altered after the state was saved: its curves may be wrong."]
        session.notes += gaps
        yield manifest


def _require_same_training(
    run: RunFolder, manifest: Manifest, session: Session, before: Recipe, choice: str
) -> None:
    """Raises RunFolderError if the recipe or the images differ from those that the run started with."""
    other_images = session.train.fingerprint() != manifest.data.train_fingerprint
    changed = [
        f"  {Changed(**change._asdict())}"
        for change in changes(before, session.recipe)
        if not (other_images and MADE_FROM_IMAGES.search(change.key))
    ]
    if changed:
        ended, steps = int(before.train.steps), int(session.recipe.train.steps)
        longer = f" train.steps={2 * ended}" if manifest.finished and steps <= ended else ""
        raise RunFolderError(
            f"--resume continues exactly the training of {run.path}, but the recipe differs:\n"
            + "\n".join(changed)
            + "\nUndo these changes, or start a new run: with them, from the state of this one, type "
            + f"{choice}--continue-from {shlex.quote(str(run.path))} name=<another name>{longer} instead of "
            + f"--resume. From the best checkpoint, with the recipe of this run: {run.command_of_another()}"
        )
    if other_images:
        raise RunFolderError(
            f"--resume: the images of split {manifest.data.train!r} are not those that the run started with."
        )
    unlabelled = session.unlabelled.fingerprint() if session.unlabelled else None
    if unlabelled != manifest.data.unlabelled_fingerprint:
        raise RunFolderError(
            "--resume: the images of data.unlabelled are not those that the run started with. Put them back, "
            f"or start a new run from the best checkpoint of this one: {run.command_of_another()}"
        )


def _go_on(run: RunFolder, session: Session, manifest: Manifest) -> None:
    """Load the newest intact state; rename damaged ones, which the next save would keep in place of it.

    Raises:
        RunFolderError: a kept checkpoint is damaged; no state is intact.
    """
    best, kept = manifest.members, [*manifest.members, *manifest.tail]
    missing = {file: one for one in kept for file in one.files if not (run.path / file).is_file()}
    lost = list(missing.values())
    manifest.members = [member for member in best if member not in lost]
    manifest.tail = [member for member in manifest.tail if member not in lost]
    listed = [item for one in (*manifest.members, *manifest.tail) for item in one.files.items()]
    for file, sha256 in listed:
        checkpoint = run.path / file
        try:
            require_intact(checkpoint, sha256)
        except RunFolderError as error:
            move = shlex.join(["mv", str(checkpoint), str(checkpoint.with_suffix(".damaged"))])
            raise RunFolderError(
                f"--resume: {error} Put the intact file back, or go on without this checkpoint: {move}\n"
                "and then the same command again."
            ) from None
    if lost and session.process.is_main:
        run.write_manifest(manifest)
    session.notes += [
        f"{run.path / file} is missing, so step {member.step} is no longer among the "
        f"{'best checkpoints' if member in best else 'latest states'}."
        for file, member in missing.items()
    ]
    faults = load_state(run, session.step, manifest.run_id)
    wait_for_all(session.process)
    for path, fault in faults.items():
        aside = path.with_suffix(".damaged")
        if session.process.is_main:
            path.replace(aside)
        session.notes.append(
            f"{path} is damaged: {fault}. It is now {aside.name}; the run goes on from the state before it, "
            f"of update {session.step.count}."
        )


def _take_changes(run: RunFolder, session: Session, manifest: Manifest, before: Recipe) -> None:
    """Record changed values that do not affect updates, and apply them to the kept checkpoints.

    No file is deleted: with a smaller `keep.top` or `keep.tail`, the files that are not listed any more stay.

    Raises:
        RunFolderError: kept checkpoints have no score for a changed `keep.metric` or `keep.smooth`.
    """
    now, step = session.recipe, session.step.count
    changed = [Changed(**change._asdict()) for change in changes(before, now, all_keys=True)]
    metric = now.keep.score
    if lacking := [member.file for member in manifest.members if metric not in member.scores]:
        raise RunFolderError(
            f"keep.metric={now.keep.metric} keep.smooth={now.keep.smooth}: {lacking[0]} has no such score. "
            f"Leave them as they were: keep.metric={before.keep.metric} keep.smooth={before.keep.smooth}"
        )
    manifest.metric = metric
    ranked = sorted(manifest.members, key=lambda member: (-member.scores[metric], member.step))
    manifest.members, left = ranked[: now.keep.top], ranked[now.keep.top :]
    session.notes += [
        f"keep.top={now.keep.top}: {run.path / member.file} is no longer among the best; the file stays."
        for member in left
    ]
    first = max(0, len(manifest.tail) - now.keep.tail)
    early, manifest.tail = manifest.tail[:first], manifest.tail[first:]
    session.notes += [
        f"keep.tail={now.keep.tail}: {run.path / member.file} is no longer listed; the file stays."
        for member in early
    ]
    if any(change.key == "train.patience" for change in changed):  # one that ended early may go on
        manifest.finished, manifest.files = False, {}
    if changed:
        resumption = Resumption(step=step, changes=changed)
        manifest.name = now.name
        manifest.resumed.append(resumption)
        session.notes.append(resumption.told("goes on"))
        if session.process.is_main:
            write_text(run.recipe, now.to_yaml())
            run.write_final(manifest, run.recipe)


def _gaps_in_log(run: RunFolder, session: Session, manifest: Manifest) -> list[str]:
    """A sentence for each split whose rows in log.jsonl are incomplete, since its interval last changed."""
    rows, done = read_log(run.log), session.step.count
    start = manifest.continued_from.step if manifest.continued_from else 0
    lacking: dict[str, list[int]] = {}
    for split, key, apart in (
        ("train", "log.every", int(session.recipe.log.every)),
        ("val", "eval.every", int(session.recipe.eval.every)),
    ):
        changed = [point.step for point in manifest.resumed if any(c.key == key for c in point.changes)]
        since = max([start, *changed])
        logged = {row["step"] for row in rows if row["split"] == split}
        due = range(since - since % apart + apart, done + 1, apart)
        lacking[split] = [step for step in due if step not in logged]
    return [
        f"{run.log} lacks the {split} rows of {quantity(len(steps), 'update')} up to {done}, from "
        f"{min(steps)} to {max(steps)}: it was altered. The training goes on; its curves have a gap there."
        for split, steps in lacking.items()
        if steps
    ]
