"""`trident new` from a folder as people have it to a recipe that opens and trains."""

import io
import json
import os
import re
import shlex
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from engine.data import open_split
from engine.doctor import main as doctor
from engine.new import main
from engine.prepare import main as prepare
from engine.recipe import Recipe, load_recipe
from engine.recipe.starter import Start, starter_text
from engine.run import main as run

H, W = 80, 96
COLOURS = np.array([[0, 0, 0], [200, 30, 30], [30, 30, 200]], np.uint8)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("models.sources.weights_within_reach", lambda variant: "none")


def labels_of(number: int) -> np.ndarray:
    labels = np.zeros((H, W), np.uint8)
    labels[20 + number : 50, 20:60], labels[55:75, 60:90] = 1, 2
    return labels


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def draw(images: str, masks: str, numbers: range, change=lambda labels: labels) -> None:
    """Pairs below data/; `{}` in a name is the number."""
    noise = np.random.default_rng(0)
    for number in numbers:
        labels = labels_of(number)
        photo = labels[..., None] * 90 + noise.integers(0, 60, (H, W, 3))
        save(Path("data", images.format(number)), photo.astype(np.uint8))
        save(Path("data", masks.format(number)), change(labels))


def write(path: str, text: str, encoding: str = "utf-8") -> None:
    Path("data", path).parent.mkdir(parents=True, exist_ok=True)
    Path("data", path).write_text(text, encoding)


def new_recipe(*more: str, exit_code: int = 0) -> Recipe:
    assert main(["data", *more]) == exit_code
    return load_recipe("data.yaml")


def require_labels(recipe: Recipe, num_train: int, num_val: int) -> None:
    """The recipe opens, and the masks are those that were drawn."""
    train, val = (open_split(recipe.data, split) for split in (recipe.data.train, recipe.data.val))
    assert (len(train), len(val)) == (num_train, num_val)
    for dataset in (train, val):
        for index, id in enumerate(dataset.ids):
            number = int("".join(filter(str.isdigit, Path(id).name or id)) or 0)
            assert (dataset.labels(index).numpy() == labels_of(number)).all(), id


def two_splits(
    images: str, masks: str, train: str = "train", val: str = "val", change=lambda labels: labels
) -> None:
    for split, numbers in ((train, range(3)), (val, range(3, 5))):
        draw(images.replace("SPLIT", split), masks.replace("SPLIT", split), numbers, change)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png"),
        ("Images/SPLIT/f{}.jpg", "Labels/SPLIT/f{}.png"),
        ("SPLIT/f{}.jpg", "SPLITannot/f{}.png"),
        ("SPLIT_images/f{}.png", "SPLIT_masks/f{}.png"),
        ("x_SPLIT/f{}.png", "y_SPLIT/f{}.png"),
        ("SPLIT/f{}.jpg", "SPLIT/f{}.png"),
        ("SPLIT/f{}.png", "SPLIT/f{}_mask.png"),
        ("deep/er/SPLIT/img/f{}.jpg", "deep/er/SPLIT/gt/f{}.png"),
        ("photos_v2/SPLIT/f{}.jpg", "drawn_labels/SPLIT/f{}.png"),
        ("SPLIT/left/f{}.jpg", "SPLIT/sem/f{}.png"),  # from here on only the files tell which are masks
        ("b/SPLIT/f{}.png", "a/SPLIT/f{}.png"),
        ("SPLIT_raw/f{}.jpg", "SPLIT_manual/f{}.png"),
        ("set_SPLIT/clip/Images/f{}.png", "set_SPLIT/clip/Labels/f{}.png"),
        ("SPLIT/images/f{}_photo.jpg", "SPLIT/drawn/f{}_by_me.png"),
    ],
)
def test_folders_of_splits(images: str, masks: str) -> None:
    two_splits(images, masks)
    require_labels(new_recipe(), 3, 2)


@pytest.mark.parametrize("names", ["img lab", "x y", "B A", "orig out"])
def test_masks_are_found_by_what_the_files_hold(capsys, names: str) -> None:
    images, masks = names.split()
    draw(f"{images}/f{{}}.png", f"{masks}/f{{}}.png", range(6))
    recipe = new_recipe()
    assert (recipe.data.folder.images, recipe.data.folder.masks) == (images, masks)
    assert f"images in {images}, masks in {masks}" in capsys.readouterr().out


def test_images_and_masks_in_several_folders_are_one_set(capsys) -> None:
    """Tiles, or clips of a video, each with folders of its own; photos of another place are named."""
    for number in range(4):
        draw(f"tile {number}/photos/f{{}}.jpg", f"tile {number}/labels/f{{}}.png", range(3))
    save(Path("data/.hidden/f0.png"), labels_of(0))
    require_labels(new_recipe(), 9, 3)
    assert "not used" not in capsys.readouterr().out
    Path("data.yaml").unlink()
    save(Path("data/more/deep/f9.png"), labels_of(0))
    save(Path("data/more/deep/f8.png"), labels_of(0))
    require_labels(new_recipe(), 2, 1)
    assert re.search(
        r"20 images below \S+data not used: 3 in \S+data/tile \d/labels", capsys.readouterr().out
    )


def test_the_largest_of_several_folders_is_taken(capsys) -> None:
    draw("few/a/f{}.jpg", "few/a_mask/f{}.png", range(2))
    draw("many/b/f{}.jpg", "many/b_mask/f{}.png", range(5))
    require_labels(new_recipe(), 4, 1)
    assert "4 images below" in capsys.readouterr().out


