"""A comparison as tables: on the console, as Markdown and as CSV."""

import csv
import io
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.comparison.table import Comparison, Gap, MethodResult, Spread

SCORE_HEADINGS = ("method", "seeds", "mIoU", "range", "difference", "verdict")
COST_HEADINGS = ("method", "s/update", "images/s", "memory, MB", "training", "energy, kJ", "parameters")
CSV_HEADINGS = ("method", "quantity", "seeds", "mean", "sd", "lowest", "highest", "difference", "low", "high")
CLASSES_ON_CONSOLE = 5


def score_row(method: MethodResult) -> list[str]:
    """The cells under SCORE_HEADINGS."""
    gap = str(method.gap) if method.gap else ""
    spread = f"{method.mIoU.low:.4f} to {method.mIoU.high:.4f}" if len(method.seeds) > 1 else ""
    return [method.name, str(len(method.seeds)), mean_and_sd(method.mIoU), spread, gap, method.verdict]


def cost_row(method: MethodResult) -> list[str]:
    """The cells under COST_HEADINGS."""
    cost = method.cost
    energy = None if cost.energy_j is None else cost.energy_j / 1000
    return [
        method.name,
        _number(cost.update_s, ".3f"),
        _number(cost.images_per_s, ".1f"),
        _number(cost.memory_mb, ".0f"),
        duration(cost.training_s),
        _number(energy, ".1f"),
        f"{method.num_parameters:,}",
    ]


def class_rows(comparison: Comparison) -> list[list[str]]:
    """Class by class: the IoU of each method and, behind the first, the difference to it."""
    rows = []
    for name in comparison.class_names:
        row = [name]
        for method in comparison.methods:
            row.append(mean_and_sd(method.IoU[name]))
            if method.gap:
                row.append(gap_text(method.class_gaps[name]))
        rows.append(row)
    return rows


def class_headings(comparison: Comparison) -> list[str]:
    """Over class_rows."""
    of_methods = [[m.name, "difference"] if m.gap else [m.name] for m in comparison.methods]
    return ["class", *(heading for headings in of_methods for heading in headings)]


def mean_and_sd(spread: Spread) -> str:
    if spread.mean is None:
        return "absent"
    return f"{spread.mean:.4f}" + ("" if spread.sd is None else f" ± {spread.sd:.4f}")


def gap_text(gap: Gap | None) -> str:
    """A star marks an interval that does not hold 0."""
    return "" if gap is None else f"{gap}{' *' if gap.is_shown else ''}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "not told"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def print_comparison(comparison: Comparison, console: Console) -> None:
    """The two tables, the classes that differ most, and what has to be known."""
    console.print(f"mIoU on {escape(comparison.data)}, {comparison.num_images} images:")
    console.print(_table(SCORE_HEADINGS, [score_row(method) for method in comparison.methods], num_words=2))
    console.print(_table(COST_HEADINGS, [cost_row(method) for method in comparison.methods]))
    largest = comparison.largest_class_gaps(CLASSES_ON_CONSOLE)
    if largest:
        console.print("Classes that differ most, of those whose interval does not hold 0:")
        console.print(_table(("class", "method", "difference"), [[c, m, str(gap)] for m, c, gap in largest]))
    for note in comparison.notes:
        console.print(escape(note))


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], num_words: int = 1) -> Table:
    table = Table()
    for place, heading in enumerate(headings):
        is_text = place == 0 or (num_words > 1 and place == len(headings) - 1)
        table.add_column(heading, justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def to_markdown(comparison: Comparison) -> str:
    """compare.md: the same tables, every class, every note."""
    protocol = ", ".join(f"{key} {value}" for key, value in comparison.protocol.items())
    return "\n".join(
        [
            f"# Comparison on {comparison.data}, {comparison.num_images} images",
            "",
            *_markdown_table(SCORE_HEADINGS, [score_row(method) for method in comparison.methods]),
            "",
            f"mIoU: mean ± standard deviation over seeds; difference to {comparison.methods[0].name}. "
            f"Protocol: {protocol}.",
            "",
            *_markdown_table(COST_HEADINGS, [cost_row(method) for method in comparison.methods]),
            "",
            "## IoU by class",
            "",
            *_markdown_table(class_headings(comparison), class_rows(comparison)),
            "",
            "A star marks an interval that does not hold 0.",
            "",
            *[f"- {note}" for note in comparison.notes],
            "",
            *[
                f"- {method.name}: {'; '.join([*method.runs, *method.changed])}"
                for method in comparison.methods
            ],
            "",
        ]
    )


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def to_csv(comparison: Comparison) -> str:
    """compare.csv: a line for each method and quantity, numbers in full."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_HEADINGS)
    for method in comparison.methods:
        gaps = {"mIoU": method.gap, **{f"IoU/{name}": gap for name, gap in method.class_gaps.items()}}
        spreads = {"mIoU": method.mIoU, **{f"IoU/{name}": spread for name, spread in method.IoU.items()}}
        for quantity, spread in spreads.items():
            gap = gaps.get(quantity)
            differences = (gap.value, gap.low, gap.high) if gap else (None, None, None)
            figures = (spread.mean, spread.sd, spread.low, spread.high, *differences)
            writer.writerow([method.name, quantity, len(method.seeds), *figures])
        for quantity, value in vars(method.cost).items():
            writer.writerow([method.name, quantity, len(method.seeds), value, *[None] * 6])
    return file.getvalue()


def _number(value: float | None, form: str) -> str:
    return "not told" if value is None else format(value, form)
