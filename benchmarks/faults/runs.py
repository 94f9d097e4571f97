"""The tiny runs of the campaigns: their command, what two have in common, and a look at their updates."""

import hashlib
import itertools
import json
import mmap
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from forked import Ended
from safetensors.torch import load_file

from engine.run_folder import RunFolder, read_log
from engine.training.step import SupervisedStep

DEMO = str(Path(__file__).parents[2] / "recipes/demo.yaml")
STEPS, SAVE_EVERY = 12, 2
TINY = [
    "data.synthetic.size=32", "data.synthetic.train_samples=8", "data.synthetic.val_samples=4",
    "augment.crop=32", "model.arch=linknet", "model.encoder=tu-test_efficientnet", "model.variant=b2",
    "schedule.warmup=1", f"train.steps={STEPS}", "train.batch=4", f"train.save_every={SAVE_EVERY}",
    "eval.every=4", "keep.top=2", "log.every=2", "log.images=1", "log.to=[]",
]  # fmt: skip
ADVERSARIAL = ["adversarial.start=2", "adversarial.ramp=2", "adversarial.channels=8", "adversarial.layers=2"]
EVERYTHING = [*ADVERSARIAL, "train.ema=0.9", "augment.cutmix=0.5"]
# Of a log row: seconds, memory, and gradients, which are measured at the first log step after a start too.
MEASURED = re.compile(r"time|data_time|save_time|memory|energy|gradients/.*")

Case = dict[str, Any]


def run_command(folder: Path, *more: str) -> list[str]:
    return ["run", DEMO, *TINY, f"output.dir={folder}", "name=run", *more, "--resume"]


def after_each_update(call: Callable[[int], None]) -> None:
    """Have `call` called with the number of updates done; in the process that trains."""
    update = SupervisedStep.__call__

    def observed(step: SupervisedStep, batch: Any) -> Any:
        metrics = update(step, batch)
        call(step.count)
        return metrics

    SupervisedStep.__call__ = observed  # type: ignore[method-assign]


class Updates:
    """Counts the updates of another process, in memory that both share."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    def watch(self) -> None:
        """Call it in the process that trains."""
        after_each_update(self._set)

    def _set(self, count: int) -> None:
        self._memory[:] = struct.pack("q", count)

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
