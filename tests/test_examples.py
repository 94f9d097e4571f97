"""The script and the notebook in examples/ run unchanged."""

import json
import tempfile
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from PIL import Image

from engine.scoring.run import Run
from tests.processes import python

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_script_trains_with_its_loss_and_callback_and_predicts(tmp_path: Path) -> None:
    assert len((EXAMPLES / "train.py").read_text().splitlines()) <= 40
    done = python(EXAMPLES / "train.py", tmp_path, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines() if line.startswith("after ")] == [
        "after 20 updates", "after 40 updates",
    ]  # fmt: skip
    run = Run(tmp_path / "poly1")
    assert "decode.loss_poly1" in run.train_rows[0]
    assert Image.open(run.path / "prediction.png").size == (48, 48)


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code cells, in order and in one namespace; a kernel of Jupyter would need many packages."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    namespace: dict[str, object] = {}
    cells = json.loads((EXAMPLES / "quickstart.ipynb").read_text())["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            exec(compile("".join(cell["source"]), f"<{cell['id']}>", "exec"), namespace)
    for name in ("run", "alone"):
        run = namespace[name]
        assert isinstance(run, Run) and run.manifest.finished and len(run.val_rows) == 4
    assert len(plt.gca().lines) == 2
    plt.close("all")
