"""Damage the files of a finished run at random, and count what the commands that read it do.

    python benchmarks/faults.py RUN --mutations 1000 --out faults.json

Each mutation changes one file in a copy of RUN: bytes zeroed, a bit flipped, cut, swapped for another file,
or deleted. `trident report`, `diagnose` and `ensemble` then read the copy; each is ended after --timeout
seconds. The result counts readings, refusals, tracebacks, and commands that did not end. It does not judge
whether the figures of a reading are right.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

COMMANDS = ("report", "diagnose", "ensemble")


def mutate(file: Path, others: list[Path], draw: random.Random) -> str:
    """Change a file in one of five ways; returns which."""
    content = bytearray(file.read_bytes())
    kind = draw.choice(("zero", "flip", "cut", "swap", "delete"))
    place = draw.randrange(max(1, len(content)))
    if kind == "zero":
        content[place : place + 64] = bytes(len(content[place : place + 64]))
    elif kind == "flip" and content:
        content[place] ^= 1 << draw.randrange(8)
    elif kind == "cut":
        del content[place:]
    elif kind == "swap":
        content = bytearray(draw.choice(others).read_bytes())
    file.write_bytes(content)
    if kind == "delete":
        file.unlink()
    return kind


def outcome(command: str, run: Path, timeout_s: float) -> str:
    """How one command ended on a run."""
    line = [sys.executable, "-m", "trident", command, str(run)]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return "did not end"
    if done.returncode < 0 or "Traceback" in done.stderr:
        return "traceback"
    return "read" if done.returncode == 0 else "refused"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a finished run; it is copied, not changed")
    parser.add_argument("--mutations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for each command")
    parser.add_argument("--out", type=Path, help="a JSON file for the counts and each case that is a fault")
    arguments = parser.parse_args()
    draw, counts, faults = random.Random(arguments.seed), Counter[str](), []
    for number in range(arguments.mutations):
        with tempfile.TemporaryDirectory() as folder:
            run = Path(shutil.copytree(arguments.run, Path(folder) / arguments.run.name))
            files = sorted(path for path in run.rglob("*") if path.is_file())
            file = draw.choice(files)
            kind = mutate(file, [other for other in files if other != file], draw)
            for command in COMMANDS:
                ended = outcome(command, run, arguments.timeout)
                counts[ended] += 1
                if ended in ("traceback", "did not end"):
                    where = file.relative_to(run).as_posix()
                    faults.append({"mutation": number, "file": where, "kind": kind, "command": command})
    result = {"seed": arguments.seed, "mutations": arguments.mutations, **counts, "faults": faults}
    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
