"""Runs of several seeds as one ensemble: their best checkpoints, each and together, on the photos of val.

    python benchmarks/seeds.py RUN RUN [RUN ...] --root VOC --out seeds.json

Of each run the best checkpoint, by the split that its recipe selects on; together by mean probability. It
prints and writes mIoU in percent over the labelled and over the frequent classes of val, and what the
ensemble gains over the mean of its members and over the best of them, with 95 % intervals over the photos.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from engine.benchmarks.job import VOID, frequent_classes, labelled_classes
from engine.benchmarks.measuring import environment
from engine.data.formats.voc import open_voc
from engine.run_folder import write_json
from engine.scoring.confusion import confusion_matrices
from engine.scoring.metrics import overlaps
from engine.scoring.segmenter import open_segmenter
from engine.scoring.statistics import drawn_iou, draws, interval
from models.class_names import VOC


def main() -> None:
    """Predict, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--root", type=Path, required=True, help="the photos, in the layout of VOC")
    parser.add_argument("--train", default="fit", help="list that says which classes are frequent")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    val = open_voc(arguments.root, "val", VOC, VOID)
    labelled = labelled_classes(val)
    frequent = frequent_classes(open_voc(arguments.root, arguments.train, VOC, VOID), labelled)
    found = counts(arguments.runs, val)  # (R + 1, N, 2, C), the ensemble last
    drawn = draws(len(val))
    rows = {}
    for name, ids in {"labelled": labelled, "frequent": frequent}.items():
        ours = found[..., ids]
        once = np.stack([miou(each, np.ones((1, len(val)))) for each in ours])[:, 0]  # (R + 1,)
        often = np.stack([miou(each, drawn) for each in ours])  # (R + 1, S)
        best = int(once[:-1].argmax())
        rows[name] = {
            "classes": [VOC[id] for id in ids],
            "members": once[:-1].tolist(),
            "ensemble": float(once[-1]),
            "over the mean member": [once[-1] - once[:-1].mean(), *interval(often[-1] - often[:-1].mean(0))],
            "over the best member": [once[-1] - once[best], *interval(often[-1] - often[best])],
        }
        print(f"{name} ({len(ids)} classes)")
        print(f"  members   {', '.join(f'{value:.1f}' for value in once[:-1])}\n  ensemble  {once[-1]:.1f}")
        for what in ("over the mean member", "over the best member"):
            gain, low, high = rows[name][what]
            print(f"  {what}  {gain:+.2f} [{low:+.2f}, {high:+.2f}]")
    runs = [run.name for run in arguments.runs]
    write_json(arguments.out, {"environment": environment(torch.get_num_threads()), "runs": runs, **rows})


def counts(runs: list[Path], val: torch.utils.data.Dataset) -> np.ndarray:
    """(R + 1, N, 2, C): intersection and union of each class in each photo, by run and for the ensemble."""
    segmenters = [open_segmenter(run, "cpu") for run in runs]
    rows = []
    for index in range(len(val)):
        sample = val[index]
        probabilities = torch.stack(
            [s.probabilities(sample.image[None])[0] for s in segmenters]
        )  # (R, C, h, w)
        predicted = torch.cat([probabilities, probabilities.mean(0, keepdim=True)]).argmax(1)  # (R + 1, h, w)
        labels = sample.labels.expand_as(predicted)
        rows.append(overlaps(confusion_matrices(predicted, labels, len(VOC), VOID).numpy()))
        print(f"\r{index + 1} of {len(val)} photos", end="", flush=True)
    print()
    return np.stack(rows, axis=1)


def miou(found: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(S,): percent, over classes present in each draw, from (N, 2, C)."""
    return 100 * np.nanmean(drawn_iou(found, drawn), axis=1)


if __name__ == "__main__":
    main()