def test_masks_with_a_single_value_are_passed_over(capsys) -> None:
    """Of a field of view, as sets of retinas have them; alone they are no masks of classes."""
    for split, numbers in (("training", range(3)), ("test", range(3, 5))):
        draw(f"{split}/images/{{}}_{split}.png", f"{split}/mask/{{}}_{split}_mask.png", numbers, np.ones_like)
    assert main(["data"]) == 2 and not Path("data.yaml").exists()
    assert "hold the same single value" in capsys.readouterr().err
    for split, numbers in (("training", range(3)), ("test", range(3, 5))):
        draw(f"{split}/images/{{}}_{split}.png", f"{split}/1st_manual/{{}}_manual1.png", numbers)
    require_labels(new_recipe(), 3, 2)


def test_masks_as_png_are_taken_before_the_same_as_jpeg() -> None:
    draw("a_images/f{}.jpg", "a_masks/f{}.jpg", range(5))
    draw("b_images/f{}.png", "b_masks/f{}.png", range(5))
    require_labels(new_recipe(), 4, 1)


def test_the_content_of_folders_that_does_not_tell(capsys) -> None:
    """Two folders of masks for the same photos; photos of two kinds; masks of two kinds."""
    draw("x/f{}.jpg", "y/f{}.png", range(3))
    draw("x/f{}.jpg", "z/f{}.png", range(3), lambda labels: labels + 1)
    assert main(["data"]) == 2
    said = capsys.readouterr().err
    assert "x with masks in y or x with masks in z" in said
    assert "data.folder: {images: x, masks: y, val_share: 0.2}" in said
    for kept in ("x", "y"):
        shutil.rmtree("data")
        draw("x/f{}.jpg", "y/f{}.png", range(3))
        shutil.rmtree(Path("data", "y" if kept == "x" else "x"))
        shutil.copytree(Path("data", kept), "data/other")
        assert main(["data"]) == 2 and "not understood" in capsys.readouterr().err
    assert not Path("data.yaml").exists()


def test_lists_of_paths_from_the_folder_above(capsys) -> None:
    """With semicolons, as spreadsheets of some countries write them."""
    draw("a/pics/f{}.jpg", "a/ann/m{}.png", range(5))
    for split, numbers in (("train", range(3)), ("val", range(3, 5))):
        rows = [f"a/pics/f{number}.jpg;a/ann/m{number}.png" for number in numbers]
        write(f"{split}.csv", "\n".join(["image;mask", *rows]))
    require_labels(new_recipe(), 3, 2)


@pytest.mark.parametrize("splits", ["Train Valid", "training validation", "train test"])
def test_other_names_of_splits(splits: str) -> None:
    train, val = splits.split()
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png", train, val)
    recipe = new_recipe()
    assert (recipe.data.train, recipe.data.val) == (train, val)
    require_labels(recipe, 3, 2)


@pytest.mark.parametrize(
    ("name", "line", "encoding"),
    [
        ("SPLIT.txt", "f{n}", "utf-8"),
        ("SPLIT.txt", "f{n}.jpg", "utf-8-sig"),
        ("SPLIT.txt", "f{n}", "utf-16"),
        ("SPLIT.txt", "images/f{n}.jpg masks/m{n}.png", "utf-8"),
        ("SPLIT.txt", "f{n}", "utf-16-le"),
        ("SPLIT.txt", "f{n}", "utf-16-be"),
        ("ImageSets/Segmentation/SPLIT.txt", "/images/f{n}.jpg /masks/m{n}.png", "utf-8"),
        ("lists/SPLIT.csv", "f{n}.jpg,m{n}.png", "utf-8"),
    ],
)
def test_lists(name: str, line: str, encoding: str) -> None:
    """Those of pairs have masks of other names, so that only the list can say which belong together."""
    has_pairs = "m{n}" in line
    draw("images/f{}.jpg", "masks/m{}.png" if has_pairs else "masks/f{}.png", range(5))
    for split, numbers in (("train", range(3)), ("val", range(3, 5))):
        lines = ["image,mask"] if name.endswith("csv") else []
        lines += [line.format(n=number) for number in numbers]
        write(name.replace("SPLIT", split), "\r\n".join(lines) + "\r\n", encoding)
    require_labels(new_recipe(), 3, 2)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("f{}.jpg", "f{}.png"),
        ("images/a/f{}.jpg", "masks/a/f{}.png"),
        ("case{}/image.png", "case{}/mask.png"),
        ("photos/f{}.jpg", "annotations/pixel-level/f{}.png"),
        ("png_images/IMAGES/img_{}.png", "png_masks/MASKS/seg_{}.png"),
    ],
)
def test_a_folder_without_splits_gets_a_share_of_its_own(images: str, masks: str) -> None:
    draw(images, masks, range(12))
    recipe = new_recipe()
    assert 0 < recipe.data.folder.val_share < 0.5
    ids = [set(open_split(recipe.data, split).ids) for split in ("train", "val")]
    assert len(ids[0] | ids[1]) == 12 and not ids[0] & ids[1] and min(map(len, ids)) > 0


def test_frames_of_one_sequence_stay_on_one_side() -> None:
    for sequence in "abcdef":
        draw(f"images/{sequence}_{{}}.jpg", f"masks/{sequence}_{{}}.png", range(4))
    recipe = new_recipe()
    sides = [{id[0] for id in open_split(recipe.data, split).ids} for split in ("train", "val")]
    assert sides[0] | sides[1] == set("abcdef") and not sides[0] & sides[1]


@pytest.mark.parametrize("image", ["jpg", "JPG", "png"])
def test_the_layout_of_voc_with_images_of_any_ending(image: str) -> None:
    draw(f"JPEGImages/f{{}}.{image}", "SegmentationClass/f{}.png", range(5))
    write("ImageSets/Segmentation/train.txt", "f0\nf1\nf2\n")
    write("ImageSets/Segmentation/val.txt", "f3\nf4\n")
    require_labels(new_recipe(), 3, 2)


