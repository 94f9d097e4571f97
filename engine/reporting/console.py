"""A run on the console: a live line where it is a terminal, plain lines where it is not.

Knows nothing of training.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from engine.data.batches import Batch
from engine.recipe import Recipe, explain
from engine.reporting.advisor import Note
from engine.reporting.class_table import change_line, class_table
from engine.reporting.journal import Evaluation, Listener
from engine.scoring.confusion import Scores
from engine.scoring.metrics import METRICS

Fact = tuple[int, str]  # its rank, 0 the dearest, and what a line says
LIVE_BAR = 12  # characters


class ConsoleListener(Listener):
    """Listens to a journal.

    Args:
        console: where it prints.
        num_steps, first_step: of the run, and of this start of it.
        batch: images an update, for the speed.
        best: the highest mIoU of the run before this start, if there was one.
    """

    def __init__(
        self, console: Console, num_steps: int, first_step: int, batch: int, best: float = -math.inf
    ):
        self.console = console
        self.num_steps = num_steps
        self.batch = batch
        self._facts: list[Fact] = []
        self._scores: Scores | None = None
        self._best = best
        self._weight_factor: float | None = None
        self._first, self._started = first_step, time.perf_counter()
        self._progress = progress_bar(console, "{task.fields[facts]}", bar_width=LIVE_BAR)
        self._training = self._progress.add_task("train", total=num_steps, completed=first_step, facts="")
        self._scoring = self._progress.add_task("score", total=None, visible=False, facts="")
        self._progress.start()

    def tick(self, step: int) -> None:
        left = (time.perf_counter() - self._started) / max(1, step - self._first) * (self.num_steps - step)
        taken = len("x train  ") + LIVE_BAR + 2 * len(f" {self.num_steps}") + 1
        facts = fitting(self._line(left), self.console.width - taken)
        self._progress.update(self._training, completed=step, facts=escape(facts))

    def update(self, step: int, values: dict[str, float], batch: Batch) -> None:
        self._facts = self._measured(values)
        if not self.console.is_terminal:
            facts = "  ".join(text for _, text in self._line((self.num_steps - step) * values["time"]))
            self.console.print(f"step {step}/{self.num_steps}  {escape(facts)}")
        self._say_of_discriminator(step, values)
        self.tick(step)

    def _measured(self, values: dict[str, float]) -> list[Fact]:
        """What a line says, in its order; on a narrow terminal the highest ranks are left out."""
        terms = {name: value for name, value in values.items() if name.startswith("decode.loss_")}
        told = ", ".join(f"{name.removeprefix('decode.loss_')} {value:.3f}" for name, value in terms.items())
        facts = [(0, f"loss {values['loss']:.3f}"), (5, f"({told})")][: 1 + (len(terms) > 1)]
        facts += [(3, f"lr {values['lr']:.1e}"), (4, f"{self.batch / values['time']:.1f} images/s")]
        facts += [(6, f"data {values['data_time'] / values['time']:.0%}"), (7, f"{values['memory']:,.0f} MB")]
        return facts

    def _line(self, left_s: float) -> list[Fact]:
        scores = self._scores
        known = [(2, f"mIoU {scores.mIoU:.4f} (best {self._best:.4f})")] if scores else []
        return [*self._facts, *known, (1, f"{timedelta(seconds=round(left_s))} left")]

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

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        scores, before = evaluation.scores, self._scores
        self._best = max(self._best, scores.mIoU)
        gained = f" ({scores.mIoU - before.mIoU:+.4f})" if before else ""
        others = "  ".join(f"{name} {v:.4f}" for name, v in scores.metrics.items() if name != "mIoU")
        self.console.print(
            f"[bold]step {step}[/]  mIoU {scores.mIoU:.4f}{gained}  best {self._best:.4f}  "
            f"{others}  val loss {evaluation.log_loss:.3f}  "
            f"[dim](background only: mIoU {scores.baseline:.4f})[/]"
        )
        if self.console.is_terminal:
            self.console.print(class_table(scores, before, self.console.width))
        elif before and (line := change_line(scores, before)):
            self.console.print(f"  {line}")
        self._scores = scores
        self.tick(step)

    def note(self, step: int, note: Note) -> None:
        self.console.print(f"[bold yellow]step {step}: {escape(note.text)}[/]")
        for line in note.remedies:
            self.console.print(f"    {escape(line)}")

    def close(self) -> None:
        self._progress.stop()


def fitting(facts: Sequence[Fact], width: int) -> str:
    """The facts on one line, in their order, without those of the last ranks that find no room."""
    kept = list(facts)
    while len(kept) > 1 and len("  ".join(text for _, text in kept)) > width:
        kept.remove(max(kept))
    return "  ".join(text for _, text in kept)


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
    """Scores side by side: the metrics, then the IoU of each class; the best of a row is bold."""
    table = Table(title="IoU by class, at original resolution", title_justify="left")
    table.add_column("class")
    for name in columns:
        table.add_column(escape(name), justify="right")
    for metric in METRICS:
        table.add_row(metric, *best_in_bold([s.metrics[metric] for s in columns.values()]))
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


def facts_below(
    scores: Scores, skipped: Sequence[str] = (), card: Mapping[str, object] = MappingProxyType({})
) -> str:
    """What has to be known beside the means: the baseline, absent classes, void pixels, skipped images.

    Args:
        card: of the protocol.
    """
    how = "; ".join(
        f"{key.replace('_', ' ')} {in_words(value)}" for key, value in card.items() if key != "name"
    )
    absent = f"{len(scores.absent)} classes are absent and not averaged ({escape(', '.join(scores.absent))})"
    return (
        f"Predicting background everywhere: mIoU {scores.baseline:.4f}. "
        f"{absent if scores.absent else 'Every class is present'}. "
        f"{scores.num_pixels:,} labelled pixels, {scores.num_void:,} void pixels left out."
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
    return f"{len(ids)} image{'s' * (len(ids) > 1)} could not be read: {escape(', '.join(ids))}."


def best_in_bold(values: list[float]) -> list[str]:
    """Four digits of each, "absent" for NaN; the largest of several is bold."""
    best = max((value for value in values if not math.isnan(value)), default=math.nan)
    texts = ["absent" if math.isnan(value) else f"{value:.4f}" for value in values]
    return [
        f"[bold]{t}[/]" if v == best and len(values) > 1 else t for v, t in zip(values, texts, strict=True)
    ]
