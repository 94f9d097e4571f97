"""The folder of a new run, and the environment that it records."""

import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine.run_folder import RunFolder, RunFolderError
from engine.training import start
from engine.training.distributed import Process
from engine.training.start import environment, opened_run


def test_versions_device_and_processes_are_those_of_this_process() -> None:
    facts = environment(Process(0, 3, torch.device("cpu")))
    assert facts["python"] == platform.python_version() and facts["torch"] == torch.__version__
    assert facts["processes"] == "3" and facts["device"].startswith("CPU, ")
    assert all(isinstance(value, str) and value for value in facts.values())


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_main_process_minds_a_folder_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    """The main process may have made it before another one looks."""
    for name in ("require_room", "_new_manifest", "wait_for_all"):
        monkeypatch.setattr(start, name, lambda *arguments: None)
    process = Process(rank, 2, torch.device("cpu"))
    session = SimpleNamespace(
        process=process, recipe=SimpleNamespace(keep=SimpleNamespace(top=1)), step=SimpleNamespace(count=0)
    )
    run = RunFolder(tmp_path / "run")
    run.create()
    if rank == 0:
        with pytest.raises(RunFolderError, match="exists already"), opened_run(run, session, None, False):
            pass
    else:
        with opened_run(run, session, None, False):
            pass
    assert run.top.is_dir()
