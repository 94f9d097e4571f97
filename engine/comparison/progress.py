"""The progress of the cells of a grid, from their logs: bars on a terminal, a line for each that ends."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import TaskID

from engine.comparison.grid import Cell, Failure
from engine.reporting.console import progress_bar
from engine.scoring.run import Run

TAIL_BYTES = 1 << 16  # of a log: more than its longest line


class GridProgress:
    """A context while the cells run."""

    def __init__(self, console: Console, cells: Sequence[Cell]):
        self.console = console
        self._left = len(cells)
        self._bars = progress_bar(console)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "GridProgress":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def begins(self, cell: Cell, how: str = "started") -> None:
        self.console.print(f"{escape(cell.name)}: {how}, prints to {escape(str(cell.log))}")
        self._tasks[cell.name] = self._bars.add_task(escape(cell.name), total=None)

    def look(self, cell: Cell) -> None:
        """Update the bar of a running cell."""
        if cell.name in self._tasks and cell.run.recipe.exists():
            steps = cell.recipe.train.steps  # text if given in epochs
            total = steps if isinstance(steps, int) else None
            self._bars.update(self._tasks[cell.name], completed=last_step(cell.run.log), total=total)

    def ends(self, cell: Cell, failure: Failure | None) -> None:
        self._left -= 1
        if cell.name in self._tasks:
            self._bars.remove_task(self._tasks.pop(cell.name))
        if failure:
            outcome = f"[bold]failed[/]; the end of its output:\n{escape(failure.text)}\n"
        else:
            best = Run(cell.run).best
            outcome = f"finished, mIoU {best.scores['mIoU']:.4f} at step {best.step}"
        self.console.print(f"{escape(cell.name)}: {outcome} ({self._left} to go)")


def last_step(log: Path) -> int:
    """The step of the last whole line of a log.jsonl; 0 where there is none."""
    if not log.exists():
        return 0
    with log.open("rb") as file:
        file.seek(max(0, os.path.getsize(log) - TAIL_BYTES))
        lines = [line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")]
    return int(json.loads(lines[-1])["step"]) if lines else 0
