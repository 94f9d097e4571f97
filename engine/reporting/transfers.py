"""The progress of downloads and unpacking: a bar on a terminal, a line at intervals elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

LINE_EVERY_S = 30.0


@contextmanager
def tracked(console: Console, what: str, unit: str) -> Iterator[Callable[[int, int | None], None]]:
    """A callback `(done, total)` for the block; total None: not known. `unit` is "bytes" or "files"."""
    amount = [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn()]
    columns = [TextColumn("{task.description}"), BarColumn(24), *amount, TimeRemainingColumn()]
    latest = ""
    next_line = time.monotonic() + LINE_EVERY_S

    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, total: int | None) -> None:
            nonlocal latest, next_line
            bar.update(task, completed=done, total=total)
            amount = decimal if unit == "bytes" else "{:,}".format
            latest = f"{what}: {amount(done)}" + (f" of {amount(total)}" if total not in (None, done) else "")
            if not console.is_terminal and time.monotonic() >= next_line:
                console.print(latest)
                next_line = time.monotonic() + LINE_EVERY_S

        yield show
    if latest:
        console.print(latest)
