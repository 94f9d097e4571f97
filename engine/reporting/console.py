"""What commands print: progress bars, tables of scores and recipes, sentences below them."""

import math
import os
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from engine.recipe import Recipe, shipped_recipes
from engine.recipe.differences import explain
from engine.recipe.text import dump_value
from engine.reporting.transfers import LINE_EVERY_S
from engine.scoring.confusion import Scores
from engine.scoring.metrics import METRICS
from engine.wording import quantity


def progress_bar(console: Console, facts: str = "", bar_width: int = 24) -> Progress:
    """A bar that is drawn on terminals only, and vanishes when it is done."""
    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width),
        MofNCompleteColumn(),
        TextColumn(facts),
    ]
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def counted(console: Console, what: str) -> Callable[[int, int], None]:
    """A callback `(done, total)`: a bar until done == total; without a terminal a line at intervals."""
    bar = progress_bar(console)
    task = bar.add_task(what)
    next_line = time.monotonic() + LINE_EVERY_S

    def show(done: int, total: int) -> None:
        nonlocal next_line
        bar.update(task, completed=done, total=total)
        if not console.is_terminal and done < total and time.monotonic() >= next_line:
            console.print(escape(f"{what}: {done:,} of {total:,}"))
            next_line = time.monotonic() + LINE_EVERY_S
        if done < total:
            bar.start()
        else:
            bar.stop()

    weakref.finalize(show, bar.live.stop)  # an error before the last call would leave the cursor hidden
    return show


def titled_table(title: str, headings: Iterable[str], texts: Collection[str] = ()) -> Table:
    """A table without rows; the first column and those named in `texts` hold text, the others numbers."""
    table = Table(title=escape(title), title_justify="left")
    for place, heading in enumerate(headings):
        if place == 0 or heading in texts:
            table.add_column(escape(heading), overflow="fold")
        else:
            table.add_column(escape(heading), justify="right")
    return table


def scores_table(
    columns: dict[str, Scores],
    class_names: Sequence[str],
    title: str = "IoU by class, at original resolution",
) -> Table:
    """Scores side by side: the metrics, then the IoU of each class; the best of a row is bold."""
    table = titled_table(title, ["class", *columns])
    for metric in METRICS:
        table.add_row(metric, *best_in_bold([s.metrics[metric] for s in columns.values()]))
    table.add_section()
    for name in class_names:
        table.add_row(escape(name), *best_in_bold([scores.IoU[name] for scores in columns.values()]))
    return table


def explain_table(recipe: Recipe) -> Table:
    """Every value of a recipe, and the file, override or default that it comes from.

    The recipes that come with Trident are named by their folder alone, since its path is long.
    """
    table = Table(title=f"recipe {recipe.name}", title_justify="left")
    shipped = f"{next(iter(shipped_recipes().values())).parents[1]}{os.sep}"
    for heading in ("key", "value", "from"):
        table.add_column(heading, overflow="fold")
    for key, value, source in explain(recipe):
        table.add_row(*map(escape, (key, dump_value(value), source.removeprefix(shipped))))
    return table


def facts_below(
    scores: Scores, skipped: Sequence[str] = (), card: Mapping[str, object] = MappingProxyType({})
) -> str:
    """What is needed to judge the means: the baselines, absent classes, void pixels, skipped images.

    Args:
        card: of the protocol.
    """
    how = "; ".join(
        f"{key.replace('_', ' ')} {in_words(value)}" for key, value in card.items() if key != "name"
    )
    how_many = quantity(len(scores.absent), "class is absent", "classes are absent")
    none = "Every class has labels or predictions"
    absent = f"{how_many} and not averaged ({escape(', '.join(scores.absent))})" if scores.absent else none
    return (
        f"{escape(str(scores.baselines))} {absent}. "
        f"{quantity(scores.num_pixels, 'labelled pixel')}, {quantity(scores.num_void, 'void pixel')} left "
        "out."
        + (f"\nProtocol {card['name']}: {escape(how)}." if card else "")
        + (f"\n[bold]Not scored:[/] {skipped_images(skipped)}" if skipped else "")
    )


def in_words(value: object) -> str:
    """A value of a protocol card as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def skipped_images(ids: Sequence[str]) -> str:
    """How many images could not be read, and which."""
    return f"{quantity(len(ids), 'image')} could not be read: {escape(', '.join(ids))}."


def best_in_bold(values: list[float]) -> list[str]:
    """Four digits of each, "absent" for NaN; the largest of several is bold."""
    best = max((value for value in values if not math.isnan(value)), default=math.nan)
    texts = ["absent" if math.isnan(value) else f"{value:.4f}" for value in values]
    return [
        f"[bold]{t}[/]" if v == best and len(values) > 1 else t for v, t in zip(values, texts, strict=True)
    ]
