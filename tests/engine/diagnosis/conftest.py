"""A run whose files are written by the test."""

from functools import partial
from pathlib import Path

import pytest

from tests.engine.diagnosis.written_runs import MakeRun, write_run


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`make_run(val=[{"step": 1, "mIoU": 0.5}], train=[...], counts={"confusion": ...}, weights=...)`."""
    return partial(write_run, tmp_path / "run")
