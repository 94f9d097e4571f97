"""A comparison as tables: on the console, as Markdown and as CSV."""

import csv
import io
import math
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.comparison.columns import COLUMNS
from engine.comparison.table import Comparison, Gap, MethodSummary, Spread
from engine.wording import quantity

Rows = list[list[str]]

SCORE_COLUMNS: dict[str, Callable[[MethodSummary], str]] = {  # heading -> cell
    "method": lambda method: method.name,
    "seeds": lambda method: str(len(method.seeds)),
    "mIoU": lambda method: mean_and_sd(method.mIoU),
    "range": lambda method: _range(method.mIoU),
    "difference": lambda method: str(method.gap or ""),
    "verdict": lambda method: method.verdict,
}
CSV_HEADINGS = ("method", "quantity", "seeds", "mean", "sd", "lowest", "highest", "difference", "low", "high")
CLASSES_ON_CONSOLE = 5


def score_table(comparison: Comparison) -> tuple[list[str], Rows]:
    """Headings and a row for each method: scores and the difference to the first method."""
    columns = dict(SCORE_COLUMNS)
    if comparison.has_folds:
        after = {heading: columns.pop(heading) for heading in ("range", "difference", "verdict")}
        columns[f"95 %, {comparison.unit}s"] = lambda method: _ends(*method.interval or (None, None))
        columns |= after
    return list(columns), [[cell(method) for cell in columns.values()] for method in comparison.methods]


def fold_table(comparison: Comparison) -> tuple[list[str], Rows]:
    """Headings and a row for each fold."""
    rows = [
        [method.name, fold.run, str(fold.num_images), f"{fold.mIoU:.4f}", str(fold.step)]
        for method in comparison.methods
        for fold in method.folds
    ]
    return ["method", "run of the fold", "images", "mIoU", "best step"], rows


def ensemble_table(comparison: Comparison) -> tuple[list[str], Rows]:
    """Headings and a row for each ensemble over folds."""
    rows = [
        [
            each.method,
            each.path,
            str(each.num_members),
            each.split,
            "not scored" if each.mIoU is None else f"{each.mIoU:.4f} {_ends(each.low, each.high)}",
            "" if each.of_members is None else f"{each.of_members:.4f}",
        ]
        for each in comparison.ensembles
    ]
    return ["method", "saved ensemble", "members", "held out", "mIoU", "mean of members"], rows


def figure_table(comparison: Comparison) -> tuple[list[str], Rows]:
    """Headings and a row for each method: the columns of `COLUMNS`."""
    rows = [
        [method.name, *(_figure(method.figures[name], column.text) for name, column in COLUMNS.items())]
        for method in comparison.methods
    ]
    return ["method", *(column.heading for column in COLUMNS.values())], rows


def tables_of_folds(comparison: Comparison) -> dict[str, tuple[list[str], Rows]]:
    """By title; none where the runs are no folds."""
    tables = {"Folds": fold_table(comparison), "Ensembles over the folds": ensemble_table(comparison)}
    return {title: (headings, rows) for title, (headings, rows) in tables.items() if rows}


def class_table(comparison: Comparison) -> tuple[list[str], Rows]:
    """Headings and a row for each class: IoU of each method, and its difference to the first."""
    of_methods = [[m.name, "difference"] if m.gap else [m.name] for m in comparison.methods]
    headings = ["class", *(heading for headings in of_methods for heading in headings)]
    rows = []
    for name in comparison.class_names:
        row = [name]
        for method in comparison.methods:
            row.append(mean_and_sd(method.IoU[name]))
            if method.gap:
                row.append(gap_text(method.class_gaps[name]))
        rows.append(row)
    return headings, rows


def mean_and_sd(spread: Spread) -> str:
    if spread.mean is None:
        return "absent"
    return f"{spread.mean:.4f}" + ("" if spread.sd is None else f" ± {spread.sd:.4f}")


def gap_text(gap: Gap | None) -> str:
    """A star marks an interval that excludes 0."""
    return "" if gap is None else f"{gap}{' *' if gap.is_shown else ''}"


def _ends(low: float | None, high: float | None) -> str:
    if low is None or high is None or math.isnan(low):
        return "[no interval]"
    return f"[{low:.4f}, {high:.4f}]"


def _range(spread: Spread) -> str:
    return "" if spread.sd is None else f"{spread.low:.4f} to {spread.high:.4f}"


def _figure(value: float | None, text: Callable[[float], str]) -> str:
    return "not measured" if value is None else text(value)


def print_comparison(comparison: Comparison, console: Console) -> None:
    """The two tables, the classes that differ most, and the notes."""
    console.print(f"mIoU on {escape(comparison.data)}, {quantity(comparison.num_images, 'image')}:")
    console.print(_table(*score_table(comparison)))
    for headings, rows in (figure_table(comparison), *tables_of_folds(comparison).values()):
        console.print(_table(headings, rows))
    largest = comparison.largest_class_gaps(CLASSES_ON_CONSOLE)
    if largest:
        console.print("Classes that differ most, of those whose interval excludes 0:")
        console.print(_table(("class", "method", "difference"), [[c, m, str(gap)] for m, c, gap in largest]))
    for note in comparison.notes:
        console.print(escape(note))


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table()
    for place, heading in enumerate(headings):
        is_text = place == 0 or heading == "verdict"
        table.add_column(heading, justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def to_markdown(comparison: Comparison) -> str:
    """compare.md: the same tables, every class, every note."""
    protocol = ", ".join(f"{key} {value}" for key, value in comparison.protocol.items())
    return "\n".join(
        [
            f"# Comparison on {comparison.data}, {quantity(comparison.num_images, 'image')}",
            "",
            *_markdown_table(*score_table(comparison)),
            "",
            f"mIoU: mean ± standard deviation over seeds; difference to {comparison.methods[0].name}. "
            f"Protocol: {protocol}.",
            "",
            *_markdown_table(*figure_table(comparison)),
            "",
            *[
                line
                for title, table in tables_of_folds(comparison).items()
                for line in (f"## {title}", "", *_markdown_table(*table), "")
            ],
            "## IoU by class",
            "",
            *_markdown_table(*class_table(comparison)),
            "",
            "A star marks an interval that excludes 0.",
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
    """compare.csv: a line for each method and quantity, numbers in full precision."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_HEADINGS)
    for method in comparison.methods:
        gaps = {"mIoU": method.gap, **{f"IoU/{name}": gap for name, gap in method.class_gaps.items()}}
        spreads = {"mIoU": method.mIoU, **{f"IoU/{name}": spread for name, spread in method.IoU.items()}}
        for key, spread in spreads.items():
            gap = gaps.get(key)
            differences = (gap.value, gap.low, gap.high) if gap else (None, None, None)
            figures = (spread.mean, spread.sd, spread.low, spread.high, *differences)
            writer.writerow([method.name, key, len(method.seeds), *figures])
        for key, value in method.figures.items():
            writer.writerow([method.name, key, len(method.seeds), value, *[None] * 6])
    return file.getvalue()
