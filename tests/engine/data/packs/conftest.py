"""A pack of drawn scenes, in both layouts."""

from pathlib import Path

import pytest

from engine.data.packs.pack import write_pack
from engine.data.synthetic import SyntheticScenes


@pytest.fixture(scope="module", params=["encoded", "decoded"])
def scenes(request, tmp_path_factory) -> Path:
    """A small pack whose bytes tests alter in copies."""
    path = tmp_path_factory.mktemp("scenes") / "scenes.h5"
    splits = {"train": SyntheticScenes("train", 3, 32), "val": SyntheticScenes("val", 2, 32)}
    write_pack(splits, path, request.param)
    return path
