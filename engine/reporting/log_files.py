"""The log of a run as files: log.jsonl, and log_train.csv and log_val.csv."""

import csv
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from engine.data.batches import Batch
from engine.reporting.advisor import Note
from engine.reporting.callbacks import Callback, Evaluation, RunContext, RunEnd
from engine.run_folder import (
    RunFolder,
    naming_disk_errors,
    read_log,
    without_nan,
    write_text,
    written_in_place,
)


class JsonLog(Callback):
    """log.jsonl: one JSON object per line. A resumed run drops the lines after its saved state.

    `split` is train (a log step), val (an evaluation), <set>/val (that of another set), note (advice: topic,
    text, recipe lines) or skipped (an update that was left out because of NaN: ids and epochs of its samples,
    seed of the run).
    """

    essential = True

    def __init__(self) -> None:
        self._file: TextIO | None = None

    def on_start(self, run: RunContext) -> None:
        path, self._recipe = RunFolder(run.path).log, run.recipe
        kept = [row for row in read_log(path) if row["step"] <= run.first_step]
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._path = path
        self._file = path.open("a", buffering=1)  # line buffered, so that it can be followed

    def on_log(self, step: int, values: dict[str, float], batch: Batch) -> None:
        self._write({"step": step, "split": "train", **values})

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        for split, one in {"val": evaluation, **further_splits(evaluation)}.items():
            row = {**one.scores.metrics, "loss": one.log_loss, "IoU": one.scores.IoU}
            self._write({"step": step, "split": split, **row})

    def on_skipped(self, step: int, samples: Sequence[tuple[str, int]]) -> None:
        ids, epochs = [id for id, _ in samples], [epoch for _, epoch in samples]
        row = {"seed": self._recipe.seed, "ids": ids, "epochs": epochs}
        self._write({"step": step, "split": "skipped", **row})

    def on_note(self, step: int, note: Note) -> None:
        row = {"topic": note.topic, "text": note.text, "recipe": list(note.remedies)}
        self._write({"step": step, "split": "note", **row})

    def on_end(self, end: RunEnd) -> None:
        if self._file:
            # After a line that could not be written, which failed the run, closing fails with the same error.
            with suppress(OSError) if end.status == "failed" else naming_disk_errors(self._path):
                self._file.close()

    def _write(self, row: dict[str, Any]) -> None:
        assert self._file, "on_start comes first"
        with naming_disk_errors(self._path):
            self._file.write(json.dumps(without_nan(row)) + "\n")


class CsvLog(Callback):
    """log_train.csv and log_val.csv: a row per log step or evaluation, a column per number.

    A number that appears later, such as that of a discriminator, becomes a new column, which is empty in
    earlier rows. A resumed run drops the rows after its saved state.
    """

    def __init__(self) -> None:
        self._tables: dict[str, _CsvTable] = {}

    def on_start(self, run: RunContext) -> None:
        self._tables = {
            split: _CsvTable(run.path / f"log_{split}.csv", run.first_step) for split in ("train", "val")
        }

    def on_log(self, step: int, values: dict[str, float], batch: Batch) -> None:
        self._tables["train"].append({"step": step, **values})

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        self._tables["val"].append({"step": step, **evaluation_values(evaluation)})


def further_splits(evaluation: Evaluation) -> dict[str, Evaluation]:
    """The evaluations of the sets after the first, by the name of their rows in log.jsonl."""
    return {f"{name}/val": further for name, further in evaluation.further.items()}


def evaluation_values(evaluation: Evaluation) -> dict[str, float]:
    """The scores of an evaluation: the metrics, "loss", and "IoU/<class>", NaN for an absent class.

    Those of further sets have the name of the set in front: "<set>/mIoU".
    """
    scores = evaluation.scores
    by_class = {f"IoU/{name}": value for name, value in scores.IoU.items()}
    of_sets = {
        f"{name}/{key}": value
        for name, further in evaluation.further.items()
        for key, value in evaluation_values(further).items()
    }
    return {**scores.metrics, "loss": evaluation.log_loss, **by_class, **of_sets}


class _CsvTable:
    """A file whose columns may grow; rows after `last_step` are dropped first."""

    def __init__(self, path: Path, last_step: int):
        self._path = path
        rows: list[dict[str, Any]] = []
        if path.is_file():
            with path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= last_step]
        self._rewrite(list(rows[0]) if rows else ["step"], rows)

    def append(self, row: dict[str, Any]) -> None:
        new = [name for name in row if name not in self._columns]
        if new:
            with self._path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            self._rewrite([*self._columns, *new], rows)
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(without_nan(row))

    def _rewrite(self, columns: list[str], rows: list[dict[str, Any]]) -> None:
        self._columns = columns
        with written_in_place(self._path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
