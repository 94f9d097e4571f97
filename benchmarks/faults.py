"""What is left of a run after kills, signals, errors of the disk and damaged files: campaigns that count.

    python benchmarks/faults.py kills      --cases 200  --out FILE   SIGKILL at random, 1 of 4 inside a save
    python benchmarks/faults.py signals    --cases 50   --out FILE   SIGTERM or SIGINT, over kinds of training
    python benchmarks/faults.py mutations  --cases 1000 --out FILE   files of runs damaged, then read
    python benchmarks/faults.py disk       --cases 12   --out FILE   errors of the disk while a run writes
    python benchmarks/faults.py memory     --cases 1    --out FILE   growth over 5,000 updates
    python benchmarks/faults.py save_time  --cases 1    --out FILE   updates during a save; on an idle machine

Each campaign has its entry in FILE. A case depends on --seed and its number only, so a campaign that was
ended (by --seconds, or a signal) goes on where it was. The runs are tiny: 12 updates of LinkNet on drawn
scenes of 32 px.
"""

import argparse
import json
import os
import platform
import random
import tempfile
import time
from datetime import date
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "300"}

import torch
from faults.costs import Memory, SaveTime
from faults.disk import Disk
from faults.kills import Kills
from faults.mutations import Mutations
from faults.signals import Signals

CAMPAIGNS = {
    "kills": Kills, "signals": Signals, "mutations": Mutations, "disk": Disk, "memory": Memory,
    "save_time": SaveTime,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("campaign", choices=CAMPAIGNS, nargs="+")
    parser.add_argument("--cases", type=int, required=True, help="how many there are at the end")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file; other campaigns in it stay")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no case after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", default=(), help="mutations: read with these commands only")
    parser.add_argument("--machine", default=platform.machine(), help="what it was measured on, for the file")
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.seconds
    Mutations.only = arguments.commands
    for name in arguments.campaign:
        campaign(name, arguments, until)


def campaign(name: str, arguments: argparse.Namespace, until: float) -> None:
    """Add cases to the entry of one campaign. Its cases stand in FILE.<name>.jsonl, one a line."""
    out: Path = arguments.out
    log = out.with_suffix(f".{name}.jsonl")
    cases = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        if len(cases) < arguments.cases:
            made = CAMPAIGNS[name](Path(folder))
        while len(cases) < arguments.cases and time.monotonic() < until:
            draw = random.Random(f"{arguments.seed} {name} {len(cases)}")
            cases.append(made.case(len(cases), draw))
            with log.open("a") as file:
                file.write(json.dumps(cases[-1]) + "\n")
            if cases[-1]["faults"]:
                print(f"{name} {len(cases) - 1}: {cases[-1]}", flush=True)
    faults = [{"case": number, **case} for number, case in enumerate(cases) if case["faults"]]
    entry = {
        "cases": len(cases), "seed": arguments.seed, "machine": arguments.machine, "torch": torch.__version__,
        "date": date.today().isoformat(), **CAMPAIGNS[name].summary(cases), "faults": faults,
    }  # fmt: skip
    content = json.loads(out.read_text()) if out.exists() else {}
    out.write_text(json.dumps(content | {name: entry}, indent=2) + "\n")
    print(f"{name}: {len(cases)} cases, {len(faults)} with faults: {out}")


if __name__ == "__main__":
    main()
