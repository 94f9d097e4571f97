"""Files of runs damaged, then read."""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from forked import Command, Ended, trident
from PIL import Image

from engine.run_folder import RunFolder
from faults.runs import DEMO, EVERYTHING, TINY, Case, Updates, ends, run_command

KINDS = ("zero", "flip", "cut", "swap", "delete", "digit", "drop line", "swap lines")
TIME_OF_DAY = re.compile(r"\b\d\d:\d\d\b")
READERS = 2  # commands that read a mutated file, of those that read the intact one
SAID = re.compile(
    r"altered|damaged|missing|lacks|not there|not intact|no longer|cannot be read|left out", re.I
)


def mutated(before: bytes, others: list[Path], kind: str, draw: random.Random) -> bytes | None:
    """Another content of a file, None where it is deleted; the same content where it has no such place."""
    content, lines = bytearray(before), before.splitlines(keepends=True)
    place = draw.randrange(max(1, len(content)))
    if kind == "zero":
        content[place : place + 64] = bytes(len(content[place : place + 64]))
    elif kind == "flip" and content:
        content[place] ^= 1 << draw.randrange(8)
    elif kind == "cut":
        del content[place:]
    elif kind == "swap":
        content = bytearray(draw.choice(sorted(others)).read_bytes())
    elif kind == "digit":
        found = [match.start() for match in re.finditer(rb"\d", before)]
        if found:
            content[draw.choice(found)] = ord(str(draw.randrange(10)))
    elif kind in ("drop line", "swap lines") and len(lines) > 2:
        one, two = draw.sample(range(len(lines)), 2)
        lines[one], lines[two] = (lines[two], lines[one]) if kind == "swap lines" else (b"", lines[two])
        content = bytearray(b"".join(lines))
    return None if kind == "delete" else bytes(content)


