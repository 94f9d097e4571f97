"""Members and ensembles with their scores, from ensemble.json or, before it is written, from the log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.scoring.evaluation import ENSEMBLE
from engine.scoring.metrics import METRICS
from engine.scoring.run import Run, read_ensemble
from engine.scoring.statistics import Interval, gain_interval, mean_iou_interval


@dataclass(frozen=True)
class PredictorScores:
    """A member or an ensemble with its scores, which are shares of 1; None where there is none.

    key: its name in scores.h5. gain: over the best member, of mIoU; honest_gain: where it was chosen on one
    half of the images and scored on the other. cost: passes through a network for each view.
    of_masks: of classes that may overlap, as `MultiLabelScores.of_masks` gives it.
    """

    key: str
    name: str
    note: str
    is_ensemble: bool
    metrics: Mapping[str, float | None]
    IoU: Mapping[str, float | None]
    interval: Interval | None = None
    gain: float | None = None
    gain_interval: Interval | None = None
    honest_gain: float | None = None
    honest_interval: Interval | None = None
    images_per_second: float | None = None
    cost: int | None = None
    of_masks: Mapping[str, Any] | None = None

    @property
    def mIoU(self) -> float | None:
        return self.metrics["mIoU"]


@dataclass(frozen=True)
class Joint:
    """Ensembles whose members come from several runs.

    protocol: by which they were scored. selection: the images they were chosen on. agreement: of the members,
    as `Agreement.shares` has it.
    """

    folder: Path
    results: Sequence[PredictorScores]
    protocol: Mapping[str, Any]
    selection: Mapping[str, Any] | None
    agreement: Mapping[str, Any] | None


def member_of_highest_miou(results: Sequence[PredictorScores]) -> PredictorScores | None:
    """The member of the highest mIoU on val, the first of equals, whatever `keep.metric` says."""
    return max((result for result in results if not result.is_ensemble), key=score_of, default=None)


def main_ensemble(results: Sequence[PredictorScores]) -> PredictorScores | None:
    """The mean of the members or, without it, the best of the ensembles."""
    ensembles = [result for result in results if result.is_ensemble]
    means = [result for result in ensembles if result.key == ENSEMBLE]
    return max(means or ensembles, key=score_of, default=None)


def results_of(scored: Mapping[str, Any]) -> list[PredictorScores]:
    """Ensembles and members of ensemble.json; an ensemble of one is that member, and left out."""
    is_joint = len({member.get("run") for member in scored["members"]}) > 1
    members = []
    for member in scored["members"]:
        name = f"{member['run']} step {member['step']}" if is_joint else f"step {member['step']}"
        members.append(_result(name, name, member["path"], member))
    selection = scored.get("selection") or {}
    honest = (selection.get("honest") or {}) if selection.get("repeats") else {}
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
    best = member_of_highest_miou(members)
    if best and best.mIoU is not None:
        ensembles = [
            ensemble
            if ensemble.gain is not None or ensemble.mIoU is None
            else replace(ensemble, gain=ensemble.mIoU - best.mIoU)
            for ensemble in ensembles
        ]
    return [*ensembles, *members]


def _result(
    key: str, name: str, note: str, numbers: Mapping[str, Any], is_ensemble: bool = False
) -> PredictorScores:
    gain, honest = numbers.get("gain"), numbers.get("honest")
    return PredictorScores(
        key,
        name,
        numbers.get("note") or note,
        is_ensemble,
        {metric: numbers.get(metric) for metric in METRICS},  # older files lack newer metrics
        numbers.get("IoU", {}),
        gain=gain["value"] if gain else None,
        gain_interval=_interval(gain),
        honest_gain=honest["value"] if honest else None,
        honest_interval=_interval(honest),
        images_per_second=numbers.get("images_per_second"),
        cost=numbers.get("cost"),
        of_masks=numbers if "threshold" in numbers else None,
    )


def _interval(gain: Mapping[str, Any] | None) -> Interval | None:
    """None also where there were too few images for one, which the file has as null."""
    return Interval(gain["low"], gain["high"]) if gain and gain["low"] is not None else None


def with_intervals(
    results: Sequence[PredictorScores], overlaps: Mapping[str, NDArray[np.int64]], drawn: NDArray[np.float64]
) -> list[PredictorScores]:
    """The results with intervals of scores and gains, from the counts of each image."""
    judged = []
    best = member_of_highest_miou(results)
    for result in results:
        if result.key in overlaps:
            known = overlaps[result.key]
            result = replace(result, interval=mean_iou_interval(known, drawn))
            if result.is_ensemble and not result.gain_interval and best and best.key in overlaps:
                result = replace(result, gain_interval=gain_interval(overlaps[best.key], known, drawn))
        judged.append(result)
    return judged


def members_of_log(run: Run) -> list[PredictorScores]:
    """Members with the scores of the evaluation that kept them."""
    evaluations = {row["step"]: row for row in run.val_rows}
    return [
        _result(
            f"step {member.step}",
            f"step {member.step}",
            member.file,
            member.scores | evaluations.get(member.step, {}),
        )
        for member in run.manifest.members
    ]


def joint_ensembles(folders: Sequence[Path], val_fingerprint: str) -> list[Joint]:
    """The results of `trident ensemble` in these folders for runs that were scored on these images."""
    found = []
    for folder in folders:
        scored = read_ensemble(folder / "ensemble.json")
        if scored and scored["dataset"]["fingerprint"] == val_fingerprint:
            further = scored["protocol"], scored.get("selection"), scored.get("agreement")
            found.append(Joint(folder, results_of(scored), *further))
    return found


def score_of(result: PredictorScores) -> float:
    """mIoU, below all others where there is none: the key by which results are ranked."""
    return -1.0 if result.mIoU is None else result.mIoU
