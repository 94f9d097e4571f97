"""The whole job, from the command to the final ensemble: a recipe beside a plain script, over several seeds.

Both start from the same weights and make the same number of updates with the same photos. Checkpoints are
selected on photos that are held out from the training split; `val` chooses nothing and is scored once.
"""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from safetensors.torch import save_file

from engine.data.class_counts import count_classes
from engine.data.formats.voc import open_voc
from engine.data.sample import Dataset
from engine.recipe import Recipe, load_recipe
from engine.run_folder import RunFolderError, read_json, write_json
from engine.scoring.boundary import boundary_matrices
from engine.scoring.confusion import confusion_matrices
from engine.scoring.evaluation import ENSEMBLE
from engine.scoring.metrics import overlaps
from engine.scoring.run import Run
from engine.scoring.seeds import SeedScores, difference
from engine.scoring.statistics import draws
from models import build_model
from models.class_names import VOC
from models.weights import load_weights

VOID = 255
HELD_OUT_SHARE = 1 / 8  # of the training photos, for selecting checkpoints
FREQUENT_SHARE = 0.1  # a class is frequent if at least this share of the training photos has it
SCRIPT, TRIDENT = "script", "trident"
COLOURS = {SCRIPT: "#c2570c", TRIDENT: "#2457c5"}
Overlaps = NDArray[np.int64]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Job:
    """What is compared, and where.

    root: a folder in the layout of VOC. train, val: names of its lists.
    recipe: a recipe file; the script has its encoder, weights, batch and learning rate.
    updates: of the model, by both. seeds: one training of each contender for each.
    work: a folder for the trainings; what is finished there is not trained again.
    """

    root: Path
    recipe: Path
    updates: int
    seeds: Sequence[int]
    work: Path
    train: str = "trainaug"
    val: str = "val"

    @property
    def photos(self) -> Path:
        return self.work / "photos"

    @property
    def weights(self) -> Path:
        return self.work / "encoder.safetensors"

    @cached_property
    def loaded(self) -> Recipe:
        return load_recipe(self.recipe, [f"data.root={self.root}"])

    def command(self, contender: str, seed: int) -> list[str]:
        """What is timed."""
        python = [sys.executable, "-m"]
        if contender == SCRIPT:
            files = map(str, (self.photos, self.weights, self.work / f"script_s{seed}"))
            options = {
                "updates": self.updates,
                "seed": seed,
                "encoder": self.loaded.model.encoder,
                "batch": self.loaded.train.batch,
                "lr": self.loaded.optimizer.lr,
            }
            typed = [text for name, value in options.items() for text in (f"--{name}", str(value))]
            return [*python, "engine.benchmarks.plain_script", *files, *typed]
        lists = ["data.train=fit", "data.select=select", "data.val=val"]
        where = [f"data.root={self.photos}", f"output.dir={self.work}", f"name=trident_s{seed}"]
        length = [f"seed={seed}", f"train.steps={self.updates}"]
        return [*python, "engine.run", str(self.recipe), *where, *lists, *length]


@dataclass(frozen=True)
class Result:
    """Of one training. facts: wall_s, peak_mb, images_per_s; the others (N, 2, C) by predictor."""

    facts: dict[str, float]
    overlaps: dict[str, Overlaps]
    boundary: dict[str, Overlaps]


def measure(job: Job, progress: Callable[[int, int], None]) -> Rows:
    """Train what is not trained yet, the contenders in turn, and compare.

    Returns:
        One row for each figure: what, its value by seed of the script and of Trident, `difference` with its
        95 % interval (low, high) or the median `ratio` of Trident to the script.

    Raises:
        RunFolderError: a training was interrupted before, or failed.
        DataError, ModelError, RecipeError: wrong input.
    """
    _prepare(job)
    pairs = [
        (seed, contender)
        for number, seed in enumerate(job.seeds)
        for contender in ((SCRIPT, TRIDENT) if number % 2 == 0 else (TRIDENT, SCRIPT))
    ]
    for done, (seed, contender) in enumerate(pairs):
        progress(done, len(pairs))
        _train(job, contender, seed)
    progress(len(pairs), len(pairs))
    val = open_voc(job.photos, "val", VOC, VOID)
    results = {
        SCRIPT: [_result_of_script(job, seed, val) for seed in job.seeds],
        TRIDENT: [_result_of_trident(job, seed) for seed in job.seeds],
    }
    labelled = labelled_classes(val)
    frequent = frequent_classes(open_voc(job.photos, "fit", VOC, VOID), labelled)
    return _rows(job, results, {"labelled": labelled, "frequent": frequent})


