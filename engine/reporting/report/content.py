"""What a page says of a run, gathered from the run's own files. Whatever is missing is None or empty.

Knows nothing of HTML, and needs no model.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from engine.recipe import Recipe, load_recipe
from engine.reporting.report.analysis import Analysis
from engine.reporting.report.results import (
    Result,
    Row,
    best_member,
    main_ensemble,
    members_of_log,
    read_scored,
    results_of,
    score_of,
    with_intervals,
)
from engine.run_folder import Manifest, RunFolder, read_json, read_log
from engine.scoring.scores_file import read_scores
from engine.scoring.statistics import draws


@dataclass(frozen=True)
class RunContent:
    """One run. `name` tells it apart from the others of the page.

    scored: ensemble.json. analysis: of the best member, `ensemble_analysis`: of the ensemble, from scores.h5.
    """

    name: str
    run: RunFolder
    manifest: Manifest
    recipe: Recipe | None
    rows: Sequence[Row]
    results: Sequence[Result]
    scored: Mapping[str, Any]
    analysis: Analysis | None
    ensemble_analysis: Analysis | None
    doctor: Mapping[str, Any] | None

    @property
    def best(self) -> Result | None:
        """The member of the highest mIoU."""
        return best_member(self.results)

    @property
    def ensemble(self) -> Result | None:
        """The mean of the members, which every run makes; where others were asked for, the best of them."""
        return main_ensemble(self.results)

    @property
    def train_rows(self) -> list[Row]:
        return [row for row in self.rows if row["split"] == "train"]

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
    return sorted(contents, key=lambda content: -score_of(content.best) if content.best else 2.0)


def groups_of(contents: Sequence[RunContent]) -> list[list[RunContent]]:
    """Runs that may be compared stand together; the group of the best run comes first."""
    groups: dict[tuple[object, ...], list[RunContent]] = {}
    for content in contents:
        groups.setdefault(content.group_key, []).append(content)
    return list(groups.values())


def _read_run(run: RunFolder, uses: Mapping[str, int]) -> RunContent:
    manifest = run.read_manifest()
    rows = read_log(run.log)
    scored = read_scored(run.ensemble) or {}
    scores = read_scores(run.scores) if run.scores.exists() else None
    drawn = draws(len(scores.ids)) if scores else None
    results = results_of(scored) if scored else members_of_log(manifest, rows)

    def analysis_of(result: Result | None) -> Analysis | None:
        known = scores and result and result.key in scores.confusion
        return Analysis.of(scores, result.key, drawn) if known else None

    return RunContent(
        name=manifest.name if uses[manifest.name] == 1 else str(run.path),
        run=run,
        manifest=manifest,
        recipe=load_recipe(run.recipe) if run.recipe.exists() else None,
        rows=rows,
        results=with_intervals(results, scores.confusion, drawn) if scores else results,
        scored=scored,
        analysis=analysis_of(best_member(results)),
        ensemble_analysis=analysis_of(main_ensemble(results)),
        doctor=read_json(run.doctor),
    )
