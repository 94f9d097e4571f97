"""data.format=folder: where images and masks are found, the three ways to split, the four kinds of masks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data import open_split
from engine.data.formats.share import in_val
from engine.data.options import Data
from engine.data.sample import DataError

H, W = 4, 6
NAMES = ["background", "cat", "dog"]


def section(root: Path, **data) -> Data:
    return Data.model_validate({"format": "folder", "root": str(root), "classes": NAMES, **data})


def write(path: Path, pixels: np.ndarray | int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.full((H, W), pixels, np.uint8) if isinstance(pixels, int) else pixels
    Image.fromarray(values).save(path)
    return path


def write_pairs(images: Path, masks: Path, *ids: str, mark: str = "") -> None:
    for number, id in enumerate(ids):
        write(images / f"{id}.jpg", np.full((H, W, 3), 40 * number % 256, np.uint8))
        write(masks / f"{id}{mark}.png", number % 3)


def ids_of(section: Data, split: str) -> list[str]:
    return open_split(section, split).ids


def message_of(section: Data, split: str = "train") -> str:
    with pytest.raises(DataError) as caught:
        open_split(section, split)
    return str(caught.value)


# Folders and splits


@pytest.mark.parametrize("layout", ["{split}/images {split}/masks", "images/{split} masks/{split}"])
def test_splits_as_sub_folders(tmp_path: Path, layout: str) -> None:
    for split, ids in {"train": "abc", "val": "de"}.items():
        images, masks = layout.format(split=split).split()
        write_pairs(tmp_path / images, tmp_path / masks, *ids)
    data = section(tmp_path)
    assert ids_of(data, "train") == ["a", "b", "c"] and ids_of(data, "val") == ["d", "e"]
    dataset = open_split(data, "train")
    assert [dataset.labels(i).unique().tolist() for i in range(3)] == [[0], [1], [2]]
    assert dataset.sizes() == [(H, W)] * 3 and dataset.class_names == tuple(NAMES)
    assert dataset.palette[1] == (128, 0, 0) and dataset.ignore_index == 255
    assert "no images and masks of split 'test'" in message_of(data, "test")


def test_splits_as_lists_keep_the_order_of_the_list(tmp_path: Path) -> None:
    write_pairs(tmp_path / "images", tmp_path / "masks", "a", "b", "c", "sub/d", mark="_mask")
    write(tmp_path / "images/no_mask.jpg")
    (tmp_path / "train.txt").write_text("sub/d.jpg\na\n")
    (tmp_path / "val.txt").write_text("c\nb.jpg\n")
    data = section(tmp_path)
    assert ids_of(data, "train") == ["sub/d", "a"] and ids_of(data, "val") == ["c", "b"]
    (tmp_path / "train.txt").write_text("".join(f"x{n}\n" for n in range(7)) + "a\n")
    message = message_of(data)
    assert (
        "7 of 8 images" in message and "x4 and 2 more" in message and str(tmp_path / "train.txt") in message
    )
    (tmp_path / "train.txt").write_text("a\na.jpg\n")
    assert "a more than once" in message_of(data)
    (tmp_path / "train.txt").write_text("no_mask\n")
    assert "1 of 1 image has no mask" in message_of(data)


def test_a_share_always_splits_a_folder_in_the_same_way(tmp_path: Path) -> None:
    ids = [f"photo_{number}" for number in range(60)]
    write_pairs(tmp_path / "images", tmp_path / "masks", *ids[:40])
    data = section(tmp_path, folder={"val_share": 0.25})
    train, val = ids_of(data, "train"), ids_of(data, "val")
    assert sorted(train + val) == sorted(ids[:40]) and 3 <= len(val) <= 20
    assert val == sorted(id for id in ids[:40] if in_val(id, 0.25))
    write_pairs(tmp_path / "images", tmp_path / "masks", *ids)
    assert set(train) < set(ids_of(data, "train")) and set(val) < set(ids_of(data, "val"))
    assert "there is no 'test'" in message_of(data, "test")
    same = section(tmp_path, val="train", folder={"val_share": 0.25})
    assert "both 'train'" in message_of(same, "train")  # else val would be called train
    tiny = section(tmp_path, folder={"val_share": 1e-9})
    assert "empty" in message_of(tiny, "val") and "data.folder.val_share" in message_of(tiny, "val")


def test_the_split_is_close_to_the_share_and_keeps_its_images_as_the_share_grows(tmp_path: Path) -> None:
    ids = [str(number) for number in range(4000)]
    parts = [{id for id in ids if in_val(id, share)} for share in (0.1, 0.3)]
    assert abs(len(parts[0]) - 400) < 80 and abs(len(parts[1]) - 1200) < 120
    assert parts[0] < parts[1]


def test_a_share_of_a_folder_that_has_splits_is_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path / "images/train", tmp_path / "masks/train", "a")
    assert "data.folder.val_share=null" in message_of(section(tmp_path, folder={"val_share": 0.5}))


def test_a_misspelt_split_is_answered_with_the_nearest(tmp_path: Path) -> None:
    write_pairs(tmp_path / "images", tmp_path / "masks", "a")
    (tmp_path / "valid.txt").write_text("a")
    assert "Did you mean valid?" in message_of(section(tmp_path), "vaild")
    write_pairs(tmp_path / "train/images", tmp_path / "train/masks", "a")
    assert "Did you mean train?" in message_of(section(tmp_path), "trian")


def test_other_folder_names_are_given_and_ambiguous_ones_are_an_error(tmp_path: Path) -> None:
    write_pairs(tmp_path / "fotos", tmp_path / "masken", "a")
    (tmp_path / "train.txt").write_text("a")
    message = message_of(section(tmp_path))
    assert "Folders there: fotos, masken" in message and "data.folder.images=" in message
    named = {"images": "fotos", "masks": "masken"}
    assert ids_of(section(tmp_path, folder=named), "train") == ["a"]
    write_pairs(tmp_path / "images", tmp_path / "masks", "a")
    write(tmp_path / "labels/a.png")
    message = message_of(section(tmp_path))
    assert str(tmp_path / "masks") in message and str(tmp_path / "labels") in message
    assert ids_of(section(tmp_path, folder={"masks": "labels"}), "train") == ["a"]


def test_images_and_masks_in_one_folder(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train", tmp_path / "train", "a", "b", mark="_mask")
    assert ids_of(section(tmp_path, folder={"images": ".", "masks": "."}), "train") == ["a", "b"]


def test_hidden_and_other_files_are_not_images(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train/images", tmp_path / "train/masks", "a")
    for name in (".DS_Store", "._a.jpg", "Thumbs.db", "notes.txt"):
        (tmp_path / "train/images" / name).write_text("x")
    assert ids_of(section(tmp_path), "train") == ["a"]
    for path in (tmp_path / "train/images").glob("a.*"):
        path.unlink()
    assert "empty" in message_of(section(tmp_path))


def test_a_folder_without_read_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(tmp_path / "train/images", tmp_path / "train/masks", "a")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    message = message_of(section(tmp_path))
    assert "cannot be read: Permission denied" in message and str(tmp_path) in message and "chmod" in message


def test_lists_may_hold_spaces_and_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    write_pairs(tmp_path / "images", tmp_path / "masks", "my cat", "b")
    (tmp_path / "train.txt").write_text("\ufeffmy cat\r\n\r\n  b \n", encoding="utf-8")
    assert ids_of(section(tmp_path), "train") == ["my cat", "b"]


# Masks


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\nc 1\n", ["a", "b", "c 1"]),  # no heading, no ending: the first is an image, too
        ("c 1\r\nb\r\na\r\n", ["c 1", "b", "a"]),
        ("image_id\nb\nc 1\n", ["b", "c 1"]),
        ("0\na\nb\n", ["a", "b"]),  # as pandas names a column without a name
        ("Unnamed: 0,Unnamed: 12\na,a\nb,b\n", ["a", "b"]),
        ("a,a\nb,b\n", ["a", "b"]),
        ("image,mask\na.jpg,a.png\n", ["a"]),
        ("a.jpg;a.png\nb.jpg;b.png\n", ["a", "b"]),
    ],
)
def test_a_csv_list_loses_no_image_to_its_heading(tmp_path: Path, text: str, expected: list[str]) -> None:
    write_pairs(tmp_path / "images", tmp_path / "masks", "a", "b", "c 1")
    (tmp_path / "train.csv").write_text(text)
    assert ids_of(section(tmp_path), "train") == expected


def test_a_missing_image_in_the_first_line_of_a_csv_list_is_named(tmp_path: Path) -> None:
    write_pairs(tmp_path / "images", tmp_path / "masks", "a", "b")
    (tmp_path / "train.csv").write_text("img_7\na\nb\n")
    assert "1 of 3 images is missing" in (message := message_of(section(tmp_path))) and "img_7" in message


def test_the_first_image_of_a_fold_in_a_csv_list_is_not_trained_on(tmp_path: Path) -> None:
    write_pairs(tmp_path / "images", tmp_path / "masks", "a", "b", "c")
    (tmp_path / "train.txt").write_text("a\nb\nc\n")
    (tmp_path / "fold.csv").write_text("a\nb\n")
    assert ids_of(section(tmp_path, fold=str(tmp_path / "fold.csv")), "train") == ["c"]


def test_colours_in_the_recipe_read_rgb_and_palette_masks(tmp_path: Path) -> None:
    classes = [{"name": "road", "colour": [128, 64, 128]}, {"name": "sky", "colour": [70, 130, 180]}]
    colours = np.array([[[128, 64, 128], [70, 130, 180], [0, 0, 0]]], np.uint8).repeat(H, axis=0)
    write(tmp_path / "train/images/a.jpg", np.zeros((H, 3, 3), np.uint8))
    mask = tmp_path / "train/masks/a.png"
    write(mask, colours)
    data = section(tmp_path, classes=classes, folder={"void_colours": [[0, 0, 0]]})
    dataset = open_split(data, "train")
    assert dataset[0].labels.tolist() == [[0, 1, 255]] * H
    assert dataset.class_names == ("road", "sky") and dataset.palette == ((128, 64, 128), (70, 130, 180))
    assert (dataset.stored_mask(0) == colours).all()
    palette = Image.fromarray(np.array([[7, 3, 0]] * H, np.uint8))
    by_id = {7: (128, 64, 128), 3: (70, 130, 180)}
    palette.putpalette([value for id in range(256) for value in by_id.get(id, (0, 0, 0))])
    palette.save(mask)
    assert dataset[0].labels.tolist() == [[0, 1, 255]] * H
    with pytest.raises(DataError, match="of no class in"):
        open_split(section(tmp_path, classes=classes), "train")[0]


def test_black_and_white_masks_need_values_binary(tmp_path: Path) -> None:
    for id in "abc":
        write(tmp_path / f"train/images/{id}.jpg")
        write(tmp_path / f"train/masks/{id}.png", np.array([[0] * 3 + [255] * 3] * H, np.uint8))
    two = ["background", "crack"]
    assert "data.folder.values=binary" in message_of(section(tmp_path, classes=two))
    dataset = open_split(section(tmp_path, classes=two, folder={"values": "binary"}), "train")
    assert dataset[0].labels.tolist() == dataset.labels(0).tolist() == [[0] * 3 + [1] * 3] * H
    (tmp_path / "train/masks/a.png").write_text("broken")
    assert "data.folder.values=binary" in message_of(section(tmp_path, classes=two))
    write(tmp_path / "train/masks/b.png", np.array([[0, 1, 255, 0, 0, 0]] * H, np.uint8))
    assert open_split(section(tmp_path, classes=two), "train")[1].labels[0].tolist() == [0, 1, 255, 0, 0, 0]
