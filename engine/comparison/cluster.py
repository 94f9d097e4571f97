"""The cells of a grid as tasks of a Ray cluster, one GPU each where it has GPUs.

Every node has to see the folder of the grid and the data under the same paths, and to have this project
installed. Knows nothing of what the cells train.
"""

import os
import runpy
import socket
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from rich.console import Console

import engine
from engine.comparison.grid import Cell, CompareError, Failure, clear_stillborn
from engine.comparison.progress import GridProgress

MAX_RETRIES = 2
LOOK_EVERY_S = 0.5
KNOCK_S = 10
PASSED_ON = ("OMP_NUM_THREADS",)  # sums in other orders differ in the last bit


class CellFailed(RuntimeError):
    """The run of a cell failed in a way that another attempt may not."""


def run_on_cluster(cells: Sequence[Cell], address: str, console: Console) -> list[Failure]:
    """Train the cells on an existing Ray cluster.

    A cell whose run fails, or whose node is lost, is started again up to twice, from its last saved state.

    Raises:
        CompareError: Ray is not installed, or there is no cluster at the address.
    """
    ray = _import_ray()
    root = str(Path(engine.__file__).parents[1])
    variables = {"PYTHONPATH": root} | {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    try:
        _knock(address)
        ray.init(address, runtime_env={"env_vars": variables}, log_to_driver=False, logging_level="warning")
    except (OSError, ValueError, RuntimeError) as error:
        raise CompareError(
            f"--cluster {address}: no Ray cluster answers there ({error}). Start one with "
            "`ray start --head`, and give its address, or auto on one of its nodes."
        ) from None
    try:
        return _run(ray, cells, console)
    finally:
        ray.shutdown()  # of this connection; tasks of it that still run are cancelled


def _run(ray: Any, cells: Sequence[Cell], console: Console) -> list[Failure]:
    num_gpus = 1 if ray.cluster_resources().get("GPU") else 0
    # A worker that trained once holds threads, settings and GPU memory of that: each trains one cell.
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
    """What became of a task that has ended."""
    try:
        ray.get(reference)
    except ray.exceptions.RayError as error:
        said = Failure.of(cell).text if cell.log.exists() else ""
        return Failure(cell, f"{said}\n{str(error).splitlines()[0]}")
    return None if cell.is_finished else Failure.of(cell)


def train_cell(cell: Cell, folder: str) -> None:
    """What a worker does. `folder` is where the comparison was started: recipes may have relative paths.

    Raises:
        CellFailed: the run failed; a mistake in the input is no reason to try again, and raises nothing.
    """
    os.chdir(folder)
    clear_stillborn(cell)
    sys.argv = cell.command[2:]  # `trident run ...`, in this process: it ends when Ray ends the task
    with cell.log.open("a", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        print(f"worker {os.getpid()} on {os.uname().nodename}")
        try:
            runpy.run_module(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            if end.code == 1:
                raise CellFailed(f"{cell.name}: see {cell.log}") from None


def _knock(address: str) -> None:
    """Raises OSError where nobody listens at host:port or ray://host:port: Ray itself waits for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise CompareError(
            "--cluster needs Ray, which is not installed. Type: pip install trident-seg[cluster], or "
            "pip install -e .[cluster] in a checkout; without --cluster the runs are local."
        ) from None
    return ray
