"""What the engine adds to the updates themselves: its loop against a bare one, and the time of a start.

    python benchmarks/loop.py --rounds 9 --out FILE.json

Both loops train the recipe `demo` with the same step and batches; `fit` also writes a run's logs. Times of a
start are those of whole processes.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import count, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from engine.benchmarks.measuring import environment, ratio
from engine.command import recipe_file
from engine.recipe import load_recipe
from engine.reporting.callbacks import RunContext
from engine.reporting.console import counted
from engine.reporting.console_log import ConsoleLog
from engine.reporting.log_files import JsonLog
from engine.reporting.loggers import build_loggers
from engine.reporting.reporter import Reporter
from engine.run_folder import RunFolder, write_json
from engine.scoring.timing import interleaved
from engine.training.distributed import start_process
from engine.training.fit import Hooks, SkipGuard, fit
from engine.training.session import Session, build_session

LOG_EVERY = 10  # updates
MANY_UPDATES = 10**6  # so that neither loop comes to the end of the schedule, or to an evaluation
FIRST_UPDATE = """
import os, sys
from engine.training.step import SupervisedStep
update = SupervisedStep.__call__
def update_and_end(self, batch):
    update(self, batch)
    os._exit(0)
SupervisedStep.__call__ = update_and_end
from engine.run import main
main(sys.argv[1:])
"""


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=20, help="of each loop in a round")
    parser.add_argument("--out", type=Path, help="JSON of all times")
    arguments = parser.parse_args()
    console, rounds = Console(), arguments.rounds
    with TemporaryDirectory() as folder:
        calls = loops(demo_session([]), Path(folder), arguments.updates)
        of_rounds = interleaved(calls, rounds, counted(console, "loops"))
        starts = interleaved(_starts(Path(folder)), rounds, counted(console, "starts"))
    per_update = {name: [s / arguments.updates for s in own] for name, own in of_rounds.items()}
    rows = []
    for what, seconds in {"an update": per_update, "a start": starts}.items():
        first = next(iter(seconds.values()))
        for name, own in seconds.items():
            rows.append({"what": what, "contender": name, "seconds": own, "ratio": ratio(own, first)})
            console.print(f"{what:<10} {name:<40} {median(own):7.3f} s  {rows[-1]['ratio']:.3f}")
    if arguments.out:
        write_json(arguments.out, {"environment": environment(torch.get_num_threads()), "rows": rows})


def demo_session(overrides: list[str]) -> Session:
    """Of a training whose end, and whose first evaluation, are far away."""
    longer = [f"train.steps={MANY_UPDATES}", f"eval.every={MANY_UPDATES}", f"log.every={LOG_EVERY}"]
    recipe = load_recipe(recipe_file("demo"), [*overrides, *longer])
    return build_session(recipe, start_process(), lambda what: lambda done, total: None)


def loops(session: Session, folder: Path, updates: int) -> dict[str, Callable[[], object]]:
    """By name, what makes the next updates; logs are written to the folder."""
    step, batches, console = session.step, session.batches, Console(quiet=True)
    loggers = [JsonLog(), ConsoleLog(console), *build_loggers(session.recipe.log.to)]
    reporter = Reporter(loggers, step.learning_rates, session.process.device)
    reporter.start(_context(folder, session, console))

    def bare() -> None:
        for batch in islice(batches.starting_at(step.count), updates):
            step(batch)

    def by_fit() -> None:
        guard = SkipGuard(RunFolder(folder), lambda flags: None, "skip", 10, lambda skipped: None)
        end = step.count + updates
        fit(
            step,
            batches,
            reporter,
            Hooks(guard),
            num_steps=end,
            eval_every=MANY_UPDATES,
            log_every=LOG_EVERY,
        )

    return {"bare loop": bare, "trident": by_fit}


def _context(folder: Path, session: Session, console: Console) -> RunContext:
    val = session.val
    return RunContext(
        path=folder,
        recipe=session.recipe,
        model=session.step.model,
        class_names=tuple(val.class_names),
        palette=val.palette,
        ignore_index=val.ignore_index,
        console=console,
    )


def _starts(folder: Path) -> dict[str, Callable[[], object]]:
    numbers = count()

    def first_update() -> None:
        _python("-c", FIRST_UPDATE, "demo", f"output.dir={folder}", f"name=start-{next(numbers)}")

    return {
        "import torch": partial(_python, "-c", "import torch"),
        "trident run --help": partial(_python, "-m", "engine.run", "--help"),
        "trident run demo, to its first update": first_update,
    }


def _python(*arguments: str) -> None:
    """Another Python with these arguments, to its end."""
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    main()
