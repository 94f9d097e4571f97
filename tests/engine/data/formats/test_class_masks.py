"""data.labels=multi: where the masks of each class are, what they hold, what is said of mistakes."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from engine.data import open_split
from engine.data.class_counts import count_classes
from engine.data.formats.share import in_val
from engine.data.options import Data
from engine.data.sample import DataError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
H, W = 12, 10
CLASSES = ["cat", "wild cat"]
IDS = ("one", "two")


def section(root: Path, **data: object) -> Data:
    content = {"format": "folder", "root": str(root), "classes": CLASSES, "labels": "multi", **data}
    return Data.model_validate(content)


def masks() -> dict[str, np.ndarray]:
    """By id (C, H, W): overlapping boxes, and a void corner of the first class."""
    found = {}
    for number, id in enumerate(IDS):
        stored = np.zeros((2, H, W), np.uint8)
        stored[0, 2 : 6 + number, 1:5], stored[1, 4:9, 3:8] = 1, 1
        stored[0, :2, :2] = 255
        found[id] = stored
    return found


def draw(root: Path, layout: str, factor: int = 1) -> Path:
    for split in ("train", "val"):
        for kind in ("images", "masks", *(f"masks/{name}" for name in CLASSES)):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
        for id, stored in masks().items():
            Image.new("RGB", (W, H), (90, 60, 30)).save(root / split / "images" / f"{id}.png")
            folder, stored = root / split / "masks", stored * np.uint8(factor)
            if layout == "npy":
                np.save(folder / f"{id}.npy", np.moveaxis(stored, 0, 2))
            elif layout == "tif":
                shape = {"height": H, "width": W, "count": 2, "dtype": "uint8"}
                with rasterio.open(folder / f"{id}.tif", "w", driver="GTiff", **shape) as file:
                    file.write(stored)
            elif layout == "png":
                Image.fromarray(np.ascontiguousarray(np.moveaxis(stored, 0, 2)), "LA").save(
                    folder / f"{id}.png"
                )
            for name, band in zip(CLASSES, stored, strict=True):
                file = {"folders": f"{name}/{id}.png", "suffixes": f"{id}_{name}.png"}.get(layout)
                if file:
                    Image.fromarray(band).save(folder / file)
    return root


@pytest.mark.parametrize("layout", ["folders", "suffixes", "npy", "tif", "png"])
def test_every_layout_gives_the_same_masks(layout: str, tmp_path: Path) -> None:
    data = section(draw(tmp_path, layout))
    dataset = open_split(data, "train")
    assert dataset.ids == list(IDS)
    for index, stored in enumerate(masks().values()):
        sample = dataset[index]
        assert sample.labels.dtype == torch.uint8
        np.testing.assert_array_equal(sample.labels, stored)
        np.testing.assert_array_equal(dataset.labels(index), stored)
        assert sample.size == (H, W)
    assert (dataset[0].labels == 1).all(0).any(), "the classes overlap"
    counts = count_classes(dataset, lambda done, total: None)
    assert counts.pixels.tolist() == [[16, 25], [20, 25]]
    assert counts.void.tolist() == [0, 0]  # void in one mask alone is known in the other


def test_a_share_and_a_list_choose_the_images(tmp_path: Path) -> None:
    root = draw(tmp_path, "suffixes")
    (root / "train").rename(root / "all")
    (root / "all/mine.txt").write_text("two\n")
    data = section(root / "all", train="mine")
    assert open_split(data, "mine").ids == ["two"]
    shared = section(root / "all", folder={"val_share": 0.3})
    in_train = {id for id in IDS if not in_val(id, 0.3)}
    assert in_train == {"one"}, "so that both splits have an image"
    assert open_split(shared, "train").ids == ["one"]
    assert open_split(shared, "val").ids == ["two"]


def test_black_and_white_masks(tmp_path: Path) -> None:
    root = draw(tmp_path, "folders", factor=255)  # 0 and 255; the void corner becomes 1
    for path in root.glob("*/masks/*/*.png"):
        Image.fromarray((np.asarray(Image.open(path)) == 255).astype(np.uint8) * 255).save(path)
    with pytest.raises(DataError, match="no class would be anywhere. Type data.folder.values=binary"):
        open_split(section(root), "train")
    dataset = open_split(section(root, folder={"values": "binary"}), "train")
    assert dataset[0].labels.unique().tolist() == [0, 1]
    assert (dataset[0].labels.sum((1, 2))).tolist() == [16, 25]


def test_the_fingerprint_covers_every_file(tmp_path: Path) -> None:
    root = draw(tmp_path, "folders")
    before = open_split(section(root), "train").fingerprint()
    path = root / "train/masks/wild cat/two.png"
    Image.fromarray(np.zeros((H, W), np.uint8)).save(path)
    assert open_split(section(root), "train").fingerprint() != before


def test_a_missing_mask_file_is_named_or_means_that_the_class_is_absent(tmp_path: Path) -> None:
    root = draw(tmp_path, "folders")
    (root / "train/masks/wild cat/two.png").unlink()
    with pytest.raises(DataError, match=r"Class wild cat: 1 of 2 images has no mask file of it: two"):
        open_split(section(root), "train")
    dataset = open_split(section(root, folder={"missing_masks": "empty"}), "train")
    assert dataset[1].labels[1].sum() == 0
    assert dataset[1].labels[0].sum() > 0
    (root / "train/masks/cat/two.png").unlink()
    dataset = open_split(section(root, folder={"missing_masks": "empty"}), "train")
    assert dataset[1].labels.sum() == 0
    assert dataset[1].labels.shape == (2, H, W)


def test_masks_of_no_class_or_no_image(tmp_path: Path) -> None:
    root = draw(tmp_path, "suffixes")
    stray = root / "train/masks/one_horse.png"
    (root / "train/masks/one_cat.png").rename(stray)
    with pytest.raises(DataError, match=r"1 of 4 masks is named by no class of data.classes.*one_horse"):
        open_split(section(root), "train")
    stray.rename(root / "train/masks/three_cat.png")
    with pytest.raises(DataError, match="there is no image 'three' for this mask of cat"):
        open_split(section(root), "train")


@pytest.mark.parametrize(
    ("value", "named"), [(7, "the mask of cat holds 7"), (128, "the mask of cat holds 128")]
)
def test_other_values_are_named_with_their_file(value: int, named: str, tmp_path: Path) -> None:
    root = draw(tmp_path, "folders")
    path = root / "train/masks/cat/one.png"
    stored = np.array(Image.open(path))
    stored[0, 5] = value
    Image.fromarray(stored).save(path)
    with pytest.raises(DataError, match=f"cat/one.png: {named}"):
        open_split(section(root), "train")[0]


def test_another_number_of_bands(tmp_path: Path) -> None:
    root = draw(tmp_path, "npy")
    np.save(root / "train/masks/one.npy", np.zeros((H, W, 3), np.uint8))
    with pytest.raises(DataError, match=r"one.npy has 3 bands, but data.classes has 2 \(cat, wild cat\)"):
        open_split(section(root), "train")[0]


def test_masks_of_another_size(tmp_path: Path) -> None:
    root = draw(tmp_path, "folders")
    small = Image.fromarray(np.zeros((H - 1, W), np.uint8))
    small.save(root / "train/masks/cat/one.png")
    with pytest.raises(DataError, match="Masks of one image differ in size"):
        open_split(section(root), "train")[0]
    small.save(root / "train/masks/wild cat/one.png")
    with pytest.raises(DataError, match=f"is {W}x{H - 1} px, but its image"):
        open_split(section(root), "train")[0]


def test_masks_turn_with_a_photo_that_its_exif_turns(tmp_path: Path) -> None:
    """Drawn on the stored pixels of a photo that is shown upright."""
    root = draw(tmp_path, "folders")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (W, H)).save(root / "train/images/one.png", exif=exif)
    labels = open_split(section(root), "train")[0].labels
    assert labels.shape == (2, W, H)
    np.testing.assert_array_equal(labels[1], np.rot90(masks()["one"][1], -1))


def test_one_class_alone_is_binary(tmp_path: Path) -> None:
    root = draw(tmp_path, "folders")
    for split in ("train", "val"):
        for path in (root / split / "masks/cat").glob("*.png"):
            Image.open(path).convert("P").save(root / split / "masks" / path.name)
        for name in CLASSES:
            for path in (root / split / "masks" / name).glob("*"):
                path.unlink()
    dataset = open_split(section(root, classes=["cat"]), "train")
    np.testing.assert_array_equal(dataset[0].labels, masks()["one"][:1])


def test_white_masks_among_masks_of_ones_are_named_by_the_doctor(tmp_path: Path) -> None:
    """255 is void, so the class of a mask that was saved as black and white would be lost without a word."""
    from engine.data.doctor import list_samples_of, report_on

    def found(**data: object) -> list[str]:
        report = report_on(list_samples_of(section(tmp_path, **data)), lambda done, total: None)
        return [finding.check for finding in report.findings]

    draw(tmp_path, "folders")
    file = tmp_path / "train/masks/wild cat/one.png"
    white = np.where(np.array(Image.open(file)) == 1, 255, 0).astype(np.uint8)
    Image.fromarray(white).save(file)
    assert found() == []  # other masks hold both 1 and void
    for path in tmp_path.glob("*/masks/*/*.png"):
        stored = np.array(Image.open(path))
        stored[:2, :2] = 0
        Image.fromarray(stored).save(path)
    assert found() == ["two_whites"]
    assert found(folder={"values": "binary"}) == []
