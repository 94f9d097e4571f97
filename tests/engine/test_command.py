"""What all commands share: exit codes, --help, names of commands and recipes."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from engine.command import COMMANDS, LOG_WIDTH, main, new_console, new_parser, recipe_file, run_command

ROOT = Path(__file__).parents[2]


class Mistake(ValueError):
    exit_code = 2


@pytest.mark.parametrize(
    ("error", "exit_code", "is_plain"),
    [
        (Mistake("data.root is not set"), 2, True),
        (PermissionError(errno.EACCES, "Permission denied", "/somebody/report.html"), 2, True),
        (OSError(errno.EROFS, "Read-only file system", "/media/cd/report.html"), 2, True),
        (OSError(errno.ENOSPC, "No space left on device"), 1, True),
        (ZeroDivisionError("a fault of ours"), 1, False),
    ],
)
def test_errors_become_exit_codes(
    error: Exception, exit_code: int, is_plain: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(_: object) -> int:
        raise error

    assert run_command(new_parser("run", ""), body, []) == exit_code
    printed = capsys.readouterr().err
    assert str(error) in printed
    assert ("Traceback" in printed) is not is_plain
    assert run_command(new_parser("run", ""), body, ["--debug"]) == exit_code
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_needs_no_torch(command: str) -> None:
    code = f"import sys, engine.{command} as c; sys.exit(c.main(['--help']) or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert f"trident {command}" in done.stdout


def test_trident_lists_its_commands_and_suggests_a_similar_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listing = capsys.readouterr().out
    assert all(f"\n  {name} " in listing and what in listing for name, what in COMMANDS.items())
    assert main(["evalute"]) == 2
    assert "Did you mean evaluate?" in capsys.readouterr().err


def test_a_recipe_found_by_name_is_printed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    file = recipe_file("b2_adv")
    assert file.name == "b2_adv.yaml" and str(file) in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")  # the other processes of torchrun
    assert recipe_file("b2_adv") == file
    monkeypatch.delenv("RANK")
    assert recipe_file(str(file)) == file
    assert capsys.readouterr().err == ""


def test_a_pipe_gets_wide_lines_unless_columns_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert new_console().width == LOG_WIDTH
    monkeypatch.setenv("COLUMNS", "90")
    assert new_console().width == 90
