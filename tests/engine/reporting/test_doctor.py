"""How the doctor's findings look on terminals and in files."""

import io

import pytest
from rich.console import Console

from engine.data.doctor import DataReport
from engine.data.doctor.findings import NOTE, SPOILS, DataFinding, finding
from engine.reporting.doctor import print_data_report, print_findings, values_table, wrapped

PATH = "/home/someone/datasets/street scenes/annotations/fine/SegmentationClassAug/2007_000032.png"
FOUND = finding(
    "values",
    SPOILS,
    "masks hold 85 and 170",
    "No class has these ids.",
    "Type 'data.ids={0: void, 85: 1, 170: 2}', or data.classes=[background,person,car,bicycle,dog].",
    [PATH],
)


def printed(width: int, is_terminal: bool, *found: DataFinding) -> str:
    file = io.StringIO()
    console = Console(
        file=file, width=width, force_terminal=is_terminal, color_system=None, soft_wrap=not is_terminal
    )
    print_findings(console, found)
    return file.getvalue()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_terminal_gets_lines_that_fit_and_end_at_separators(width: int) -> None:
    lines = printed(width, True, FOUND).splitlines()
    assert max(map(len, lines)) <= width
    together = "".join(line.strip() for line in lines).replace(" ", "")
    for text in (FOUND.what, FOUND.why, FOUND.remedy, PATH):
        assert text.replace(" ", "") in together
    words = [word for text in (FOUND.what, FOUND.why, FOUND.remedy, PATH) for word in text.split()]
    for end in (line.split()[-1] for line in lines):
        is_whole = any(word.endswith(end) for word in [*words, "values"])
        assert is_whole or end[-1] in "/,;=:", f"{end} was cut in the middle"


def test_a_file_gets_each_text_in_one_line() -> None:
    lines = printed(80, False, FOUND).splitlines()
    assert lines[0] == "spoils  values"
    assert [line.strip() for line in lines[1:]] == [
        FOUND.what, PATH, f"Why: {FOUND.why}", f"Remedy: {FOUND.remedy}"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a word", ["a word"]),
        ("one two three", ["one two", "three"]),
        ("abc/defg/hij", ["abc/defg/", "hij"]),
        ("[aa,bb,cc,dd,ee]", ["[aa,bb,", "cc,dd,ee]"]),
        ("abcdefghijkl", ["abcdefghi", "jkl"]),
        ("", []),
    ],
)
def test_only_words_that_are_too_long_are_cut(text: str, lines: list[str]) -> None:
    assert wrapped(text, 9) == lines


def report(num_classes: int) -> DataReport:
    rows = [
        {"value": id, "name": f"class {id}", "masks": 1, "share": {"train": (id + 1) / 1e5}}
        for id in range(num_classes)
    ]
    void = {"value": 255, "name": "void", "masks": 1, "share": {"train": 1e-9}}
    return DataReport([], [*rows, void], [], {"train": 1}, {})


@pytest.mark.parametrize(("num_classes", "num_rows"), [(3, 4), (60, 40), (200, 40)])
def test_of_many_values_the_most_frequent_and_void_are_shown(num_classes: int, num_rows: int) -> None:
    table = values_table(report(num_classes))
    values = [int(value) for value in table.columns[0].cells]
    assert len(values) == num_rows and values == sorted(values)
    assert values[-2:] == [num_classes - 1, 255]
    folded = num_classes + 1 - num_rows
    assert (table.caption is None) == (folded == 0) and (
        not folded or f"{folded} rarer" in str(table.caption)
    )


def test_one_sample_and_one_finding_are_said_in_the_singular() -> None:
    file = io.StringIO()
    one = finding("rare", NOTE, "what", "why", "remedy")
    print_data_report(Console(file=file, width=80), DataReport([one], [], [], {"train": 1}, {}))
    assert "1 sample. Findings: 1 for information." in file.getvalue()
