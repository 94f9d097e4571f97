"""What a run would cost: builds all parts, times updates and a batch of scoring, and writes nothing."""

import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from itertools import islice
from statistics import median

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
from engine.training.continuing import continue_from
from engine.training.disk_space import disk_bytes, nearest_folder
from engine.training.distributed import Process, any_process
from engine.training.memory import in_an_evaluation, in_an_update, naming_out_of_memory
from engine.training.session import Session, build_session, num_parameters, torch_settings
from engine.wording import quantity
from models.folding import for_predictions

WARM_UPS, TIMED = 2, 8  # updates
READ_AHEAD = 2  # batches of each worker: DataLoader's prefetch_factor
LIMIT_S = 60.0


def dry_run(recipe: Recipe, process: Process, console: Console, source: RunFolder | None = None) -> None:
    """Print parameters, memory, seconds per update, time for the whole run, and disk.

    The last update of the run is timed, which includes the discriminator if there is one.

    Args:
        source: the run that --continue-from names; the rest of the training is counted.

    Raises:
        RunFolderError: the state of `source` does not fit the recipe.
    """
    build_loggers(recipe.log.to)  # so that its mistakes are reported
    console = console if process.is_main else Console(quiet=True)
    with torch_settings(recipe.train.deterministic, process.device):
        session = build_session(
            recipe, process, lambda what: counted(console, what), resume=source is not None, keep_counts=False
        )
        weights = session.weights.summary() if session.weights else "random (model.from_scratch)"
        if source:
            origin, _ = continue_from(source, session)
            weights = origin.told(f"goes on from {source.path}")
        first = session.step.count
        with naming_out_of_memory(partial(in_an_update, session)):
            updates = _update_seconds(session, console)
        with naming_out_of_memory(partial(in_an_evaluation, session)):
            image_seconds = _image_seconds(session, console)
    recipe, num_images = session.recipe, sum(map(len, (session.val, *session.further.values())))
    total, every = int(recipe.train.steps), int(recipe.eval.every)
    steps, num_evaluations = total - first, -(-total // every) - first // every
    update_seconds, spread = median(updates), f"{min(updates):.3f} to {max(updates):.3f} s"
    scoring = (num_evaluations + recipe.keep.top) * num_images * image_seconds / process.world_size
    least, whole, most = (
        _duration(steps * seconds + scoring) for seconds in (min(updates), update_seconds, max(updates))
    )
    largest = ", as if all crops were of the largest size" if recipe.augment.progressive else ""
    needed = disk_bytes(session.step, recipe.keep.top, recipe.keep.tail)
    free = shutil.disk_usage(nearest_folder(RunFolder.of(recipe).path)).free
    table = Table(
        title=f"{recipe.name}: what it would cost on {process.device}",
        show_header=False,
        title_justify="left",
    )
    for what, value in {
        "data": escape("\n".join(session.notes)),
        "parameters": f"{num_parameters(session.step.model):,}",
        "weights": escape(weights.removeprefix("weights ")),
        "memory": f"{memory_mb(process.device):,.0f} MB at most",
        "an update": f"{update_seconds:.3f} s ({int(recipe.train.batch) / update_seconds:.1f} images/s)",
        "its spread": f"{spread}, {quantity(len(updates), 'update')} after a warm-up",
        "scoring": f"{image_seconds:.3f} s per image, {quantity(num_images, 'image')}, "
        f"{quantity(num_evaluations, 'time')}",
        "the whole run": f"{whole}, with that spread {least} to {most}{largest}; "
        f"of it {_duration(scoring)} scoring",
        "disk": f"{needed / 1e6:,.0f} MB at most, {free / 1e6:,.0f} MB free",
    }.items():
        table.add_row(what, value)
    console.print(table)
    for line in session.advice:
        console.print(escape(line))
    console.print("Nothing was written. Leave --dry-run out to train.")


def _update_seconds(session: Session, console: Console) -> list[float]:
    """Seconds of several updates with their batches, each run as the last update of the run.

    The warm-up compiles, loads kernels, and uses up the batches that the workers have read ahead.
    """
    step, steps = session.step, int(session.recipe.train.steps)
    batches = session.batches.starting_at(steps - 1)

    def update() -> None:
        step.count = steps - 1
        float(step(next(batches))["loss"])  # waits for the device

    warm_ups = min(steps, WARM_UPS + READ_AHEAD * session.batches.workers)
    return timed(update, warm_ups, min(steps, TIMED), session.process, counted(console, "timing updates"))


def _image_seconds(session: Session, console: Console) -> float:
    """Seconds per image of the first scoring batch, in its second pass, as the first one loads kernels."""
    device, val = session.process.device, session.val
    predictor, num_images = session.validation.predictor, 0
    model = for_predictions(session.step.model)

    def score() -> None:
        nonlocal num_images
        batches = list(islice(scoring_batches(val, device, workers=0), 1))
        evaluate({"model": model}, batches, predictor, len(val.class_names), val.ignore_index, device)
        if device.type == "cuda":
            torch.cuda.synchronize()
        num_images = len(batches[0].ids)

    (seconds,) = timed(score, 1, 1, session.process, counted(console, "timing scoring"))
    return seconds / num_images


def timed(
    call: Callable[[], object],
    warm_ups: int,
    num: int,
    process: Process,
    progress: Callable[[int, int], None],
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Seconds of each of `num` calls after `warm_ups`.

    After LIMIT_S no further call is made, except the second; then at most half of the calls count as warm-up.
    All processes make the same number of calls.
    """
    seconds: list[float] = []
    most, done = warm_ups + num, False
    while not done:
        started = clock()
        call()
        seconds.append(clock() - started)
        is_late = any_process(process, sum(seconds) > LIMIT_S)
        done = len(seconds) == most or (is_late and len(seconds) > 1)
        progress(most if done else len(seconds), most)
    return seconds[min(warm_ups, len(seconds) // 2) :]


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