def _prepare(job: Job) -> None:
    """The photos with their three lists, and the encoder's weights under SMP's names."""
    lists = job.photos / "ImageSets/Segmentation"
    given = {name: open_voc(job.root, name, VOC, VOID).ids for name in (job.train, job.val)}
    ranked = sorted(given[job.train], key=lambda id: hashlib.sha256(id.encode()).hexdigest())
    held_out = {*ranked[: round(HELD_OUT_SHARE * len(ranked))]}
    lists.mkdir(parents=True, exist_ok=True)
    for name, ids in {
        "fit": [id for id in given[job.train] if id not in held_out],
        "select": [id for id in given[job.train] if id in held_out],
        "val": given[job.val],
    }.items():
        (lists / f"{name}.txt").write_text("".join(f"{id}\n" for id in ids))
    for folder in ("JPEGImages", "SegmentationClass"):
        if not (job.photos / folder).exists():
            (job.photos / folder).symlink_to((job.root / folder).absolute())
    if not job.weights.exists():
        model = build_model(job.loaded.model, VOC)
        load_weights(model, job.loaded.model.weights or "")
        encoder = {key: value for key, value in model.state_dict().items() if key.startswith("encoder.")}
        save_file(encoder, job.weights)


def _train(job: Job, contender: str, seed: int) -> None:
    """Runs the command and notes its time and its peak memory."""
    name = f"{contender}_s{seed}"
    facts, log = job.work / f"{name}.facts.json", job.work / f"{name}.log"
    if facts.exists():
        return
    if (folder := job.work / name).exists():
        raise RunFolderError(
            f"{folder} is of a benchmark that was interrupted, so its time is not known. Type: "
            f"rm -r {shlex.quote(str(folder))}"
        )
    with log.open("w") as output:
        start = time.monotonic()
        child = subprocess.Popen(job.command(contender, seed), stdout=output, stderr=subprocess.STDOUT)
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            raise
        wall_s = time.monotonic() - start
    if status:
        tail = "\n".join(log.read_text().splitlines()[-5:])
        raise RunFolderError(f"{name} failed; {log} ends with:\n{tail}")
    write_json(facts, {"wall_s": wall_s, "peak_mb": usage.ru_maxrss / 1024})


def _result_of_script(job: Job, seed: int, val: Dataset) -> Result:
    told = json.loads((job.work / f"script_s{seed}.json").read_text())
    facts = _facts(job, SCRIPT, seed) | {"images_per_s": told["images_per_s"]}
    confusion: dict[str, list[NDArray[np.int64]]] = {}
    boundary: dict[str, list[NDArray[np.int64]]] = {}
    with np.load(job.work / f"script_s{seed}.npz") as file:
        for number in range(len(val)):
            labels = val[number].labels[None]
            for name in (*told["members"], ENSEMBLE):
                found = torch.from_numpy(file[f"{name}/{number}"])[None]
                of_image = confusion_matrices(found, labels, len(VOC), VOID).numpy()
                bands = boundary_matrices(found, labels, len(VOC), VOID).numpy()
                confusion.setdefault(name, []).append(of_image)
                boundary.setdefault(name, []).append(bands)
    return Result(facts, _overlaps(confusion), _overlaps(boundary))


def _result_of_trident(job: Job, seed: int) -> Result:
    run = Run(job.work / f"trident_s{seed}")
    assert run.scores is not None, "a finished run has scores.h5"
    facts = _facts(job, TRIDENT, seed) | {"images_per_s": run.cost.images_per_s or float("nan")}
    members = [f"step {member.step}" for member in run.manifest.members]  # best first
    confusion = {name: [run.scores.confusion[name]] for name in (*members, ENSEMBLE)}
    boundary = {name: [run.scores.boundary[name]] for name in confusion}
    return Result(facts, _overlaps(confusion), _overlaps(boundary))


def _facts(job: Job, contender: str, seed: int) -> dict[str, float]:
    facts: dict[str, float] = read_json(job.work / f"{contender}_s{seed}.facts.json")
    return facts


def _overlaps(counts: dict[str, list[NDArray[np.int64]]]) -> dict[str, Overlaps]:
    """Of the classes; without the extra row and column of boundary counts."""
    return {name: overlaps(np.concatenate(rows))[..., : len(VOC)] for name, rows in counts.items()}


def labelled_classes(val: Dataset) -> list[int]:
    """The classes that the labels of a split hold."""
    present: list[int] = np.flatnonzero(count_classes(val, lambda *_: None).pixels.any(axis=0)).tolist()
    return present


