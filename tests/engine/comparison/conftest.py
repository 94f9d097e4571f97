"""Finished runs, written as the files that a comparison reads."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.run_folder import DataIdentity, Manifest, Member, RunFolder
from engine.scoring.counting import Counts
from engine.scoring.scores_file import recorder

CLASSES = ["ground", "cat", "dog"]
IDS = [f"image{number}" for number in range(24)]
RECIPE = """
name: {name}
seed: {seed}
data: {{format: synthetic}}
model: {{variant: b0, from_scratch: true}}
train: {{steps: {steps}, batch: 4}}
schedule: {{warmup: 1}}
eval: {{every: 5, flip: {flip}}}
output: {{dir: "{parent}"}}
"""
MakeRun = Callable[..., RunFolder]


def counts(right: float, seed: int, num_classes: int = 3) -> np.ndarray:
    """(N, C, C): about this share of 100 pixels per class is right, the rest predicted as the next class."""
    rng = np.random.default_rng(seed)
    confusion = np.zeros((len(IDS), num_classes, num_classes), dtype=np.int64)
    for place in range(num_classes):
        hits = rng.binomial(100, right, len(IDS))
        confusion[:, place, place] = hits
        confusion[:, place, (place + 1) % num_classes] = 100 - hits
    return confusion


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`make_run("a-s0", right=0.8, seed=0)` writes a finished run; `changes` go into its manifest."""

    def make(
        folder: str,
        right: float = 0.8,
        seed: int = 0,
        steps: int = 10,
        flip: str = "false",
        confusion: np.ndarray | None = None,
        skipped: tuple[str, ...] = (),
        **changes,
    ) -> RunFolder:
        run = RunFolder(tmp_path / folder)
        run.create()
        recipe = RECIPE.format(name=run.path.name, seed=seed, steps=steps, flip=flip, parent=run.path.parent)
        run.recipe.write_text(recipe)
        found = counts(right, seed) if confusion is None else confusion
        with recorder(
            run.scores, IDS, changes.get("class_names", CLASSES), ["step 10", "step 5"], lambda: skipped
        ) as record:
            for id, matrix in zip(IDS, found, strict=True):
                both = {"step 10": matrix, "step 5": matrix.T}
                record([id], {name: Counts(torch.from_numpy(m[None])) for name, m in both.items()})
        rows = [
            {"step": 5, "split": "train", "time": 0.5, "memory": 900.0},
            {"step": 5, "split": "val", "mIoU": 0.25},
            {"step": 10, "split": "train", "time": 0.25, "memory": 1000.0},
            {"step": 10, "split": "val", "mIoU": 0.5},
        ]
        run.log.write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = DataIdentity(
            format="synthetic", train="train", val="val", train_fingerprint="t", val_fingerprint="v" * 64
        )
        members = [
            Member(file=f"top/{step}", step=step, scores={"mIoU": score}, sha256="")
            for step, score in ((10, 0.5), (5, 0.25))
        ]
        manifest = Manifest(
            name=run.path.name, code_version="0", class_names=CLASSES, palette=[(0, 0, 0)] * 3, data=data,
            metric="mIoU", num_parameters=1234, finished=True, members=members,
        )  # fmt: skip
        run.write_manifest(manifest.model_copy(update=changes))
        return run

    return make
