"""A run on images of four bands of 16 bits: every command after it reads the same bands in the same way."""

import re
import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml
from PIL import Image

import trident
from engine.command import main as command_line
from engine.data import open_split
from engine.exporting.graph import Graph, largest_difference, metadata
from engine.recipe import RecipeError, load_recipe
from engine.run_folder import RunFolder, read_log
from engine.scoring.segmenter import UseError, open_segmenter

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

RECIPE = """
name: own
data:
  {format: folder, root: data, classes: [dark, bright], bands: [nir, red, green, blue], workers: 0}
model: {arch: segformer, variant: b0, from_scratch: true}
augment: {crop: 32}
schedule: {warmup: 0}
adversarial: {start: 1, ramp: 1, channels: 8, layers: 2}
train: {steps: 2, batch: 2}
eval: {every: 1}
log: {every: 1, images: 2, features: 1, to: [tensorboard]}
output: {dir: runs}
"""
HIGHEST = (4000, 900, 900, 900)  # value of each band
H, W = 40, 48


def write_tiff(path: Path, values: np.ndarray) -> None:
    layout = {"driver": "GTiff", "height": H, "width": W, "count": len(values), "dtype": values.dtype}
    place = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(5e5, 5e6, 10, 10)}
    with rasterio.open(path, "w", **layout, **place) as file:
        file.write(values)


