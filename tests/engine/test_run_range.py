"""A run on images of 12 bits: the range that it found is used by every command after it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import trident
from engine.evaluate import main as evaluate
from engine.predict import main as predict
from engine.prepare import main as prepare
from engine.recipe import load_recipe
from engine.run import main as run
from engine.run_folder import RunFolder
from engine.scoring.segmenter import open_segmenter

RECIPE = """
name: own
data: {format: folder, root: data, classes: [dark, bright], resident: disk, workers: 0}
model: {arch: segformer, variant: b0, from_scratch: true}
augment: {crop: 32}
schedule: {warmup: 0}
train: {steps: 2, batch: 2}
eval: {every: 2}
log: {every: 1, images: 0, to: []}
output: {dir: runs}
"""


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run; the values of its training images go to 4000, those of its val images to 1000."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0)
    for split, top in (("train", 4000), ("val", 1000)):
        for number in range(2):
            for kind in ("images", "masks"):
                Path("data", split, kind).mkdir(parents=True, exist_ok=True)
            values = (noise.random((40, 48)) * top).astype(np.uint16)
            Image.fromarray(values).save(f"data/{split}/images/{number}.png")
            Image.fromarray((values > top / 2).astype(np.uint8)).save(f"data/{split}/masks/{number}.png")
    Path("own.yaml").write_text(RECIPE)
    assert run(["own.yaml"]) == 0
    return Path("runs/own")


def test_the_range_of_a_run_is_kept(finished: Path, capsys) -> None:
    assert load_recipe(finished / "recipe.yaml").data.range == [0, 4095]
    stored = np.array(Image.open("data/val/images/0.png"))
    shades = open_segmenter(finished, "cpu").pixels("data/val/images/0.png")
    assert (shades.numpy() == stored >> 4).all()
    assert trident.load(finished).predict("data/val/images/0.png").labels.shape == (40, 48)
    assert predict([str(finished), "data/val/images", "--out", "predicted", "--save", "overlay"]) == 0
    assert np.array(Image.open("predicted/overlay/0.jpg")).max() > 40  # read by their high byte: at most 3
    capsys.readouterr()
    assert evaluate([str(finished)]) == 0
    assert "not the images on which" not in capsys.readouterr().out
    assert evaluate([str(finished), "data.range=[0, 1000]"]) == 0
    assert "not the images on which" in capsys.readouterr().out
    assert run(["own.yaml", "--resume"]) == 0


def test_a_pack_has_its_range_and_a_run_on_it_reads_files_alike(finished: Path, capsys) -> None:
    on_files = RunFolder(finished).read_manifest().data
    for layout in ("encoded", "decoded"):
        assert prepare(["pack", "own.yaml", "--out", f"{layout}.h5", "--layout", layout]) == 0
        packed = ["own.yaml", "data.format=packed", "data.train=train", f"data.root={layout}.h5"]
        assert run([*packed, f"name={layout}"]) == 0
        recipe = load_recipe(Path("runs", layout, "recipe.yaml"))
        assert recipe.data.range == [0, 4095]
        data = RunFolder(Path("runs", layout)).read_manifest().data
        assert data.val_fingerprint == on_files.val_fingerprint
        one, two = (open_segmenter(Path("runs", name), "cpu") for name in ("own", layout))
        image = "data/train/images/0.png"
        assert torch.equal(one.predict(image).labels, two.predict(image).labels)
        assert run([*packed, "name=other", "data.range=[0, 1000]"]) == 2
        assert "data.range=auto" in capsys.readouterr().err


def test_an_export_says_the_range(finished: Path) -> None:
    from engine.exporting.graph import metadata

    assert json.loads(metadata(open_segmenter(finished, "cpu"))["range"]) == [0, 4095]
