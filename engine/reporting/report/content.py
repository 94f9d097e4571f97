"""What the report shows of a run: its files, and figures of its best member and its ensemble.

Whatever is missing is None or empty.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from engine.reporting.report.analysis import Analysis
from engine.reporting.report.results import (
    PredictorScores,
    main_ensemble,
    member_of_highest_miou,
    members_of_log,
    results_of,
    score_of,
    with_intervals,
)
from engine.run_folder import RunFolder
from engine.scoring.run import Run
from engine.scoring.statistics import draws
from engine.scoring.training_images import trained_on


@dataclass(frozen=True)
class RunContent:
    """One run. `name` is unique on the page.

    analysis: of the best member, `ensemble_analysis`: of the ensemble, from scores.h5.
    """

    name: str
    run: Run
    results: Sequence[PredictorScores]
    analysis: Analysis | None
    ensemble_analysis: Analysis | None

    @property
    def best(self) -> PredictorScores | None:
        """The member of the highest mIoU on val; another one may be first by `keep.metric`."""
        return member_of_highest_miou(self.results)

    @property
    def ensemble(self) -> PredictorScores | None:
        """The mean of the members, which every run makes; without it, the best other ensemble."""
        return main_ensemble(self.results)

    @property
    def group_key(self) -> tuple[object, ...]:
        """Runs of equal keys were scored on the same images and classes, and may be compared."""
        data = self.run.manifest.data
        return data.val, data.val_fingerprint, tuple(self.run.manifest.class_names)


def read_runs(folders: Sequence[RunFolder]) -> list[RunContent]:
    """The content of each run, the best first.

    Raises:
        RunFolderError: a file is damaged, or a manifest is missing.
        RecipeError: a run's recipe is not one of this version.
    """
    runs = [Run(folder) for folder in folders]
    uses = Counter(run.manifest.name for run in runs)
    contents = [
        _read_run(run, run.manifest.name if uses[run.manifest.name] == 1 else str(run.path)) for run in runs
    ]
    return sorted(contents, key=lambda content: -score_of(content.best) if content.best else 2.0)


def cautions(content: RunContent) -> list[str]:
    """How far the headline can be relied on: the ensemble's gain with its interval, few images."""
    lines = []
    best, ensemble = content.best, content.ensemble
    if best and ensemble and ensemble.gain is not None:
        low, high = ensemble.gain_interval or (math.nan, math.nan)
        text = f"{ensemble.name}: {ensemble.gain:+.4f} mIoU over the best member"
        if not math.isnan(low):
            text += f", 95 % interval [{low:+.4f}, {high:+.4f}]"
            text += ", which includes 0" if low <= 0 <= high else ""
        lines.append(f"{text}.")
    if content.analysis and (few := content.analysis.few_images()):
        lines.append(few)
    total = len(content.run.scores.ids) if content.run.scores else 1
    if seen := trained_on(content.run.manifest.data.num_trained_on(total), total):
        lines.append(seen)
    return lines


def cautions_of_all(group: Sequence[RunContent]) -> list[str]:
    """The cautions of each run, after its name where others have not the same one."""
    by_line: dict[str, list[str]] = {}
    for content in group:
        for line in cautions(content):
            by_line.setdefault(line, []).append(content.name)
    return [
        line if len(names) == len(group) else f"{', '.join(names)}: {line}" for line, names in by_line.items()
    ]


def groups_of(contents: Sequence[RunContent]) -> list[list[RunContent]]:
    """Groups of runs that may be compared; that of the best run comes first."""
    groups: dict[tuple[object, ...], list[RunContent]] = {}
    for content in contents:
        groups.setdefault(content.group_key, []).append(content)
    return list(groups.values())


def _read_run(run: Run, name: str) -> RunContent:
    scores = run.scores
    results = results_of(run.ensemble) if run.ensemble else members_of_log(run)
    if scores is None:
        return RunContent(name, run, results, None, None)
    drawn = draws(len(scores.ids))

    def analysis_of(result: PredictorScores | None) -> Analysis | None:
        if result is None or result.key not in scores.overlaps:
            return None
        return Analysis.of(scores, result.key, drawn)

    return RunContent(
        name,
        run,
        with_intervals(results, scores.overlaps, drawn),
        analysis_of(member_of_highest_miou(results)),
        analysis_of(main_ensemble(results)),
    )
