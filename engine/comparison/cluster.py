"""The cells of a grid as tasks of a Ray cluster, one GPU each where it has GPUs.

Every node has to see the folder of the grid and the data under the same paths, and to have this project
installed.
"""

import os
import runpy
import socket
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from rich.console import Console

from engine.comparison.grid import Cell, CompareError, Failure, module_paths, remove_unsaved
from engine.comparison.progress import GridProgress

MAX_RETRIES = 2
LOOK_EVERY_S = 0.5
CONNECT_TIMEOUT_S = 10
PASSED_ON = ("OMP_NUM_THREADS",)  # it decides the order of sums, and so their last bits


class CellFailed(RuntimeError):
    """The run of a cell failed in a way that another attempt may not."""


def run_on_cluster(cells: Sequence[Cell], address: str, console: Console) -> list[Failure]:
    """Train the cells on an existing Ray cluster.

    A cell whose run fails, or whose node is lost, is started again up to twice, from its last saved state.

    Raises:
        CompareError: Ray is not installed, or there is no cluster at the address.
    """
    ray = _import_ray()
    variables = {"PYTHONPATH": os.pathsep.join(module_paths())} | {
        name: os.environ[name] for name in PASSED_ON if name in os.environ
    }
    try:
        _connect(address)
        ray.init(address, runtime_env={"env_vars": variables}, log_to_driver=False, logging_level="warning")
    except (OSError, ValueError, RuntimeError) as error:
        raise CompareError(
            f"--cluster {address}: no Ray cluster responds there ({error}). Start one with "
            "`ray start --head`, and give its address, or auto on one of its nodes."
        ) from None
    try:
        return _run(ray, cells, console)
    finally:
        ray.shutdown()  # of this connection; tasks of it that still run are cancelled


def _run(ray: Any, cells: Sequence[Cell], console: Console) -> list[Failure]:
    num_gpus = 1 if ray.cluster_resources().get("GPU") else 0
    # A worker keeps threads, settings and GPU memory of its training, so each trains one cell only.
    task = ray.remote(num_gpus=num_gpus, max_calls=1, max_retries=MAX_RETRIES, retry_exceptions=[CellFailed])(
        train_cell
    )
    failures = []
    with GridProgress(console, cells) as progress:
        running = {task.remote(cell, os.getcwd()): cell for cell in cells}
        for cell in cells:
            progress.begins(cell, "queued")
        while running:
            done, _ = ray.wait(list(running), timeout=LOOK_EVERY_S)
            for cell in running.values():
                progress.look(cell)
            for reference in done:
                cell = running.pop(reference)
                failure = _failure(ray, reference, cell)
                failures += [failure] if failure else []
                progress.ends(cell, failure)
    return failures


def _failure(ray: Any, reference: Any, cell: Cell) -> Failure | None:
    """The failure of a task that has ended, None if it succeeded."""
    try:
        ray.get(reference)
    except ray.exceptions.RayError as error:
        output = Failure.of(cell).text if cell.log.exists() else ""
        return Failure(cell, f"{output}\n{str(error).splitlines()[0]}")
    return None if cell.run.is_finished else Failure.of(cell)


def train_cell(cell: Cell, folder: str) -> None:
    """Trains a cell in a worker of Ray.

    Args:
        folder: where the comparison was started, since recipes may have relative paths.

    Raises:
        CellFailed: the run failed. A mistake in the input raises nothing, as another attempt would not help.
    """
    os.chdir(folder)
    remove_unsaved(cell)
    sys.argv = ["engine.run", *cell.arguments]  # in this process, so that it ends when Ray ends the task
    with cell.log.open("a", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        print(f"worker {os.getpid()} on {os.uname().nodename}")
        try:
            runpy.run_module("engine.run", run_name="__main__")
        except SystemExit as end:
            if end.code == 1:
                raise CellFailed(f"{cell.name}: see {cell.log}") from None


def _connect(address: str) -> None:
    """Raises OSError where nothing listens at host:port or ray://host:port; Ray would wait for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise CompareError(
            "--cluster needs Ray, which is not installed. Type: pip install trident-seg[cluster], or "
            "pip install -e .[cluster] in a checkout; without --cluster the runs are local."
        ) from None
    return ray
