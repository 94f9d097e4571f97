"""A run on overlapping discs (data.labels: multi), and every command after it."""

import json
import math
import shutil
from contextlib import chdir
from pathlib import Path

import h5py
import numpy as np
import pytest
import shapely
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import trident
from engine.command import main as command_line
from engine.data import open_split
from engine.data.class_counts import count_classes
from engine.diagnosis.remedies import can_be_packed
from engine.exporting import ExportError
from engine.exporting.graph import Graph, largest_difference, metadata
from engine.recipe import RecipeError, load_recipe
from engine.reporting.advisor import Advisor
from engine.run_folder import RunFolder, read_log
from engine.scoring.run import Run
from engine.scoring.scores_file import read_scores
from engine.training.batch_size import Trial
from engine.training.distributed import Process
from engine.training.interrupt import RunStopped
from trident import Callback

SIDE, CLASSES = 64, ("red", "blue")
RECIPE = """
name: discs
data: {format: folder, root: data, labels: multi, classes: [red, blue], workers: 0}
model: {arch: segformer, variant: b0, decoder_width: 32, from_scratch: true}
augment: {crop: 64, scale: [0.9, 1.1], hue: 0, saturation: 0, cutmix: 0.3, mosaic: 0.1}
loss: [{name: cross_entropy}, {name: dice}, {name: focal, weight: 0.5}]
optimizer: {lr: 2.0e-3}
schedule: {warmup: 2}
train: {steps: 20, batch: 6, ema: 0.5}
eval: {every: 10}
log: {every: 4, images: 2, to: [tensorboard, csv]}
output: {dir: runs}
"""


