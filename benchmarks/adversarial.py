"""Does the discriminator help? Trains a recipe with and without it, seed by seed; compares the last models.

    python benchmarks/adversarial.py --seeds 3 --out FILE.json recipes/b0_ce_dice.yaml key=value ...

All arguments after the recipe are passed to `trident run`. A run that is there and finished is not trained
again, so a comparison that was stopped goes on. Both runs of a seed see the same crops in the same order.
"""

import argparse
import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from statistics import mean, stdev

import torch

from engine.benchmarks.measuring import environment
from engine.data.batches import scoring_batches
from engine.run_folder import RunFolder, write_json
from engine.scoring.boundary import boundary_iou, boundary_matrices
from engine.scoring.confusion import Scores, confusion_matrices
from engine.scoring.ensembling import group_candidates, load_member, open_val
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol

ARMS = ("without", "with")


def main() -> None:
    """Train what is missing, score all, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--adversarial", default="{}", help="that section of the recipe, as in '{weight: 0.1}'"
    )
    parser.add_argument("--folder", type=Path, default=Path("checkpoints/adversarial"))
    parser.add_argument("--out", type=Path, help="JSON of all scores")
    arguments = parser.parse_args()
    rows = []
    for seed in range(arguments.seeds):
        for arm in ARMS:
            run = RunFolder(arguments.folder / f"{arm}-{seed}")
            switch = f"adversarial={arguments.adversarial if arm == 'with' else 'null'}"
            train(run, arguments.recipe, [switch, f"seed={seed}", *arguments.overrides])
            rows.append({"arm": arm, "seed": seed, **score_last(run), **last_losses(run)})
            print(rows[-1], flush=True)
    for metric in ("mIoU", "boundary_IoU"):
        by_arm = {arm: [row[metric] for row in rows if row["arm"] == arm] for arm in ARMS}
        differences = [b - a for a, b in zip(*by_arm.values(), strict=True)]
        for name, values in {**by_arm, "difference": differences}.items():
            spread = f" +- {stdev(values):.4f}" if len(values) > 1 else ""
            each = " ".join(f"{value:.4f}" for value in values)
            print(f"{metric:<13} {name:<11} {mean(values):.4f}{spread}   ({each})")
    if arguments.out:
        facts = environment(torch.get_num_threads())
        command = [f"--adversarial={arguments.adversarial}", arguments.recipe, *arguments.overrides]
        write_json(arguments.out, {"environment": facts, "command": command, "rows": rows})


def train(run: RunFolder, recipe: str, overrides: list[str]) -> None:
    """One run that keeps its last state only; a finished one stays as it is."""
    if run.is_finished:
        return
    where = [f"name={run.path.name}", f"output.dir={run.path.parent}", "eval.every=100%", "keep.top=1"]
    command = [sys.executable, "-m", "engine.run", recipe, *overrides, *where]
    subprocess.run(command + ["--resume"] * run.last_state.exists(), check=True)


def score_last(run: RunFolder) -> dict[str, float]:
    """mIoU and the mean boundary IoU of the run's one checkpoint on val, over the classes that are there."""
    [candidate] = group_candidates([run])[0].candidates
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe, val = open_val(candidate, ())
    model, predictor = (
        load_member(candidate, device),
        Predictor(EvaluationProtocol.of(recipe.eval), nullcontext),
    )
    num_classes = len(val.class_names)
    region = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    bands = torch.zeros(num_classes + 1, num_classes + 1, dtype=torch.int64)
    for batch in scoring_batches(val, device):
        ids = predictor(model, batch.images).argmax(dim=1)  # (B, h, w)
        region += confusion_matrices(ids, batch.labels, num_classes, val.ignore_index).sum(0).cpu()
        bands += boundary_matrices(ids, batch.labels, num_classes, val.ignore_index).sum(0).cpu()
    scores = Scores.of(region.numpy(), val.class_names)
    labelled = region.sum(1).numpy() > 0
    return {"mIoU": scores.mIoU, "boundary_IoU": float(boundary_iou(bands.numpy())[labelled].mean())}


def last_losses(run: RunFolder) -> dict[str, float]:
    """What the log says last of the game, and the median seconds of an update."""
    rows = [json.loads(line) for line in run.log.read_text().splitlines()]
    rows = [row for row in rows if row["split"] == "train"]
    last = {key: value for key, value in rows[-1].items() if key.startswith("adv/")}
    return last | {"update_s": sorted(row["time"] for row in rows)[len(rows) // 2]}


if __name__ == "__main__":
    main()
