"""Methods of an ensemble side by side, for the console, and how far their figures can be trusted."""

from collections.abc import Iterable
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from engine.scoring.ensembles.contest import Contest, Figure
from engine.scoring.ensembles.methods import CHOOSING
from engine.scoring.ensembles.record import Selection


def methods_table(contest: Contest, selection: Selection) -> Table:
    """One row a method, below the best member; honest figures stand first where there are any."""
    outcomes = contest.outcomes
    is_honest = any(outcome.honest for outcome in outcomes.values())
    table = Table(title="ensembles, and what they gain over the best member", title_justify="left")
    table.add_column("method")
    if is_honest:
        table.add_column("honest mIoU", justify="right")
        table.add_column("gain [95 %]", justify="right")
        table.add_column("flattering mIoU", justify="right")
    else:
        table.add_column("mIoU, same images", justify="right")
        table.add_column("gain [95 %]", justify="right")
    for heading in ("images/s", "cost"):
        table.add_column(heading, justify="right")
    table.add_column("note", overflow="fold")
    table.add_row(
        f"best member: {escape(contest.best)}",
        *_cells_of_best(contest, selection, is_honest),
        f"{contest.images_per_second:.2f}",
        "1",
        "",
    )
    table.add_section()
    for method, outcome in outcomes.items():
        figures = (outcome.honest, outcome.flattering) if outcome.honest else (outcome.flattering,)
        cells = [f"{figures[0].mIoU:.4f}", _gain(figures[0]), *(f"{f.mIoU:.4f}" for f in figures[1:])]
        speed, cost = f"{outcome.images_per_second:.2f}", str(outcome.choice.cost)
        table.add_row(method, *cells, speed, cost, escape(outcome.choice.note))
    return table


def saved_fact(path: Path, contest: Contest, selection: Selection, val: str) -> str:
    """What was saved, and which figure it was preferred by."""
    outcome = contest.outcomes[contest.winner]
    where = f"on {val}, where it was chosen: flattering"
    if selection.repeats:
        where = f"on the other halves of {val}: honest but for being the best of several"
    if not selection.same_images:
        where = f"on {selection.split}, where it was chosen"
    among = f"the best of {len(contest.outcomes)} methods, " if len(contest.outcomes) > 1 else ""
    what = contest.winner if outcome.choice.accepted else f"{contest.best} alone"
    return escape(f"saved: {path} ({what}: {among}mIoU {outcome.judged:.4f} {where})")


def _cells_of_best(contest: Contest, selection: Selection, is_honest: bool) -> list[str]:
    """mIoU without a gain; across halves each half has a best member of its own."""
    some = next(iter(contest.outcomes.values()))
    flattering = f"{some.flattering.mIoU - some.flattering.gain:.4f}"
    if some.honest and is_honest:
        return [f"{some.honest.mIoU - some.honest.gain:.4f}", "", flattering]
    return [flattering, ""]


def _gain(figure: Figure) -> str:
    return f"{figure.gain:+.4f} [{figure.low:+.4f}, {figure.high:+.4f}]"


def selection_facts(selection: Selection, val: str, methods: Iterable[str]) -> str:
    """On which images was chosen and on which reported, loudly where they are the same."""
    chosen_on = f"{selection.num_images} images of {escape(selection.split)}"
    if not selection.same_images:
        return (
            f"Chosen on {chosen_on}, reported on {escape(val)} (honest); chosen and reported on "
            f"{escape(val)} (flattering)."
        )
    if selection.repeats:
        return (
            f"[bold red]Chosen and reported on the same {chosen_on}: flattering.[/] Honest: "
            f"{selection.repeats} times halved at random, each half reports what the other one chose, the "
            "counts of all times added up."
        )
    if not any(method in CHOOSING for method in methods):
        return (
            f"Of {chosen_on} nothing was chosen but which member is the best: its own score flatters, so the "
            "gain over it is rather too small."
        )
    return (
        f"[bold red]CHOSEN AND REPORTED ON THE SAME {chosen_on}: THESE FIGURES FLATTER.[/] For honest ones "
        "add --split-half, or --select-split NAME with a split that is neither trained nor reported on."
    )
