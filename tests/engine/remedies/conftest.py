"""A working folder with two recipes, in which messages are provoked."""

from pathlib import Path

import pytest
from PIL import Image

from tests.engine.remedies import sandbox
from tests.engine.remedies.sandbox import write


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # `large` lowers it
    write("r.yaml", sandbox.RECIPE)
    write("f.yaml", sandbox.FOLDER)
    return tmp_path
