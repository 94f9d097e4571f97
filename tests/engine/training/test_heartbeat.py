"""Processes that stop, end, come late or never: as threads of this process, and two real ones."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from engine.run import main
from engine.training import heartbeat
from engine.training.distributed import process_group
from engine.training.heartbeat import ENDED, GroupError, Heartbeat, behind
from tests.engine.tiny_run import tiny
from tests.processes import Python

TIMEOUT_S = 0.6
PATIENT_S = 4.0  # a busy machine may not run a thread of the test for longer than TIMEOUT_S


@pytest.fixture
def store() -> dist.Store:
    return dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a heartbeat ends its process with code 1, which it does not do here."""
    event = threading.Event()

    def exit(code: int) -> None:
        assert code == 1
        event.set()

    monkeypatch.setattr(heartbeat.os, "_exit", exit)
    return event


@pytest.fixture
def pair(
    store: dist.Store, request: pytest.FixtureRequest, ended: threading.Event
) -> Iterator[list[Heartbeat]]:
    """Rank 0 and rank 1, which look 20 times in the timeout. Rank 1 cannot end the process of the test."""
    made: list[Heartbeat] = []
    before = {*threading.enumerate()}
    timeout_s: float = getattr(request, "param", TIMEOUT_S)
    first = threading.Thread(target=lambda: made.append(Heartbeat(store.clone(), 0, 2, timeout_s)))
    first.start()
    second = Heartbeat(store.clone(), 1, 2, timeout_s)
    first.join()
    yield [*made, second]
    for one in (*made, second):
        one.stop(failed=False)
    for thread in {*threading.enumerate()} - before:  # else it would "end the process" in the next test
        thread.join(20 * timeout_s)


def said(ended: threading.Event, capsys: pytest.CaptureFixture[str]) -> str:
    assert ended.wait(20 * TIMEOUT_S)
    return capsys.readouterr().err


def test_a_process_that_stands_still_is_named(pair, ended, capsys) -> None:
    pair[1].stop(failed=False)  # its count stands still, as after SIGSTOP
    message = said(ended, capsys)
    assert "rank 1, process" in message and "did not respond for 0.01 min (train.timeout)" in message
    assert "--resume" in message and "rank 0" not in message


def test_a_process_that_runs_but_does_not_come_to_a_collective_is_named(pair, ended, capsys) -> None:
    for one in pair:
        one.entering_collective()
    pair[0].entering_collective()
    message = said(ended, capsys)
    assert "rank 1, process" in message and "still runs, but the others have waited" in message


def test_a_store_that_does_not_answer_means_rank_0(pair, ended, capsys, monkeypatch) -> None:
    release = threading.Event()
    stopped = {"set": lambda *_: release.wait(), "multi_get": lambda *_: [b"0 0", b"0 0"]}
    monkeypatch.setattr(pair[1], "_own", type("Store", (), stopped)())
    try:
        assert "rank 0, process" in said(ended, capsys)
    finally:
        release.set()


@pytest.mark.parametrize("pair", [PATIENT_S], indirect=True)
def test_a_process_that_works_longer_than_the_timeout_is_waited_for(pair, ended) -> None:
    late = threading.Timer(1.5 * PATIENT_S, pair[0].meet)
    started = time.monotonic()
    late.start()
    pair[1].meet()
    assert time.monotonic() - started >= 1.5 * PATIENT_S
    assert not ended.is_set()


def test_one_that_ends_with_an_error_is_not_waited_for(pair, ended) -> None:
    pair[0].stop(failed=True)
    with pytest.raises(GroupError, match=r"rank 0, process .* has ended; .*--resume"):
        pair[1].meet()


def announce(monkeypatch: pytest.MonkeyPatch, rank: int) -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    announced = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": 3,
        "RANK": rank,
        "LOCAL_RANK": 0,
    }
    for name, value in announced.items():
        monkeypatch.setenv(name, str(value))
    return port


def test_one_that_has_ended_is_not_behind() -> None:
    """A thread reads the counters of all; the one that looks must not take the word for a counter."""
    assert behind(["5 3", "7 2", ENDED, "1 4"], collectives=3) == [1]


def test_processes_that_never_come_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, rank=0)
    with pytest.raises(GroupError, match=r"rank 1; rank 2 of 3 .* train\.timeout"), process_group(TIMEOUT_S):
        pass
    port = announce(monkeypatch, rank=2)
    with pytest.raises(GroupError, match=f"rank 0, at 127.0.0.1:{port}, did not answer"), process_group(0.3):
        pass


def test_a_run_with_a_stopped_process_ends_with_its_name_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    announce(monkeypatch, rank=0)
    options = ["train.steps=20", "eval.every=20", "train.save_every=1", "train.timeout=0.05 min", "log.to=[]"]
    arguments = tiny(tmp_path, "run", *options)
    processes = [
        Python("-m", "engine.run", *arguments, environment={"WORLD_SIZE": "2", "RANK": str(rank)})
        for rank in (0, 1)
    ]
    try:
        log = tmp_path / "run/log.jsonl"
        wait_until(lambda: not processes[0].is_running() or (log.is_file() and log.stat().st_size > 0))
        os.kill(processes[1].pid, signal.SIGSTOP)
        first = processes[0].end()
        os.kill(processes[1].pid, signal.SIGCONT)
        second = processes[1].end()
    finally:
        for process in processes:
            process.kill()
    assert (first.returncode, second.returncode) == (1, 1)
    assert f"rank 1, process {processes[1].pid} on" in first.stderr and "did not respond" in first.stderr
    assert "rank 0, process" in second.stderr  # which has ended
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name)
    assert main([*arguments, "--resume"]) == 0
    assert "going on from its saved state" in capsys.readouterr().out


def wait_until(condition: Callable[[], bool], at_most_s: float = 1200.0) -> None:
    until = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
