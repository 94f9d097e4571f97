"""How long torch's threads spin while they wait: updates and predictions on free and on busy cores.

    python benchmarks/spin.py --rounds 5 --out FILE.json

SegFormer's decoder on EfficientNet-Lite0 from random weights, with two threads: an update of 8 crops of
256 px, and a prediction of one photo at three sizes. Each setting of the environment has a process of its
own, in turn; on busy cores other processes compute without end.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from engine.benchmarks.measuring import environment
from engine.command import SPIN_COUNT
from engine.run_folder import write_json
from models import build_model

THREADS = 2
SETTINGS = {  # name -> GOMP_SPINCOUNT
    "as OpenMP has it": None,
    "of Trident's commands": SPIN_COUNT,
    "never": "0",
}
REPEATS = 5  # in a process; the first is a warm-up
SIDES = ((188, 250), (281, 375), (375, 500))  # (h, w) of a photo at three sizes


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--others", type=int, default=THREADS, help="processes that keep the cores busy")
    parser.add_argument("--out", type=Path, help="JSON of all times")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_measured()))
        return
    rows = []
    for where, others in (("free", 0), ("busy", arguments.others)):
        with _busy(others):
            found = [{name: _in_own_process(name) for name in SETTINGS} for _ in range(arguments.rounds)]
        for name in SETTINGS:
            times = {what: [of_round[name][what] for of_round in found] for what in ("update", "prediction")}
            rows.append({"cores": where, "spin": name, "GOMP_SPINCOUNT": SETTINGS[name], "seconds": times})
            shown = "  ".join(f"{what} {1000 * median(values):,.0f} ms" for what, values in times.items())
            print(f"{where} cores, {name}: {shown}", flush=True)
    if arguments.out:
        write_json(arguments.out, {"environment": environment(THREADS), "rows": rows})


def _in_own_process(name: str) -> dict[str, float]:
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    variables["OMP_NUM_THREADS"] = str(THREADS)
    if (rounds := SETTINGS[name]) is not None:
        variables["GOMP_SPINCOUNT"] = rounds
    command = [sys.executable, __file__, "--child"]
    told = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(told)
    return found


def _measured() -> dict[str, float]:
    """Seconds of an update and of a prediction, medians."""
    model = build_model("segformer", num_classes=21, encoder="tu-tf_efficientnet_lite0")
    crops = torch.randint(0, 256, (8, 3, 256, 256), dtype=torch.float32)
    photos = [torch.randint(0, 256, (1, 3, h, w), dtype=torch.float32) for h, w in SIDES]
    updates, predictions = [], []
    for _ in range(REPEATS):
        model.train()
        start = perf_counter()
        model(crops).logsumexp(dim=1).mean().backward()
        model.zero_grad()
        updates.append(perf_counter() - start)
        model.eval()
        start = perf_counter()
        with torch.no_grad():
            for photo in photos:
                model(photo)
        predictions.append(perf_counter() - start)
    return {"update": median(updates[1:]), "prediction": median(predictions[1:])}


@contextmanager
def _busy(number: int) -> Iterator[None]:
    """A block beside which as many processes compute without end."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


if __name__ == "__main__":
    main()