def trident_command(*arguments: str) -> int:
    return command_line([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a recipe, and a finished run of it."""
    made = tmp_path_factory.mktemp("made")
    noise = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (made / "data" / split / kind).mkdir(parents=True)
        for number in range(2):
            values = np.stack([noise.random((H, W)) * top for top in HIGHEST]).astype(np.uint16)
            write_tiff(made / f"data/{split}/images/{number}.tif", values)
            labels = (values[0] > HIGHEST[0] / 2).astype(np.uint8)
            Image.fromarray(labels).save(made / f"data/{split}/masks/{number}.png")
    (made / "own.yaml").write_text(RECIPE)
    with chdir(made):
        assert trident_command("run", "own.yaml") == 0
    return made


@pytest.fixture
def finished(made_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run, in a copy of its folder, which is the working folder."""
    shutil.copytree(made_once, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Path("runs/own")


@pytest.fixture
def folder(finished: Path) -> Path:
    """The working folder, with data and a recipe."""
    shutil.rmtree("runs")
    return Path.cwd()


def stored(path: str) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


def test_every_command_reads_the_bands_as_the_training_did(finished: Path, capsys) -> None:
    data = load_recipe(finished / "recipe.yaml").data
    assert data.range == [[0, 4095], [0, 1023], [0, 1023], [0, 1023]]
    pixels = np.stack([stored(f"data/train/images/{i}.tif") for i in range(2)]).astype(int)
    shades = np.stack([pixels[:, 0] >> 4, *(pixels[:, band] >> 2 for band in (1, 2, 3))])  # (4, 2, h, w)
    assert np.allclose(data.normalisation.mean, shades.mean((1, 2, 3)), atol=1e-3)
    assert np.allclose(data.normalisation.std, shades.std((1, 2, 3)), atol=1e-3)
    manifest = RunFolder(finished).read_manifest()
    assert manifest.bands == ["nir", "red", "green", "blue"]
    assert (
        manifest.normalisation
        == yaml.safe_load((finished / "recipe.yaml").read_text())["data"]["normalisation"]
    )

    segmenter = open_segmenter(finished, "cpu")
    model = next(iter(segmenter.trained.members.values()))
    assert torch.allclose(model.mean.flatten(), torch.tensor(data.normalisation.mean))
    seen = segmenter.pixels("data/train/images/0.tif")
    assert (seen.numpy() == shades[:, 0]).all()
    labels = segmenter.predict("data/train/images/0.tif").labels
    assert torch.equal(trident.load(finished).predict(seen).labels, labels)
    assert torch.equal(segmenter.predict(seen.permute(1, 2, 0).numpy()).labels, labels)
    with pytest.raises(UseError, match=r"nir, red, green, blue.*\(4, h, w\)"):
        segmenter.predict(seen[:3])

    graph = Graph(segmenter)  # what export traces
    assert largest_difference(graph, segmenter, graph.min_size_px, 1e-4) <= 1e-4
    assert metadata(segmenter)["input"].startswith("images (batch, 4, height, width), uint8, nir, red")

    assert trident_command("predict", finished, "data/train/images", "--out", "whole") == 0
    tiled = ["--tile", "48", "--overlap", "0", "--polygons"]
    assert trident_command("predict", finished, "data/train/images", "--out", "tiled", *tiled) == 0
    assert (np.array(Image.open("whole/labels/0.png")) == labels.numpy()).all()
    assert (stored("tiled/labels/0.tif")[0] == labels.numpy()).all()
    assert rasterio.open("tiled/labels/0.tif").crs.to_epsg() == 32633
    mixed = np.array(Image.open("whole/overlay/0.jpg")).astype(int)
    assert mixed.shape == (H, W, 3)

    for command in (
        ["evaluate", finished],
        ["ensemble", finished, "--save", "together"],
        ["evaluate", "together"],
        ["predict", "together", "data/val/images", "--out", "by_both"],
        ["export", "weights", finished, "--layout", "huggingface", "--out", "weights"],
        ["report", finished],
        ["diagnose", finished, "--labels"],
        ["doctor", "own.yaml", "--show", "augment"],
        ["run", "own.yaml", "--resume"],
    ):
        capsys.readouterr()
        assert trident_command(*command) == 0, (command, capsys.readouterr())
    assert "nir, red, green, blue" in Path("weights/README.md").read_text()
    assert '"num_channels": 4' in Path("weights/config.json").read_text()


def test_a_pack_and_workers_and_memory_give_the_same_training(folder: Path, capsys) -> None:
    assert trident_command("prepare", "pack", "own.yaml", "--out", "raw.h5", "--layout", "decoded") == 0
    assert trident_command("prepare", "pack", "own.yaml", "--out", "own.h5") == 0
    packed = ["data.format=packed", "data.root=own.h5", "data.train=train"]
    data = load_recipe("own.yaml", packed).data
    from_files = open_split(
        load_recipe("own.yaml", ["data.range=[[0,4095],[0,1023],[0,1023],[0,1023]]"]).data, "val"
    )
    pack = open_split(data, "val")
    raw = open_split(data.model_copy(update={"root": "raw.h5"}), "val")
    for index in range(2):
        expected = from_files[index].image
        assert torch.equal(pack[index].image, expected) and torch.equal(raw[index].image, expected)
    runs = []
    for name, options in {
        "memory": ["data.resident=ram"],
        "workers": ["data.resident=disk", "data.workers=1"],
        "pack": packed,
    }.items():
        assert trident_command("run", "own.yaml", f"name={name}", *options) == 0
        found = load_recipe(f"runs/{name}/recipe.yaml").data
        losses = [row["loss"] for row in read_log(Path(f"runs/{name}/log.jsonl")) if row["split"] == "train"]
        runs.append((found.range, found.normalisation, losses))
    capsys.readouterr()
    assert runs[0] == runs[1] == runs[2] and len(runs[0][2]) == 2
    assert trident_command("run", "own.yaml", *packed, "data.bands=null", "name=other") == 2
    assert re.search(r"Type 'data.bands=\[nir, red, green, blue\]'", capsys.readouterr().err)
    assert not Path("runs/other").exists()


def test_a_run_continues_from_one_of_other_bands_by_name(finished: Path, capsys) -> None:
    for path in Path("data").rglob("*.tif"):
        write_tiff(path, stored(path)[[1, 0, 2]])
    more = ["name=next", "model.from_scratch=false", "model.weights=runs/own", "data.bands=[red, nir, swir]"]
    off = [f"augment.{name}=0" for name in ("brightness", "contrast", "saturation", "hue")]
    assert trident_command("run", "own.yaml", *more, *off) == 0
    assert "red, nir keep their filters; swir start" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.bands=3", "data.doctor=off"], "has 4 bands, but data.bands has 3.*data.bands=4"),
        (["data.bands=3"], "has 4 bands, but data.bands has 3.*data.bands=4"),
        (["data.bands=[nir, red, nir, blue]"], "data.bands.*nir is there 2 times"),
        (["data.bands=[a, b, c, d]"], "a, b, c, d is a colour.*augment.brightness=0"),
        (["data.bands=4", "data.range=[[0, 1]]"], "data.range.*expected 4 pairs"),
        (["data.normalisation={mean: [1, 2], std: [1, 2]}"], "data.normalisation.*expected 4 means"),
        (["model.arch=torch.nn:Identity"], "in_channels"),
        (["data.bands=null"], "data.bands="),
    ],
)
def test_a_mistake_ends_with_a_remedy_before_anything_is_written(
    folder: Path, overrides: list[str], words: str, capsys
) -> None:
    assert trident_command("run", "own.yaml", *overrides) == 2
    text = " ".join(capsys.readouterr().err.split())
    assert re.search(words, text) and "Traceback" not in text
    assert not Path("runs/own").exists()


def test_one_image_of_other_bands_among_many_is_named(finished: Path, capsys) -> None:
    odd = Path("data/val/images/1.tif")
    write_tiff(odd, stored(odd)[:3])
    for command in (
        ["run", "own.yaml", "name=again", "data.doctor=off"],
        ["predict", finished, "data/val/images", "--out", "predicted"],
        ["evaluate", finished],
    ):
        capsys.readouterr()
        assert trident_command(*command) == 2
        assert re.search(r"val/images/1\.tif has 3 bands", " ".join(capsys.readouterr().err.split()))
    assert not Path("runs/again").exists() and not Path("predicted").exists()
    assert trident_command("evaluate", finished, "data.bands=3") == 2


@pytest.mark.parametrize(("ending", "number"), [("npy", 5), ("npy", 2), ("png", 4), ("png", 2)])
def test_new_finds_the_number_of_bands(folder: Path, ending: str, number: int, capsys) -> None:
    """And writes a recipe that is valid: of two bands, which are no colours, without operators of colour."""
    for path in Path("data").rglob("*.tif"):
        pixels = np.moveaxis(stored(path) >> 4, 0, 2).astype(np.uint8)  # (h, w, 4)
        path.unlink()
        if ending == "npy":
            np.save(path.with_suffix(".npy"), pixels[..., [0, 1, 2, 3, 3][:number]])
        else:
            Image.fromarray(pixels[..., [1, 2, 3, 0][-number:]]).save(path.with_suffix(".png"))
    assert trident_command("new", "data", "--classes", "dark", "bright") == 0
    assert yaml.safe_load(Path("data.yaml").read_text())["data"]["bands"] == number
    assert f"images of {number} bands of uint8" in capsys.readouterr().out


def test_transparency_is_no_band(folder: Path) -> None:
    for path in Path("data").rglob("*.tif"):
        pixels = np.full((H, W, 4), 255, np.uint8)
        pixels[: H // 2, :, 3] = 0
        path.unlink()
        Image.fromarray(pixels).save(path.with_suffix(".png"))
    assert trident_command("new", "data", "--classes", "dark", "bright") == 0
    assert "bands" not in yaml.safe_load(Path("data.yaml").read_text())["data"]


def test_colours_are_wanted_by_a_recipe_as_a_list_of_mistakes(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"augment\.saturation=0 augment\.hue=0"):
        load_recipe("own.yaml", ["data.bands=2"])