class Mutations:
    """A file of a finished or stopped run is damaged; commands that read it refuse, say so, or do as before.

    A figure is wrong in silence where a command succeeds, prints or writes something else than of the intact
    run, and says nothing of the damage. What differs between two readings of the intact run (times, dates) is
    left out of that.
    """

    only: Sequence[str] = ()  # of the commands below; none: all

    def __init__(self, folder: Path):
        self._folder = folder
        whole, stopped = folder / "whole", folder / "stopped"
        assert trident(run_command(whole, *EVERYTHING), folder / "output").code == 0
        assert trident(run_command(folder / "beside", *EVERYTHING, "seed=1"), folder / "output").code == 0
        updates = Updates()
        command = Command(run_command(stopped, *EVERYTHING), folder / "output", updates.watch)
        while updates.count < 7:
            time.sleep(0.001)
        command.send(signal.SIGTERM)
        assert command.end().code == 1
        photo = folder / "photo.png"
        _picture(photo)
        here, out = folder / "here", folder / "out"
        run, beside = str(here / "run"), str(folder / "beside/run")
        new = ["run", DEMO, *TINY, f"output.dir={out}", "name=new", "train.steps=2", "eval.every=2"]
        self._commands: dict[str, tuple[Path, list[str]]] = {
            "evaluate": (whole, ["evaluate", run, "--out", str(out / "scored")]),
            "ensemble": (whole, ["ensemble", run, "--save", str(out / "ensemble")]),
            "report": (whole, ["report", run, "--images", "1"]),
            "compare": (whole, ["compare", run, beside, "--out", str(out / "compared")]),
            "diagnose": (whole, ["diagnose", run]),
            "predict": (whole, ["predict", run, str(photo), "--out", str(out / "predicted")]),
            "export": (whole, ["export", "torch", run, "--out", str(out / "model.pt2")]),
            "model.weights": (whole, [*new, f"model.weights={run}", "model.from_scratch=false"]),
            "run --resume of a finished run": (whole, run_command(here, *EVERYTHING)),
            "run --resume": (stopped, run_command(here, *EVERYTHING)),
            "report of a stopped run": (stopped, ["report", run, "--images", "1"]),
            "diagnose of a stopped run": (stopped, ["diagnose", run]),
        }
        self._commands = {name: self._commands[name] for name in self.only or self._commands}
        self._intact: dict[str, tuple[dict[str, list[str]], dict[str, list[str]]]] = {}
        self._read: dict[str, set[str]] = {}
        for name in self._commands:
            self._copy(name)
            reads = folder / "reads"
            first, ended = self._result(name, lambda reads=reads: _record_reads(here / "run", reads))
            assert ended.code == 0, (name, ended.output)
            opened = set(reads.read_text().split("\n"))
            if "--resume" in self._commands[name][1]:  # safetensors opens files without Python
                opened |= {"last/state.safetensors", "last/previous.safetensors"}
            self._read[name] = opened & set(self._files(name))
            self._copy(name)
            self._intact[name] = first, self._result(name)[0]

    def case(self, number: int, draw: random.Random) -> Case:
        state = draw.choice([self._folder / "whole", self._folder / "stopped"])
        names = [name for name, (source, _) in self._commands.items() if source == state]
        file = draw.choice(sorted(set().union(*(self._read[name] for name in names))))
        others = [
            path for path in (state / "run").rglob("*") if path.is_file() and path != state / "run" / file
        ]
        mutant, kind = None, ""
        while mutant == (before := (state / "run" / file).read_bytes()) or not kind:
            kind = draw.choice(KINDS)
            mutant = mutated(before, others, kind, draw)
        readers = [name for name in names if file in self._read[name]]
        readers = draw.sample(readers, min(READERS, len(readers)))
        outcomes, faults = {}, []
        for name in readers:
            self._copy(name)
            run = self._folder / "here/run"
            if mutant is None:
                (run / file).unlink()
            else:
                (run / file).write_bytes(mutant)
            result, ended = self._result(name)
            outcomes[name] = self._outcome(name, result, ended)
            if outcomes[name] in ("traceback", "did not end", "silent"):
                changed = self._changed(name, result) if outcomes[name] == "silent" else []
                faults.append(f"{name}: {outcomes[name]}: {changed} {ended.output[-300:]}")
        return {"run": state.name, "file": file, "kind": kind, "outcomes": outcomes, "faults": faults}

    def _outcome(self, name: str, result: dict[str, list[str]], ended: Ended) -> str:
        if ended.failed_badly:
            return "did not end" if ended.code is None else "traceback"
        if ended.code != 0:
            return "refused"
        if not self._changed(name, result):
            return "as before"
        new = set(result["printed"]) - set(self._intact[name][0]["printed"])
        return "said" if any(map(SAID.search, new)) else "silent"

    def _changed(self, name: str, result: dict[str, list[str]]) -> list[str]:
        """The outputs that differ from those of the intact run."""
        one, two = self._intact[name]
        prints_times = name == "ensemble" or "--resume" in self._commands[name][1]
        names = one.keys() - {"printed"} if prints_times else one.keys()
        return sorted(
            {file for file in names if file not in result or not _alike(one[file], two[file], result[file])}
            | (result.keys() - one.keys())
        )

    def _files(self, name: str) -> list[str]:
        source = self._commands[name][0] / "run"
        return sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())

    def _copy(self, name: str) -> None:
        for folder in (self._folder / "here", self._folder / "out"):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._commands[name][0], self._folder / "here")
        (self._folder / "out").mkdir()

    def _result(
        self, name: str, before: Callable[[], object] = lambda: None
    ) -> tuple[dict[str, list[str]], Ended]:
        """What a command printed and wrote, by file, in lines; of a file that is no text, its SHA-256."""
        ended = trident(self._commands[name][1], self._folder / "output", before)
        written = {"printed": re.split(r"[\n\r]", ended.output)}
        run = RunFolder(self._folder / "here/run")
        if "--resume" in self._commands[name][1]:  # it prints and writes times; the figures are these
            found = ends(run) if ended.code == 0 else {}
            return written | {what: json.dumps(value).split(", ") for what, value in found.items()}, ended
        of_run = [run.report, run.ensemble]
        for path in [*of_run, *sorted((self._folder / "out").rglob("*"))]:
            if path.is_file():
                content = path.read_bytes()
                try:
                    lines = re.split(r"[\n>]", content.decode())
                except UnicodeDecodeError:
                    lines = [hashlib.sha256(content).hexdigest()]
                written[path.relative_to(self._folder).as_posix()] = lines
        return written, ended

    @staticmethod
    def summary(cases: list[Case]) -> Case:
        outcomes = [outcome for case in cases for outcome in case["outcomes"].values()]
        return {
            "readings": dict(Counter(outcomes)),
            "by_file": dict(sorted(Counter(f"{case['run']}/{case['file']}" for case in cases).items())),
            "by_kind": dict(Counter(case["kind"] for case in cases)),
        }


def _alike(one: list[str], two: list[str], found: list[str]) -> bool:
    """Whether lines are those of two intact readings, where these agree; elsewhere, numbers may differ."""
    one, two, found = ([TIME_OF_DAY.sub("", line) for line in lines] for lines in (one, two, found))
    if len(one) != len(two):
        return True  # it varies from reading to reading
    if len(found) != len(one):
        return False
    return all(
        c == a if a == b else re.sub(r"[\d.e+-]+", "", c) == re.sub(r"[\d.e+-]+", "", a)
        for a, b, c in zip(one, two, found, strict=True)
    )


def _record_reads(run: Path, out: Path) -> None:
    """Write the names of the files of a run that this process opens, one a line."""
    file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(f"{run}/"):
            os.write(file, str(arguments[0]).removeprefix(f"{run}/").encode() + b"\n")

    sys.addaudithook(on_event)


def _picture(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 40, 3), dtype=np.uint8)).save(path)
