"""A file that malicious content tries to create, and a module of the working folder that creates it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.run_folder import DataIdentity, Manifest


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """It must not exist at the end of a test."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "malicious content was executed"


@pytest.fixture
def evil_module(tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that can be imported, and creates the canary when it is."""
    (tmp_path / "evil_module.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("evil_module", None)  # of an earlier test
    return "evil_module"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside of what a command was given; its content must not be read."""
    path = tmp_path / "elsewhere/secret"
    path.parent.mkdir()
    path.write_bytes(b"TOP-SECRET " * 1000)
    return path


@pytest.fixture
def manifest() -> Manifest:
    data = DataIdentity(format="voc", train="train", val="val", train_fingerprint="", val_fingerprint="")
    return Manifest(
        name="run", code_version="0", class_names=["a", "b"], palette=[(0, 0, 0)] * 2, data=data,
        metric="mIoU", num_parameters=1, run_id="id",
    )  # fmt: skip
