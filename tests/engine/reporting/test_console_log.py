"""What a run prints: one line per log step without a terminal, one line that never wraps on a terminal."""

import io
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from engine.data.batches import Batch
from engine.reporting.advisor import Note
from engine.reporting.callbacks import Evaluation, RunContext, RunEnd
from engine.reporting.console_log import ConsoleLog, fitting
from engine.scoring.baselines import Baselines
from engine.scoring.confusion import Scores

BASELINES = Baselines("ground", "ground", first=0.1, majority=0.1, uniform=0.05)

VALUES = {
    "loss": 1.5,
    "decode.loss_ce": 1.0,
    "decode.loss_dice": 0.5,
    "lr": 6e-4,
    "time": 0.5,
    "data_time": 0.1,
    "memory": 2048.0,
}
BATCH = Batch(torch.zeros(1), torch.zeros(1), [])
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def scores(mIoU: float) -> Scores:
    metrics = {"mIoU": mIoU, "mAcc": 0.5, "aAcc": 0.5}
    return Scores(metrics, BASELINES, {"ground": mIoU, "cat": mIoU / 2}, {}, {}, {}, [], 100, 0)


def started(console: Console, **facts: object) -> ConsoleLog:
    """After the start of a run of 40 updates of 8 images."""
    recipe = SimpleNamespace(
        train=SimpleNamespace(steps=40, batch=8), data=SimpleNamespace(evaluated_on="held")
    )
    log = ConsoleLog(console)
    log.on_start(RunContext(Path(), recipe, None, ("ground", "cat"), ((0, 0, 0), (9, 9, 9)), 255, **facts))
    return log


def printed(width: int, terminal: bool) -> str:
    """A short run as it is printed."""
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, no_color=True, highlight=False)
    log = started(console)
    for step, mIoU in ((20, 0.5), (40, 0.4)):
        log.on_step(step)
        log.on_log(step, VALUES, BATCH)
        log.on_step(step)
        log._progress.refresh()
        log.on_evaluation(step, Evaluation(scores(mIoU), 0.7))
        log.on_step(step)
        log._progress.refresh()
    log.on_note(40, Note("data", "It waits [for data].", ("data.resident=ram", "data.workers=8")))
    log.on_end(RunEnd("finished", 40))
    return file.getvalue()


def test_without_a_terminal_there_is_one_line_per_log_step() -> None:
    lines = printed(200, terminal=False).splitlines()
    steps = [line for line in lines if line.startswith("step 20/40") or line.startswith("step 40/40")]
    assert len(steps) == 2
    for fact in (
        "loss 1.500",
        "(ce 1.000, dice 0.500)",
        "lr 6.0e-04",
        "16.0 images/s",
        "data 20%",
        "2,048 MB",
    ):
        assert fact in steps[0]
    assert "mIoU" not in steps[0] and "0:00:10 left" in steps[0]
    assert "mIoU 0.5000 (best 0.5000)" in steps[1]
    assert "step 40  mIoU 0.4000 (-0.1000)  best 0.5000" in "\n".join(lines)
    assert "held loss 0.700" in "\n".join(lines)  # of the split that is scored, not of data.val
    assert "  down: ground -0.1000, cat -0.0500" in lines
    assert lines[-3:] == ["step 40: It waits [for data].", "    data.resident=ram", "    data.workers=8"]


def test_a_line_says_how_many_pixels_of_unlabelled_images_are_learnt_from() -> None:
    file = io.StringIO()
    log = started(Console(file=file, width=200, highlight=False))
    log.on_log(20, VALUES | {"unlabelled/loss": 0.25, "unlabelled/kept": 14.2}, BATCH)
    assert "unlabelled 0.250 (14% of their pixels)" in file.getvalue()


def test_on_a_terminal_there_is_a_table_with_changes() -> None:
    plain = CONTROL.sub("", printed(120, terminal=True))
    assert re.search(r"class +IoU +change", plain)
    assert re.search(r"ground +0\.4000 +-0\.1000", plain)
    assert "step 20/40" not in plain


@pytest.mark.parametrize("width", [50, 80, 100, 140])
def test_the_live_line_takes_one_line(width: int) -> None:
    """A line that wrapped would occupy the next line too, and the cursor would move up by more than one."""
    output = printed(width, terminal=True)
    drawn = [CONTROL.sub("", line) for line in re.split(r"\n|\r", output) if " train " in line]
    assert drawn and max(len(line.rstrip()) for line in drawn) <= width
    assert all("loss 1.500" in line for line in drawn[2:])
    while_it_runs = output.partition("\x1b[?25h")[0]  # the line is erased at the end
    assert "\x1b[1A" not in while_it_runs  # the cursor goes up where a display has more than one line


def test_the_most_important_facts_are_kept_in_order() -> None:
    facts = [(0, "loss 1"), (3, "memory 2"), (1, "left 3"), (2, "lr 4")]
    assert fitting(facts, 100) == "loss 1  memory 2  left 3  lr 4"
    assert fitting(facts, 22) == "loss 1  left 3  lr 4"
    assert fitting(facts, 3) == "loss 1"


def test_a_resumed_run_shows_its_earlier_best_score() -> None:
    file = io.StringIO()
    log = started(Console(file=file, width=200), first_step=20, best_mIoU=0.6)
    log.on_evaluation(40, Evaluation(scores(0.5), 0.7))
    log.on_end(RunEnd("finished", 40))
    assert "mIoU 0.5000  best 0.6000" in file.getvalue()
