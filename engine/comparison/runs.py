"""The runs of a comparison: their counts on val, the methods they belong to, and which can be compared.

The score of a run is that of its best checkpoint: the one that it would be used with.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.comparison.grid import CompareError
from engine.recipe import Recipe, changes
from engine.run_folder import Manifest
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.run import Run
from engine.wording import quantity


@dataclass(frozen=True)
class ScoredRun:
    """A finished run. overlaps: (N, 2, C) of its best checkpoint on each val image in `ids`."""

    run: Run
    recipe: Recipe
    ids: list[str]
    overlaps: NDArray[np.int64]

    @classmethod
    def of(cls, run: Run) -> "ScoredRun":
        """Raises CompareError or RunFolderError where the run has not finished, or lacks a file."""
        if not run.manifest.finished or run.scores is None:
            raise CompareError(
                f"{run.path} has not finished, so it has no scores of each val image. Add --resume to the "
                "command that trains it, or leave it out."
            )
        if run.recipe is None:
            raise CompareError(f"{run.path} has no recipe.yaml. Leave it out.")
        if run.best.name not in run.scores.overlaps:
            raise CompareError(
                f"{run.folder.scores} has no counts of {run.best.name}, the best checkpoint of the run."
            )
        return cls(run, run.recipe, run.scores.ids, run.scores.overlaps[run.best.name])

    @property
    def path(self) -> Path:
        return self.run.path

    @property
    def manifest(self) -> Manifest:
        return self.run.manifest

    @property
    def seed(self) -> int:
        return self.recipe.seed

    @property
    def protocol(self) -> dict[str, object]:
        """How its images were scored."""
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
                f"{twin.path} and {run.path} are one recipe with one seed, {run.seed}: the same "
                "training twice. Leave one out."
            )
        group.append(run)
    return [Method(name, group) for name, group in zip(_distinct_names(groups), groups, strict=True)]


def _distinct_names(groups: Sequence[list[ScoredRun]]) -> list[str]:
    """The shortest that are distinct: names without the seed, whole names, or paths of the first runs."""
    firsts = [group[0] for group in groups]
    choices = (
        [_name_without_seed(run) for run in firsts],
        [run.manifest.name for run in firsts],
        [str(run.path) for run in firsts],
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
            raise CompareError(f"{run.path} cannot be compared with {first.path}: {reason}")


def _why_not(one: ScoredRun, other: ScoredRun) -> str | None:
    if one.manifest.class_names != other.manifest.class_names:
        return (
            f"its classes are {', '.join(other.manifest.class_names)}, not "
            f"{', '.join(one.manifest.class_names)}."
        )
    if one.manifest.data.val_fingerprint != other.manifest.data.val_fingerprint:
        return (
            "its val images or labels differ (fingerprint "
            f"{other.manifest.data.val_fingerprint[:8]}, not {one.manifest.data.val_fingerprint[:8]})."
        )
    if one.protocol != other.protocol:
        return f"it was scored with {other.protocol}, not with {one.protocol}."
    if one.ids != other.ids:
        missing = sorted(set(one.ids) ^ set(other.ids))
        return (
            f"{quantity(len(missing), 'image')} could be read in one of them only: {', '.join(missing[:5])}."
        )
    return None
