"""The command line of a run on drawn scenes of 32 px."""

import re
import shlex
from pathlib import Path

from engine.command import main as command_line

ROOT = Path(__file__).parents[2]
RECIPE = str(ROOT / "recipes/demo.yaml")
TINY = [
    "data.synthetic.size=32",
    "data.synthetic.train_samples=8",
    "data.synthetic.val_samples=5",
    "augment.crop=32",
    "schedule.warmup=1",
    "train.steps=6",
    "train.batch=4",
    "eval.every=2",
    "log.every=2",
    "log.images=2",
    "log.to=[]",  # TensorBoard traces the model, which takes longer than these updates
]
VOC_RECIPE = str(ROOT / "recipes/b0_ce_dice.yaml")
TINY_VOC = [  # for VOC_RECIPE on a `voc_folder`
    "data.train=train",
    "model.weights=null",
    "model.from_scratch=true",
    "augment.crop=32",
    "schedule.warmup=1",
    "train.steps=2",
    "train.batch=2",
    "eval.every=2",
    "log.every=1",
    "log.images=0",
    "log.to=[]",
]
ADVERSARIAL = ["adversarial.start=2", "adversarial.ramp=2", "adversarial.channels=8", "adversarial.layers=2"]


def tiny(folder: Path, name: str, *more: str) -> list[str]:
    return [RECIPE, *TINY, f"output.dir={folder}", f"name={name}", *more]


def run_printed(text: str) -> int:
    """Run the last command that a message prints, a `trident ...` at the end of a line; its exit code."""
    commands = re.findall(r"\btrident (?:run|diagnose) .+$", text, re.MULTILINE)
    assert commands, text
    return command_line(shlex.split(commands[-1])[1:])
