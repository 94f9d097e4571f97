"""Runs whose files are written by the tests: a log, a manifest, a recipe, and counts of val images."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from engine.diagnosis import RunDiagnosis
from engine.recipe import load_recipe
from engine.run_folder import DataIdentity, Manifest, RunFolder

VOC = [
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
]  # fmt: skip
FILLED = {"source": "hf:nvidia/mit-b2", "parts": {"encoder": {"num_values": 100, "num_matched_values": 100}}}
MakeRun = Callable[..., RunFolder]
STEPS = np.arange(1, 21) * 100  # of evaluations
RECIPE = "name: here\ndata: {format: voc, root: nowhere, train: trainaug}\n"


def write_run(
    folder: Path,
    val: Sequence[dict] = (),
    train: Sequence[dict] = (),
    counts: Mapping[str, np.ndarray] | None = None,
    names: Sequence[str] = VOC,
    weights: dict | None = FILLED,
    recipe: str = RECIPE,
) -> RunFolder:
    """A run in a new folder: rows of its log, counts of val images by kind, each (N, ...)."""
    run = RunFolder(folder)
    run.path.mkdir()
    rows = [{"split": "val", **row} for row in val] + [{"split": "train", **row} for row in train]
    rows.sort(key=lambda row: row["step"])
    run.log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run.recipe.write_text(recipe)
    data = DataIdentity(format="voc", train="trainaug", val="val", train_fingerprint="", val_fingerprint="")
    run.write_manifest(
        Manifest(
            name="here", code_version="0", class_names=list(names), palette=[(0, 0, 0)] * len(names),
            data=data, metric="mIoU", weights=weights, num_parameters=1,
        )
    )  # fmt: skip
    if counts:
        with h5py.File(run.scores, "w") as file:
            file["ids"] = [f"image_{i}" for i in range(len(counts["confusion"]))]
            file["class_names"] = list(names)
            file.create_dataset("skipped", data=[], dtype=h5py.string_dtype())
            for kind, values in counts.items():
                file[f"{kind}/mean"] = values
    return run


def evaluations(steps: Sequence[float], points: Sequence[float]) -> list[dict]:
    """Val rows of a curve in points."""
    return [{"step": int(step), "mIoU": value / 100} for step, value in zip(steps, points, strict=True)]


def train_rows(losses: Sequence[float], **values: float) -> list[dict]:
    """Train rows over 2,000 steps; `values` are those of all rows."""
    every = 2000 // len(losses)
    return [
        {"step": every * (i + 1), "loss": 2 * loss, "decode.loss_ce": loss, "time": 1.0, "data_time": 0.05}
        | {"lr": 1e-4, **values}
        for i, loss in enumerate(losses)
    ]


def titles(diagnosis: RunDiagnosis) -> list[str]:
    return [recommendation.title for recommendation in diagnosis.recommendations]


def every_line_loads(run: RunFolder, diagnosis: RunDiagnosis) -> bool:
    """Applies each recommendation to the run's own recipe; each changes it."""
    before = load_recipe(run.recipe).to_dict()
    return all(load_recipe(run.recipe, r.recipe_lines).to_dict() != before for r in diagnosis.recommendations)
