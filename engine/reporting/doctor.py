"""What the doctor found, as tables for the console."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.data.doctor import DataFinding, DataReport
from engine.data.doctor.findings import FIX

COLOURS = {"spoils": "red", "hurts": "yellow", "note": "blue"}


def print_data_report(console: Console, diagnosis: DataReport) -> None:
    """The values of the masks, the findings, and what was not checked."""
    if diagnosis.values:
        console.print(values_table(diagnosis))
    for split, bits in diagnosis.divergence.items():
        console.print(
            f"Class shares of {escape(split)} are {bits:.3f} bits from those of train (Jensen-Shannon)."
        )
    console.print(findings_table(diagnosis.findings) if diagnosis.findings else "Nothing found.")
    for what in diagnosis.skipped:
        console.print(f"[dim]Not checked: {escape(what)}.[/]")
    console.print(verdict(diagnosis))


def findings_table(findings: Sequence[DataFinding]) -> Table:
    """What, where, why and the remedy of each, the most severe first."""
    table = Table(title="findings", title_justify="left", show_lines=True)
    for heading, ratio in (("check", None), ("what and where", 5), ("why it matters", 4), ("remedy", 4)):
        table.add_column(heading, overflow="fold", ratio=ratio)
    for found in findings:
        colour = COLOURS[found.severity]
        table.add_row(
            f"[{colour}]{found.severity}[/]\n{found.check}",
            "\n".join([escape(found.what), *(f"[dim]{escape(line)}[/]" for line in where_lines(found))]),
            escape(found.why),
            escape(found.remedy),
        )
    return table


def where_lines(found: DataFinding) -> list[str]:
    """The files that a finding names, and how many more are affected."""
    more = found.num_files - len(found.where)
    return [*found.where, *([f"and {more} more"] if more else [])]


def values_table(diagnosis: DataReport) -> Table:
    """Every value of the masks: its meaning, the masks that contain it, its share of each split."""
    table = Table(title="values of the masks", title_justify="left")
    table.add_column("value", justify="right")
    table.add_column("meaning")
    table.add_column("masks", justify="right")
    for split, number in diagnosis.num_samples.items():
        table.add_column(f"{split} ({number})", justify="right")
    for row in diagnosis.values:
        shares = (f"{100 * share:.3f} %" if share else "-" for share in row["share"].values())
        table.add_row(str(row["value"]), escape(row["name"]), f"{row['masks']:,}", *shares)
    return table


def verdict(diagnosis: DataReport) -> str:
    """One line: how many findings of each severity."""
    severities = [found.severity for found in diagnosis.findings]
    counts = ", ".join(f"{severities.count(s)} {meaning}" for s, meaning in (
        ("spoils", "that would spoil training"), ("hurts", "that hurt the score"), ("note", "for information")
    ) if s in severities)  # fmt: skip
    return f"{sum(diagnosis.num_samples.values()):,} samples. Findings: {counts or 'none'}."


def command_to_fix(report: "DataReport", recipe: str, overrides: Sequence[str] = ()) -> str | None:
    """The command that writes a repaired copy, if that can repair a finding."""
    if not any(FIX in found.remedy for found in report.findings):
        return None
    names = (f"{Path(recipe).stem}_fixed{number}" for number in ("", *range(2, 1000)))
    out = next((name for name in names if not Path(name).exists()), "fixed")
    return shlex.join(["trident", "doctor", recipe, *overrides, "--fix", out])
