"""What a page says of a run, gathered from the run's own files. Whatever is missing is None or empty.

Knows nothing of HTML, and needs no model.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.recipe import Recipe, load_recipe
from engine.reporting.report.counts import Counts
from engine.run_folder import Manifest, RunFolder
from engine.scoring.evaluation import ENSEMBLE
from engine.scoring.scores_file import read_scores
from engine.scoring.statistics import Interval, draws, gain_interval, mean_iou_interval

Row = Mapping[str, Any]  # one line of log.jsonl


@dataclass(frozen=True)
class Result:
    """A member or an ensemble with its scores, which are shares of 1; None where there is none.

    key: its name in scores.h5. gain: over the best member of the run, of mIoU; honest_gain: where it was
    chosen on one half of the images and scored on the other. cost: passes through a network for each view.
    """

    key: str
    name: str
    note: str
    is_ensemble: bool
    mIoU: float | None
    mAcc: float | None
    aAcc: float | None
    IoU: Mapping[str, float | None]
    interval: Interval | None = None
    gain: float | None = None
    gain_interval: Interval | None = None
    honest_gain: float | None = None
    honest_interval: Interval | None = None
    images_per_second: float | None = None
    cost: int | None = None


@dataclass(frozen=True)
class RunContent:
    """One run. `name` tells it apart from the others of the page.

    scored: ensemble.json. counts: of the best member, and `ensemble_counts` of the ensemble, from scores.h5.
    """

    name: str
    run: RunFolder
    manifest: Manifest
    recipe: Recipe | None
    rows: Sequence[Row]
    results: Sequence[Result]
    scored: Mapping[str, Any]
    counts: Counts | None
    ensemble_counts: Counts | None
    doctor: Mapping[str, Any] | None

    @property
    def best(self) -> Result | None:
        """The member of the highest mIoU."""
        return best_member(self.results)

    @property
    def ensemble(self) -> Result | None:
        """The mean of the members, which every run makes."""
        return next((result for result in self.results if result.key == ENSEMBLE), None)

    @property
    def train_rows(self) -> list[Row]:
        return [row for row in self.rows if row["split"] == "train"]

    @property
    def val_rows(self) -> list[Row]:
        return [row for row in self.rows if row["split"] == "val"]

    @property
    def num_steps(self) -> int:
        """Updates that the log knows of."""
        return max((row["step"] for row in self.rows), default=0)

    @property
    def training_s(self) -> float | None:
        """Seconds in updates alone: those of evaluations and of the start are not in the log."""
        seconds, before = 0.0, 0
        for row in self.train_rows:
            seconds += row["time"] * (row["step"] - before)
            before = row["step"]
        return seconds or None

    @property
    def images_per_second(self) -> float | None:
        """In training, by the median of the log."""
        times = [row["time"] for row in self.train_rows]
        return self.recipe.train.batch / median(times) if times and self.recipe else None

    @property
    def memory_mb(self) -> float | None:
        """The peak."""
        return max((row["memory"] for row in self.train_rows), default=None)

    @property
    def group_key(self) -> tuple[object, ...]:
        """Runs of equal keys were scored on the same images and classes, and may be compared."""
        data = self.manifest.data
        return data.val, data.val_fingerprint, tuple(self.manifest.class_names)


def read_runs(runs: Sequence[RunFolder]) -> list[RunContent]:
    """Of each run what its files hold, the best first.

    Raises:
        RunFolderError: a manifest is missing or damaged.
        RecipeError: a run's recipe is not one of this version.
    """
    uses = Counter(run.read_manifest().name for run in runs)
    contents = [_read_run(run, uses) for run in runs]
    return sorted(contents, key=lambda content: -_score(content.best) if content.best else 2.0)


def groups_of(contents: Sequence[RunContent]) -> list[list[RunContent]]:
    """Runs that may be compared stand together; the group of the best run comes first."""
    groups: dict[tuple[object, ...], list[RunContent]] = {}
    for content in contents:
        groups.setdefault(content.group_key, []).append(content)
    return list(groups.values())


def best_member(results: Sequence[Result]) -> Result | None:
    """The member of the highest mIoU, the first of equals."""
    return max((result for result in results if not result.is_ensemble), key=_score, default=None)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of log.jsonl; half a last line, as a crash leaves it, is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _read_run(run: RunFolder, uses: Mapping[str, int]) -> RunContent:
    manifest = run.read_manifest()
    rows = read_log(run.log)
    scored = _json(run.ensemble) or {}
    scores = read_scores(run.scores) if run.scores.exists() else None
    drawn = draws(len(scores.ids)) if scores else None
    results = _results(scored) if scored else _members_of_log(manifest, rows)
    best = best_member(results)

    def counts_of(key: str) -> Counts | None:
        return Counts.of(scores, key, drawn) if scores and key in scores.confusion else None

    return RunContent(
        name=manifest.name if uses[manifest.name] == 1 else str(run.path),
        run=run,
        manifest=manifest,
        recipe=load_recipe(run.recipe) if run.recipe.exists() else None,
        rows=rows,
        results=_with_intervals(results, scores.confusion, drawn) if scores else results,
        scored=scored,
        counts=counts_of(best.key) if best else None,
        ensemble_counts=counts_of(ENSEMBLE),
        doctor=_json(run.doctor),
    )


def _results(scored: Mapping[str, Any]) -> list[Result]:
    """Ensembles and members of ensemble.json; an ensemble of one is that member, and left out."""
    members = [
        _result(f"step {member['step']}", f"step {member['step']}", member["path"], member)
        for member in scored["members"]
    ]
    honest = (scored.get("selection") or {}).get("honest") or {}
    ensembles = [
        _result(
            key,
            f"ensemble ({key})",
            f"{key} of {len(members)} members",
            {**numbers, "honest": honest.get(key, {}).get("gain")},
            is_ensemble=True,
        )
        for key, numbers in scored["ensembles"].items()
        if len(members) > 1
    ]
    best = best_member(members)
    if best and best.mIoU is not None:
        ensembles = [
            replace(ensemble, gain=None if ensemble.mIoU is None else ensemble.mIoU - best.mIoU)
            for ensemble in ensembles
        ]
    return [*ensembles, *members]


def _result(key: str, name: str, note: str, numbers: Mapping[str, Any], is_ensemble: bool = False) -> Result:
    means = {metric: numbers[metric] for metric in ("mIoU", "mAcc", "aAcc", "IoU")}
    gain, honest = numbers.get("gain"), numbers.get("honest")
    return Result(
        key,
        name,
        numbers.get("note") or note,
        is_ensemble,
        **means,
        gain_interval=Interval(gain["low"], gain["high"]) if gain else None,
        honest_gain=honest["value"] if honest else None,
        honest_interval=Interval(honest["low"], honest["high"]) if honest else None,
        images_per_second=numbers.get("images_per_second"),
        cost=numbers.get("cost"),
    )


def _with_intervals(
    results: Sequence[Result], confusion: Mapping[str, NDArray[np.int64]], drawn: NDArray[np.float64]
) -> list[Result]:
    """What the counts of each image add: how sure the scores and the gains are."""
    judged = []
    best = best_member(results)
    for result in results:
        known = confusion.get(result.key)
        if known is not None:
            result = replace(result, interval=mean_iou_interval(known, drawn))
            if result.is_ensemble and not result.gain_interval and best and best.key in confusion:
                result = replace(result, gain_interval=gain_interval(confusion[best.key], known, drawn))
        judged.append(result)
    return judged


def _members_of_log(manifest: Manifest, rows: Sequence[Row]) -> list[Result]:
    """Members with the scores of the evaluation that kept them."""
    evaluations = {row["step"]: row for row in rows if row["split"] == "val"}
    unknown = {"mIoU": None, "mAcc": None, "aAcc": None, "IoU": {}}
    return [
        _result(
            f"step {member.step}",
            f"step {member.step}",
            member.file,
            unknown | member.scores | dict(evaluations.get(member.step, {})),
        )
        for member in manifest.members
    ]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _score(result: Result) -> float:
    return -1.0 if result.mIoU is None else result.mIoU