def test_ids_of_voc_in_its_layout_get_its_names() -> None:
    draw("JPEGImages/f{}.jpg", "SegmentationClass/f{}.png", range(5), lambda labels: labels * 6)
    write("ImageSets/Segmentation/train.txt", "f0\nf1\nf2\n")
    write("ImageSets/Segmentation/val.txt", "f3\nf4\n")
    recipe = new_recipe()
    assert recipe.data.classes[6] == "bus" and recipe.data.classes[12] == "dog"
    labels = open_split(recipe.data, "val").labels(0).numpy()
    assert (labels == labels_of(3) * 6).all()


def test_folders_of_tools_and_other_forms_of_an_accent() -> None:
    for split, numbers in (("train", range(3)), ("val", range(3, 5))):
        composed, split_up = (unicodedata.normalize(form, "é{}") for form in ("NFC", "NFD"))
        draw(f"{split}/images/{composed}.jpg", f"{split}/masks/{split_up}.png", numbers)
    save(Path("data/train/images/.ipynb_checkpoints/é0-checkpoint.jpg"), np.zeros((H, W, 3), np.uint8))
    Path("data/train/images/again").symlink_to(Path("data/train/images").absolute())
    require_labels(new_recipe(), 3, 2)


def renamed_without_utf_8(folder: str) -> None:
    """The file names in a folder as they come out of an archive made with another encoding."""
    for path in Path("data", folder).iterdir():
        path.rename(os.fsdecode(os.fsencode(path.parent) + b"/caf\xe9_" + os.fsencode(path.name)))


@pytest.mark.parametrize("splits", [True, False])
def test_names_that_are_no_utf_8_are_named(capsys, splits: bool) -> None:
    two_splits("SPLIT/images/f{}.png", "SPLIT/masks/f{}.png") if splits else None
    draw("images/f{}.png", "masks/f{}.png", range(5)) if not splits else None
    folders = ("train/images", "train/masks", "val/images", "val/masks") if splits else ("images", "masks")
    for folder in folders:
        renamed_without_utf_8(folder)
    assert main(["data"]) == 2
    said = capsys.readouterr().err
    assert "bytes that are no UTF-8" in said and r"caf\udce9_f" in said and "Rename them" in said


@pytest.mark.parametrize("where", ["data/caf\udce9", "caf\udce9"])
def test_folders_whose_names_are_no_utf_8_are_named(capsys, where: str) -> None:
    two_splits("SPLIT/images/f{}.png", "SPLIT/masks/f{}.png")
    Path("data").rename("there")
    Path(where).parent.mkdir(exist_ok=True)
    Path("there").rename(where)
    assert main([where.partition("/")[0]]) == 2
    assert "has bytes that are no UTF-8. Rename it." in capsys.readouterr().err
    assert doctor(["demo", f"data.root={where}"]) == 2
    assert "bytes that are no UTF-8" in capsys.readouterr().err


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


@pytest.mark.parametrize("count", [2, 3, 24])
def test_a_few_images_are_divided(count: int) -> None:
    draw("images/f{}.jpg", "masks/f{}.png", range(count))
    data = new_recipe().data
    ids = [open_split(data, split).ids for split in ("train", "val")]
    assert sorted(ids[0] + ids[1]) == sorted(f"f{n}" for n in range(count)) and ids[0]
    assert max(1, 0.1 * count) <= len(ids[1]) <= max(1, 0.3 * count)


def test_a_single_image_is_no_data_set(capsys) -> None:
    draw("images/f{}.jpg", "masks/f{}.png", range(1))
    assert main(["data"]) == 2 and not Path("data.yaml").exists()
    said = capsys.readouterr().err
    assert "1 image in" in said and "add images" in said and "not understood" not in said


def test_names_come_from_a_file_or_from_the_command() -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    write("classes.txt", "ground\nroad\nsky\nnever drawn\n")
    assert new_recipe().data.classes == ["ground", "road", "sky", "never drawn"]
    Path("data/classes.txt").unlink()
    assert main(["data", "--out", "named.yaml", "--classes", "a", "b", "c"]) == 0
    assert load_recipe("named.yaml").data.classes == ["a", "b", "c"]
    assert main(["data", "--out", "two.yaml", "--classes", "a", "b"]) == 2 and not Path("two.yaml").exists()


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("ground, c+ road,sky\n", ["ground", "c+ road", "sky"]),
        ("\n", ["background", "class_1", "class_2"]),
        ("", ["background", "class_1", "class_2"]),  # the end of the input
        ("ground, road\n", None),
    ],
)
def test_in_a_terminal_names_are_asked_for(typed: str, names: list[str] | None, monkeypatch) -> None:
    terminal = io.StringIO(typed)
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", terminal)
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    assert main(["data", "--out", "named.yaml"]) == (0 if names else 2)
    assert not names or load_recipe("named.yaml").data.classes == names


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


def test_colours_are_named_by_a_file() -> None:
    for split in ("train", "val"):
        draw(f"{split}/images/f{{}}.png", f"{split}/masks/f{{}}.png", range(2), lambda m: COLOURS[m])
    write("class_dict.csv", "name,r,g,b\nroad,200,30,30\nsky,30,30,200\nVoid,0,0,0\n")
    recipe = new_recipe()
    assert [item.name for item in recipe.data.classes] == ["road", "sky"]
    labels = open_split(recipe.data, "val").labels(0).numpy()
    assert (labels == np.array([255, 0, 1])[labels_of(0)]).all()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("train/_classes.csv", "Pixel Value, Class\n0, background\n1, apple\n2, pear\n"),
        ("dataset.json", json.dumps({"labels": {"background": 0, "apple": 1, "pear": 2}})),
        ("dataset.json", json.dumps({"labels": {"0": "background", "1": "apple", "2": "pear"}})),
        ("labels.csv", "id,label\n0,background\n1,apple\n2,pear\n"),
    ],
)
def test_names_in_the_files_of_tools(file: str, text: str) -> None:
    two_splits("SPLIT/f{}.jpg", "SPLIT/f{}_mask.png")
    write(file, text)
    assert new_recipe().data.classes == ["background", "apple", "pear"]


