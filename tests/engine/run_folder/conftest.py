"""The folder of a run, and a manifest for it."""

from pathlib import Path

import pytest

from engine.run_folder import (
    DataIdentity,
    Manifest,
    Member,
    RunFolder,
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "checkpoints" / "demo")


def a_manifest() -> Manifest:
    data = DataIdentity(format="voc", train="train", val="val", train_fingerprint="t", val_fingerprint="v")
    member = Member(file="top/step-0000010.safetensors", step=10, scores={"mIoU": 0.5}, sha256="0" * 64)
    return Manifest(
        name="demo", code_version="1", class_names=["grün", "blau"],
        palette=[(0, 128, 0), (0, 0, 255)], data=data, metric="mIoU", num_parameters=3, members=[member],
    )  # fmt: skip
