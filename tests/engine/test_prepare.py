"""The command line of `trident prepare`: help, mistakes, exit codes, and progress."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from engine.command import main as trident
from engine.data import DataError, Sample
from engine.prepare import SUBCOMMANDS, main
from engine.reporting import transfers
from engine.reporting.mask_files import write_masks
from engine.reporting.transfers import tracked

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("argv", [["--help"], ["voc2012", "--help"], ["coco2017", "--help"]])
def test_help_loads_nothing_heavy(argv: list[str]) -> None:
    code = (
        f"import sys, engine.prepare; engine.prepare.main({argv})\n"
        "sys.exit(bool({'torch', 'numpy', 'scipy', 'rich', 'PIL'} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: trident prepare{'' if argv[1:] == [] else ' ' + argv[0]}")


def test_the_help_names_each_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in SUBCOMMANDS)
    assert trident(["prepare", "--help"]) == 0
    assert capsys.readouterr().out == out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "WHAT"),
        (["voc2021"], "invalid choice: 'voc2021'"),
        (["voc2012", "data"], "unrecognized arguments: data"),
        (["voc2012", "--mirror", "/home/me"], "--mirror /home/me is not an http:// or https:// URL"),
        (["coco2017", "--mirror", "https://"], "--mirror https:// is not an http"),
    ],
)
def test_mistakes(argv: list[str], message: str, capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_created(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["voc2012", "--root", str(tmp_path / "file/new")]) == 2
    assert "file/new cannot be written: " in capsys.readouterr().err


def shown(unit: str, calls: list[tuple[int, int | None]]) -> list[str]:
    file = io.StringIO()
    with tracked(Console(file=file), "download a.tar", unit) as show:
        for done, total in calls:
            show(done, total)
    return file.getvalue().splitlines()


def test_progress_without_a_terminal_is_a_line_at_the_end() -> None:
    assert shown("bytes", [(10, 2_000_000), (2_000_000, 2_000_000)]) == ["download a.tar: 2.0 MB"]
    assert shown("files", [(1, None), (1234, None)]) == ["download a.tar: 1,234"]
    assert shown("files", []) == []


def test_progress_without_a_terminal_is_a_line_at_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "LINE_EVERY_S", 0.0)
    assert shown("files", [(1, 3), (3, 3)]) == [
        "download a.tar: 1 of 3", "download a.tar: 3", "download a.tar: 3",
    ]  # fmt: skip


def test_masks_stay_below_their_folder(tmp_path: Path) -> None:
    """An id from an annotation may hold `..`: nothing is written beside the folder, nor a part of it."""
    labels = torch.zeros((4, 4), dtype=torch.uint8)
    sample = Sample("../outside", torch.zeros((3, 4, 4), dtype=torch.uint8), labels)

    class Single:
        ids, class_names, palette, ignore_index, skipped = (
            ["../outside"],
            ("no", "yes"),
            ((0, 0, 0),) * 2,
            255,
            None,
        )

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Sample:
            return sample

        def labels(self, index: int) -> torch.Tensor:
            return labels

    with pytest.raises(DataError, match=r"\.\./outside is no path below a folder"):
        write_masks({"train": Single()}, tmp_path / "out", lambda done, total: None)
    assert list(tmp_path.iterdir()) == []