@pytest.mark.parametrize("text", ["image,label\nf0,1\nf1,2\nf2,0\nf3,1\n", "[]", "3"])
def test_a_table_without_the_names_of_classes_is_none(text: str) -> None:
    two_splits("SPLIT/f{}.jpg", "SPLIT/f{}_mask.png")
    write("labels.csv" if "," in text else "dataset.json", text)
    assert new_recipe().data.classes == ["background", "class_1", "class_2"]


def coco_split(split: str, **changes: object) -> None:
    outline = [[10, 10, 60, 10, 60, 40, 10, 40]]
    for number in range(2):
        save(Path(f"data/{split}/{number}.jpg"), np.zeros((H, W, 3), np.uint8))
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in range(2)]
    objects = [{"id": 1, "image_id": 0, "category_id": 4, "iscrowd": 0, "segmentation": outline}]
    content = {"images": images, "annotations": objects, "categories": [{"id": 4, "name": "cat"}], **changes}
    write(f"annotations/instances_{split}.json", json.dumps(content))


def test_coco_without_the_sizes_of_its_images() -> None:
    for split in ("train", "val"):
        coco_split(split)
    assert (open_split(new_recipe().data, "val").labels(0) == 1).sum() == 50 * 30


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": [{"id": 0, "file_name": "gone.jpg"}]}, "1 of 1 image file is missing: "),
        ({"annotations": [{"id": 1, "image_id": 0, "category_id": 4, "bbox": [1, 1, 5, 5]}]}, "Boxes alone"),
    ],
)
def test_what_is_wrong_with_a_file_of_coco_is_said_alone(changes: dict, said: str, capsys) -> None:
    for split in ("train", "val"):
        coco_split(split, **changes)
    assert main(["data"]) == 2
    error = capsys.readouterr().err
    assert said in error and "annotations/instances_train.json" in error
    assert "Looked for" not in error and "cannot be paired" not in error and "move them so" not in error


def test_coco_with_a_background_category() -> None:
    outline = [[10, 10, 60, 10, 60, 40, 10, 40]]
    for split in ("train", "val"):
        save(Path(f"data/{split}/0.jpg"), np.zeros((H, W, 3), np.uint8))
        categories = [{"id": 0, "name": "_background_"}, {"id": 4, "name": "cat"}]
        objects = [{"id": 1, "image_id": 0, "category_id": 4, "iscrowd": 0, "segmentation": outline}]
        images = [{"id": 0, "file_name": "0.jpg", "height": H, "width": W}]
        content = {"images": images, "annotations": objects, "categories": categories}
        write(f"annotations/instances_{split}.json", json.dumps(content))
    recipe = new_recipe()
    assert recipe.data.format == "coco" and recipe.data.classes == ["background", "cat"]
    assert (open_split(recipe.data, "val").labels(0) == 1).sum() == 50 * 30


def photo(labels: np.ndarray) -> np.ndarray:
    return np.random.default_rng(int(labels.sum())).integers(0, 256, (H, W, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("change", "ending", "said"),
    [
        (photo, "png", "are they photos?"),
        (lambda m: m * np.float32(1.7), "tif", "3.4 (2,400 pixels): values between whole numbers"),
        (
            lambda m: np.arange(H * W, dtype=np.int32).reshape(H, W),
            "tif",
            "number objects instead of classes",
        ),
        (lambda m: np.full((H, W), np.nan, np.float32), "tif", "only nan"),
        (lambda m: m, "jpg", "export them as PNG"),
        (
            lambda m: np.dstack([np.full((H, W, 3), 255, np.uint8), (m > 0).astype(np.uint8) * 255]),
            "png",
            "Only their transparency differs",
        ),
    ],
)
def test_masks_that_are_no_classes_are_named(capsys, change, ending: str, said: str) -> None:
    for split in ("train", "val"):
        draw(f"{split}/images/f{{}}.png", f"{split}/masks/f{{}}.{ending}", range(2), change)
    assert main(["data"]) == 2 and not Path("data.yaml").exists()
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_folder_that_is_not_understood_lists_what_is_there(capsys) -> None:
    write("notes/readme.txt", "no images")
    write("notes/all.zip", "")
    assert main(["data"]) == 2 and not Path("data.yaml").exists()
    error = capsys.readouterr().err
    assert (
        "Looked for VOC, COCO, LabelMe" in error
        and "notes: 1 .txt, 1 .zip" in error
        and "data.folder" in error
    )
    assert "notes/all.zip. Unpack" in error
    assert main(["nowhere"]) == 2 and "No folder" in capsys.readouterr().err


LABELME = {"version": "5.2.1", "shapes": [{"label": "cat", "points": [[1, 2], [3, 4], [5, 6]]}]}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("images/f0.json", json.dumps({**LABELME, "imagePath": "f0.png"}), "1 file of polygons of labelme"),
        ("via.json", '{"_via_settings": {}, "_via_img_metadata": {}}', "the VGG Image Annotator"),
        ("labels/f0.txt", "0 0.1 0.2 0.3 0.2\n", "Boxes alone are no masks"),
        ("annotations.xml", '<annotations><polygon label="cat" points="1,2"/></annotations>', "CVAT"),
        ("result.json", '{"images": [], "annotations": [], "categories": []}', "lists no categories"),
    ],
)
def test_annotations_that_are_no_masks_are_named(capsys, name: str, text: str, said: str) -> None:
    for number in range(3):
        save(Path(f"data/images/f{number}.png"), np.zeros((H, W, 3), np.uint8))
    write(name, text)
    assert main(["data"]) == 2
    printed = capsys.readouterr().err
    assert said in printed and f"data/{name}" in printed


