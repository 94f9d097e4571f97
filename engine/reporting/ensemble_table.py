"""Methods of an ensemble side by side, for the console, and how reliable their scores are."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.data.sample import skipped_ids
from engine.reporting.console import facts_below, scores_table, titled_table
from engine.scoring.agreement import Agreement
from engine.scoring.ensembles.comparison import Estimate, MethodComparison, Selection
from engine.scoring.ensembles.early_exit import Exiting, ExitPoint
from engine.scoring.ensembles.methods import CHOOSING
from engine.scoring.ensembles.request import Request, was_kept_on_val
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.statistics import few_images
from engine.scoring.training_images import trained_on
from engine.wording import quantity


def print_comparison(
    console: Console, comparison: MethodComparison, request: Request, agreement: Agreement | None
) -> None:
    """All tables of the methods and members, and what has to be known of their scores."""
    selection, dataset, val = request.selection, request.dataset, request.recipe.data.val
    skipped, shown = skipped_ids(dataset), comparison.shown
    console.print(methods_table(comparison))
    console.print(selection_facts(selection, val, request.methods))
    if optimism := optimism_fact(comparison, selection, val):
        console.print(optimism)
    console.print(scores_table(shown, dataset.class_names))
    if agreement:
        console.print(agreement_table(agreement.shares(dataset.class_names)))
    card = EvaluationProtocol.of(request.recipe.eval).card()
    console.print(facts_below(next(iter(shown.values())), skipped, card))
    won = comparison.results[comparison.winner]
    gain, gains = won.honest or won.flattering, f"gains of {comparison.winner} in mIoU"
    if few := few_images(len(dataset) - len(skipped), gain.lowest, gain.highest, gains):
        console.print(f"[bold]{few}[/]")
    data = [candidate.manifest.data for candidate in request.chosen]
    num_seen = max(of_member.num_trained_on(len(dataset)) for of_member in data)
    if seen := trained_on(num_seen, len(dataset)):
        console.print(f"[bold]{seen}[/]")
    if any(was_kept_on_val(candidate) for candidate in request.chosen):
        console.print(
            f"The checkpoints were kept by their scores on {val}, so all these scores are a little too high."
        )


def print_exit(console: Console, exiting: Exiting | None, winner: str, val: str) -> None:
    """What an early exit costs and gains on the split `val`."""
    if exiting is None:
        console.print(f"--early-exit: {winner} runs one model, so there is none to leave out.")
        return
    title = f"early exit: only {exiting.member} sees an image whose certainty reaches the threshold"
    table = titled_table(title, ["threshold", "images", "forward passes", "mIoU"])
    for point in exiting.curve:
        table.add_row(*_exit_cells(point))
    table.add_section()
    table.add_row(*_exit_cells(exiting.chosen), style="bold")
    console.print(table)
    if exiting.early_exit is None:
        console.print(f"No threshold loses at most {exiting.tolerance:g} mIoU, so no image exits early.")
        return
    where = "these images, so its score is too high" if exiting.same_images else "the selection split"
    changed = f"On {val} it changes mIoU by {gain_text(exiting.to_whole)} against the whole ensemble."
    console.print(escape(f"The last row was selected on {where}. {changed}"))


def _exit_cells(point: ExitPoint) -> tuple[str, ...]:
    level = "none" if point.certainty is None else f"{point.certainty:.4f}"
    return level, f"{100 * point.share:.0f} %", f"{point.cost:.2f}", f"{point.mIoU:.4f}"


def methods_table(comparison: MethodComparison) -> Table:
    """One row per method, below the best member; honest scores first, if there are any."""
    results = comparison.results
    is_honest = any(result.honest for result in results.values())
    several = bool(comparison.to_winner)
    scores = (
        ["honest mIoU", "gain [95 %]", "optimistic mIoU"]
        if is_honest
        else ["mIoU, same images", "gain [95 %]"]
    )
    to_best = ["to the best method [95 %]"] * several
    table = titled_table(
        "ensembles, and what they gain over the best member",
        ["method", *scores, *to_best, "images/s", "cost", "note"],
        texts=["note"],
    )
    table.add_row(
        f"best member: {escape(comparison.best)}",
        *_cells_of_best(comparison, is_honest),
        *[""] * several,
        f"{comparison.images_per_second:.2f}",
        "1",
        "",
    )
    table.add_section()
    for method, result in results.items():
        estimates = (result.honest, result.flattering) if result.honest else (result.flattering,)
        cells = [
            f"{estimates[0].mIoU:.4f}",
            gain_text(estimates[0]),
            *(f"{f.mIoU:.4f}" for f in estimates[1:]),
        ]
        if several:
            behind = comparison.to_winner.get(method)
            cells.append(gain_text(behind) if behind else "the best")
        speed, cost = f"{result.images_per_second:.2f}", str(result.ensemble.cost)
        table.add_row(method, *cells, speed, cost, escape(result.ensemble.note))
    return table


def agreement_table(shares: Mapping[str, Mapping[str, float | None]]) -> Table:
    """`Agreement.shares`, a row for each class that has labelled pixels."""
    headings = ("pixels of the label", "all agree", "and are right")
    table = titled_table("where all members predict the same class", headings)
    for name, share in shares.items():
        if share["agree"] is not None and share["right"] is not None:
            table.add_row(escape(name), f"{share['agree']:.4f}", f"{share['right']:.4f}")
    return table


def optimism_fact(comparison: MethodComparison, selection: Selection, val: str) -> str:
    """The bias of selecting the best of several methods; empty if it is unknown or there is none."""
    optimism = comparison.optimism
    if optimism is None or math.isnan(optimism):
        return ""
    score, optimism = comparison.results[comparison.winner].ranking_mIoU, max(0.0, optimism)
    fits = "" if selection.repeats else ", in addition to the bias of fitting the methods on these images"
    return escape(
        f"{comparison.winner} is the best of {len(comparison.results)} methods, selected on the images of "
        f"{val} that they are scored on. This selection raises its mIoU by about {optimism:.4f} (bootstrap, "
        f"arXiv 1708.07180){fits}; without this bias it would be {score - optimism:.4f}. A selection on "
        "another split, with --select-split, has no such bias."
    )


def saved_fact(
    path: Path, comparison: MethodComparison, selection: Selection, val: str, exiting: Exiting | None = None
) -> str:
    """What was saved, and the score by which it was selected; with an early exit, its own score on val."""
    result, with_exit = comparison.results[comparison.winner], ""
    score = result.ranking_mIoU
    where = f"on {val}, on which it was selected: optimistic"
    if selection.repeats:
        where = f"on the other halves of {val}: honest, except that it is the best of several"
    if not selection.same_images:
        where = f"on {selection.split}, on which it was selected"
    if exiting and exiting.early_exit:
        with_exit, score = " with early exit", exiting.scores.mIoU
        where = where if selection.same_images else f"on {val}, selected on {selection.split}"
    among = f"the best of {len(comparison.results)} methods, " if len(comparison.results) > 1 else ""
    what = comparison.winner if result.ensemble.accepted else f"{comparison.best} alone"
    return escape(f"saved: {path} ({what}{with_exit}: {among}mIoU {score:.4f} {where})")


def _cells_of_best(comparison: MethodComparison, is_honest: bool) -> list[str]:
    """mIoU without a gain; in cross-validation the best member is selected for each half."""
    some = next(iter(comparison.results.values()))
    optimistic = f"{some.flattering.mIoU - some.flattering.gain:.4f}"
    if some.honest and is_honest:
        return [f"{some.honest.mIoU - some.honest.gain:.4f}", "", optimistic]
    return [optimistic, ""]


def gain_text(estimate: Estimate) -> str:
    """A gain with its interval."""
    if math.isnan(estimate.low):  # of few images
        return f"{estimate.gain:+.4f} [too few images]"
    return f"{estimate.gain:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]"


def selection_facts(selection: Selection, val: str, methods: Iterable[str]) -> str:
    """On which images ensembles were selected and scored; in bold red if these are the same."""
    images = f"{quantity(selection.num_images, 'image')} of {escape(selection.split)}"
    if not selection.same_images:
        return (
            f"Honest: selected on {images}, scored on {escape(val)}. Optimistic: selected and scored on "
            f"{escape(val)}."
        )
    if selection.repeats:
        return (
            f"[bold red]Optimistic: selected and scored on the same {images}.[/] Honest: the images were "
            f"halved at random {quantity(selection.repeats, 'time')}, each half was scored with what was "
            "selected on the other half, and the counts were added up."
        )
    if not any(method in CHOOSING for method in methods):
        return (
            f"Only the best member was selected on {images}: its own score is too high, so the gain over "
            "it is a little too small."
        )
    halves = "--split-half, or " if selection.num_images > 1 else ""
    return (
        f"[bold red]SELECTED AND SCORED ON THE SAME {images}: THESE SCORES ARE OPTIMISTIC.[/] For "
        f"honest ones add {halves}--select-split NAME with a split that is neither trained on nor scored."
    )
