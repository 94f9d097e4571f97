"""The journal: who is told what, and the lines of log.jsonl."""

import json
from pathlib import Path

import torch

from engine.data.batches import Batch
from engine.reporting.advisor import Note
from engine.reporting.journal import Evaluation, Journal, JsonLog, Listener
from engine.reporting.memory import memory_shares, total_ram_mb
from engine.reporting.plots import training_curves
from engine.run_folder import RunFolder
from engine.scoring.confusion import Scores

BATCH = Batch(torch.zeros(1), torch.zeros(1), [])
CPU = torch.device("cpu")
NOTE = Note("data", "It waits.", ("data.workers=8",))
SCORES = Scores({"mIoU": 0.5, "mAcc": 0.5, "aAcc": 0.5}, 0.1, {"ground": 0.5}, {}, {}, {}, [], 1, 0)


class Ears(Listener):
    def __init__(self) -> None:
        self.heard: list[tuple] = []

    def update(self, step: int, values: dict[str, float], batch: Batch) -> None:
        self.heard.append(("update", step, values))

    def note(self, step: int, note: Note) -> None:
        self.heard.append(("note", step, note))


class Voice:
    """An advisor that has one thing to say of all that it hears."""

    def __init__(self) -> None:
        self.first: list[dict[str, float]] = []

    def update(self, step: int, values: dict[str, float], first: dict[str, float]) -> list[Note]:
        self.first.append(first)
        return [NOTE]

    def evaluation(self, step: int, scores: Scores) -> list[Note]:
        return [NOTE]


def test_numbers_go_to_listeners_then_advice_with_the_first_update_in_mind() -> None:
    ears, voice = Ears(), Voice()
    journal = Journal([ears], lambda: {"encoder, no decay": 1e-4, "head": 1e-3}, CPU, voice)
    for step in range(1, 5):
        metrics = {"loss": torch.tensor(5.0 - step), "loss_ce": torch.tensor(1.0 / step)}
        journal.tick(step, metrics)
        if step % 2 == 0:
            journal.update(step, BATCH, metrics, seconds=0.5, data_seconds=0.1)
    assert [event[:2] for event in ears.heard] == [("update", 2), ("note", 2), ("update", 4), ("note", 4)]
    values = ears.heard[0][2]
    assert values["loss"] == 3.0 and values["decode.loss_ce"] == 0.5
    assert values["lr/encoder.no_decay"] == values["base_lr"] == 1e-4 and values["lr"] == 1e-3
    assert voice.first == [{"loss": 4.0, "decode.loss_ce": 1.0}] * 2


def test_notes_are_lines_of_the_log_that_curves_and_reports_pass_over(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    journal = Journal([JsonLog(run.log, 0)], lambda: {"head": 1e-3}, CPU, Voice())
    journal.update(50, BATCH, {"loss": torch.tensor(1.0)}, 0.5, 0.1)
    journal.evaluation(50, Evaluation(SCORES, 0.7))
    journal.close()
    rows = [json.loads(line) for line in run.log.read_text().splitlines()]
    assert [(row["step"], row["split"]) for row in rows] == [
        (50, "train"), (50, "note"), (50, "val"), (50, "note"),
    ]  # fmt: skip
    assert rows[1] == {
        "step": 50, "split": "note", "topic": "data", "text": "It waits.", "recipe": ["data.workers=8"],
    }  # fmt: skip
    without = [row for row in rows if row["split"] != "note"]
    assert training_curves({"a": (rows, [50])}) == training_curves({"a": (without, [50])})


def test_a_resumed_log_drops_notes_from_after_its_state(tmp_path: Path) -> None:
    log = JsonLog(tmp_path / "log.jsonl", 0)
    for step in (50, 100):
        log.note(step, NOTE)
    log.close()
    JsonLog(tmp_path / "log.jsonl", 50).close()
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [50]


def test_memory_is_a_share_of_what_a_container_may_take(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    whole = total_ram_mb(limit)
    limit.write_text("max\n")
    assert total_ram_mb(limit) == whole
    limit.write_text(f"{64 << 20}\n")
    assert total_ram_mb(limit) == 64
    assert 0 < memory_shares(CPU)["RAM"] < 1