def test_two_images_of_one_name_are_named_before_a_later_layout(capsys) -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    for path in Path("data").glob("*/images/*.jpg"):
        save(path.with_suffix(".png"), np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8))
    assert main(["data"]) == 2
    said = capsys.readouterr().err
    assert "several images have the same name" in said and "data/train/images: 3 .jpg, 3 .png" in said


def test_nothing_is_overwritten(capsys) -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    Path("data.yaml").write_text("mine")
    assert main(["data"]) == 2 and Path("data.yaml").read_text() == "mine"
    assert "--out=" in capsys.readouterr().err


def test_a_damaged_image_is_left_to_the_doctor(capsys) -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    damaged = Path("data/train/images/f0.jpg")
    damaged.write_bytes(damaged.read_bytes()[:200])
    new_recipe(exit_code=2)
    assert "trident doctor data.yaml" in capsys.readouterr().out
    assert doctor(["data.yaml"]) == 2


def half(pixels: np.ndarray) -> np.ndarray:
    return pixels[::2, ::2]


def probability(labels: np.ndarray) -> np.ndarray:
    return np.where(labels > 0, 0.9, 0.2).astype(np.float32)


def printed(out: str, start: str) -> list[str]:
    """The last command in what was printed that begins like this, in words, without its first two."""
    return shlex.split(re.findall(rf"({start} .*)", out)[-1])[2:]


@pytest.mark.parametrize(
    ("change", "ending", "expected"),
    [
        (lambda m: (m > 0).astype(np.uint8) * 255, "jpg", [0, 1, 1]),
        (lambda m: half((m > 0).astype(np.uint8) * 255), "png", [0, 1, 1]),
        (lambda m: half((m > 0).astype(np.uint8) * 255), "jpg", [0, 1, 1]),
        (lambda m: COLOURS[m], "jpg", [0, 1, 2]),
        (lambda m: half(COLOURS[m]), "png", [0, 1, 2]),
        (lambda m: m * 100, "jpg", [0, 1, 2]),
        (probability, "tif", [0, 1, 1]),
        (half, "png", [0, 1, 2]),
    ],
)
def test_the_commands_that_are_printed_lead_to_a_training(capsys, change, ending: str, expected) -> None:
    for split, numbers in (("train", range(2)), ("val", range(2, 4))):
        draw(f"{split}/images/f{{}}.png", f"{split}/masks/f{{}}.{ending}", numbers, change)
    new_recipe(exit_code=2)
    assert doctor(printed(capsys.readouterr().out, "trident doctor")) == 0
    recipe, *overrides = printed(capsys.readouterr().out, "trident run")
    dataset = open_split(load_recipe(recipe, overrides).data, "train")
    for number in range(2):
        labels = dataset.labels(number).numpy()
        sure = labels != 255  # void: between two colours
        assert sure.mean() > 0.9 and (sure.all() or ending == "jpg")
        assert (labels == np.array(expected)[labels_of(number)])[sure].mean() > 0.97  # a border is 2 px wide
    more = ["train.steps=1", "eval.every=1", "log.to=[]"]
    assert expected == [0, 1, 2] or ending != "jpg" or run([recipe, *overrides, *more]) == 0


def probabilities(labels: np.ndarray, blur_px: float = 3) -> np.ndarray:
    """0..255, as a model is sure of an object inside, and not at its borders; with noise everywhere."""
    white = Image.fromarray(np.uint8(255 * (labels > 0))).filter(ImageFilter.GaussianBlur(blur_px))
    noise = np.random.default_rng(0).normal(0, 12, labels.shape)
    return np.asarray(white + noise).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_probabilities_of_eight_bits_are_two_classes(channels: int, capsys) -> None:
    def drawn(labels: np.ndarray) -> np.ndarray:
        pixels = probabilities(labels)
        return pixels if channels == 1 else np.repeat(pixels[..., None], 3, axis=2)

    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png", change=drawn)
    new_recipe(exit_code=2)
    argv = printed(capsys.readouterr().out, "trident doctor")
    assert doctor(argv) == 0
    recipe, *overrides = printed(capsys.readouterr().out, "trident run")
    dataset = open_split(load_recipe(recipe, overrides).data, "val")
    expected = probabilities(labels_of(3)) >= 128
    assert (dataset.labels(0).numpy() == expected).all() and 0.1 < expected.mean() < 0.3


def test_probabilities_of_sixteen_bits_are_two_classes(capsys) -> None:
    """Also where a mask has only values that are nearly black of 16 bits, and would be white of 8."""

    def drawn(labels: np.ndarray) -> np.ndarray:
        nearly_black = np.full(labels.shape, 200, np.uint16)
        return nearly_black if (labels == labels_of(4)).all() else probabilities(labels).astype("u2") * 257

    two_splits("SPLIT/images/f{}.png", "SPLIT/masks/f{}.tif", change=drawn)
    new_recipe(exit_code=2)
    assert doctor(printed(capsys.readouterr().out, "trident doctor")) == 0
    recipe, *overrides = printed(capsys.readouterr().out, "trident run")
    for split in ("train", "val"):
        dataset = open_split(load_recipe(recipe, overrides).data, split)
        for index, id in enumerate(dataset.ids):
            expected = drawn(labels_of(int(id[1:]))) >= 32768
            assert (dataset.labels(index).numpy() == expected).all()
    assert not expected.any()  # of f4


