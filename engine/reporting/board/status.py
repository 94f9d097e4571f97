"""What the files of a run say about it at this moment. Nothing is written, and no file needs to be complete.

Whether a run is running is known from the lock that its process holds. From another machine, or where the
file system has no locks, it is judged by the age of the last line of its log: after five times the usual time
between two lines, and at least five minutes, the run counts as ended.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Literal, TypeVar

from engine.recipe import load_recipe
from engine.run_folder import (
    LogRow,
    Manifest,
    RunFolder,
    is_in_use,
    read_damaged_log,
    read_manifest,
    saved_beside_tensors,
    saved_step,
)
from engine.scoring.options import MEAN_OF
from engine.wording import quantity

State = Literal["running", "stopped", "finished", "failed"]
Value = TypeVar("Value")

MOST = 1e15  # above, a number in a log is none that a training writes
FEW = 10  # lines of the log from which the speed is taken
LATE_FACTOR, LATE_S = 5, 300.0  # see above


@dataclass(frozen=True)
class RunStatus:
    """One run; None where its files do not say it.

    name: the path below the folder of the board. step, num_steps: updates done, and of the recipe.
    metric: by which checkpoints are chosen. curve: (step, value) of it at each evaluation; of a run without
    any, of its training loss. best: (step, value). left_s: seconds of the updates to come. message: how the
    run ended, or the last note of its log. problems: files that cannot be read. changed_at: Unix time of
    the last line.
    """

    name: str
    state: State
    step: int = 0
    num_steps: int | None = None
    metric: str = "mIoU"
    curve: tuple[tuple[int, float], ...] = ()
    is_loss: bool = False
    score: float | None = None
    best: tuple[int, float] | None = None
    left_s: float | None = None
    images_per_s: float | None = None
    message: str = ""
    problems: tuple[str, ...] = ()
    changed_at: float | None = None


class Board:
    """The runs below folders, read again at each `look`; a run whose files are as before is not."""

    def __init__(self, folders: Sequence[Path]):
        self.folders = folders
        self._logs: dict[Path, tuple[object, tuple[list[LogRow], int]]] = {}
        self._recipes: dict[Path, tuple[object, tuple[int | None, int | None]]] = {}

    def look(self) -> list[RunStatus]:
        """Running ones first, then by the time of their last line."""
        found = {path.resolve(): (folder, path) for folder in self.folders for path in run_folders(folder)}
        runs = [self._status(folder, path) for folder, path in found.values()]
        return sorted(runs, key=lambda run: (run.state != "running", -(run.changed_at or 0), run.name))

    def _status(self, folder: Path, path: Path) -> RunStatus:
        run, problems = RunFolder(path), list[str]()
        manifest = _tried(lambda: read_manifest(run.manifest, Manifest), problems)
        num_steps, batch = _tried(lambda: _kept(self._recipes, run.recipe, _read_recipe), problems) or (
            None,
            None,
        )
        rows, num_damaged = _tried(lambda: _kept(self._logs, run.log, read_damaged_log), problems) or ([], 0)
        rows = [row for row in rows if 0 <= row["step"] < MOST]
        if num_damaged:
            problems.append(f"{quantity(num_damaged, 'line')} of {run.log.name} cannot be read.")
        train = [row for row in rows if row["split"] == "train"]
        seconds = [row["time"] for row in train[-FEW:] if _is_number(row.get("time")) and row["time"] > 0]
        update_s = median(seconds) if seconds else None
        changed_at = _facts(run.log)[0] or _facts(run.manifest)[0]
        state, message = _state(run, manifest, rows, changed_at, problems)
        saved = [saved_step(run.states[0])] if run.states else []  # may be stopped before its first row
        steps = [*saved, *(row["step"] for row in rows)]
        step = max((step for step in steps if 0 <= step < MOST), default=0)
        metric = manifest.metric.partition(MEAN_OF)[0] if manifest else "mIoU"
        scores = _values(rows, "val", metric)
        notes = [str(row.get("text", "")) for row in rows if row["split"] == "note"]
        left_s = (num_steps - step) * update_s if num_steps and update_s else None
        return RunStatus(
            name=_name(folder, path),
            state=state,
            step=step,
            num_steps=num_steps,
            metric=metric,
            curve=tuple(scores or _values(rows, "train", "loss")),
            is_loss=not scores,
            score=scores[-1][1] if scores else None,
            best=max(scores, key=lambda pair: pair[1]) if scores else None,
            left_s=left_s if state == "running" else None,
            images_per_s=batch / update_s if batch and update_s else None,
            message=message or (notes[-1] if notes else ""),
            problems=tuple(dict.fromkeys(problems)),
            changed_at=changed_at,
        )


def run_folders(folder: Path) -> Iterator[Path]:
    """Every folder at or below `folder` that holds a file of a run; links to folders are not followed."""
    for path, _, files in os.walk(folder):
        if "manifest.json" in files or "log.jsonl" in files or {".lock", "recipe.yaml"} <= {*files}:
            yield Path(path)


def _name(folder: Path, path: Path) -> str:
    return path.name if path == folder else path.relative_to(folder).as_posix()


def _state(
    run: RunFolder,
    manifest: Manifest | None,
    rows: Sequence[LogRow],
    changed_at: float | None,
    problems: list[str],
) -> tuple[State, str]:
    """The state, and what it is known from where that is not plain; `problems` gets what forbids a resume."""
    if manifest and manifest.finished:
        return "finished", ""
    holds = is_in_use(run.path)
    if holds:
        return "running", ""
    if holds is None and changed_at is not None:
        age, usual = time.time() - changed_at, _usual_spacing_s(rows)
        if age < max(LATE_S, LATE_FACTOR * usual):
            return "running", "Running, as its log is recent: no lock can be seen from here."
    saved = saved_beside_tensors(run.states[0], "log") if run.states else None
    if saved and saved.get("bytes") == (_facts(run.log)[1] or 0):
        if _tried(run.read_manifest, problems) is None:
            return "stopped", "Stopped, with its state saved. Mend what is named; then --resume goes on."
        return "stopped", "Stopped, with its state saved: the same command with --resume goes on."
    how = "Its last state is older than its log" if saved else "It saved no state"
    return "failed", f"{how}: it failed, or was killed."


def _usual_spacing_s(rows: Sequence[LogRow]) -> float:
    """Seconds between two log steps; 0 where it is not known."""
    train = [row for row in rows if row["split"] == "train" and _is_number(row.get("time"))][-FEW:]
    gaps = [(row["step"] - before["step"]) * row["time"] for before, row in pairwise(train)]
    return median(gaps) if gaps else 0.0


def _read_recipe(path: Path) -> tuple[int | None, int | None]:
    """(updates, images of each); None where not known, as before `auto` has chosen the batch."""
    if not path.is_file():
        return None, None
    train = load_recipe(path, imports=False).train
    steps, batch = (value if isinstance(value, int) else None for value in (train.steps, train.batch))
    return steps, batch


def _values(rows: Sequence[LogRow], split: str, key: str) -> list[tuple[int, float]]:
    found = {
        row["step"]: float(row[key]) for row in rows if row["split"] == split and _is_number(row.get(key))
    }
    return sorted(found.items())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST


def _kept(known: dict[Path, tuple[object, Value]], path: Path, read: Callable[[Path], Value]) -> Value:
    """What a file holds; it is read again only where its size or its time changed."""
    mark = _facts(path)
    if path not in known or known[path][0] != mark:
        known[path] = mark, read(path)
    return known[path][1]


def _tried(read: Callable[[], Value], problems: list[str]) -> Value | None:
    """None, and the reason noted, where a file is missing, damaged, or being replaced."""
    try:
        return read()
    except (ValueError, OSError) as error:
        problems.append(str(error))
        return None


def _facts(path: Path) -> tuple[float | None, int | None]:
    """When a file was changed, and its size; None where it cannot be seen."""
    try:
        facts = path.stat()
    except OSError:
        return None, None
    return facts.st_mtime, facts.st_size
