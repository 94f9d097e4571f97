"""A training on the console: a live line on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Sequence
from datetime import timedelta

from rich.console import Console
from rich.markup import escape

from engine.data.batches import Batch
from engine.reporting.advisor import Note
from engine.reporting.callbacks import Callback, Evaluation, RunContext, RunEnd
from engine.reporting.class_table import change_line, class_table
from engine.reporting.console import progress_bar
from engine.scoring.confusion import Scores

Fact = tuple[int, str]  # its rank, 0 the most important, and its text
LIVE_BAR = 12  # characters
SHOWN_IDS = 8  # of an update that was left out; log.jsonl has all


class ConsoleLog(Callback):
    """Prints log steps, evaluations and notes."""

    essential = True

    def __init__(self, console: Console):
        self.console = console
        self._facts: list[Fact] = []
        self._scores: Scores | None = None
        self._weight_factor: float | None = None
        self._progress = progress_bar(console, "{task.fields[facts]}", bar_width=LIVE_BAR)

    def on_start(self, run: RunContext) -> None:
        self._split = run.recipe.data.evaluated_on
        self.num_steps, self.batch = int(run.recipe.train.steps), int(run.recipe.train.batch)
        self._best = -math.inf if run.best_mIoU is None else run.best_mIoU
        self._first, self._started = run.first_step, time.perf_counter()
        tasks = self._progress
        self._training = tasks.add_task("train", total=self.num_steps, completed=self._first, facts="")
        self._scoring = tasks.add_task("score", total=None, visible=False, facts="")
        if self._first < self.num_steps:
            tasks.start()

    def on_step(self, step: int) -> None:
        left = (time.perf_counter() - self._started) / max(1, step - self._first) * (self.num_steps - step)
        taken = len("x train  ") + LIVE_BAR + 2 * len(f" {self.num_steps}") + 1
        facts = fitting(self._line(left), self.console.width - taken)
        self._progress.update(self._training, completed=step, facts=escape(facts))

    def on_log(self, step: int, values: dict[str, float], batch: Batch) -> None:
        self._facts = self._measured(values)
        if not self.console.is_terminal:
            facts = "  ".join(text for _, text in self._line((self.num_steps - step) * values["time"]))
            self.console.print(f"step {step}/{self.num_steps}  {escape(facts)}")
        self._report_discriminator(step, values)
        self.on_step(step)

    def _measured(self, values: dict[str, float]) -> list[Fact]:
        """What a line says, in its order; on a narrow terminal the highest ranks are left out."""
        terms = {name: value for name, value in values.items() if name.startswith("decode.loss_")}
        each = ", ".join(f"{name.removeprefix('decode.loss_')} {value:.3f}" for name, value in terms.items())
        facts = [(0, f"loss {values['loss']:.3f}"), (5, f"({each})")][: 1 + (len(terms) > 1)]
        if "unlabelled/kept" in values:
            kept = f"{values['unlabelled/kept']:.0f}% of their pixels"
            facts.append((5, f"unlabelled {values['unlabelled/loss']:.3f} ({kept})"))
        facts += [(3, f"lr {values['lr']:.1e}"), (4, f"{self.batch / values['time']:.1f} images/s")]
        facts += [(6, f"data {values['data_time'] / values['time']:.0%}"), (7, f"{values['memory']:,.0f} MB")]
        return facts

    def _line(self, left_s: float) -> list[Fact]:
        scores = self._scores
        known = [(2, f"mIoU {scores.mIoU:.4f} (best {self._best:.4f})")] if scores else []
        return [*self._facts, *known, (1, f"{timedelta(seconds=round(left_s))} left")]

    def _report_discriminator(self, step: int, values: dict[str, float]) -> None:
        """What the watchdog changed since the last line, and skipped updates."""
        if values.get("adv/d_skipped"):
            self.console.print(
                f"step {step}: the gradient of the discriminator was NaN or infinite, so its update was "
                "skipped; the model's was not. If it happens again, lower adversarial.lr."
            )
        factor, before = values.get("adv/weight_factor"), self._weight_factor
        if factor is not None and before is not None and factor != before:
            why = "wins" if factor < before else "can hardly distinguish predictions from labels"
            self.console.print(
                f"step {step}: the discriminator {why} (it has for long classified correctly "
                f"{values['adv/d_accuracy']:.0%} of the patches); the adversarial weight is now {factor:g} "
                "times the recipe's (adversarial.watchdog=false turns this off)"
            )
        self._weight_factor = factor

    def on_scoring(self, done: int, total: int) -> None:
        self._progress.update(self._scoring, completed=done, total=total, visible=done < total)

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        scores, before = evaluation.scores, self._scores
        self._best = max(self._best, scores.mIoU)
        gained = f" ({scores.mIoU - before.mIoU:+.4f})" if before else ""
        others = "  ".join(f"{name} {v:.4f}" for name, v in scores.metrics.items() if name != "mIoU")
        self.console.print(
            f"[bold]step {step}[/]  mIoU {scores.mIoU:.4f}{gained}  best {self._best:.4f}  {others}  "
            f"{escape(self._split)} loss {evaluation.log_loss:.3f}  "
            f"[dim]({escape(scores.baselines.brief())})[/]"
        )
        for name, further in evaluation.further.items():
            values = "  ".join(f"{metric} {value:.4f}" for metric, value in further.scores.metrics.items())
            self.console.print(f"  set {escape(name)}  {values}  val loss {further.log_loss:.3f}")
        if self.console.is_terminal:
            self.console.print(class_table(scores, before, self.console.width))
        elif before and (line := change_line(scores, before)):
            self.console.print(f"  {line}")
        self._scores = scores
        self.on_step(step)
        if step == self.num_steps:  # the last evaluation, after which commands draw other bars
            self._progress.stop()

    def on_skipped(self, step: int, samples: Sequence[tuple[str, int]]) -> None:
        ids = ", ".join(id for id, _ in samples[:SHOWN_IDS]) + (", ..." if len(samples) > SHOWN_IDS else "")
        self.console.print(
            f"[bold yellow]step {step}: the loss or a gradient was NaN or infinite, so this update was left "
            f"out[/] ({escape(ids)})"
        )

    def on_note(self, step: int, note: Note) -> None:
        self.console.print(f"[bold yellow]step {step}: {escape(note.text)}[/]")
        for line in note.remedies:
            self.console.print(f"    {escape(line)}")

    def on_end(self, end: RunEnd) -> None:
        self._progress.stop()


def fitting(facts: Sequence[Fact], width: int) -> str:
    """The facts on one line, in their order, without the least important ones that do not fit."""
    kept = list(facts)
    while len(kept) > 1 and len("  ".join(text for _, text in kept)) > width:
        kept.remove(max(kept))
    return "  ".join(text for _, text in kept)