def test_probabilities_read_as_ids_are_named_with_the_threshold_as_remedy(capsys) -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png", change=probabilities)
    new_recipe(exit_code=2)
    as_ids = ["data.yaml", "data.folder.values=ids"]
    assert doctor(as_ids) == 2
    out = capsys.readouterr().out
    assert "soft_masks" in out and "data.folder.values=binary" in out and "rainbow_borders" not in out
    assert doctor([*as_ids, "--fix", "copy"]) == 2 and not Path("copy").exists()
    assert "data.folder.values=binary" in capsys.readouterr().err
    assert doctor([*as_ids, "data.format=folder", "data.folder.values=binary", "--fix", "copy"]) == 0


def test_jpeg_masks_of_two_classes_in_a_recipe_of_ids_need_one_copy(capsys) -> None:
    def white(labels: np.ndarray) -> np.ndarray:
        return (labels > 0).astype(np.uint8) * 255

    draw("JPEGImages/f{}.JPG", "SegmentationClass/f{}.JPG", range(5), white)
    write("ImageSets/Segmentation/train.txt", "f0\nf1\nf2\n")
    write("ImageSets/Segmentation/val.txt", "f3\nf4\n")
    Path("v.yaml").write_text(
        "name: v\ndata: {format: voc, root: data, train: train, val: val, classes: [ground, cell]}\n"
    )
    assert doctor(["v.yaml"]) == 2
    out = capsys.readouterr().out
    assert "soft_masks" in out and "unknown_values" not in out and "rainbow" not in out
    assert doctor(["v.yaml", *re.findall(r"data\.[a-z.]+=\w+", out)[:2], "--fix", "copy"]) == 0
    recipe, *overrides = printed(capsys.readouterr().out, "trident run")
    labels = open_split(load_recipe(recipe, overrides).data, "val").labels(0).numpy()
    assert (labels == (labels_of(3) > 0)).mean() > 0.99


def test_photos_are_no_masks(capsys) -> None:
    coarse = Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 7), dtype=np.uint8))
    photo = np.asarray(coarse.resize((W, H), Image.Resampling.BICUBIC))
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png", change=lambda labels: photo)
    assert main(["data"]) == 2
    assert "are they photos?" in capsys.readouterr().err and not Path("data.yaml").exists()


def test_a_copy_that_still_has_findings_is_not_called_ready(capsys) -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    new_recipe()
    for name in ("f0", "f1"):  # an id that no class has, in masks of half the size
        mask = Path(f"data/train/masks/{name}.png")
        save(mask, half(np.where(labels_of(0) == 2, 9, labels_of(0))).astype(np.uint8))
    capsys.readouterr()
    assert doctor(["data.yaml", "--fix", "copy"]) == 2
    out = capsys.readouterr().out
    assert "2 masks resized" in out and "unknown_values" in out and "Train on it" not in out
    ids = ["data.ids={0: 0, 1: 1, 2: 2, 9: 2}"]
    assert doctor(["data.yaml", *ids, "--fix", "agreed"]) == 0
    recipe, *overrides = printed(capsys.readouterr().out, "trident run")
    labels = open_split(load_recipe(recipe, overrides).data, "train").labels(0).numpy()
    assert overrides[-1] == "data.ids=null" and set(np.unique(labels)) == {0, 1, 2}


@pytest.mark.parametrize("content", [b"f0\nf0\n", b"f0\n\xe9\n", b"\n"], ids=["twice", "latin-1", "empty"])
def test_lists_that_cannot_be_used_are_named(content: bytes, capsys) -> None:
    draw("images/f{}.png", "masks/f{}.png", range(5))
    write("train.txt", "f1\nf2\n")
    Path("data/val.txt").write_bytes(content)
    assert new_recipe().data.folder.val_share
    assert re.search(r"lists of train and val were not used: .*val\.txt", capsys.readouterr().out)


@pytest.mark.parametrize("name", ["folds.csv", "splits.json"])
def test_a_table_of_the_images_that_is_not_read_is_named(name: str, capsys) -> None:
    draw("images/f{}.png", "masks/f{}.png", range(5))
    write(name, "".join(f'"f{number}", {number % 2}\n' for number in range(5)))
    write("notes.txt", "made in May")
    assert new_recipe().data.folder.val_share
    said = capsys.readouterr().out
    assert "1 file with names of images not used" in said and name in said and "notes.txt" not in said


def test_characters_that_no_recipe_holds_are_left_out_of_its_comments(capsys) -> None:
    draw("images/f{}.png", "masks/f{}.png", range(5))
    write("train.txt", "f0\nf1\0\x07\n")
    write("val.txt", "f2\n")
    assert new_recipe().data.folder.val_share


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("<!DOCTYPE html><html>", "a web page"),
        ("", "It is empty"),
    ],
)
def test_a_file_that_is_no_image_is_named_as_what_it_is(start: str, said: str, capsys) -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    write("train/images/f1.jpg", start)
    assert main(["data"]) == 2 and said in " ".join(capsys.readouterr().out.split())


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


def test_links_to_the_folder_itself_and_above_are_not_followed() -> None:
    draw("images/f{}.png", "masks/f{}.png", range(5))
    for name, target in (("images/up", ".."), ("masks/self", "."), ("masks/top", "../..")):
        os.symlink(target, Path("data", name))
    recipe = new_recipe()
    assert sum(len(open_split(recipe.data, split)) for split in ("train", "val")) == 5


