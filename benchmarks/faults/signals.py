"""SIGTERM or SIGINT, over kinds of training."""

import random
import shutil
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forked import Command, Ended

from engine.run_folder import RunFolder
from faults.runs import ADVERSARIAL, STEPS, Case, Updates, ends, judge_going_on, run_command

VARIANTS = {
    "plain": [],
    "adversarial": ADVERSARIAL,
    "moving average": ["train.ema=0.9"],
    "accumulation": ["train.accumulate=2"],
    "mixing": ["augment.cutmix=1.0"],
    "workers": ["data.workers=2"],
    "2 processes": [],
}


class Signals:
    """SIGTERM or SIGINT to one process of a run, and the same command again."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._whole: dict[str, dict[str, Any]] = {}

    def case(self, number: int, draw: random.Random) -> Case:
        variant = list(VARIANTS)[number % len(VARIANTS)]
        if variant not in self._whole:
            ended = self._run(variant, self._folder / variant, lambda commands: None)
            assert ended.code == 0, ended.output
            self._whole[variant] = ends(RunFolder(self._folder / variant / "run"))
        sent = draw.choice((signal.SIGTERM, signal.SIGINT))
        after, wait_s = draw.randint(1, STEPS - 3), draw.uniform(0, 0.05)
        updates = Updates()

        def cut(commands: list[Command]) -> None:
            while updates.count < after and commands[0].is_running():
                time.sleep(0.001)
            time.sleep(wait_s)
            draw.choice(commands).send(sent)

        home = Path(tempfile.mkdtemp(dir=self._folder))
        stopped = self._run(variant, home, cut, updates.watch)
        resumed = self._run(variant, home, lambda commands: None)
        found = judge_going_on(resumed, RunFolder(home / "run"), self._whole[variant])
        shutil.rmtree(home)
        if stopped.failed_badly or stopped.code not in (0, 1):
            found["faults"].append(f"stopped with {stopped.code}: {stopped.output[-400:]}")
        is_stopped = "the state is saved" in stopped.output
        told = {"exit_code": stopped.code, "stopped": is_stopped}
        return {"variant": variant, "signal": sent.name, "after": after, **told, **found}

    def _run(
        self,
        variant: str,
        home: Path,
        cut: Callable[[list[Command]], None],
        before: Callable[[], None] = lambda: None,
    ) -> Ended:
        environments: list[dict[str, str]] = [{}]
        if variant == "2 processes":
            with socket.create_server(("127.0.0.1", 0)) as server:
                port = str(server.getsockname()[1])
            shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
            environments = [shared | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
        commands = [
            Command(
                run_command(home, *VARIANTS[variant]),
                self._folder / f"output-{rank}",
                before if rank == 0 else lambda: None,
                environment,
            )
            for rank, environment in enumerate(environments)
        ]
        cut(commands)
        ended = [command.end() for command in commands]
        return ended[0]

    @staticmethod
    def summary(cases: list[Case]) -> Case:
        return {
            "stopped_with_the_state_saved": sum(case["stopped"] for case in cases),
            "went_on": sum(case["went_on"] for case in cases),
            "equal_ends": sum(case["equal"] for case in cases),
            "by_variant": dict(Counter(case["variant"] for case in cases)),
        }
