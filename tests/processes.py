"""Python processes that begin with torch in memory, as importing it takes longer than a tiny run.

They are forked by the fork server of `multiprocessing`, one for each process of the tests. It has imported
packages of others only: each process imports Trident itself, from where its path says. Tests of the start of
Python start a real one. This file imports nothing of Trident.
"""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).parents[1]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        *("torch", "torchvision", "timm", "kornia.augmentation", "scipy.stats", "h5py", "safetensors.torch"),
        *("matplotlib.figure", "matplotlib.backends.backend_svg", "pydantic", "rich.console", "jinja2"),
    ]
)


@dataclass(frozen=True)
class Ended:
    """returncode: as of `subprocess`, negative for a signal."""

    returncode: int
    stdout: str
    stderr: str


class Python:
    """A running `python ARGUMENTS`, in a process group of its own. They begin with -c, -m or a file.

    Args:
        folder: the working folder.
        environment: variables that are added to those of the test.
        outputs: file descriptors of stdout and stderr. Without them, what it prints is kept.
    """

    def __init__(
        self,
        *arguments: str | Path,
        folder: Path = ROOT,
        environment: dict[str, str] | None = None,
        outputs: Sequence[int] = (),
    ):
        pipes = [] if outputs else [os.pipe(), os.pipe()]
        written = [os.dup(output) for output in outputs] or [write for _, write in pipes]
        sent = [Connection(number, readable=False) for number in written]  # an object that can be sent
        variables = {**os.environ, **(environment or {})}
        texts = [str(argument) for argument in arguments]
        self._process = SERVER.Process(target=_run, args=(texts, str(folder), variables, sent))
        self._process.start()
        for connection in sent:
            connection.close()
        self.pid = self._process.pid or 0
        readers = ThreadPoolExecutor(2)
        self._printed = [readers.submit(_read, read) for read, _ in pipes]
        readers.shutdown(wait=False)

    def is_running(self) -> bool:
        return self._process.is_alive()

    def end(self, timeout_s: float = 1200.0) -> Ended:
        """Wait for the end; a process that hangs is killed, which is an error."""
        self._process.join(timeout_s)
        code = self._process.exitcode
        self.kill()
        printed = [text.result() for text in self._printed] or ["", ""]
        assert code is not None, f"the process did not end\n{printed}"
        return Ended(code, *printed)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def python(*arguments: str | Path, folder: Path = ROOT, environment: dict[str, str] | None = None) -> Ended:
    """Run to the end."""
    return Python(*arguments, folder=folder, environment=environment).end()


def _read(number: int) -> str:
    with open(number) as file:
        return file.read()


def _run(arguments: list[str], folder: str, variables: dict[str, str], outputs: list[Connection]) -> None:
    """In the new process: what `python` does with its arguments."""
    os.setsid()
    for number, output in enumerate(outputs, start=1):
        os.dup2(output.fileno(), number)
        output.close()
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    added = variables.get("PYTHONPATH", str(ROOT)).split(os.pathsep)
    sys.path[:] = [folder, *added, *(entry for entry in sys.path if entry not in ("", ".", str(ROOT)))]
    match arguments:
        case ["-c", code, *rest]:
            sys.argv = ["-c", *rest]
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        case ["-m", module, *rest]:
            sys.argv = [module, *rest]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case [script, *rest]:
            sys.argv = [script, *rest]
            sys.path[0] = str(Path(script).parent)
            runpy.run_path(script, run_name="__main__")
