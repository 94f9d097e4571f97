"""What is left of a run after kills, signals, errors of the disk and damaged files: campaigns that count.

    python benchmarks/faults.py kills      --cases 200  --out FILE   SIGKILL at random, 1 of 4 inside a save
    python benchmarks/faults.py signals    --cases 50   --out FILE   SIGTERM or SIGINT, over kinds of training
    python benchmarks/faults.py mutations  --cases 1000 --out FILE   files of runs damaged, then read
    python benchmarks/faults.py disk       --cases 12   --out FILE   errors of the disk while a run writes
    python benchmarks/faults.py memory     --cases 1    --out FILE   growth over 5,000 updates
    python benchmarks/faults.py save_time  --cases 1    --out FILE   updates during a save; on an idle machine

Each campaign has its entry in FILE. A case depends on --seed and its number only, so a campaign that was
ended (by --seconds, or a signal) goes on where it was. The runs are tiny: 12 updates of LinkNet on drawn
scenes of 32 px.
"""

import argparse
import errno
import hashlib
import itertools
import json
import mmap
import os
import platform
import random
import re
import resource
import shutil
import signal
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "300"}

import torch
from forked import Command, Ended, trident
from safetensors.torch import load_file

from engine.run_folder import RunFolder, read_log
from engine.training import checkpoint, saving
from engine.training.step import SupervisedStep

DEMO = str(Path(__file__).parents[1] / "recipes/demo.yaml")
STEPS, SAVE_EVERY = 12, 2
TINY = [
    "data.synthetic.size=32", "data.synthetic.train_samples=8", "data.synthetic.val_samples=4",
    "augment.crop=32", "model.arch=linknet", "model.encoder=tu-test_efficientnet", "model.variant=b2",
    "schedule.warmup=1", f"train.steps={STEPS}", "train.batch=4", f"train.save_every={SAVE_EVERY}",
    "eval.every=4", "keep.top=2", "log.every=2", "log.images=1", "log.to=[]",
]  # fmt: skip
ADVERSARIAL = ["adversarial.start=2", "adversarial.ramp=2", "adversarial.channels=8", "adversarial.layers=2"]
VARIANTS = {
    "plain": [],
    "adversarial": ADVERSARIAL,
    "moving average": ["train.ema=0.9"],
    "accumulation": ["train.accumulate=2"],
    "mixing": ["augment.cutmix=1.0"],
    "workers": ["data.workers=2"],
    "2 processes": [],
}
EVERYTHING = [*ADVERSARIAL, "train.ema=0.9", "augment.cutmix=0.5"]
# Of a log row: seconds, memory, and gradients, which are measured at the first log step after a start too.
MEASURED = re.compile(r"time|data_time|save_time|memory|energy|gradients/.*")

Case = dict[str, Any]


def run_command(folder: Path, *more: str) -> list[str]:
    return ["run", DEMO, *TINY, f"output.dir={folder}", "name=run", *more, "--resume"]


class Updates:
    """Counts the updates of another process, in memory that both share."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    def watch(self) -> None:
        """Call it in the process that trains."""
        update = SupervisedStep.__call__

        def counted(step: SupervisedStep, batch: Any) -> Any:
            metrics = update(step, batch)
            self._memory[:] = struct.pack("q", step.count)
            return metrics

        SupervisedStep.__call__ = counted  # type: ignore[method-assign]

    @property
    def count(self) -> int:
        return int(struct.unpack("q", self._memory[:])[0])


def ends(run: RunFolder) -> dict[str, Any]:
    """All that a repetition has in common: bits of the weights and the state, log, scores."""
    tensors = {
        path.relative_to(run.path).as_posix(): {
            key: hashlib.sha256(value.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
            for key, value in load_file(path).items()
        }
        for path in (run.last_state, *sorted(run.top.iterdir()))
    }
    rows = [
        {key: value for key, value in row.items() if not MEASURED.fullmatch(key)}
        for row in read_log(run.log)
        if row["split"] != "note"
    ]
    manifest = json.loads(run.manifest.read_text())
    return {
        "tensors": tensors, "log": rows, "ensemble": json.loads(run.ensemble.read_text()),
        "members": [(member["file"], member["scores"]) for member in manifest["members"]],
    }  # fmt: skip


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What is not equal; of the log, the rows."""
    pairs = itertools.zip_longest(one["log"], other["log"], fillvalue={})
    rows = [f"log: {sorted(a.items() ^ b.items())[:4]}" for a, b in pairs if a != b]
    return [key for key in one if key != "log" and one[key] != other[key]] + rows


def judge_going_on(resumed: Ended, run: RunFolder, whole: dict[str, Any]) -> Case:
    """Whether the repetition of the command went to the end, and to the same one."""
    went_on = resumed.code == 0
    different = differences(whole, ends(run)) if went_on else []
    faults = [] if went_on else [f"the repetition ended with {resumed.code}: {resumed.output[-400:]}"]
    return {"went_on": went_on, "equal": went_on and not different, "faults": [*faults, *different]}


# Kills


