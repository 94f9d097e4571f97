"""Cells as processes: small scripts take the place of trainings."""

import io
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from engine.comparison.grid import Cell, cells_of, load_recipes, prepare
from engine.comparison.local import run_locally
from engine.comparison.progress import last_step

# Records when it started and ended; succeeds (with a manifest of a finished run), or fails.
SCRIPT = """
import os, pathlib, shutil, sys, time
out, name = pathlib.Path(sys.argv[1]), sys.argv[2]
started = time.time()
print("gpu", os.environ.get("CUDA_VISIBLE_DEVICES"))
if name == sys.argv[3]:
    sys.exit("a picture is broken")
time.sleep(0.5)
shutil.copytree(out / "finished", out / name)
(out / f"{name}.times").write_text(f"{started} {time.time()}")
"""
# Stops on SIGTERM with a message, as a run does; ignores SIGINT, as a process in the background of a script.
PATIENT = """
import pathlib, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped and saved"))
pathlib.Path(sys.argv[1], sys.argv[2] + ".there").touch()
signal.pause()
"""


@pytest.fixture
def play(tmp_path: Path, make_run, monkeypatch: pytest.MonkeyPatch):
    """`play(script, broken)`: the cells a-s0 ... a-s3, whose command is the script."""
    (tmp_path / "a.yaml").write_text("data: {format: synthetic}\nmodel: {from_scratch: true}\n")

    def prepared(script: str, broken: str = "") -> list[Cell]:
        cells = cells_of(load_recipes([tmp_path / "a.yaml"], ()), 4, tmp_path / "out")
        prepare(cells)
        make_run("out/finished")
        monkeypatch.setattr(
            Cell,
            "command",
            property(lambda cell: [sys.executable, "-c", script, str(cell.out), cell.name, broken]),
        )
        return cells

    return prepared


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def most_at_once(cells: list[Cell]) -> int:
    times = [map(float, (cell.out / f"{cell.name}.times").read_text().split()) for cell in cells]
    moves = sorted(move for start, end in times for move in ((start, 1), (end, -1)))
    running = [sum(change for _, change in moves[: count + 1]) for count in range(len(moves))]
    return max(running)


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_at_most_num_jobs_run_at_once(num_jobs: int, play) -> None:
    cells = play(SCRIPT)
    assert run_locally(cells, num_jobs, quiet()) == []
    assert most_at_once(cells) == num_jobs
    assert all(cell.run.is_finished for cell in cells)


def test_a_failed_cell_is_reported_and_the_others_go_on(play) -> None:
    cells, console = play(SCRIPT, broken="a-s1"), quiet()
    [failure] = run_locally(cells, 2, console)
    assert failure.cell is cells[1]
    assert failure.text.splitlines()[-1] == "a picture is broken"
    assert [cell.run.is_finished for cell in cells] == [True, False, True, True]
    output = console.file.getvalue()
    assert "a-s1: failed" in output and "a picture is broken" in output
    assert "a-s3: finished, mIoU 0.5000 at step 10" in output


def test_each_job_has_a_gpu_of_its_own(play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7")
    cells = play(SCRIPT)
    assert run_locally(cells[:2], 2, quiet()) == []
    assert [cell.log.read_text().split() for cell in cells[:2]] == [["gpu", "4"], ["gpu", "GPU-7"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_runs(number: signal.Signals, play) -> None:
    cells = play(PATIENT)

    def stop_when_both_are_there() -> None:
        while not all((cell.out / f"{cell.name}.there").exists() for cell in cells[:2]):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=stop_when_both_are_there).start()
    with pytest.raises(KeyboardInterrupt, match="type the same command"):
        run_locally(cells, 2, quiet())
    assert [cell.log.read_text() for cell in cells[:2]] == ["stopped and saved\n"] * 2
    assert not cells[2].log.exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_step_is_read_from_the_last_complete_line(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert last_step(log) == 0
    log.write_text('{"step": 5}\n{"step": 10}\n{"st')
    assert last_step(log) == 10
    log.write_text('{"st')
    assert last_step(log) == 0
    log.write_text(f'{{"step": 5, "note": "{"x" * 70000}"}}\n{{"step": 10}}\n')
    assert last_step(log) == 10
