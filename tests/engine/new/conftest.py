"""A working folder of its own for each test, and no weights within reach."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("models.sources.weights_within_reach", lambda *_, **__: "none")