def die_inside_a_save(place: str, number: int) -> None:
    """SIGKILL in the number-th save of a state from now: with half of it written, or before a rename."""
    passed = 0

    def die_at(found: str) -> None:
        nonlocal passed
        passed += found == place
        if found == place and passed == number:
            os.kill(os.getpid(), signal.SIGKILL)

    save_file = checkpoint.save_file

    def half_written(tensors: Any, path: Path, metadata: Any) -> None:
        save_file(tensors, path, metadata)
        if "last/" in str(path):
            os.truncate(path, os.path.getsize(path) // 2)
            die_at("half of the state is written")
            save_file(tensors, path, metadata)

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename":
            target = str(arguments[1])
            if target.endswith("last/previous.safetensors"):
                die_at("the new state is written")
            if target.endswith("last/state.safetensors"):
                die_at("the old state is renamed")

    checkpoint.save_file = half_written
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
            if command.end().code == -signal.SIGKILL:
                break
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


# Signals


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
        return {"variant": variant, "signal": sent.name, "after": after, "stopped": is_stopped, **found}

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


# Errors of the disk

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
            update = SupervisedStep.__call__

            def update_then_fail(step: SupervisedStep, batch: Any) -> Any:
                metrics = update(step, batch)
                if step.count == 3:
                    fail()
                return metrics

            if file in AT_THE_START:
                fail()
            SupervisedStep.__call__ = update_then_fail  # type: ignore[method-assign]

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


# Damaged files

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
    import numpy as np
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 40, 3), dtype=np.uint8)).save(path)


# What a long run costs


class Memory:
    """The growth of memory and of open files over 5,000 updates with a save every 100."""

    UPDATES = 5000

    def __init__(self, folder: Path):
        self._folder = folder

    def case(self, number: int, draw: random.Random) -> Case:
        samples = self._folder / "samples"

        def before() -> None:
            update = SupervisedStep.__call__

            def sampled(step: SupervisedStep, batch: Any) -> Any:
                metrics = update(step, batch)
                if step.count % (self.UPDATES // 10) == 0:
                    pages = int(Path("/proc/self/statm").read_text().split()[1])
                    row = [
                        step.count,
                        pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
                        len(os.listdir("/proc/self/fd")),
                    ]
                    with samples.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                return metrics

            SupervisedStep.__call__ = sampled  # type: ignore[method-assign]

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
    """The time of updates during which a state is written, next to that of the others, in one run."""

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
                during, started = bool(busy[0]), time.perf_counter()
                metrics = update(step, batch)
                with samples.open("a") as file:
                    file.write(json.dumps([during or bool(busy[0]), time.perf_counter() - started]) + "\n")
                return metrics

            SupervisedStep.__call__ = timed  # type: ignore[method-assign]
            saving.write_state = write_state

        command = [
            "run", DEMO, "train.steps=600", "train.save_every=10", "eval.every=600", "log.to=[]", "name=run",
            f"output.dir={self._folder}",
        ]  # fmt: skip
        ended = Command(command, self._folder / "output", before).end(3600)
        rows = [json.loads(line) for line in samples.read_text().splitlines()][20:]
        during, others = ([seconds for is_busy, seconds in rows if is_busy == want] for want in (True, False))
        return {
            "updates_during_a_save": len(during),
            "other_updates": len(others),
            "median_s_during_a_save": statistics.median(during),
            "median_s": statistics.median(others),
            "slower_percent": round(100 * (statistics.median(during) / statistics.median(others) - 1), 2),
            "faults": [] if ended.code == 0 else [ended.output[-400:]],
        }

    @staticmethod
    def summary(cases: list[Case]) -> Case:
        return {key: value for case in cases for key, value in case.items() if key != "faults"}


CAMPAIGNS = {
    "kills": Kills, "signals": Signals, "mutations": Mutations, "disk": Disk, "memory": Memory,
    "save_time": SaveTime,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("campaign", choices=CAMPAIGNS, nargs="+")
    parser.add_argument("--cases", type=int, required=True, help="how many there are at the end")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file; other campaigns in it stay")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no case after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", default=(), help="mutations: read with these commands only")
    parser.add_argument("--machine", default=platform.machine(), help="what it was measured on, for the file")
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.seconds
    Mutations.only = arguments.commands
    for name in arguments.campaign:
        campaign(name, arguments, until)


def campaign(name: str, arguments: argparse.Namespace, until: float) -> None:
    """Add cases to the entry of one campaign. Its cases stand in FILE.<name>.jsonl, one a line."""
    out: Path = arguments.out
    log = out.with_suffix(f".{name}.jsonl")
    cases = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        if len(cases) < arguments.cases:
            made = CAMPAIGNS[name](Path(folder))
        while len(cases) < arguments.cases and time.monotonic() < until:
            draw = random.Random(f"{arguments.seed} {name} {len(cases)}")
            cases.append(made.case(len(cases), draw))
            with log.open("a") as file:
                file.write(json.dumps(cases[-1]) + "\n")
            if cases[-1]["faults"]:
                print(f"{name} {len(cases) - 1}: {cases[-1]}", flush=True)
    faults = [{"case": number, **case} for number, case in enumerate(cases) if case["faults"]]
    entry = {
        "cases": len(cases), "seed": arguments.seed, "machine": arguments.machine, "torch": torch.__version__,
        "date": date.today().isoformat(), **CAMPAIGNS[name].summary(cases), "faults": faults,
    }  # fmt: skip
    content = json.loads(out.read_text()) if out.exists() else {}
    out.write_text(json.dumps(content | {name: entry}, indent=2) + "\n")
    print(f"{name}: {len(cases)} cases, {len(faults)} with faults: {out}")


if __name__ == "__main__":
    main()
