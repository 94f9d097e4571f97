"""Errors of the disk while a run writes."""

import errno
import os
import random
import re
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from forked import trident

from engine.run_folder import RunFolder
from faults.runs import EVERYTHING, Case, after_each_update, ends, judge_going_on, run_command

DISK = [
    ("ENOSPC", "last/state.safetensors"), ("EIO", "manifest.json"), ("EDQUOT", r"top/step-\d+.safetensors"),
    ("EFBIG", r"(top/step-\d+|last/state).safetensors"), ("EPERM", "report.html"), ("ESTALE", "scores.h5"),
    ("EROFS", "ensemble.json"), ("EACCES", "predictions.png"), ("ENOSPC", "scores.h5"), ("EIO", "log.jsonl"),
    ("ENOSPC", "report.html"), ("EDQUOT", "recipe.yaml"), ("ESTALE", "last/previous.safetensors"),
]  # fmt: skip
AT_THE_START = ("log.jsonl", "recipe.yaml")  # when they are opened


class Disk:
    """One error of the disk while a run writes: one message, and the same command goes on."""

    def __init__(self, folder: Path):
        self._folder = folder
        assert trident(run_command(folder / "whole", *EVERYTHING), folder / "output").code == 0
        self._whole = ends(RunFolder(folder / "whole/run"))

    def case(self, number: int, draw: random.Random) -> Case:
        name, file = DISK[number % len(DISK)]
        code = getattr(errno, name)

        def refuse(event: str, arguments: tuple[Any, ...]) -> None:
            if event in ("open", "os.rename") and re.search(
                f"/run/{file}$", str(arguments[event == "os.rename"])
            ):
                raise OSError(code, os.strerror(code))

        def fail() -> None:
            if name == "EFBIG":  # of the system itself
                resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
            else:
                sys.addaudithook(refuse)

        def before() -> None:
            if file in AT_THE_START:
                fail()
            after_each_update(lambda count: fail() if count == 3 else None)

        home = Path(tempfile.mkdtemp(dir=self._folder))
        failed = trident(run_command(home, *EVERYTHING), self._folder / "output", before)
        message = re.search(rf"/run/{file}: {os.strerror(code)}\. .*--resume", failed.output)
        resumed = trident(run_command(home, *EVERYTHING), self._folder / "output")
        found = judge_going_on(resumed, RunFolder(home / "run"), self._whole)
        shutil.rmtree(home)
        if not message or failed.failed_badly:
            found["faults"].append(f"ended with {failed.code}: {failed.output[-400:]}")
        return {"error": name, "file": file, "exit_code": failed.code, "message": bool(message), **found}

    @staticmethod
    def summary(cases: list[Case]) -> Case:
        return {
            "messages": sum(case["message"] for case in cases),
            "went_on": sum(case["went_on"] for case in cases),
            "equal_ends": sum(case["equal"] for case in cases),
        }
