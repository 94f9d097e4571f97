"""log.jsonl, log_train.csv and log_val.csv."""

import csv
import errno
import json
import math
from pathlib import Path

import pytest
import torch

from engine.data.batches import Batch
from engine.reporting.advisor import Note
from engine.reporting.callbacks import Evaluation, RunContext, RunEnd
from engine.reporting.log_files import CsvLog, JsonLog
from engine.reporting.plots import training_curves
from engine.run_folder import RunFolder
from engine.scoring.baselines import Baselines
from engine.scoring.confusion import Scores

BASELINES = Baselines("ground", "ground", first=0.1, majority=0.1, uniform=0.05)

BATCH = Batch(torch.zeros(1), torch.zeros(1), [])
NOTE = Note("data", "It waits.", ("data.workers=8",))
IOU = {"ground": 0.5, "cat": math.nan}
SCORES = Scores({"mIoU": 0.5, "mAcc": 0.5, "aAcc": 0.5}, BASELINES, IOU, {}, {}, {}, [], 1, 0)


def context(folder: Path, first_step: int = 0) -> RunContext:
    return RunContext(folder, None, None, ("ground", "cat"), ((0, 0, 0), (9, 9, 9)), 255, first_step)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_notes_are_lines_of_the_log_that_curves_and_reports_ignore(tmp_path: Path) -> None:
    log = JsonLog()
    log.on_start(context(tmp_path))
    log.on_log(50, {"loss": 1.0, "lr": math.nan}, BATCH)
    log.on_note(50, NOTE)
    log.on_evaluation(50, Evaluation(SCORES, 0.7))
    log.on_end(RunEnd("finished", 50))
    rows = [json.loads(line) for line in RunFolder(tmp_path).log.read_text().splitlines()]
    assert [(row["step"], row["split"]) for row in rows] == [(50, "train"), (50, "note"), (50, "val")]
    assert rows[0]["lr"] is None
    assert rows[1] == {
        "step": 50, "split": "note", "topic": "data", "text": "It waits.", "recipe": ["data.workers=8"],
    }  # fmt: skip
    without = [row for row in rows if row["split"] != "note"]
    assert training_curves({"a": (rows, [50])}) == training_curves({"a": (without, [50])})


def test_a_resumed_log_drops_the_lines_after_its_saved_state(tmp_path: Path) -> None:
    for first_step, steps in ((0, (50, 100)), (50, ())):
        log = JsonLog()
        log.on_start(context(tmp_path, first_step))
        for step in steps:
            log.on_note(step, NOTE)
        log.on_end(RunEnd("stopped", 100))
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [50]


def test_csv_has_a_column_for_each_number_including_later_ones(tmp_path: Path) -> None:
    log = CsvLog()
    log.on_start(context(tmp_path))
    log.on_log(50, {"loss": 1.5}, BATCH)
    log.on_log(100, {"loss": 1.25, "adv/d_loss": 0.5}, BATCH)
    log.on_evaluation(100, Evaluation(SCORES, 0.75))
    assert rows_of(tmp_path / "log_train.csv") == [
        {"step": "50", "loss": "1.5", "adv/d_loss": ""},
        {"step": "100", "loss": "1.25", "adv/d_loss": "0.5"},
    ]
    assert rows_of(tmp_path / "log_val.csv") == [
        {"step": "100", "mIoU": "0.5", "mAcc": "0.5", "aAcc": "0.5", "loss": "0.75",
         "IoU/ground": "0.5", "IoU/cat": ""},
    ]  # fmt: skip


def test_a_resumed_csv_drops_the_rows_after_its_saved_state(tmp_path: Path) -> None:
    for first_step, steps in ((0, (50, 100)), (50, (75,))):
        log = CsvLog()
        log.on_start(context(tmp_path, first_step))
        for step in steps:
            log.on_log(step, {"loss": 1.0}, BATCH)
    assert [row["step"] for row in rows_of(tmp_path / "log_train.csv")] == ["50", "75"]


def test_a_csv_holds_what_it_held_where_a_new_column_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CsvLog()
    log.on_start(context(tmp_path))
    log.on_log(50, {"loss": 1.5}, BATCH)

    def disk_is_full(self: csv.DictWriter, rows: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(csv.DictWriter, "writerows", disk_is_full)
    with pytest.raises(OSError, match="No space left"):
        log.on_log(100, {"loss": 1.0, "adv/d_loss": 0.5}, BATCH)
    assert rows_of(tmp_path / "log_train.csv") == [{"step": "50", "loss": "1.5"}]