def frequent_classes(train: Dataset, among: list[int]) -> list[int]:
    """Those in at least `FREQUENT_SHARE` of the images of a split."""
    shares = (count_classes(train, lambda *_: None).pixels > 0).mean(axis=0)
    return [id for id in among if shares[id] >= FREQUENT_SHARE]


def _rows(job: Job, results: dict[str, list[Result]], classes: dict[str, list[int]]) -> Rows:
    drawn = draws(len(next(iter(results[SCRIPT][0].overlaps.values()))))

    def scores(contender: str, ids: list[int], which: str, kind: str = "overlaps") -> SeedScores:
        """mIoU over some classes of the best member, the mean of the members, or the ensemble, by seed."""
        parts = []
        for number in range(len(job.seeds)):
            found: dict[str, Overlaps] = getattr(results[contender][number], kind)
            members = [name for name in found if name != ENSEMBLE]
            names = {"best": members[:1], "members": members, "ensemble": [ENSEMBLE]}[which]
            of_names = {place: found[name][..., ids] for place, name in enumerate(names)}
            parts.append(SeedScores.of(of_names, drawn))
        means = (
            np.stack([values.mean(axis=0) for values in of_parts])
            for of_parts in zip(*((part.scores, part.drawn, part.of_images) for part in parts), strict=True)
        )
        return SeedScores(tuple(job.seeds), *means)

    def row(what: str, ours: SeedScores, other: SeedScores, columns: dict[str, SeedScores]) -> dict[str, Any]:
        gap = difference(ours, other)
        shown = {name: column.scores[:, 0].tolist() for name, column in columns.items()}
        return {"what": what, **shown, "difference": gap.value[0], "low": gap.low[0], "high": gap.high[0]}

    rows: Rows = []
    kinds = [("overlaps", "mIoU"), ("boundary", "boundary IoU")]
    for kind, metric in kinds:
        for title, ids in classes.items():
            for which in ("best", "members", "ensemble"):
                script, trident = (scores(c, ids, which, kind) for c in (SCRIPT, TRIDENT))
                what = f"{metric}, {which}, {len(ids)} {title} classes"
                rows.append(row(what, trident, script, {SCRIPT: script, TRIDENT: trident}))
    for id in classes["labelled"]:
        script, trident = (scores(c, [id], "ensemble") for c in (SCRIPT, TRIDENT))
        columns = {SCRIPT: script, TRIDENT: trident}
        rows.append(row(f"IoU, ensemble, {VOC[id]}", trident, script, columns))
    for title, ids in classes.items():
        ensemble, members, best = (scores(TRIDENT, ids, w) for w in ("ensemble", "members", "best"))
        for name, other in (("members", members), ("best", best)):
            what = f"mIoU, ensemble of trident less its {name}, {title} classes"
            rows.append(row(what, ensemble, other, {}))
    for fact in ("wall_s", "images_per_s", "peak_mb"):
        values = {name: [result.facts[fact] for result in of] for name, of in results.items()}
        quotients = [b / a for a, b in zip(values[SCRIPT], values[TRIDENT], strict=True)]
        rows.append({"what": fact, **values, "ratio": median(quotients)})
    return rows


def plot(rows: Rows, path: Path) -> None:
    """A PNG: the scores of each seed, and the wall time."""
    shown = [row for row in rows if SCRIPT in row and "difference" in row]
    figure = Figure(figsize=(9, 1 + 0.27 * len(shown)), layout="constrained")
    scores, times = figure.subplots(1, 2, width_ratios=[3, 1])
    for place, row in enumerate(reversed(shown)):
        for offset, name in ((0.15, SCRIPT), (-0.15, TRIDENT)):
            colour = COLOURS[name]
            label = name if place == 0 else None
            scores.plot(
                row[name], [place + offset] * len(row[name]), "o", color=colour, alpha=0.6, label=label
            )
            scores.plot([np.mean(row[name])], [place + offset], "|", color=colour, markersize=14)
    scores.set_yticks(range(len(shown)), [row["what"] for row in reversed(shown)])
    scores.set_xlabel("score on val; a dot for each seed, a line at their mean")
    scores.grid(axis="x", alpha=0.3)
    scores.legend()
    wall = next(row for row in rows if row["what"] == "wall_s")
    for place, name in enumerate((SCRIPT, TRIDENT)):
        minutes = [seconds / 60 for seconds in wall[name]]
        times.bar(place, np.mean(minutes), color=COLOURS[name], alpha=0.5)
        times.plot([place] * len(minutes), minutes, "o", color=COLOURS[name])
    times.set_xticks((0, 1), (SCRIPT, TRIDENT))
    times.set_ylabel("from the command to the ensemble, min")
    figure.savefig(path, dpi=110)
