"""The lock on a run folder, held by another process."""

import errno
import fcntl
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.run import main
from engine.run_folder import DiskError, RunFolderError, locked, require_unused

ROOT = Path(__file__).parents[3]
HOLDS = """
import os, sys
from pathlib import Path
from engine.run_folder import locked
with locked(Path(sys.argv[1])):
    worker = os.fork()
    if not worker:
        sys.stdin.read()  # a worker that outlives the process
        os._exit(0)
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder, with a worker."""
    command = [sys.executable, "-c", HOLDS, str(folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_holds_the_run(tmp_path: Path) -> None:
    with held(tmp_path / "run") as other:
        for take in (require_unused, lambda folder: locked(folder).__enter__()):
            with pytest.raises(RunFolderError, match=f"process {other.pid} on {platform.node()}, since 2"):
                take(tmp_path / "run")


def test_the_lock_ends_with_its_process_although_a_worker_lives(tmp_path: Path) -> None:
    with held(tmp_path) as other:
        other.kill()
        other.wait()
        with locked(tmp_path):
            assert f"process {os.getpid()} on" in (tmp_path / ".lock").read_text()


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_a_run_that_is_in_use_is_refused_at_once(
    tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with held(tmp_path / "demo") as other:
        assert main([str(ROOT / "recipes/demo.yaml"), f"output.dir={tmp_path}", *more]) == 2
        assert f"demo is in use by process {other.pid}" in capsys.readouterr().err


def test_a_file_system_without_locks_is_used_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == ""


def test_a_run_on_a_disk_that_is_read_only_is_refused_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".lock").touch()

    def refuse(path: Path, *arguments: object, **more: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    for take in (require_unused, lambda folder: locked(folder).__enter__()):
        with pytest.raises(DiskError, match=r"\.lock: Read-only file system\. Mount that file system"):
            take(tmp_path)
