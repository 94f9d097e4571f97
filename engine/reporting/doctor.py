"""What the doctor found, for the console."""

import re
import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from engine.data.doctor import DataFinding, DataReport
from engine.data.doctor.findings import FIX
from engine.wording import quantity

COLOURS = {"spoils": "red", "hurts": "yellow", "note": "blue"}
INDENT, LEAST_WIDTH = "    ", 20
SEPARATED = r"[^/,;=:]*[/,;=:]+|.+"  # a part of a word up to a separator
MOST_ROWS = 40  # of the values of the masks
NO_CLASS = ("void", "unknown", "blends")  # names in a row of the values


def print_data_report(console: Console, diagnosis: DataReport) -> None:
    """The values of the masks, the findings, and what was not checked."""
    if diagnosis.values:
        console.print(values_table(diagnosis))
    for split, bits in diagnosis.divergence.items():
        console.print(
            f"Class shares of {escape(split)} are {bits:.3f} bits from those of train (Jensen-Shannon)."
        )
    print_findings(console, diagnosis.findings)
    if not diagnosis.findings:
        console.print("Nothing found.")
    for what in diagnosis.skipped:
        console.print(f"[dim]Not checked: {escape(what)}.[/]")
    console.print(verdict(diagnosis))


def print_findings(console: Console, findings: Sequence[DataFinding]) -> None:
    """What, where, why and the remedy of each.

    A terminal gets wrapped lines, which break at separators; a file or a pipe gets each text in one line.
    """
    width = max(LEAST_WIDTH, console.width - len(INDENT)) if console.is_terminal else None
    for found in findings:
        texts = [(found.what, ""), *((line, "dim") for line in where_lines(found))]
        texts += [(f"Why: {found.why}", ""), (f"Remedy: {found.remedy}", "")]
        console.print(f"[{COLOURS[found.severity]}]{found.severity}[/]  [bold]{found.check}[/]")
        for text, style in texts:
            for part in text.splitlines():
                for line in wrapped(part, width) if width else [part]:
                    console.print(Text(INDENT + line, style), soft_wrap=True)


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters.

    A longer word, such as a path or a recipe line, is cut at a separator; at the width, where it has none.
    """
    words = [piece for word in text.split() for piece in _pieces(word, width)]
    return textwrap.wrap(" ".join(words), width, break_on_hyphens=False)


def _pieces(word: str, width: int) -> list[str]:
    """The parts of a word, each as many characters up to a separator as fit."""
    pieces = [""]
    for part in re.findall(SEPARATED, word) if len(word) > width else [word]:
        if pieces[-1] and len(pieces[-1]) + len(part) > width:
            pieces.append("")
        pieces[-1] += part
    return pieces


def where_lines(found: DataFinding) -> list[str]:
    """The files that a finding names, and how many more are affected."""
    more = found.num_files - len(found.where)
    return [*found.where, *([f"and {more} more"] if more else [])]


def values_table(diagnosis: DataReport) -> Table:
    """The values of the masks: their meaning, the masks that contain them, their share of each split.

    Of many classes only the most frequent are shown.
    """
    rows = diagnosis.values
    by_share = sorted(
        rows, key=lambda row: (row["name"] not in NO_CLASS, -max(row["share"].values(), default=0))
    )
    shown = {id(row) for row in by_share[:MOST_ROWS]}
    left_out = len(rows) - len(shown)
    caption = f"and {quantity(left_out, 'rarer value')}, which --out FILE writes too" if left_out else None
    table = Table(title="values of the masks", title_justify="left", caption=caption, caption_justify="left")
    table.add_column("value", justify="right")
    table.add_column("meaning", overflow="fold")
    table.add_column("masks", justify="right")
    for split, number in diagnosis.num_samples.items():
        table.add_column(f"{split} ({number})", justify="right")
    for row in rows:
        if id(row) in shown:
            shares = (f"{100 * share:.3f} %" if share else "-" for share in row["share"].values())
            table.add_row(str(row["value"]), escape(row["name"]), f"{row['masks']:,}", *shares)
    return table


def verdict(diagnosis: DataReport) -> str:
    """One line: how many findings of each severity."""
    severities = [found.severity for found in diagnosis.findings]
    meanings = {
        "spoils": "that would spoil training",
        "hurts": "that would lower the score",
        "note": "for information",
    }
    counts = ", ".join(f"{severities.count(s)} {text}" for s, text in meanings.items() if s in severities)
    samples = quantity(sum(diagnosis.num_samples.values()), "sample")
    if diagnosis.num_unlabelled:
        samples += f", {quantity(diagnosis.num_unlabelled, 'unlabelled image')}"
    return f"{samples}. Findings: {counts or 'none'}."


def command_to_fix(report: "DataReport", recipe: str, overrides: Sequence[str] = ()) -> str | None:
    """The command that writes a repaired copy, if that can repair a finding."""
    if not any(FIX in found.remedy for found in report.findings):
        return None
    names = (f"{Path(recipe).stem}_fixed{number}" for number in ("", *range(2, 1000)))
    out = next((name for name in names if not Path(name).exists()), "fixed")
    return shlex.join(["trident", "doctor", recipe, *overrides, "--fix", out])
