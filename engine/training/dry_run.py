"""What a run would cost: builds all of it, makes one update and scores one batch, and writes nothing."""

import shutil
import time
from datetime import timedelta
from itertools import islice
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.data.batches import scoring_batches
from engine.recipe import Recipe
from engine.reporting.console import counted
from engine.reporting.loggers import build_loggers
from engine.reporting.resources import memory_mb
from engine.run_folder import RunFolder
from engine.scoring.evaluation import evaluate
from engine.training.disk_space import disk_bytes
from engine.training.distributed import Process
from engine.training.session import Session, build_session, num_parameters, torch_settings


def dry_run(recipe: Recipe, process: Process, console: Console) -> None:
    """Print parameters, memory, seconds per update, time for the whole run, and disk.

    The update is the last of the run, where the discriminator takes part if there is one.
    """
    build_loggers(recipe.log.to)  # so that its mistakes are reported
    with torch_settings(recipe.train.deterministic, process.device):
        session = build_session(recipe, process, lambda what: counted(console, what), keep_counts=False)
        update_seconds = _time_update(session)
        image_seconds = _time_scoring(session)
    recipe, num_images = session.recipe, len(session.val)
    steps, every = int(recipe.train.steps), int(recipe.eval.every)
    num_evaluations = -(-steps // every)
    training = steps * update_seconds
    scoring = (num_evaluations + recipe.keep.top) * num_images * image_seconds / process.world_size
    needed = disk_bytes(session.step, recipe.keep.top)
    free = shutil.disk_usage(_existing_parent(RunFolder.of(recipe).path)).free
    table = Table(
        title=f"{recipe.name}: what it would cost on {process.device}",
        show_header=False,
        title_justify="left",
    )
    for what, value in {
        "data": escape("\n".join(session.notes)),
        "parameters": f"{num_parameters(session.step.model):,}",
        "weights": session.weights.summary() if session.weights else "random (model.from_scratch)",
        "memory": f"{memory_mb(process.device):,.0f} MB at most",
        "an update": f"{update_seconds:.3f} s ({recipe.train.batch / update_seconds:.1f} images/s)",
        "scoring": f"{image_seconds:.3f} s per image, {num_images} images, {num_evaluations} times",
        "the whole run": f"{_duration(training + scoring)}, of it {_duration(scoring)} scoring",
        "disk": f"{needed / 1e6:,.0f} MB at most, {free / 1e6:,.0f} MB free",
    }.items():
        table.add_row(what, value)
    console.print(table)
    for line in session.advice:
        console.print(escape(line))
    console.print("Nothing was written. Leave --dry-run out to train.")


def _time_update(session: Session) -> float:
    """Seconds of one update, its batch included; on a GPU of the second, since the first compiles."""
    step, num_updates = session.step, 2 if session.process.device.type == "cuda" else 1
    step.count = max(0, int(session.recipe.train.steps) - num_updates)
    batches = session.batches.starting_at(step.count)
    for _ in range(num_updates):
        started = time.perf_counter()
        metrics = step(next(batches))
        float(metrics["loss"])  # waits for the device
    return time.perf_counter() - started


def _time_scoring(session: Session) -> float:
    """Seconds per image, on the first scoring batch."""
    started = time.perf_counter()
    device, val = session.process.device, session.val
    batches = list(islice(scoring_batches(val, device, workers=0), 1))
    predictor = session.validation.predictor
    evaluate(
        {"model": session.step.model}, batches, predictor, len(val.class_names), val.ignore_index, device
    )
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / len(batches[0].ids)


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in [path.absolute(), *path.absolute().parents] if parent.exists())


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