def test_the_void_colour_of_voc_is_void(capsys) -> None:
    colours = np.array([[0, 0, 0], [128, 0, 0], [224, 224, 192]], np.uint8)
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png", change=lambda labels: colours[labels])
    recipe = new_recipe()
    assert "[224, 224, 192] is void" in capsys.readouterr().out
    dataset = open_split(recipe.data, "val")
    expected = np.array([0, 1, 255], np.uint8)[labels_of(3)]
    assert len(recipe.data.classes) == 2 and (dataset.labels(0).numpy() == expected).all()


def test_masks_that_cannot_be_read_are_named_with_the_reason(capsys) -> None:
    draw("images/f{}.png", "masks/f{}.tif", range(3))
    for mask in Path("data/masks").iterdir():
        mask.write_bytes(b"no image")
    assert main(["data"]) == 2
    assert re.search(r"masks/f\d\.tif cannot be read .*Save masks as PNG", capsys.readouterr().err)


def test_the_doctor_takes_a_folder(capsys) -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    assert doctor(["data"]) == 0
    assert "3 images to train on" in capsys.readouterr().out
    assert doctor(["data", "--fix", "copy"]) == 2 and "trident new data" in capsys.readouterr().err


def test_the_recipe_trains_as_it_stands() -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    new_recipe()
    assert run(["data.yaml", "train.steps=2", "eval.every=2", "log.to=[]"]) == 0
    assert Path("checkpoints/data/report.html").exists()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("weights", ["package", "hub", "none"])
@pytest.mark.parametrize("num_train", [1, 40, 100_000])
def test_every_starter_recipe_is_valid(device: str, weights: str, num_train: int) -> None:
    section = {"root": "data", "format": "folder", "classes": ["a", "b"], "folder": {"val_share": 0.2}}
    start = Start("mine", section, ["found"], num_train, (1080, 1920), weights, device)
    Path("start.yaml").write_text(starter_text(start))
    recipe = load_recipe("start.yaml")
    assert recipe.name == "mine" and 2 <= recipe.train.batch <= 16
    assert recipe.augment.crop == {"cpu": 256, "cuda": 512}[device]
    assert recipe.model.from_scratch == (weights == "none")


def write_labelme(folder: str, numbers: range) -> None:
    for number in numbers:
        save(Path("data", folder, f"f{number}.png"), np.full((H, W, 3), 90 + number, np.uint8))
        boxes = (("cat", [[20, 20 + number], [60, 50]]), ("dog", [[60, 55], [90, 75]]))
        shapes = [{"label": label, "shape_type": "rectangle", "points": points} for label, points in boxes]
        content = {"shapes": shapes, "imagePath": f"f{number}.png", "imageHeight": H, "imageWidth": W}
        write(f"{folder}/f{number}.json", json.dumps(content))


def write_yolo(split: str, numbers: range) -> None:
    write("data.yaml", "train: ../train/images\nval: ../valid/images\nnames: {0: cat, 1: dog}\n")
    for number in numbers:
        save(Path("data", split, "images", f"f{number}.png"), np.full((H, W, 3), 90 + number, np.uint8))
        lines = []
        for label, (x0, y0, x1, y1) in enumerate(((20, 20 + number, 60, 50), (60, 55, 90, 75))):
            corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
            lines.append(f"{label} " + " ".join(f"{x / W:.6f} {y / H:.6f}" for x, y in corners))
        write(f"{split}/labels/f{number}.txt", "\n".join(lines))


def write_cvat(numbers: range) -> None:
    images = []
    for number in numbers:
        save(Path("data", "images", f"f{number}.png"), np.full((H, W, 3), 90 + number, np.uint8))
        box = '<box label="{}" xtl="{}" ytl="{}" xbr="{}" ybr="{}" z_order="0"/>'
        inner = box.format("cat", 20, 20 + number, 60, 50) + box.format("dog", 60, 55, 90, 75)
        images.append(f'<image name="f{number}.png" width="{W}" height="{H}">{inner}</image>')
    write("annotations.xml", f"<annotations>{''.join(images)}</annotations>")


def write_label_studio(numbers: range) -> None:
    tasks = []
    for number in numbers:
        save(Path("data", "images", f"f{number}.png"), np.full((H, W, 3), 90 + number, np.uint8))
        regions = [
            {"type": "rectanglelabels", "original_width": W, "original_height": H, "value": {
                "x": 100 * x0 / W, "y": 100 * y0 / H, "width": 100 * (x1 - x0) / W,
                "height": 100 * (y1 - y0) / H, "rectanglelabels": [label]}}
            for label, (x0, y0, x1, y1) in (("cat", (20, 20 + number, 60, 50)), ("dog", (60, 55, 90, 75)))
        ]  # fmt: skip
        data = {"image": f"/data/upload/3/0a1b2c3d-f{number}.png"}
        tasks.append({"id": number, "data": data, "annotations": [{"result": regions}]})
    write("project.json", json.dumps(tasks))


def test_outlines_may_name_images_in_another_folder(capsys) -> None:
    write_labelme("photos", range(8))
    Path("data/truth").mkdir()
    for path in sorted(Path("data/photos").glob("*.json")):
        content = json.loads(path.read_text())
        write(f"truth/{path.name}", json.dumps(content | {"imagePath": f"../photos/{path.stem}.png"}))
        path.unlink()
    assert new_recipe().data.format == "labelme"
    assert doctor(["data"]) == 0
    output = capsys.readouterr().out
    assert "8 samples" in output and "not used" not in output and "without a file" not in output


