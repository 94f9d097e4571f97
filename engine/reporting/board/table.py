"""The board on a terminal: a table of runs."""

from collections.abc import Sequence
from datetime import timedelta

from rich.table import Table
from rich.text import Text

from engine.reporting.board.status import RunStatus

LEVELS = "▁▂▃▄▅▆▇█"
CURVE = 16  # characters
STYLES = {"running": "bold green", "stopped": "yellow", "finished": "blue", "failed": "bold red"}
WIDE, MEDIUM = 120, 90  # columns of the terminal from which all are shown, and all but two


def board_table(runs: Sequence[RunStatus], width: int, none_yet: str) -> Table | Text:
    """One row a run; on a narrow terminal without messages and speed."""
    if not runs:
        return Text(none_yet)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("run", overflow="fold")
    table.add_column("state")
    table.add_column("step", justify="right")
    table.add_column("curve", no_wrap=True)
    table.add_column("score", justify="right")
    table.add_column("best", justify="right")
    table.add_column("left", justify="right")
    if width >= MEDIUM:
        table.add_column("images/s", justify="right")
    if width >= WIDE:
        table.add_column("message", overflow="fold", ratio=1)
    for run in runs:
        cells = [
            Text(run.name),
            Text(run.state, STYLES[run.state]),
            Text(step_text(run)),
            Text(sparkline([value for _, value in run.curve]), "dim" if run.is_loss else ""),
            Text(score_text(run)),
            Text(best_text(run)),
            Text(left_text(run)),
            Text(speed_text(run)),
            Text(message_text(run)),
        ]
        table.add_row(*cells[: len(table.columns)])
    return table


def sparkline(values: Sequence[float], width: int = CURVE) -> str:
    """The values as blocks of eight heights, of which the lowest is the least value."""
    if not values:
        return ""
    number = min(width, len(values))
    chosen = [values[round(place * (len(values) - 1) / max(1, number - 1))] for place in range(number)]
    low, span = min(chosen), max(chosen) - min(chosen)
    places = [(value - low) / span if span else 0.0 for value in chosen]
    return "".join(LEVELS[round(place * (len(LEVELS) - 1))] for place in places)


def step_text(run: RunStatus) -> str:
    return f"{run.step:,}" + (f"/{run.num_steps:,}" if run.num_steps else "")


def score_text(run: RunStatus) -> str:
    return "" if run.score is None else f"{run.score:.4f}"


def best_text(run: RunStatus) -> str:
    return f"{run.best[1]:.4f} @ {run.best[0]:,}" if run.best else ""


def left_text(run: RunStatus) -> str:
    return "" if run.left_s is None else str(timedelta(seconds=round(run.left_s)))


def speed_text(run: RunStatus) -> str:
    return "" if run.images_per_s is None else f"{run.images_per_s:.1f}"


def message_text(run: RunStatus) -> str:
    return " ".join((*run.problems, run.message)).strip()
