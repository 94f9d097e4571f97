"""What finished runs tell a comparison: their counts on val, and what they cost. Knows nothing of statistics.

The score of a run is that of its best checkpoint: the one that it would be used with.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.comparison.grid import CompareError
from engine.recipe import Recipe, load_recipe
from engine.recipe.changes import changes
from engine.run_folder import Manifest, RunFolder, read_log
from engine.scoring.confusion import overlaps
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.scores_file import read_scores

Row = Mapping[str, Any]  # a line of log.jsonl


@dataclass(frozen=True)
class Cost:
    """Of one run; None where its log does not tell.

    update_s: median time of an update. training_s: all updates, without evaluations. memory_mb: at the most,
    of the GPU's allocator or else of the process. energy_j: of the first process's GPU, with evaluations.
    """

    update_s: float | None
    images_per_s: float | None
    memory_mb: float | None
    training_s: float | None
    energy_j: float | None

    @classmethod
    def of(cls, rows: Sequence[Row], batch: int) -> "Cost":
        train = [row for row in rows if row["split"] == "train"]
        if not train:
            return cls(None, None, None, None, None)
        update_s = median(row["time"] for row in train)
        since = [0, *(row["step"] for row in train)]
        seconds = [row["time"] * (row["step"] - before) for row, before in zip(train, since, strict=False)]
        energy = [row["energy"] for row in train if row.get("energy") is not None]
        return cls(
            update_s=update_s,
            images_per_s=batch / update_s,
            memory_mb=max(row["memory"] for row in train),
            training_s=sum(seconds),
            energy_j=sum(energy) if energy else None,
        )


@dataclass(frozen=True)
class ScoredRun:
    """A finished run. overlaps: (N, 2, C) of its best checkpoint on each val image; curve: (step, mIoU)."""

    run: RunFolder
    manifest: Manifest
    recipe: Recipe
    ids: list[str]
    overlaps: NDArray[np.int64]
    cost: Cost
    curve: list[tuple[int, float | None]]

    @classmethod
    def of(cls, run: RunFolder) -> "ScoredRun":
        """Raises CompareError or RunFolderError where the run has not finished, or lacks a file."""
        manifest = run.read_manifest()
        if not manifest.finished or not run.scores.exists():
            raise CompareError(
                f"{run.path} has not finished, so there is no score on each val image. Type the command that "
                "trains it with --resume behind it, or leave it out."
            )
        recipe = load_recipe(run.recipe)
        scores = read_scores(run.scores)
        best = f"step {manifest.members[0].step}"
        if best not in scores.confusion:
            raise CompareError(f"{run.scores} has no counts of {best}, the best checkpoint of the run.")
        rows = read_log(run.log)
        return cls(
            run,
            manifest,
            recipe,
            scores.ids,
            overlaps(scores.confusion[best]),
            Cost.of(rows, recipe.train.batch),
            [(row["step"], row["mIoU"]) for row in rows if row["split"] == "val"],
        )

    @property
    def seed(self) -> int:
        return self.recipe.seed

    @property
    def protocol(self) -> dict[str, object]:
        return EvaluationProtocol.of(self.recipe.eval).card()


@dataclass(frozen=True)
class Method:
    """Runs that differ in their seed alone."""

    name: str
    runs: list[ScoredRun]


def group_by_recipe(runs: Iterable[ScoredRun]) -> list[Method]:
    """Runs whose recipes differ in name and seed alone are one method, named as its first run less the seed.

    Raises:
        CompareError: two runs are the same training.
    """
    groups: list[list[ScoredRun]] = []
    for run in runs:
        group = next((group for group in groups if _is_same_method(group[0], run)), None)
        if group is None:
            groups.append([run])
            continue
        twin = next((other for other in group if other.seed == run.seed), None)
        if twin:
            raise CompareError(
                f"{twin.run.path} and {run.run.path} are one recipe with one seed, {run.seed}: they say the "
                "same twice. Leave one out."
            )
        group.append(run)
    return [Method(name, group) for name, group in zip(_distinct_names(groups), groups, strict=True)]


def _distinct_names(groups: Sequence[list[ScoredRun]]) -> list[str]:
    """As short as tells them apart: without the seed, the whole name, or the path of the first run."""
    firsts = [group[0] for group in groups]
    choices = (
        [_name_without_seed(run) for run in firsts],
        [run.manifest.name for run in firsts],
        [str(run.run.path) for run in firsts],
    )
    return next(names for names in choices if len({*names}) == len(names))


def _is_same_method(one: ScoredRun, other: ScoredRun) -> bool:
    return all(change.key in ("name", "seed") for change in changes(one.recipe, other.recipe))


def _name_without_seed(run: ScoredRun) -> str:
    """b0_ce_s1, b0_ce-1 and b0_ce-seed1 of seed 1 are b0_ce."""
    return re.sub(rf"[-_.](s|seed)?{run.seed}$", "", run.manifest.name)


def require_comparable(methods: Sequence[Method]) -> None:
    """Raises CompareError, with the reason, where runs were not scored alike, or on other images."""
    runs = [run for method in methods for run in method.runs]
    first = runs[0]
    for run in runs[1:]:
        reason = _why_not(first, run)
        if reason:
            raise CompareError(f"{run.run.path} cannot be compared with {first.run.path}: {reason}")


def _why_not(one: ScoredRun, other: ScoredRun) -> str | None:
    if one.manifest.class_names != other.manifest.class_names:
        return (
            f"its classes are {', '.join(other.manifest.class_names)}, not "
            f"{', '.join(one.manifest.class_names)}."
        )
    if one.manifest.data.val_fingerprint != other.manifest.data.val_fingerprint:
        return (
            "its val images or labels are others (fingerprint "
            f"{other.manifest.data.val_fingerprint[:8]}, not {one.manifest.data.val_fingerprint[:8]})."
        )
    if one.protocol != other.protocol:
        return f"it was scored with {other.protocol}, not with {one.protocol}."
    if one.ids != other.ids:
        missing = sorted(set(one.ids) ^ set(other.ids))
        return f"{len(missing)} images could be read in one of them only: {', '.join(missing[:5])}."
    return None
