"""torchrun starts the processes again after one of them was killed; the training ends as without that."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from engine.run_folder import sha256_of
from tests.engine.tiny_run import ROOT, tiny
from tests.engine.two_processes import run_two

TORCHRUN = [
    *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1"),
    *("--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "-m", "engine.run"),
]
LENGTH = ["train.steps=30", "train.save_every=2", "eval.every=10", "log.every=1", "--resume"]


def test_a_killed_process_is_started_again_and_the_end_is_the_same(tmp_path: Path) -> None:
    run_two(tiny(tmp_path, "whole", *LENGTH))
    arguments = [*TORCHRUN, *tiny(tmp_path, "killed", *LENGTH)]
    with (tmp_path / "out.txt").open("w") as out:
        running = subprocess.Popen(arguments, cwd=ROOT, stdout=out, stderr=out)
        wait_for_updates(tmp_path / "killed/log.jsonl", 6, running)
        os.kill(process_of_rank(1, running.pid), signal.SIGKILL)
        assert running.wait(timeout=1200) == 0
    printed = (tmp_path / "out.txt").read_text()
    assert "going on from its saved state" in printed
    for step in ("0000010", "0000020", "0000030"):
        files = [tmp_path / name / f"top/step-{step}.safetensors" for name in ("whole", "killed")]
        assert sha256_of(files[0]) == sha256_of(files[1])


def wait_for_updates(log: Path, updates: int, running: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 1200
    while time.monotonic() < end and running.poll() is None:
        rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        if rows and rows[-1]["step"] >= updates:
            return
        time.sleep(0.05)
    raise AssertionError("the run did not come to its updates")


def process_of_rank(rank: int, torchrun: int) -> int:
    """The child of torchrun with this RANK in its environment."""
    for children in Path(f"/proc/{torchrun}/task").glob("*/children"):
        for pid in children.read_text().split():
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if f"RANK={rank}".encode() in environment:
                return int(pid)
    raise AssertionError(f"torchrun has no process of rank {rank}")
