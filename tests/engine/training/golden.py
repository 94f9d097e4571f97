"""The losses of 30 updates of four small trainings, as version 0.1.0 computed them.

    python tests/engine/training/golden.py           compares with golden_losses.json, bit for bit
    python tests/engine/training/golden.py --write   writes golden_losses.json anew

The file was written by version 0.1.0. The script only uses what that version had too, so a refactoring is
checked by running it before and after on one machine; the test allows for another processor's rounding.
"""

import json
import sys
from pathlib import Path

import torch

from engine.recipe import load_recipe
from engine.training.distributed import start_process
from engine.training.session import build_session

FILE = Path(__file__).with_name("golden_losses.json")
RECIPE = Path(__file__).parents[3] / "recipes/demo.yaml"
NUM_STEPS = 30
SMALL = [
    "data.synthetic.size=64", "data.synthetic.train_samples=12", "data.synthetic.val_samples=2",
    "augment.crop=64", "train.batch=4", f"train.steps={NUM_STEPS}",
    "model.drop_path=0.1", "model.dropout=0.1",
]  # fmt: skip
TINY = ["model.arch=linknet", "model.encoder=tu-test_efficientnet"]
CASES = {
    "cross_entropy_dice": [],
    "every_loss": [
        *TINY,
        "loss=[{name: cross_entropy, label_smoothing: 0.1, class_weights: median},"
        "{name: dice, per_image: true},"
        "{name: focal}, {name: lovasz}, {name: tversky, gamma: 1.3}, {name: jaccard},"
        "{name: boundary, weight: {begin: 0, end: 1, start: 0, ramp: 50%}}]",
    ],
    "adversarial": [
        "adversarial.weight=0.1", "adversarial.channels=8", "adversarial.layers=3", "train.ema=0.9",
        "optimizer.layer_decay=0.9", "optimizer.clip_norm=1",
    ],
    "augmented": [
        *TINY, "data.sampler=rare", "augment.cutmix=0.3", "augment.classmix=0.3", "augment.mosaic=0.3",
        "augment.copy_paste=0.3", "augment.elastic=2", "augment.blur=1", "augment.noise=0.1",
        "augment.jpeg=0.2", "augment.hue=0.1", "augment.shear_deg=5", "augment.aspect=1.3",
        "loss.0.ohem={thresh: 0.7, min_kept: 1000}", "schedule.name=onecycle", "schedule.min_lr=0",
    ],
}  # fmt: skip


def losses(overrides: list[str]) -> list[float]:
    """The total loss of each update; one thread, float32, CPU."""
    torch.set_num_threads(1)
    recipe = load_recipe(RECIPE, SMALL + overrides)
    session = build_session(recipe, start_process(), lambda what: lambda done, total: None)
    batches = session.batches.starting_at(0)
    return [float(session.step(next(batches))["loss"]) for _ in range(NUM_STEPS)]


def main() -> int:
    found = {name: [value.hex() for value in losses(overrides)] for name, overrides in CASES.items()}
    if "--write" in sys.argv:
        FILE.write_text(json.dumps(found, indent=1) + "\n")
        return 0
    before = json.loads(FILE.read_text())
    for name, values in found.items():
        same = sum(a == b for a, b in zip(values, before[name], strict=True))
        print(f"{name}: {same} of {NUM_STEPS} losses equal bit for bit")
    return int(found != before)


if __name__ == "__main__":
    raise SystemExit(main())
