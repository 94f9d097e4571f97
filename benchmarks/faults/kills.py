"""SIGKILL at random, 1 of 4 inside a save."""

import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from forked import Command, trident

from engine.run_folder import RunFolder
from engine.training import checkpoint
from faults.runs import EVERYTHING, SAVE_EVERY, STEPS, Case, Updates, ends, judge_going_on, run_command


def die_inside_a_save(place: str, number: int) -> None:
    """SIGKILL in the number-th save of a state from now: with half of it written, or before a rename."""
    passed = 0

    def die_at(found: str) -> None:
        nonlocal passed
        passed += found == place
        if found == place and passed == number:
            os.kill(os.getpid(), signal.SIGKILL)

    save_tensors = checkpoint.save_tensors

    def half_written(path: Path, tensors: Any, metadata: Any) -> None:
        save_tensors(path, tensors, metadata)
        if "last/" in str(path):
            os.truncate(path, os.path.getsize(path) // 2)
            die_at("half of the state is written")
            save_tensors(path, tensors, metadata)

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename":
            target = str(arguments[1])
            if target.endswith("last/previous.safetensors"):
                die_at("the new state is written")
            if target.endswith("last/state.safetensors"):
                die_at("the old state is renamed")

    checkpoint.save_tensors = half_written
    sys.addaudithook(on_event)


SAVE_PLACES = ("half of the state is written", "the new state is written", "the old state is renamed")


class Kills:
    """SIGKILL, and the same command again: it goes on, loses little, and ends as one that was not killed."""

    def __init__(self, folder: Path):
        self._folder = folder
        started = time.monotonic()
        ended = trident(run_command(folder / "whole", *EVERYTHING), folder / "output")
        assert ended.code == 0, ended.output
        self._seconds = time.monotonic() - started
        self._whole = ends(RunFolder(folder / "whole/run"))

    def case(self, number: int, draw: random.Random) -> Case:
        place = SAVE_PLACES[number // 4 % 3] if number % 4 == 0 else "at random"
        while True:
            home = Path(tempfile.mkdtemp(dir=self._folder))
            updates = Updates()
            nth = draw.randint(2, STEPS // SAVE_EVERY)

            def before(updates: Updates = updates, nth: int = nth) -> None:
                updates.watch()
                if place != "at random":
                    die_inside_a_save(place, nth)

            command = Command(run_command(home, *EVERYTHING), self._folder / "output", before)
            if place == "at random":
                time.sleep(draw.uniform(0, 0.9) * self._seconds)
                command.send(signal.SIGKILL)
            ended = command.end()
            if ended.code == -signal.SIGKILL:
                break
            assert ended.code == 0, ended.output
            shutil.rmtree(home)  # it ended before
        done = updates.count
        resumed = trident(run_command(home, *EVERYTHING), self._folder / "output")
        found = judge_going_on(resumed, RunFolder(home / "run"), self._whole)
        shutil.rmtree(home)
        start = re.search(r"from update (\d+)", resumed.output)
        lost = done - int(start[1]) if start else done
        inside = place != "at random"
        return {"place": place, "inside_a_save": inside, "updates_done": done, "updates_lost": lost, **found}

    @staticmethod
    def summary(cases: list[Case]) -> Case:
        return {
            "inside_a_save": sum(case["inside_a_save"] for case in cases),
            "went_on": sum(case["went_on"] for case in cases),
            "equal_ends": sum(case["equal"] for case in cases),
            "save_every": SAVE_EVERY,
            "killed_in_updates": sum(0 < case["updates_done"] < STEPS for case in cases),
            "cases_by_updates_lost": dict(
                sorted(Counter(str(case["updates_lost"]) for case in cases).items())
            ),
        }
