"""What a long run costs: growth over 5,000 updates, and updates during a save; on an idle machine."""

import json
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

from forked import Command

from engine.training import saving
from engine.training.step import SupervisedStep
from faults.runs import DEMO, Case, after_each_update, run_command


class Memory:
    """The growth of memory and of open files over 5,000 updates with a save every 100."""

    UPDATES = 5000

    def __init__(self, folder: Path):
        self._folder = folder

    def case(self, number: int, draw: random.Random) -> Case:
        samples = self._folder / "samples"

        def before() -> None:
            def sample(count: int) -> None:
                if count % (self.UPDATES // 10) == 0:
                    pages = int(Path("/proc/self/statm").read_text().split()[1])
                    memory_mb = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
                    _append(samples, [count, memory_mb, len(os.listdir("/proc/self/fd"))])

            after_each_update(sample)

        every = ["train.save_every=100", f"eval.every={self.UPDATES}", "log.every=100"]
        command = run_command(self._folder / "home", f"train.steps={self.UPDATES}", *every)
        ended = Command(command, self._folder / "output", before).end(3600)
        rows = [json.loads(line) for line in samples.read_text().splitlines()]
        first, last = rows[1], rows[-1]  # 1,000 updates: what is allocated once is there by then
        growth = (last[1] - first[1]) / (last[0] - first[0]) * 1000
        faults = [] if ended.code == 0 else [ended.output[-400:]]
        return {
            "update_memory_mb_open_files": rows,
            "growth_mb_per_1000_updates": round(growth, 3),
            "open_files_constant": len({row[2] for row in rows[1:]}) == 1,
            "faults": faults,
        }

    @staticmethod
    def summary(cases: list[Case]) -> Case:
        return {key: value for case in cases for key, value in case.items() if key != "faults"}


class SaveTime:
    """The time of updates during which a state is written, next to that of the others, in one run.

    On Linux also without the time in which the update could have run, but waited for a core.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def case(self, number: int, draw: random.Random) -> Case:
        samples = self._folder / "samples"

        def before() -> None:
            update, write, busy = SupervisedStep.__call__, saving.write_state, [0]

            def write_state(*arguments: Any) -> None:
                busy[0] += 1
                write(*arguments)
                busy[0] -= 1

            def timed(step: SupervisedStep, batch: Any) -> Any:
                during, started, queued = bool(busy[0]), time.perf_counter(), _seconds_in_queue()
                metrics = update(step, batch)
                seconds, queued = time.perf_counter() - started, _seconds_in_queue() - queued
                _append(samples, [during or bool(busy[0]), seconds, seconds - queued])
                return metrics

            SupervisedStep.__call__ = timed  # type: ignore[method-assign]
            saving.write_state = write_state

        command = [
            "run", DEMO, "train.steps=1000", "train.save_every=200", "eval.every=1000", "log.to=[]",
            "name=run", f"output.dir={self._folder}",
        ]  # fmt: skip
        ended = Command(command, self._folder / "output", before).end(3600)
        rows = [json.loads(line) for line in samples.read_text().splitlines()][20:]
        during, others = ([row[1:] for row in rows if row[0] == want] for want in (True, False))
        found: Case = {"updates_during_a_save": len(during), "other_updates": len(others)}
        for column, kind in enumerate(("", "_without_queue")):
            medians = [statistics.median(row[column] for row in some) for some in (during, others)]
            found[f"median_s_during_a_save{kind}"], found[f"median_s{kind}"] = medians
            found[f"slower_percent{kind}"] = round(100 * (medians[0] / medians[1] - 1), 2)
        return found | {"faults": [] if ended.code == 0 else [ended.output[-400:]]}

    @staticmethod
    def summary(cases: list[Case]) -> Case:
        return {key: value for case in cases for key, value in case.items() if key != "faults"}


def _seconds_in_queue() -> float:
    """Of this thread: how long it could have run, but waited for a core; 0 where the system does not say."""
    queue = Path("/proc/thread-self/schedstat")
    return int(queue.read_text().split()[1]) / 1e9 if queue.exists() else 0.0


def _append(samples: Path, row: list[Any]) -> None:
    with samples.open("a") as file:
        file.write(json.dumps(row) + "\n")
