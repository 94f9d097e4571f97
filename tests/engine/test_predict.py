"""`trident predict` from its command line to its files."""

import os
import shlex
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

import engine
from engine.predict import main
from engine.reporting import tiled_predictions


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two folders with an image of the same name, of different sizes; one is rotated by EXIF."""
    folder = tmp_path / "photos"
    generator = np.random.default_rng(0)
    for name, (h, w) in {"a/1.jpg": (40, 60), "b/1.jpg": (70, 33)}.items():
        (folder / name).parent.mkdir(parents=True)
        Image.fromarray(generator.integers(0, 256, (h, w, 3), np.uint8)).save(folder / name)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "a/1.jpg").save(folder / "a/side.jpg", exif=exif, quality="keep")
    return folder


def test_labels_and_overlays_of_a_folder(voc_run, photos: Path, tmp_path: Path) -> None:
    run, out = voc_run(), tmp_path / "deep/out"
    assert main([str(run), str(photos), "--out", str(out)]) == 0
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    names = ("a/1", "a/side", "b/1")
    assert files == {
        *(f"labels/{name}.png" for name in names),
        *(f"overlay/{name}.jpg" for name in names),
        "overlay/legend.png",
    }
    sizes = {name: Image.open(out / f"labels/{name}.png").size for name in names}
    assert sizes == {"a/1": (60, 40), "a/side": (40, 60), "b/1": (33, 70)}  # (w, h), upright
    segmenter = engine.load(run, "cpu")
    for name in names:
        stored = np.asarray(Image.open(out / f"labels/{name}.png"))
        assert np.array_equal(stored, segmenter.predict(photos / f"{name}.jpg").labels.numpy())


def test_an_ensemble_with_overrides_and_every_kind(voc_ensemble: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [str(photos / "a/*.jpg"), "eval.flip=true", "--out", str(out)]
    assert main([str(voc_ensemble), *arguments, "--save", "confidence,probabilities"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["confidence", "probabilities.h5"]
    with h5py.File(out / "probabilities.h5") as file:
        assert sorted(file) == ["1.jpg", "side.jpg"]
        assert '"flip": true' in file.attrs["about"]
        highest = file["side.jpg"][:].max(axis=0)
    grey = np.asarray(Image.open(out / "confidence/side.png"))
    assert np.abs(grey / 255 - highest).max() < 1 / 255


def test_images_whose_names_are_no_utf_8_are_predicted(voc_run, photos: Path, tmp_path: Path) -> None:
    out, name = tmp_path / "o\udce9", "caf\udce9.jpg"
    (photos / "a/1.jpg").rename(photos / "a" / name)
    save = "labels,overlay,confidence,probabilities"
    assert main([str(voc_run()), str(photos / "a"), "--out", str(out), "--save", save]) == 0
    assert (out / "labels/caf\udce9.png").is_file()
    with h5py.File(out / "probabilities.h5") as file:
        assert {os.fsencode(image) for image in file} == {os.fsencode(name), b"side.jpg"}


def test_bad_images_are_named_and_the_others_predicted(
    voc_run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "b/text.jpg").write_text("no picture")
    whole = (photos / "b/1.jpg").read_bytes()
    (photos / "b/cut.jpg").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    run = str(voc_run())
    assert main([run, str(photos / "b"), "--out", str(out)]) == 1
    output = capsys.readouterr().err
    assert "2 of 3 images were left out" in output and "text.jpg" in output and "cut.jpg" in output
    assert "Traceback" not in output and "split" not in output
    assert [path.name for path in (out / "labels").iterdir()] == ["1.png"]
    assert main([run, str(photos / "b/text.jpg"), "--out", str(tmp_path / "none")]) == 1
    assert "written" not in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_that_only_the_first_page_of_a_file_is_predicted_is_said(voc_run, photos: Path, tmp_path, capsys):
    pages = [Image.new("RGB", (40, 36), (n, n, n)) for n in (0, 90, 180)]
    pages[0].save(photos / "a/stack.tif", save_all=True, append_images=pages[1:])
    assert main([str(voc_run()), str(photos / "a"), "--out", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "only the first is predicted" in said and "stack.tif (3)" in said and "1.jpg" not in said


def test_the_masks_of_a_folder_are_not_predicted(voc_run, photos: Path, tmp_path: Path, capsys) -> None:
    (photos / "a").rename(photos / "JPEGImages")
    (photos / "b").rename(photos / "SegmentationClass")
    assert main([str(voc_run()), str(photos), "--out", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 of 3 images is left out, found in a folder of masks" in said and "SegmentationClass" in said
    assert sorted(path.name for path in (tmp_path / "out/labels").iterdir()) == ["JPEGImages"]


def test_values_that_change_nothing_are_named(voc_run, photos: Path, tmp_path: Path, capsys) -> None:
    Image.fromarray(np.full((40, 50), 3000, np.uint16)).save(photos / "wide.png")
    run, typed = str(voc_run()), ["data.root=x", "data.range=[0,4095]", "eval.flip=true"]
    assert main([run, str(photos / "a"), "--out", str(tmp_path / "a"), *typed]) == 0
    said = capsys.readouterr().out
    assert "data.root has no effect" in said and "data.range has no effect" in said and "eval" not in said
    assert main([run, str(photos / "wide.png"), "--out", str(tmp_path / "b"), *typed]) == 0
    assert "data.range has" not in capsys.readouterr().out


def test_nothing_is_overwritten_without_overwrite(
    voc_run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(voc_run()), str(photos / "a"), "--out", str(tmp_path / "out")]
    mine = tmp_path / "out/labels/1.png"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert main(arguments) == 2
    assert "1.png exists already" in capsys.readouterr().err
    assert mine.read_text() == "mine" and not (tmp_path / "out/overlay").exists()
    assert main([*arguments, "--overwrite"]) == 0
    assert Image.open(mine).size == (60, 40)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "nowhere.jpg"], "nowhere.jpg: no such file"),
        (["{run}", "{photos}/*.gif"], "nothing matches"),
        (["{run}"], "required"),
        (["{run}", "eval.flip=true"], "No image was named"),
        (["{run}", "{photos}", "model.variant=b1"], "cannot be changed"),
        (["{run}", "{photos}", "eval.flipp=true"], "did you mean flip"),
        (["{run}", "{photos}", "eval.protocol=centercrop"], "leaves a part of each image out"),
        (["{run}", "{photos}", "--save", "mask"], "'mask' is not one of labels"),
        (["{run}", "{photos}", "--step", "9"], "Steps kept: 1"),
        (["{photos}", "{photos}"], "not a run folder"),
        (["{run}", "{photos}", "--out", "{photos}/a/1.jpg"], "is a file"),
        (["{run}", "{photos}", "--out", "{photos}/a/1.jpg/out"], "1.jpg is a file, not a folder"),
        (["{run}", "{photos}", "--overlap", "8"], "such as --tile 1024"),
        (["{run}", "{photos}", "--tile", "32", "--overlap", "17"], "half a tile, 16 px"),
        (["{run}", "{photos}", "--tile", "0"], "not above 0"),
        (["{run}", "{photos}", "--tile", "32", "--save", "overlay,probabilities"], "--save labels,overlay"),
    ],
)
def test_wrong_input_is_exit_2_and_writes_nothing(
    arguments: list[str],
    message: str,
    voc_run,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = voc_run()
    texts = [text.format(run=run, photos=photos) for text in arguments]
    assert main(["--out", str(tmp_path / "out"), *texts]) == 2
    output = capsys.readouterr().err
    assert message in output and "Traceback" not in output
    assert not (tmp_path / "out").exists()


# Tiles and polygons

PAPER = np.zeros((4, 4, 3), np.uint8)
UTM_33 = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_400_000)}


def photo_with_place(path: Path, h: int, w: int, bands: int = 3, dtype: str = "uint8") -> Path:
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (bands, h, w), dtype)
    layout = {"driver": "GTiff", "height": h, "width": w, "count": bands, "dtype": dtype}
    with rasterio.open(path, "w", **layout, **UTM_33) as file:
        file.write(values)
    return path


@pytest.mark.parametrize("size", [(90, 150), (300, 280)])
def test_tiles_are_written_with_the_place_of_the_image(voc_run, tmp_path: Path, size) -> None:
    photo, out = photo_with_place(tmp_path / "city.tif", *size), tmp_path / "out"
    arguments = ["--tile", "64", "--overlap", "16", "--save", "labels,overlay,confidence"]
    assert main([str(voc_run()), str(photo), "--out", str(out), *arguments]) == 0
    for kind in ("labels", "confidence"):
        with rasterio.open(out / kind / "city.tif") as file:
            assert (file.height, file.width) == size and file.crs.to_epsg() == 32633
            assert file.transform == UTM_33["transform"]
    overlay = np.asarray(Image.open(out / "overlay/city.jpg")).astype(float)
    assert overlay.shape[:2] == size
    with rasterio.open(out / "labels/city.tif") as file:
        labels = file.read(1)
        assert file.colormap(1)[1][:3] == (128, 0, 0)  # aeroplane, in VOC
    segmenter = engine.load(tmp_path / "run", "cpu")
    with rasterio.open(photo) as file:
        pixels = np.moveaxis(file.read(), 0, -1)
    first = segmenter.predict(np.ascontiguousarray(pixels[:64, :64])).labels.numpy()
    assert np.array_equal(labels[:48, :48], first[:48, :48])  # where no other tile is
    colours = np.asarray(segmenter.palette)[labels]
    assert np.abs(overlay.mean() - (0.45 * pixels + 0.55 * colours).mean()) < 3
    last = segmenter.predict(np.ascontiguousarray(pixels[-64:, -64:])).labels.numpy()
    assert labels[-1, -1] == last[-1, -1]


def test_one_tile_of_the_size_of_an_image_predicts_as_without_tiles(
    voc_run, photos: Path, tmp_path: Path
) -> None:
    run = str(voc_run())
    assert main([run, str(photos / "b/1.jpg"), "--out", str(tmp_path / "plain"), "--polygons"]) == 0
    assert (
        main([run, str(photos / "b/1.jpg"), "--out", str(tmp_path / "tiles"), "--polygons", "--tile", "70"])
        == 0
    )
    with rasterio.open(tmp_path / "tiles/labels/1.tif") as file:
        assert np.array_equal(file.read(1), np.asarray(Image.open(tmp_path / "plain/labels/1.png")))
    texts = [(tmp_path / name / "polygons/1.geojson").read_text() for name in ("plain", "tiles")]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("longest", [2048, 64, 29])
def test_an_overlay_of_tiles_is_reduced(voc_run, tmp_path: Path, monkeypatch, longest: int) -> None:
    """Every n-th pixel of image and labels, at its place."""
    monkeypatch.setattr(tiled_predictions, "REDUCED_PX", longest)
    monkeypatch.setattr(
        tiled_predictions, "overlay", lambda pixels, labels, *_: (got.extend([pixels, labels]), PAPER)[1]
    )
    got: list[torch.Tensor] = []
    photo, step = photo_with_place(tmp_path / "city.tif", 70, 100), -(-100 // longest)
    assert main([str(voc_run()), str(photo), "--out", str(tmp_path / "out"), "--tile", "32"]) == 0
    with rasterio.open(photo) as image, rasterio.open(tmp_path / "out/labels/city.tif") as labels:
        assert np.array_equal(got[0], image.read()[:, ::step, ::step])
        assert np.array_equal(got[1], labels.read(1)[::step, ::step])


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (4, "uint8"), (3, "uint16")])
def test_bands_and_bits_of_large_images(voc_run, tmp_path: Path, bands: int, dtype: str) -> None:
    photo = photo_with_place(tmp_path / "city.tif", 40, 50, bands, dtype)
    with rasterio.open(photo) as file:
        values = file.read()
    rgb = np.repeat(values[:1], 3, axis=0) if bands == 1 else values[:3]
    rgb = (rgb >> 8).astype(np.uint8) if dtype == "uint16" else rgb
    expected = engine.load(voc_run(), "cpu").predict(np.ascontiguousarray(np.moveaxis(rgb, 0, -1))).labels
    assert main([str(tmp_path / "run"), str(photo), "--out", str(tmp_path / "out"), "--tile", "64"]) == 0
    with rasterio.open(tmp_path / "out/labels/city.tif") as file:
        assert np.array_equal(file.read(1), expected.numpy())


def test_bad_images_are_named_and_the_others_predicted_by_tiles(
    voc_run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "a/text.tif").write_text("no picture")
    photo_with_place(photos / "a/cut.tif", 200, 200)
    whole = (photos / "a/cut.tif").read_bytes()
    (photos / "a/cut.tif").write_bytes(whole[: len(whole) // 2])
    with rasterio.open(
        photos / "a/float.tif", "w", driver="GTiff", height=9, width=9, count=1, dtype="float32"
    ):
        pass
    out = tmp_path / "out"
    assert main([str(voc_run()), str(photos / "a"), "--out", str(out), "--tile", "64"]) == 1
    output = capsys.readouterr().err
    assert "3 of 5 images were left out" in output and "Traceback" not in output
    for word in ("text.tif", "cut.tif", "float.tif holds float32 pixels, whose value range is unknown"):
        assert word in output
    assert sorted(path.name for path in (out / "labels").iterdir()) == ["1.tif", "side.tif"]
    with rasterio.open(out / "labels/side.tif") as file:
        assert (file.width, file.height) == (40, 60)  # rotated by EXIF


@pytest.mark.parametrize("missing", ["rasterio", "shapely"])
def test_what_is_not_installed_is_named(
    missing: str, voc_run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert main([str(voc_run()), str(photos), "--out", str(tmp_path / "out"), "--polygons"]) == 2
    output = capsys.readouterr().err
    assert f"{missing} is not installed. Type pip install 'trident-seg[geo]'" in output
    assert not (tmp_path / "out").exists()


def test_an_ensemble_shows_where_its_members_disagree(
    voc_ensemble: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [str(voc_ensemble), str(photos / "a"), "--out", str(out), "--save", "labels", "--uncertainty"]
    assert main(command) == 0
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    kinds = ("labels", "uncertainty", "votes")
    names = {f"{kind}/{name}.png" for kind in kinds for name in ("1", "side")}
    assert files == {*names, "uncertainty_scale.png", "uncertainty.h5"}
    segmenter = engine.load(voc_ensemble, "cpu")
    labels = segmenter.predict(photos / "a/1.jpg").labels
    assert np.array_equal(np.asarray(Image.open(out / "labels/1.png")), labels)
    members = [segmenter._predictor(model, segmenter.pixels(photos / "a/1.jpg")[None])[0]
               for model in segmenter.trained.members.values()]  # fmt: skip
    agreeing = sum((member.argmax(dim=0) == labels).int() for member in members)
    with h5py.File(out / "uncertainty.h5") as file:
        assert sorted(file) == ["1.jpg", "side.jpg"]
        assert list(file.attrs["members"]) == ["step 1", "step 2"]
        information, votes = file["1.jpg/mutual_information"][:], file["1.jpg/votes"][:]
    assert np.array_equal(votes, agreeing)
    assert np.array_equal(np.asarray(Image.open(out / "votes/1.png")), np.rint(127.5 * votes))
    assert information.shape == (40, 60) and 0 < information.max() <= 1
    assert main(command) == 2  # the files are there
    assert main([*command, "--overwrite"]) == 0


def test_where_no_image_can_be_read_nothing_is_written_or_replaced(
    voc_ensemble: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, out = tmp_path / "bad.png", tmp_path / "out"
    bad.write_text("no image")
    options = ["--out", str(out), "--save", "labels,probabilities", "--uncertainty"]
    assert main([str(voc_ensemble), str(bad), *options]) == 1
    assert not out.exists() and "earlier prediction" not in capsys.readouterr().out
    assert main([str(voc_ensemble), str(photos / "a"), *options]) == 0
    assert "earlier prediction" not in capsys.readouterr().out
    before = {name: (out / name).read_bytes() for name in ("probabilities.h5", "uncertainty.h5")}
    assert main([str(voc_ensemble), str(bad), *options, "--overwrite"]) == 1
    assert {name: (out / name).read_bytes() for name in before} == before
    said = " ".join(capsys.readouterr().out.split())
    assert all(f"{out / name} is that of an earlier prediction." in said for name in before)


def test_pictures_of_images_that_are_called_like_a_scale_or_legend_stay(
    voc_ensemble: Path, photos: Path, tmp_path: Path
) -> None:
    out, names = tmp_path / "out", ("scale", "legend", "uncertainty_scale")
    for name, old in zip(names, ("a/1", "a/side", "b/1"), strict=True):
        (photos / f"{old}.jpg").rename(photos / f"{name}.png")
    save = "labels,overlay,confidence"
    command = [str(voc_ensemble), *map(str, photos.glob("*.png")), "--out", str(out), "--save", save]
    assert main([*command, "--uncertainty"]) == 0
    for kind, ending in {"overlay": "jpg", "uncertainty": "png", "votes": "png", "confidence": "png"}.items():
        for name in names:
            of_image = Image.open(out / kind / f"{name}.{ending}").size
            assert of_image == Image.open(out / f"labels/{name}.png").size, (kind, name)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--tile", "64"], "--uncertainty needs whole images: leave --tile out"),
        ([], "one cannot disagree. Save an ensemble and predict with its folder: trident ensemble"),
    ],
)
def test_what_has_no_members_is_refused_before_anything_is_written(
    voc_run, photos: Path, tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(voc_run()), str(photos), "--out", str(out), "--uncertainty", *more]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_the_command_for_an_ensemble_with_members_works(
    voc_run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = voc_run("run", 1, 2)
    command = [str(photos), "--out", str(tmp_path / "out"), "--save", "labels", "--uncertainty"]
    assert main([str(run), *command]) == 2
    printed = capsys.readouterr().err.rpartition("trident ensemble ")[2]
    from engine.ensemble import main as ensemble

    manifest = engine.run_folder.RunFolder(run).read_manifest()
    val = engine.data.open_split(engine.recipe.load_recipe(run / "recipe.yaml").data, "val")
    known = manifest.data.model_copy(update={"val_fingerprint": val.fingerprint()})
    engine.run_folder.RunFolder(run).write_manifest(manifest.model_copy(update={"data": known}))
    assert ensemble(shlex.split(printed)) == 0
    assert main([shlex.split(printed)[-1], *command]) == 0