def discs(number: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A photo of two discs, light where they overlap, and the mask of each; each fifth has a void edge."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:SIDE, :SIDE]
    photo = np.full((SIDE, SIDE, 3), 60.0) + rng.normal(0, 5, (SIDE, SIDE, 3))
    masks = {}
    for name, channel in (("red", 0), ("blue", 2)):
        row, column = rng.uniform(22, 42, 2)
        inside = (y - row) ** 2 + (x - column) ** 2 < 15**2
        photo[inside, channel] += 150
        masks[name] = inside.astype(np.uint8)
        if number % 5 == 0:
            masks[name][:3] = 255
    return photo.clip(0, 255).astype(np.uint8), masks


def write_data(root: Path) -> None:
    for split, numbers in (("train", range(12)), ("val", range(100, 106))):
        for name in ("images", *(f"masks/{name}" for name in CLASSES)):
            (root / split / name).mkdir(parents=True)
        for number in numbers:
            photo, masks = discs(number)
            Image.fromarray(photo).save(root / split / "images" / f"{number}.png")
            for name, mask in masks.items():
                Image.fromarray(mask).save(root / split / "masks" / name / f"{number}.png")


def trident_command(*arguments: object) -> int:
    return command_line([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a recipe, a finished run of it, and its saved ensemble."""
    made = tmp_path_factory.mktemp("made")
    write_data(made / "data")
    (made / "discs.yaml").write_text(RECIPE)
    with chdir(made):
        assert trident_command("run", "discs.yaml") == 0
        assert trident_command("ensemble", "runs/discs", "--save", "both") == 0
    return made


@pytest.fixture
def finished(made_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run, in a copy of its folder, which is the working folder."""
    shutil.copytree(made_once, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Path("runs/discs")


def scored_by_hand(predicted: Path, threshold: dict[str, float]) -> dict[str, float]:
    """IoU by class of probabilities.h5 at thresholds, void left out."""
    both, either = dict.fromkeys(CLASSES, 0), dict.fromkeys(CLASSES, 0)
    with h5py.File(predicted) as file:
        names = list(file.attrs["class_names"])
        for number in range(100, 106):
            for place, name in enumerate(names):
                found = file[f"{number}.png"][place].astype(np.float32) >= threshold[name]
                mask = discs(number)[1][name]
                own = mask == 1
                both[name] += (found & own & (mask != 255)).sum()
                either[name] += ((found | own) & (mask != 255)).sum()
    return {name: both[name] / either[name] for name in CLASSES}


def test_the_model_learns_both_classes_at_one_pixel(finished: Path) -> None:
    segmenter = trident.load(finished)
    labels, probabilities = segmenter.predict("data/val/images/101.png")
    assert labels.shape == probabilities.shape == (2, SIDE, SIDE)
    masks = discs(101)[1]
    shared = torch.from_numpy((masks["red"] == 1) & (masks["blue"] == 1))
    assert shared.sum() > 50
    assert labels[:, shared].float().mean() > 0.8
    assert probabilities.sum(0).max() > 1.05, "they do not add up to 1"


def test_thresholds_are_kept_and_used(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = RunFolder(finished).read_manifest().members[0]
    assert best.thresholds is not None
    assert all(0 < value < 1 for value in best.thresholds)
    with safe_open(finished / best.file, "np") as file:
        assert json.loads(file.metadata()["trident"])["thresholds"] == list(best.thresholds)
    assert trident_command("evaluate", finished, "--out", "scored") == 0
    assert "Chosen on val, the split that selects checkpoints" in capsys.readouterr().out
    scores = json.loads(Path("scored/evaluate.json").read_text())["protocols"]["native"]["scores"]
    assert scores["mIoU"] == pytest.approx(best.scores["mIoU"], abs=1e-6)
    threshold = dict(zip(CLASSES, best.thresholds, strict=True))
    assert scores["thresholds"] == threshold
    images = "data/val/images"
    assert trident_command("predict", finished, images, "--out", "p", "--save", "labels,probabilities") == 0
    by_hand = scored_by_hand(Path("p/probabilities.h5"), threshold)
    assert scores["IoU"] == pytest.approx(by_hand, abs=2e-3)  # probabilities of 16 bits
    assert Path("scored/precision_recall.png").is_file()
    counts = Run(finished).scores
    assert counts is not None
    of_best = counts.by_class[f"step {best.step}"].sum(axis=0)  # (C, 2, 2)
    iou = of_best[:, 1, 1] / (of_best.sum((1, 2)) - of_best[:, 0, 0])
    assert dict(zip(CLASSES, iou, strict=True)) == pytest.approx(scores["IoU"], abs=1e-12)
    rows = read_log(finished / "log.jsonl")
    assert max(row["mIoU"] for row in rows if row["split"] == "val") == best.scores["mIoU"]


def test_predicted_files(finished: Path) -> None:
    saved = "labels,overlay,areas,polygons"
    assert trident_command("predict", finished, "data/val/images", "--out", "p", "--save", saved) == 0
    labels, _ = trident.load(finished).predict("data/val/images/101.png")
    for name, mask in zip(CLASSES, labels, strict=True):
        with Image.open(f"p/labels/{name}/101.png") as image:
            np.testing.assert_array_equal(np.asarray(image), mask)
    areas = json.loads(Path("p/areas.json").read_text())["images"]["101.png"]
    assert areas["pixels"] == dict(zip(CLASSES, labels.sum((1, 2)).tolist(), strict=True))
    assert (areas["height"], areas["width"]) == (SIDE, SIDE)
    assert Path("p/overlay/101.jpg").is_file()
    features = json.loads(Path("p/polygons/101.geojson").read_text())["features"]
    for id, name in enumerate(CLASSES):
        of_class = [shapely.geometry.shape(f["geometry"]) for f in features if f["properties"]["id"] == id]
        area = sum(shape.area for shape in of_class)
        assert area == pytest.approx(float(labels[id].sum()), rel=0.05), name  # outlines are simplified
    assert trident_command("predict", finished, "data/val/images", "--out", "p") == 2
    # They are masks that a training reads.
    shutil.copytree("data/val/images", "again/val/images")
    shutil.copytree("p/labels", "again/val/masks")
    data = load_recipe("discs.yaml", ["data.root=again"]).data
    assert torch.equal(open_split(data, "val")[1].labels, labels)


def test_files_of_tiles(finished: Path) -> None:
    """One tile of the size of the image gives what is predicted without tiles."""
    rasterio = pytest.importorskip("rasterio")
    with Image.open("data/val/images/101.png") as image:
        photo = np.moveaxis(np.asarray(image), 2, 0)
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    shape = {"count": 3, "height": SIDE, "width": SIDE, "dtype": "uint8"}
    with rasterio.open("field.tif", "w", driver="GTiff", **shape, **place) as file:
        file.write(photo)
    for out, options in (("whole", []), ("tiles", ["--tile", 64]), ("small", ["--tile", 48])):
        saved = ["--save", "labels,overlay,polygons"]
        assert trident_command("predict", finished, "field.tif", "--out", out, *saved, *options) == 0
    for name in CLASSES:
        with rasterio.open(f"tiles/labels/{name}/field.tif") as of_tiles:
            mask = of_tiles.read(1)
            assert (of_tiles.crs, of_tiles.transform) == (place["crs"], place["transform"])
        with Image.open(f"whole/labels/{name}/field.png") as of_image:
            np.testing.assert_array_equal(mask, np.asarray(of_image))
        with rasterio.open(f"small/labels/{name}/field.tif") as file:
            assert (file.read(1) != mask).mean() < 0.1, "another context alone"
    overlays = [np.asarray(Image.open(f"{out}/overlay/field.jpg")) for out in ("whole", "tiles")]
    np.testing.assert_array_equal(*overlays)
    whole, tiles = (
        json.loads(Path(out, "polygons/field.geojson").read_text())["features"] for out in ("whole", "tiles")
    )
    assert [one["properties"] for one in tiles] == [one["properties"] for one in whole] != []
    assert 14 < tiles[0]["geometry"]["coordinates"][0][0][0] < 16, "degrees, of UTM zone 33"
    assert trident_command("predict", finished, "field.tif", "--out", "tiles", "--tile", 64) == 2


def test_the_ensemble_is_the_mean_of_the_sigmoids(finished: Path) -> None:
    together = trident.load("both")
    files = [finished / member.file for member in RunFolder(finished).read_manifest().members]
    singles = [trident.load(file).predict("data/val/images/102.png") for file in files]
    _, probabilities = together.predict("data/val/images/102.png")
    mean = torch.stack([single.probabilities for single in singles]).mean(0)
    torch.testing.assert_close(probabilities, mean)
    assert trident_command("evaluate", "both") == 0
    assert trident_command("ensemble", "runs/discs", "--method", "weighted") == 2


def test_the_mean_needs_no_selection_split(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recipe may have data.select, on which nothing can be chosen here."""
    shutil.copytree("data/val", "data/held")
    for path in Path("data/held/images").glob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    run = RunFolder(finished)
    recipe = run.recipe.read_text()
    assert "select: null" in recipe
    run.recipe.write_text(recipe.replace("select: null", "select: held"))
    content = json.loads(run.manifest.read_text()) | {"sha256": None}
    del content["files"]["recipe.yaml"]
    run.manifest.write_text(json.dumps(content))
    assert trident_command("ensemble", finished) == 0
    assert trident_command("ensemble", finished, "--select-split", "held") == 2
    assert "leave --method, --split-half and --select-split out" in capsys.readouterr().err


def test_report_and_pictures(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    for text in ("threshold", "average precision", "red + blue", "Worst"):
        assert text in page, text
    assert Image.open(finished / "predictions.png").width > 200
    assert trident_command("report", finished, "--out", "again.html") == 0
    assert trident_command("doctor", "discs.yaml") == 0
    assert trident_command("doctor", "discs.yaml", "--show", "augment", "--out", "augment.png") == 0
    assert trident_command("diagnose", finished) == 0


def test_the_exported_graph_decides_by_the_thresholds(finished: Path) -> None:
    segmenter = trident.load("both", device="cpu")
    assert json.loads(metadata(segmenter)["thresholds"]) == list(segmenter.kind.thresholds)
    graph = Graph(segmenter)
    assert largest_difference(graph, segmenter, graph.min_size_px, 1e-5) <= 1e-5

    def by_another_threshold(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        probabilities = segmenter.probabilities(images)
        return (probabilities >= 0.01).byte(), probabilities

    with pytest.raises(ExportError, match="differs"):
        largest_difference(by_another_threshold, segmenter, graph.min_size_px, 1e-5)


@pytest.mark.slow  # half a minute of tracing; test_int8.py and the test of the exported graph are fast
def test_8_bits_are_scored_by_the_thresholds(finished: Path) -> None:
    pytest.importorskip("onnxruntime")
    out = Path("small.onnx")
    assert trident_command("export", "int8", finished, "--out", out, "--images", "2") == 0
    cost = json.loads(Path("small.onnx.json").read_text())
    best = RunFolder(finished).read_manifest().members[0]
    assert cost["fp32"]["thresholds"] == dict(zip(CLASSES, best.thresholds, strict=True))
    assert cost["fp32"]["mIoU"] == pytest.approx(best.scores["mIoU"], abs=1e-3)
    assert cost["int8"]["thresholds"] == cost["fp32"]["thresholds"] and 0 < cost["int8"]["mIoU"] <= 1
    assert 0.5 < cost["agreement"] <= 1


def test_a_server_answers_with_each_class(finished: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from fastapi.testclient import TestClient

    from engine.serving import Limits
    from engine.serving.app import make_app

    segmenter = trident.load(finished, device="cpu")
    client = TestClient(make_app(segmenter, Limits(10**6, 10**6, 100, 2)))
    photo = Path("data/val/images/101.png").read_bytes()
    labels, probabilities = segmenter.predict("data/val/images/101.png")
    found = client.post("/predict?format=json", content=photo).json()
    assert (found["height"], found["width"]) == (SIDE, SIDE)
    assert [one["pixels"] for one in found["classes"]] == labels.sum((1, 2)).tolist()
    of_red = float(probabilities[0][labels[0] == 1].mean())
    assert found["classes"][0]["confidence"] == pytest.approx(of_red, abs=1e-6)
    assert {shape["properties"]["class"] for shape in found["shapes"]["features"]} == {*CLASSES}
    assert client.get("/model").json()["formats"] == ["overlay", "json"]
    usual = client.post("/predict", content=photo)
    assert (usual.status_code, usual.headers["content-type"]) == (200, "image/png")
    assert client.post("/predict?format=overlay", content=photo).content == usual.content
    refused = client.post("/predict?format=mask", content=photo)
    assert (refused.status_code, refused.json()["detail"]) == (
        400,
        "format='mask' is not one of overlay, json.",
    )


def test_the_search_for_the_batch_counts_all_masks(finished: Path) -> None:
    recipe = load_recipe("discs.yaml", ["train.batch=auto"])
    train = open_split(recipe.data, "train")
    trial = Trial(recipe, [train], Process(0, 1, torch.device("cpu")))
    assert trial.resident_bytes == len(train) * (3 + len(CLASSES)) * SIDE * SIDE
    trial.update(2)  # the shapes of the masks are those of the training


def test_no_remedy_is_for_one_class_a_pixel(finished: Path) -> None:
    recipe = load_recipe("discs.yaml")
    assert can_be_packed(recipe)
    advisor = Advisor(recipe, 20, 0, True, False, lambda: {"RAM": 0.5})
    row = {"step": 1, "loss": 1.0, "time": 1.0, "data_time": 0.0}
    assert advisor.update(row, {"decode.loss_ce": math.log(2)}) == []
    assert [note.topic for note in advisor.update(row, {"decode.loss_ce": 5.0})] == ["start"]


class StopAfter(Callback):
    def on_step(self, step: int) -> None:
        if step == 14:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)


def test_resume_is_bitwise(finished: Path) -> None:
    recipe = ["name=again"]
    with pytest.raises(RunStopped):
        trident.train(load_recipe("discs.yaml", recipe), callbacks=[StopAfter()])
    assert trident_command("run", "discs.yaml", "name=again", "--resume") == 0
    again = Path("runs/again")
    members = [RunFolder(run).read_manifest().members for run in (finished, again)]
    for one, other in zip(*members, strict=True):
        assert (one.step, one.scores, one.thresholds) == (other.step, other.scores, other.thresholds)
        state, resumed = load_file(finished / one.file), load_file(again / other.file)
        assert all(torch.equal(state[key], resumed[key]) for key in state)


@pytest.mark.parametrize("layout", ["encoded", "decoded"])
def test_a_run_on_a_pack_is_the_same_run(layout: str, finished: Path) -> None:
    files = {split: open_split(load_recipe("discs.yaml").data, split) for split in ("train", "val")}
    assert trident_command("prepare", "pack", "discs.yaml", "--out", "discs.h5", "--layout", layout) == 0
    of_pack = ["data.format=packed", "data.root=discs.h5", "data.train=train"]
    for split, expected in files.items():
        packed = open_split(load_recipe("discs.yaml", of_pack).data, split)
        assert packed.fingerprint() == expected.fingerprint()
        for index in range(len(expected)):
            assert torch.equal(packed[index].image, expected[index].image)
            assert torch.equal(packed[index].labels, expected[index].labels)
        found, counted = (count_classes(data, lambda done, total: None) for data in (packed, expected))
        np.testing.assert_array_equal(found.pixels, counted.pixels)
        np.testing.assert_array_equal(found.void, counted.void)
        assert found.void.sum() > 0
    short = ["train.steps=2", "eval.every=2", "schedule.warmup=1"]
    assert trident_command("run", "discs.yaml", "name=packed", *short, *of_pack) == 0
    assert trident_command("run", "discs.yaml", "name=files", *short) == 0
    one, other = (RunFolder(Path("runs", name)).read_manifest().members[0] for name in ("packed", "files"))
    assert (one.scores, one.thresholds, one.sha256) == (other.scores, other.thresholds, other.sha256)


def test_a_pack_says_which_labels_it_holds(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trident_command("prepare", "pack", "discs.yaml", "--out", "discs.h5") == 0
    of_pack = ["data.format=packed", "data.root=discs.h5", "data.train=train"]
    assert trident_command("doctor", "discs.yaml", *of_pack) == 0
    capsys.readouterr()
    assert trident_command("run", "discs.yaml", "name=x", "data.labels=single", *of_pack) == 2
    assert "Type data.labels=multi" in capsys.readouterr().err
    typed = load_recipe("discs.yaml", [*of_pack, "data.labels=single", "data.labels=multi"]).data
    assert open_split(typed, "val")[0].labels.shape == (2, SIDE, SIDE)


@pytest.mark.parametrize(
    ("lines", "named", "typed"),
    [
        (["adversarial={}"], "a discriminator is for data.labels: single", "adversarial=null"),
        (["keep.tail=4"], "the latest states are for data.labels: single", "keep.tail=0"),
        (["augment.classmix=0.5"], "0.5 is for data.labels: single", "augment.classmix=0"),
        (["augment.copy_paste=0.5"], "0.5 is for data.labels: single", "augment.copy_paste=0"),
        (["augment.category_max_ratio=0.75"], "0.75 is for", "augment.category_max_ratio=1"),
        (["augment.crop_on=rare"], "rare is for data.labels: single", "augment.crop_on=none"),
        (["loss=[{name: lovasz}]"], "lovasz is for", "loss=[{name: cross_entropy}, {name: dice}]"),
        (["loss=[{name: dice, per_image: true}]"], "dice: per_image is for", "loss=[{name: dice}]"),
        (["data.sampler=rare"], "rare is for labels: single", "data.sampler=uniform"),
        (["data.ignore_index=0"], "has 255 for void", "data.ignore_index=255"),
        (["data.ids={0: 0, 85: 1}"], "this is for labels: single", "data.ids=null"),
        (["data.format=voc"], "multi is for format: folder", "data.labels=single"),
    ],
)
def test_what_needs_one_class_a_pixel_is_refused(
    lines: list[str], named: str, typed: str, tmp_path: Path
) -> None:
    (tmp_path / "discs.yaml").write_text(RECIPE)
    with pytest.raises(RecipeError) as error:
        load_recipe(tmp_path / "discs.yaml", lines)
    assert named in str(error.value)
    assert typed in str(error.value)
    load_recipe(tmp_path / "discs.yaml", [*lines, typed])


def test_averages_are_left_out_with_the_latest_states_that_they_need(tmp_path: Path) -> None:
    (tmp_path / "discs.yaml").write_text(RECIPE)
    lines = ["keep.tail=4", "train.ema_widths=[0.05]"]
    with pytest.raises(RecipeError, match=r"Type keep\.tail=0 train\.ema_widths=\[\]") as error:
        load_recipe(tmp_path / "discs.yaml", lines)
    load_recipe(tmp_path / "discs.yaml", [*lines, *str(error.value).rpartition("Type ")[2].split()])


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (["data.classes=[{name: a, colour: [1, 2, 3]}]"], "colours are for labels: single"),
        (["data.labels=single", "data.folder.missing_masks=empty"], "missing_masks is for labels: multi"),
        (["data.labels=single", "data.classes=[a]"], "expected at least 2 names"),
        (["data.classes=[]"], "expected the names"),
    ],
)
def test_classes_and_folders_fit_the_labels(lines: list[str], named: str, tmp_path: Path) -> None:
    (tmp_path / "discs.yaml").write_text(RECIPE)
    with pytest.raises(RecipeError) as error:
        load_recipe(tmp_path / "discs.yaml", lines)
    assert named in str(error.value)


def test_tiles_are_scored_as_whole_images(finished: Path) -> None:
    """A tile of the size of the images gives the same; four without an overlap count the same pixels."""
    pytest.importorskip("rasterio")
    scores = {}
    for out, options in (("whole", []), ("tiled", ["--tile", 64]), ("small", ["--tile", 32, "--overlap", 0])):
        assert trident_command("evaluate", finished, "--out", out, *options) == 0
        scores[out] = json.loads(Path(out, "evaluate.json").read_text())["protocols"]["native"]["scores"]
    for key in ("IoU", "num_pixels", "num_void"):
        assert scores["tiled"][key] == pytest.approx(scores["whole"][key], abs=1e-4), key
    assert scores["small"]["num_pixels"] == scores["whole"]["num_pixels"]
    assert scores["small"]["num_void"] == scores["whole"]["num_void"] > 0
    of_tiles, of_images = (
        read_scores(Path(out, "scores.h5")).by_class["native"] for out in ("tiled", "whole")
    )
    assert abs(of_tiles - of_images).sum() <= 4  # two pixels whose probability is at the threshold


def test_commands_for_one_class_a_pixel_refuse(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = "data/val/images"
    for words, named in (
        (["diagnose", finished, "--labels"], "A check of labels is for data.labels: single"),
        (["diagnose", finished, "--next", "1", "--pool", images], "A choice of images is for data.labels"),
        (["prepare", "masks", "discs.yaml", "--out", "m"], "is for data.labels: single"),
        (["predict", finished, images, "--out", "q", "--uncertainty"], "classes that may overlap"),
        (["predict", finished, images, "--out", "q", "--save", "labels,confidence"], "Type --save labels"),
        (["doctor", "discs.yaml", "--fix", "fixed"], "--fix is for data.labels: single"),
        (["evaluate", finished, "data.labels=single"], "a finished run cannot be changed"),
        (["predict", finished, images, "--out", "q", "data.labels=single"], "a finished run cannot be"),
    ):
        assert trident_command(*words) == 2
        assert named in capsys.readouterr().err
    assert not Path("q").exists()


def test_the_doctor_names_what_is_wrong(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("data/train/masks/red/3.png")
    mask = np.array(Image.open(path))
    mask[0, 0] = 9
    Image.fromarray(mask).save(path)
    for name in CLASSES:
        Image.fromarray(np.full((SIDE, SIDE), 255, np.uint8)).save(f"data/train/masks/{name}/4.png")
    for path in Path("data/val/masks/blue").glob("*.png"):
        Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(path)
    assert trident_command("doctor", "discs.yaml") == 2
    printed = capsys.readouterr().out
    for text in (
        "the mask of red holds 9",
        "1 of 18 images has void alone in all masks",
        "1 class on no image of val: blue",
    ):
        assert text in printed, text
    assert trident_command("run", "discs.yaml", "name=other") == 2
    assert "the mask of red holds 9" in capsys.readouterr().err
