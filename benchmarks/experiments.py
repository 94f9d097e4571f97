"""One change at a time: the figures of finished runs as a table, and as JSON.

    python benchmarks/experiments.py RUN [RUN ...] --root VOC --out experiments.json

Of each run: what its recipe changes against that of the first, and mIoU in percent over the labelled and the
frequent classes of val, for the best member, the mean of the members and the ensemble. Checkpoints have to be
selected on another split (data.select), whose last three evaluations are shown as well.

Settings with several seeds are compared with those of the first run, over images and seeds.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.benchmarks.job import VOID, frequent_classes, labelled_classes
from engine.benchmarks.measuring import environment
from engine.data.formats.voc import open_voc
from engine.recipe.differences import changes
from engine.run_folder import write_json
from engine.scoring.evaluation import ENSEMBLE
from engine.scoring.metrics import overlaps
from engine.scoring.run import Run
from engine.scoring.seeds import SeedScores, difference
from engine.scoring.statistics import draws
from models.class_names import VOC


def main() -> None:
    """Read, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--root", type=Path, required=True, help="the photos, in the layout of VOC")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    runs = [Run(path) for path in arguments.runs]
    first = runs[0].recipe
    assert first is not None and first.data.select, "data.select must name a split that chooses"
    labelled = labelled_classes(open_voc(arguments.root, first.data.val, VOC, VOID))
    frequent = frequent_classes(open_voc(arguments.root, first.data.train, VOC, VOID), labelled)
    rows = [figures(run, labelled, frequent) for run in runs]
    for run, row in zip(runs, rows, strict=True):
        assert run.recipe is not None
        row["changed"] = [
            f"{change.key}={change.now}"
            for change in changes(first, run.recipe)
            if change.key not in ("name", "output.dir", "keep.top")
        ]
    headings = ("run", "updates", "best", "members", "ensemble", "select, last three", "changed")
    print(f"| {' | '.join(headings)} |\n|{' --- |' * len(headings)}")
    for row in rows:
        cells = [
            " / ".join(f"{value:.1f}" for value in row[name])
            for name in ("best", "members", "ensemble", "select")
        ]
        print("| " + " | ".join([row["run"], str(row["updates"]), *cells, ", ".join(row["changed"])]) + " |")
    ids = {"labelled": labelled, "frequent": frequent}
    compared = differences(runs, rows, ids)
    for row in compared:
        ends = f"[{row['low']:+.1f}, {row['high']:+.1f}]"
        print(f"{row['what']}: {row['difference']:+.1f} {ends}  {', '.join(row['runs'])}")
    classes = {name: [VOC[c] for c in of] for name, of in ids.items()}
    found = {"environment": environment(1), "classes": classes, "rows": rows, "differences": compared}
    write_json(arguments.out, found)


def figures(run: Run, labelled: list[int], frequent: list[int]) -> dict[str, Any]:
    """(labelled, frequent) mIoU in percent of each kind of prediction, and on the split that chose."""
    assert run.scores is not None and run.recipe is not None
    found = {name: overlaps(counts).sum(axis=0) for name, counts in run.scores.confusion.items()}  # (2, C)
    members = [f"step {member.step}" for member in run.manifest.members]

    def scores(name: str) -> list[float]:
        return [100 * float(mean_iou(found[name][:, ids])) for ids in (labelled, frequent)]

    last = [row["IoU"] for row in run.val_rows[-3:]]
    select = [
        100
        * float(
            np.mean(
                [
                    np.nanmean([iou[VOC[c]] if iou[VOC[c]] is not None else np.nan for c in ids])
                    for iou in last
                ]
            )
        )
        for ids in (labelled, frequent)
    ]
    return {
        "run": run.path.name,
        "updates": int(run.recipe.train.steps),
        "seed": run.recipe.seed,
        "kept": members,
        "best": scores(members[0]),
        "members": np.mean([scores(name) for name in members], axis=0).tolist(),
        "ensemble": scores(ENSEMBLE) if ENSEMBLE in found else scores(members[0]),
        "select": select,
        "update_s": run.cost.update_s,
    }


def differences(
    runs: Sequence[Run], rows: Sequence[dict[str, Any]], classes: Mapping[str, list[int]]
) -> list[dict[str, Any]]:
    """Of the ensembles of each setting with several seeds less those of the first, in points."""
    settings: dict[tuple[str, ...], list[Run]] = {}
    for run, row in zip(runs, rows, strict=True):
        changed = tuple(key for key in row["changed"] if not key.startswith("seed="))
        settings.setdefault(changed, []).append(run)
    first, *others = [of for of in settings.values() if len(of) > 1] or [[]]
    found = []
    for other in others:
        for counted, what in (("confusion", "mIoU"), ("boundary", "boundary IoU")):
            for name, ids in classes.items():
                gap = difference(*(seed_scores(of, counted, ids) for of in (other, first)))
                ends = {"difference": gap.value[0], "low": gap.low[0], "high": gap.high[0]}
                points = {key: round(100 * float(value), 2) for key, value in ends.items()}
                found.append({"what": f"{what}, {name}", **points, "runs": [run.path.name for run in other]})
    return found


def seed_scores(runs: Sequence[Run], counted: str, ids: list[int]) -> SeedScores:
    """Of the ensembles, with these classes alone."""
    by_seed = {}
    for run in runs:
        assert run.scores is not None and run.recipe is not None
        by_seed[run.recipe.seed] = overlaps(getattr(run.scores, counted)[ENSEMBLE])[..., ids]
    return SeedScores.of(by_seed, draws(len(next(iter(by_seed.values())))))


def mean_iou(found: np.ndarray) -> float:
    """Over all of these classes, from (2, C) intersections and unions."""
    return float(np.mean(found[0] / np.maximum(found[1], 1)))


if __name__ == "__main__":
    main()
