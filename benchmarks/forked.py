"""Commands of Trident as forks of a process that has imported torch: starting Python takes longer than a run.

The caller must not have computed anything with torch, as threads do not survive a fork.
"""

import importlib
import os
import pkgutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import engine
import models
from engine.command import main as command_line

for package in (engine, models):  # once, before the forks
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            with suppress(ImportError):  # of an optional package
                importlib.import_module(module.name)


@dataclass(frozen=True)
class Ended:
    """code: of exit, negative for a signal, None where it did not end in time; output: all it printed."""

    code: int | None
    output: str

    @property
    def failed_badly(self) -> bool:
        """It did not end, or crashed, or printed a traceback."""
        return self.code is None or self.code < 0 or "Traceback" in self.output


class Command:
    """A running `trident` command, in a process group of its own.

    Args:
        arguments: of `trident`.
        output: the file of what it prints.
        before: called in the new process first, such as to make something fail.
        environment: variables that are added.
    """

    def __init__(
        self,
        arguments: list[str],
        output: Path,
        before: Callable[[], object] = lambda: None,
        environment: dict[str, str] | None = None,
    ):
        self._output = output
        self.pid = os.fork()
        if self.pid == 0:
            _run(arguments, output, before, environment or {})
        os.setpgid(self.pid, self.pid)  # here too, as it may be killed before it has done so

    def is_running(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def send(self, number: int) -> None:
        """To this process alone; its worker processes get no signal."""
        os.kill(self.pid, number)

    def end(self, timeout_s: float = 120.0) -> Ended:
        """Wait for its end; what is left of its process group then is killed."""
        until = time.monotonic() + timeout_s
        while self.is_running() and time.monotonic() < until:
            time.sleep(0.002)
        in_time = not self.is_running()
        os.killpg(self.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return Ended(code if in_time else None, self._output.read_text(errors="replace"))


def trident(arguments: list[str], output: Path, before: Callable[[], object] = lambda: None) -> Ended:
    """Run one command to its end."""
    return Command(arguments, output, before).end()


def _run(
    arguments: list[str], output: Path, before: Callable[[], object], environment: dict[str, str]
) -> None:
    """The new process; never returns."""
    code = 70
    try:
        os.setpgid(0, 0)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)
        os.environ.update(environment)
        before()
        code = command_line(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
