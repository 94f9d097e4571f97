"""What the pixels of masks hold: ids, colours, arrays, void."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data import open_split
from engine.doctor import main as doctor
from engine.new import main
from tests.engine.new.drawn import COLOURS, H, W, draw, labels_of, new_recipe, save, two_splits, write


def nan_at_2(labels: np.ndarray) -> np.ndarray:
    return np.where(labels == 2, np.nan, labels).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "ending", "change", "expected"),
    [
        ("ids", "png", lambda m: m, [0, 1, 2]),
        ("void", "png", lambda m: np.where(m == 2, 255, m).astype(np.uint8), [0, 1, 255]),
        ("binary", "png", lambda m: (m > 0).astype(np.uint8) * 255, [0, 1, 1]),
        ("one bit", "png", lambda m: m > 0, [0, 1, 1]),
        ("gaps", "png", lambda m: m * 85, [0, 1, 2]),
        ("even levels to 255", "png", lambda m: np.array([0, 128, 255], np.uint8)[m], [0, 1, 2]),
        ("16 bits", "tif", lambda m: m.astype(np.uint16), [0, 1, 2]),
        ("nodata", "tif", lambda m: np.where(m == 2, 65535, m).astype(np.uint16), [0, 1, 255]),
        ("nodata", "tif", lambda m: np.where(m == 2, -9999, m.astype(np.int32)), [0, 1, 255]),
        ("nan", "tif", nan_at_2, [0, 1, 255]),
        ("infinite", "tif", lambda m: np.where(m == 2, -np.inf, m).astype(np.float32), [0, 1, 255]),
        ("from 1", "png", lambda m: m + 1, [0, 1, 2]),
        ("black and white, 16 bits", "tif", lambda m: (m > 0).astype(np.uint16) * 65535, [0, 1, 1]),
        ("alpha", "png", lambda m: np.dstack([m, np.full((H, W), 255, np.uint8)]), [0, 1, 2]),
        ("colours", "png", lambda m: COLOURS[m], [0, 1, 2]),
        ("transparent", "png", lambda m: np.dstack([COLOURS[m], np.full((H, W), 255, np.uint8)]), [0, 1, 2]),
        ("equal channels", "png", lambda m: np.dstack([m] * 3), [0, 1, 2]),
    ],
)
def test_kinds_of_masks(kind: str, ending: str, change, expected: list[int]) -> None:
    for split, numbers in (("train", range(2)), ("val", range(2, 4))):
        draw(f"{split}/images/f{{}}.png", f"{split}/masks/f{{}}.{ending}", numbers, change)
    dataset = open_split(new_recipe().data, "train")
    assert dataset.class_names[0] == "background"
    for number in range(2):
        assert (dataset.labels(number).numpy() == np.array(expected)[labels_of(number)]).all(), kind


def test_masks_of_0_and_1_beside_masks_of_0_and_255_are_two_classes(capsys) -> None:
    draw("images/f{}.png", "masks/f{}.png", range(10), lambda m: (m > 0).astype(np.uint8))
    for number in range(0, 10, 2):
        save(Path(f"data/masks/f{number}.png"), (labels_of(number) > 0).astype(np.uint8) * 255)
    dataset = open_split(new_recipe().data, "train")
    assert "none with both 1 and 255" in capsys.readouterr().out
    for index, id in enumerate(dataset.ids):
        assert (dataset.labels(index).numpy() == (labels_of(int(id[1:])) > 0)).all()
    assert doctor(["data.yaml", "data.folder.values=ids"]) == 0
    said = capsys.readouterr().out
    assert "two_whites" in said and "Class shares of val" in said


def test_void_in_masks_of_two_classes_stays_void() -> None:
    draw("images/f{}.png", "masks/f{}.png", range(10), lambda m: np.where(m == 2, 255, m).astype(np.uint8))
    save(Path("data/masks/f0.png"), np.where(labels_of(0), 255, 0).astype(np.uint8))
    dataset = open_split(new_recipe().data, "train")
    assert set(np.unique(dataset.labels(1))) == {0, 1, 255}


def test_masks_of_ids_beside_masks_in_colours_are_refused(capsys) -> None:
    draw("images/f{}.png", "masks/f{}.png", range(4))
    save(Path("data/masks/f1.png"), COLOURS[labels_of(1)])
    assert main(["data"]) == 2 and not Path("data.yaml").exists()
    said = capsys.readouterr().err
    assert "masks/f1.png holds colours" in said and "masks/f0.png has one channel" in said
    draw("images/f{}.png", "masks/f{}.png", range(4), lambda m: COLOURS[m])
    save(Path("data/masks/f1.png"), np.zeros((H, W), np.uint8))  # nothing on it, saved as gray
    assert len(new_recipe().data.classes) == 3


def test_only_0_or_the_largest_class_is_called_background() -> None:
    draw("images/f{}.png", "masks/f{}.png", range(4), lambda m: np.array([2, 1, 3], np.uint8)[m])
    assert new_recipe().data.classes == ["class_1", "class_2", "class_3"]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_ids_of_64_bits(dtype: str) -> None:
    rasterio = pytest.importorskip("rasterio")
    two_splits("SPLIT/images/f{}.png", "SPLIT/masks/f{}.png")
    for path in Path("data").glob("*/masks/*.png"):
        values = labels_of(int(path.stem[1:])).astype(dtype)
        values[:5] = -9999
        with rasterio.open(path.with_suffix(".tif"), "w", driver="GTiff", height=H, width=W, count=1,
                           dtype=dtype, nodata=-9999) as file:  # fmt: skip
            file.write(values, 1)
        path.unlink()
    dataset = open_split(new_recipe().data, "val")
    expected = labels_of(3)
    expected[:5] = 255
    assert (dataset.labels(0).numpy() == expected).all()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_mostly_dark_fourth_band_of_16_bits_is_no_transparency(capsys) -> None:
    """Files that only rasterio reads, whose fourth band is 0 on most pixels."""
    rasterio = pytest.importorskip("rasterio")
    draw("images/f{}.png", "masks/f{}.png", range(3))
    for number in range(3):
        path = Path(f"data/images/f{number}.png")
        with Image.open(path) as image:
            bands = np.dstack([np.asarray(image), labels_of(number)]).astype(np.uint16) * 16
        path.unlink()
        with rasterio.open(path.with_suffix(".tif"), "w", driver="GTiff", height=H, width=W, count=4,
                           dtype="uint16") as file:  # fmt: skip
            file.write(np.moveaxis(bands, 2, 0))
    assert new_recipe().data.bands == 4 and "4 bands of uint16" in capsys.readouterr().out


def test_masks_that_are_arrays() -> None:
    """As labelme2voc writes them, with negative ids as void, beside the same masks for viewing."""
    draw("JPEGImages/f{}.jpg", "SegmentationClassVisualization/f{}.png", range(5))
    Path("data/SegmentationClass").mkdir()
    for number in range(5):
        ids = labels_of(number).astype(np.int32)
        ids[:5] = -1
        np.save(f"data/SegmentationClass/f{number}.npy", ids)
    write("ImageSets/Segmentation/train.txt", "f0\nf1\nf2\n")
    write("ImageSets/Segmentation/val.txt", "f3\nf4\n")
    expected = labels_of(3)
    expected[:5] = 255
    assert (open_split(new_recipe().data, "val").labels(0).numpy() == expected).all()


@pytest.mark.parametrize(
    ("change", "names", "expected"),
    [
        (lambda m: m, ["a", "b", "void"], [0, 1, 255]),
        (lambda m: m, ["Void", "a", "b"], [255, 0, 1]),
        (lambda m: m, ["a", "unlabelled", "b"], [0, 255, 1]),
        (lambda m: m * 85, ["a", "ignore", "b"], [0, 255, 1]),
        (lambda m: COLOURS[m], ["void", "a", "b"], [255, 0, 1]),
    ],
    ids=["last", "first", "between", "gaps", "colours"],
)
def test_a_class_called_void_is_void(change, names: list[str], expected: list[int]) -> None:
    two_splits("SPLIT/images/f{}.png", "SPLIT/masks/f{}.png", change=change)
    recipe = new_recipe("--classes", *names)
    dataset = open_split(recipe.data, "val")
    assert dataset.class_names == ("a", "b")
    assert (dataset.labels(0).numpy() == np.array(expected)[labels_of(3)]).all()


def test_pixels_of_255_stay_void_beside_a_class_called_void() -> None:
    def with_255(labels: np.ndarray) -> np.ndarray:
        return np.where(np.arange(W) < 5, 255, labels).astype(np.uint8)

    two_splits("SPLIT/images/f{}.png", "SPLIT/masks/f{}.png", change=with_255)
    labels = open_split(new_recipe("--classes", "void", "a", "b").data, "val").labels(0).numpy()
    assert (labels == np.array([255, 0, 1] + [255] * 253)[with_255(labels_of(3))]).all()


def test_void_leaves_two_classes_at_least(capsys) -> None:
    two_splits("SPLIT/images/f{}.png", "SPLIT/masks/f{}.png")
    assert main(["data", "--classes", "void", "a", "ignore"]) == 2 and not Path("data.yaml").exists()
    assert "name two classes at least" in capsys.readouterr().err


@pytest.mark.parametrize("mask", ["f{}.png", "f{}_mask.png"])
def test_arrays_with_masks_next_to_them(mask: str) -> None:
    draw("f{}.png", "masks/" + mask, range(5))
    for number in range(5):
        photo = Path(f"data/f{number}.png")
        np.save(photo.with_suffix(".npy"), np.asarray(Image.open(photo)))
        photo.unlink()
        Path("data/masks", mask.format(number)).rename(Path("data", mask.format(number)))
    Path("data/masks").rmdir()
    recipe = new_recipe()
    assert recipe.data.bands == 3 and len(recipe.data.classes) == 3
    labels = open_split(recipe.data, "train")
    assert all((labels.labels(i).numpy() == labels_of(int(id[1:]))).all() for i, id in enumerate(labels.ids))


def test_the_void_colour_of_voc_is_void(capsys) -> None:
    colours = np.array([[0, 0, 0], [128, 0, 0], [224, 224, 192]], np.uint8)
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png", change=lambda labels: colours[labels])
    recipe = new_recipe()
    assert "[224, 224, 192] is void" in capsys.readouterr().out
    dataset = open_split(recipe.data, "val")
    expected = np.array([0, 1, 255], np.uint8)[labels_of(3)]
    assert len(recipe.data.classes) == 2 and (dataset.labels(0).numpy() == expected).all()
