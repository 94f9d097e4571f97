"""A run on the console: a live line where it is a terminal, plain lines where it is not.

Knows nothing of training.
"""

import math
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from engine.recipe import Recipe, explain
from engine.reporting.pictures import Picture
from engine.scoring.confusion import Scores


class ConsoleListener:
    """Listens to a journal.

    Args:
        console: where it prints.
        num_steps, first_step: of the run, and of this start of it.
        batch: images an update, for the speed.
    """

    def __init__(self, console: Console, num_steps: int, first_step: int, batch: int):
        self.console = console
        self.num_steps = num_steps
        self.batch = batch
        self._facts = "..."
        self._latest = ""
        self._weight_factor: float | None = None
        self._first, self._started = first_step, time.perf_counter()
        self._progress = progress_bar(console, "{task.fields[facts]}")
        self._training = self._progress.add_task("train", total=num_steps, completed=first_step, facts="...")
        self._scoring = self._progress.add_task("score", total=None, visible=False, facts="")
        self._progress.start()

    def tick(self, step: int) -> None:
        left = (time.perf_counter() - self._started) / max(1, step - self._first) * (self.num_steps - step)
        facts = f"{self._facts}{self._latest}  {_duration(left)} left"
        self._progress.update(self._training, completed=step, facts=facts)

    def update(self, step: int, values: dict[str, float]) -> None:
        speed = self.batch / values["time"]
        self._facts = f"loss {values['loss']:.3f}  lr {values['lr']:.1e}  {speed:.1f} images/s"
        waiting = values["data_time"] / values["time"]
        if waiting > 0.2:
            self._facts += f"  waits for data {waiting:.0%}"
        if not self.console.is_terminal:
            left = (self.num_steps - step) * values["time"]
            self.console.print(
                f"step {step}/{self.num_steps}  {self._facts}{self._latest}  {_duration(left)} left"
            )

        self._say_of_discriminator(step, values)

    def _say_of_discriminator(self, step: int, values: dict[str, float]) -> None:
        """What the watchdog did since the last line, and updates that were left out."""
        if values.get("adv/d_skipped"):
            self.console.print(
                f"step {step}: the discriminator's gradient was no number (NaN), so its update was left out; "
                "the model's was not. If it happens again, lower adversarial.lr."
            )
        factor, before = values.get("adv/weight_factor"), self._weight_factor
        if factor is not None and before is not None and factor != before:
            why = "wins" if factor < before else "can hardly tell them apart"
            self.console.print(
                f"step {step}: the discriminator {why} ({values['adv/d_accuracy']:.0%} of the patches told "
                f"right for long); the adversarial weight is now {factor:g} times the recipe's "
                "(adversarial.watchdog=false turns this off)"
            )
        self._weight_factor = factor

    def scoring(self, done: int, total: int) -> None:
        self._progress.update(self._scoring, completed=done, total=total, visible=done < total)

    def evaluation(self, step: int, scores: Scores, log_loss: float, pictures: list[Picture]) -> None:
        self._latest = f"  mIoU {scores.mIoU:.4f}"
        self.console.print(
            f"[bold]step {step}[/]  mIoU {scores.mIoU:.4f}  mAcc {scores.mAcc:.4f}  aAcc {scores.aAcc:.4f}  "
            f"val loss {log_loss:.3f}  [dim](background only: mIoU {scores.baseline:.4f})[/]"
        )

    def close(self) -> None:
        self._progress.stop()


def progress_bar(console: Console, facts: str = "") -> Progress:
    """A bar that is drawn on terminals only, and vanishes when it is done."""
    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TextColumn(facts),
    ]
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def counted(console: Console, what: str) -> Callable[[int, int], None]:
    """A callback `(done, total)` that shows a bar until done == total."""
    bar = progress_bar(console)
    task = bar.add_task(what)

    def show(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        if done == 1:
            bar.start()
        if done == total:
            bar.stop()

    return show


def scores_table(columns: dict[str, Scores], class_names: Sequence[str]) -> Table:
    """Scores side by side: the three means, then the IoU of each class; the best of a row is bold."""
    table = Table(title="IoU by class, at original resolution", title_justify="left")
    table.add_column("class")
    for name in columns:
        table.add_column(escape(name), justify="right")
    for metric in ("mIoU", "mAcc", "aAcc"):
        table.add_row(metric, *best_in_bold([getattr(s, metric) for s in columns.values()]))
    table.add_section()
    for name in class_names:
        table.add_row(escape(name), *best_in_bold([scores.IoU[name] for scores in columns.values()]))
    return table


def explain_table(recipe: Recipe) -> Table:
    """Every value of a recipe, and the file, override or default that it comes from."""
    table = Table(title=f"recipe {recipe.name}", title_justify="left")
    for heading in ("key", "value", "from"):
        table.add_column(heading, overflow="fold")
    for key, value, source in explain(recipe):
        table.add_row(key, str(value), source)
    return table


def facts_below(scores: Scores, skipped: Sequence[str] = ()) -> str:
    """What has to be known beside the means: the baseline, absent classes, void pixels, skipped images."""
    absent = f"{len(scores.absent)} classes are absent and not averaged ({escape(', '.join(scores.absent))})"
    return (
        f"Predicting background everywhere: mIoU {scores.baseline:.4f}. "
        f"{absent if scores.absent else 'Every class is present'}. "
        f"{scores.num_pixels:,} labelled pixels, {scores.num_void:,} void pixels left out."
        + (f"\n[bold]Not scored:[/] {skipped_images(skipped)}" if skipped else "")
    )


def skipped_images(ids: Sequence[str]) -> str:
    """How many images could not be read, and which."""
    return f"{len(ids)} image{'s' * (len(ids) > 1)} could not be read: {escape(', '.join(ids))}."


def best_in_bold(values: list[float]) -> list[str]:
    """Four digits of each, "absent" for NaN; the largest of several is bold."""
    best = max((value for value in values if not math.isnan(value)), default=math.nan)
    texts = ["absent" if math.isnan(value) else f"{value:.4f}" for value in values]
    return [
        f"[bold]{t}[/]" if v == best and len(values) > 1 else t for v, t in zip(values, texts, strict=True)
    ]


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
