"""The folder of a new run, and the environment that it records."""

import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine.run_folder import RunFolder, RunFolderError
from engine.training import start
from engine.training.distributed import Process
from engine.training.fit import RunError
from engine.training.interrupt import RunStopped
from engine.training.start import environment, new_run


def test_versions_device_and_processes_are_those_of_this_process() -> None:
    facts = environment(Process(0, 3, torch.device("cpu")))
    assert facts["python"] == platform.python_version() and facts["torch"] == torch.__version__
    assert facts["processes"] == "3" and facts["device"].startswith("CPU, ")
    assert all(isinstance(value, str) and value for value in facts.values())


@pytest.mark.parametrize(
    ("rank", "before", "error", "remains"),
    [
        (0, [], RunError, []),  # the first process removes what it made
        (0, ["a.part"], RunError, [".lock", "a.part"]),
        (0, [], RunStopped, [".lock"]),
        (0, ["notes.txt"], RunFolderError, [".lock", "notes.txt"]),  # it came up in the meantime
        (1, ["notes.txt"], RunError, ["notes.txt"]),
    ],
)
def test_a_failure_before_the_first_update_removes_a_new_folder_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int, before: list[str], error: type, remains: list
) -> None:
    for name in ("require_room", "wait_for_all", "save_state", "write_text"):
        monkeypatch.setattr(start, name, lambda *arguments: None)
    monkeypatch.setattr(start, "_new_manifest", lambda session: SimpleNamespace(run_id="id"))
    for name in ("write_manifest", "write_final"):
        monkeypatch.setattr(RunFolder, name, lambda *arguments: None)
    recipe = SimpleNamespace(keep=SimpleNamespace(top=1, tail=0), to_yaml=str)
    session = SimpleNamespace(
        process=Process(rank, 2, torch.device("cpu")),
        recipe=recipe,
        step=SimpleNamespace(count=0, is_sharded=False),
    )
    run = RunFolder(tmp_path / "run")
    for name in before:
        run.path.mkdir()
        (run.path / name).touch()
    with pytest.raises(error), new_run(run, session, None):
        raise error
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == remains
    assert run.path.exists() == bool(before or error is RunStopped)
