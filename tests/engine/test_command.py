"""What all commands share: exit codes, --help, names of commands and recipes."""

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
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
    denied = "/somebody/report.html: Permission denied. Allow this user to read or write it (chmod"
    assert (denied if isinstance(error, PermissionError) else str(error)) in printed
    assert ("Traceback" in printed) is not is_plain
    assert run_command(new_parser("run", ""), body, ["--debug"]) == exit_code
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a" * 300, "File name too long. A name may have 255 bytes"),
        ("/".join(["b" * 100] * 50), "File name too long. A name may have 255 bytes"),
        ("loop/x", "points back to itself"),
        ("file/x", "is a file, not a folder"),
        ("a\0b", "zero byte"),
    ],
    ids=["name", "path", "loop", "file", "zero"],
)
@pytest.mark.parametrize("look", [Path.stat, Path.mkdir, Path.read_bytes])
def test_a_path_that_no_file_can_have_is_a_mistake(
    path: str, reason: str, look: Callable[[Path], object], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("file").touch()

    def body(_: object) -> int:
        look(Path(path))
        return 0

    assert run_command(new_parser("run", ""), body, []) == 2
    printed = capsys.readouterr().err
    assert reason in printed and "Traceback" not in printed and len(printed) < 300
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file", tmp_path / "loop"]


def test_commands_refuse_such_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    for path in ("a" * 300, "loop/x"):
        for command in (["run", "demo", f"output.dir={path}"], ["evaluate", path]):
            assert main(command) == 2, command
            assert "Traceback" not in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["loop"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_needs_no_torch(command: str) -> None:
    """So --help is fast, and torch is imported after `run_command` has set the environment of its threads."""
    code = f"import sys, engine.{command} as c; sys.exit(c.main(['--help']) or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert f"trident {command}" in done.stdout


@pytest.mark.parametrize("words", [["--out=~/x", "~/y", "~/z"], ["--out", "~/x", "~/y", "~/z"]])
def test_a_tilde_is_the_home_folder_in_every_argument_that_is_a_path(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell does not expand it after `--out=`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = new_parser("run", "")
    parser.add_argument("--out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--name", default="~/name")
    seen = []
    assert run_command(parser, lambda arguments: seen.append(arguments) or 0, words) == 0
    assert (seen[0].out, seen[0].folders) == (tmp_path / "x", [tmp_path / "y", tmp_path / "z"])
    assert seen[0].name == "~/name"  # no path


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


def test_output_and_messages_go_to_streams_without_an_encoding() -> None:
    """Such as io.StringIO, as a notebook or a script redirects them."""
    with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.StringIO()) as messages:
        new_console().print("mIoU \N{PLUS-MINUS SIGN} \udce9")
        assert main(["run", "no such recipe"]) == 2
    assert output.getvalue() == "mIoU \N{PLUS-MINUS SIGN} \\udce9\n"
    assert "no such recipe" in messages.getvalue()


@pytest.mark.parametrize(
    ("given", "during"),
    [({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_soon_sleep_while_they_wait_unless_the_user_says_otherwise(
    given: dict[str, str], during: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    seen = []

    def body(_: object) -> int:
        seen.append(os.environ.get("GOMP_SPINCOUNT"))
        return 0

    assert run_command(new_parser("run", ""), body, []) == 0
    assert seen == [during] and os.environ.get("GOMP_SPINCOUNT") == given.get("GOMP_SPINCOUNT")


def test_a_prediction_imports_no_compiler() -> None:
    """torch's compiler and timm, which imports it, take longer than all else beside torch."""
    heavy = "{'timm', 'torch._dynamo'}"
    code = f"import sys, engine.scoring.segmenter, models.segformer; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