@pytest.mark.parametrize(
    ("format", "draw_all"),
    [
        ("labelme", lambda: (write_labelme("train", range(3)), write_labelme("val", range(3, 5)))),
        ("yolo", lambda: (write_yolo("train", range(3)), write_yolo("valid", range(3, 5)))),
    ],
)
def test_annotated_splits(format: str, draw_all, capsys) -> None:
    draw_all()
    recipe = new_recipe()
    assert recipe.data.format == format and recipe.data.classes == ["background", "cat", "dog"]
    require_labels(recipe, 3, 2)
    assert doctor(["data"]) == 0
    assert "outlines of 2 classes, cat, dog" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("format", "draw_all"),
    [
        ("labelme", lambda: write_labelme(".", range(20))),
        ("cvat", lambda: write_cvat(range(20))),
        ("label_studio", lambda: write_label_studio(range(20))),
    ],
)
def test_annotations_without_splits_and_their_masks(format: str, draw_all) -> None:
    draw_all()
    recipe = new_recipe()
    assert recipe.data.format == format and 0 < recipe.data.polygons.val_share < 0.5
    train, val = (open_split(recipe.data, split) for split in ("train", "val"))
    require_labels(recipe, len(train), len(val))
    assert len(train) + len(val) == 20
    assert prepare(["masks", "data", "--out", "drawn"]) == 0
    assert prepare(["masks", "data.yaml", "--out", "drawn"]) == 2  # nothing is overwritten
    assert main(["drawn"]) == 0
    of_masks = load_recipe("drawn.yaml")
    assert of_masks.data.format == "folder"
    require_labels(of_masks, len(train), len(val))
    assert list(of_masks.data.classes) == ["background", "cat", "dog"]


@pytest.mark.parametrize(
    "file", ["annotations/instances_default.json", "annotations/all.json", "result.json"]
)
def test_a_single_file_of_coco_is_divided(file: str, capsys) -> None:
    outline = {"segmentation": [[10, 10, 60, 10, 60, 40, 10, 40]], "category_id": 3, "iscrowd": 0}
    for number in range(4):
        draw(f"images/f{number}.png", "unused/{}.png", range(1))
    sizes = {"width": W, "height": H}
    content = {
        "images": [{"id": n, "file_name": f"f{n}.png", **sizes} for n in range(4)],
        "annotations": [{"id": n, "image_id": n, **outline} for n in range(4)],
        "categories": [{"id": 3, "name": "tooth"}],
    }
    write(file, json.dumps(content))
    write("setup.json", '{"images": "none"}')
    recipe = new_recipe()
    train, val = (open_split(recipe.data, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (3, 1) and list(recipe.data.classes) == ["background", "tooth"]
    assert int((train.labels(0) == 1).sum()) == 50 * 30
    Path("data.yaml").unlink()
    for image in content["images"]:
        image |= {"width": H, "height": W}
    write(file, json.dumps(content))
    new_recipe(exit_code=2)
    said = " ".join(capsys.readouterr().out.split())
    assert "width and height are swapped" in said and "Correct width and height of these images in" in said
    assert file in said and "Export these masks" not in said


def test_run_lengths_in_a_csv_file(capsys) -> None:
    draw("train_images/f{}.jpg", "drawn/f{}.png", range(5))
    shutil.rmtree("data/drawn")
    rows = [f"f{number}.jpg,{id},{(id - 1) * 240 + 1} 80" for number in range(5) for id in (1, 2)]
    write("train.csv", "\n".join(["ImageId,ClassId,EncodedPixels", *rows]))
    recipe = new_recipe()
    assert recipe.data.format == "rle_csv" and list(recipe.data.classes) == [
        "background",
        "class_1",
        "class_2",
    ]
    train = open_split(recipe.data, "train")
    expected = np.zeros((H, W), np.uint8)
    expected[:, 0], expected[:, 3] = 1, 2
    assert len(train) == 4 and (train.labels(0).numpy() == expected).all()
    assert prepare(["masks", "data.yaml", "--out", "masks"]) == 0


def test_two_annotated_images_are_divided() -> None:
    write_labelme(".", range(2))
    recipe = new_recipe()
    assert recipe.data.classes == ["background", "cat", "dog"]
    require_labels(recipe, 1, 1)


def test_a_cut_annotation_is_named(capsys) -> None:
    write_labelme("train", range(3))
    write_labelme("val", range(3, 5))
    path = Path("data/train/f1.json")
    path.write_text(path.read_text()[:-30])
    assert main(["data"]) == 2
    assert prepare(["masks", "data", "--out", "drawn"]) == 2
    captured = capsys.readouterr()
    assert "f1.json is not complete JSON" in captured.err and not Path("drawn").exists()
    write_cvat(range(3))
    write("annotations.xml", Path("data/annotations.xml").read_text()[:-30])
    assert doctor(["data"]) == 2


def test_no_copy_is_offered_of_jpeg_masks_in_colours_that_a_recipe_of_ids_cannot_read(capsys) -> None:
    draw("JPEGImages/f{}.png", "SegmentationClass/f{}.jpg", range(5), lambda labels: COLOURS[labels])
    write("ImageSets/Segmentation/train.txt", "f0\nf1\nf2\n")
    write("ImageSets/Segmentation/val.txt", "f3\nf4\n")
    Path("own.yaml").write_text(
        "name: own\ndata: {root: data, format: voc, train: train, val: val, classes: [a, b, c]}\n"
    )
    assert doctor(["own.yaml"]) == 2
    out = capsys.readouterr().out
    assert "unknown_colours" in out and "trident new" in out and "--fix" not in out
    new_recipe(exit_code=2)  # reads them by their colours, and offers the copy
    assert "--fix" in capsys.readouterr().out
