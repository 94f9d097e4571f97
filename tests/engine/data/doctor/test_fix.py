"""The repaired copy: its contents, that the doctor finds no fault in it, and that the source is unchanged."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data import DataError, open_split
from engine.data.doctor.fix import write_fixed_copy

IDS_FROM_COLOURS = {
    "colours": lambda tree: tree.change_masks(tree.colours),
    "swapped colours": lambda tree: tree.change_masks(
        lambda m: np.ascontiguousarray(tree.colours(m)[..., ::-1])
    ),
    "three channels": lambda tree: tree.change_masks(lambda m: np.stack([m] * 3, axis=2)),
    "16 bits": lambda tree: tree.change_masks(lambda m: m.astype(np.uint16)),
    "from 1": lambda tree: tree.change_masks(lambda m: np.where(m == 255, 255, m + 1).astype(np.uint8)),
    "palette": lambda tree: [tree.sort_palette(id) for id in tree.ids()],
}


def fix(tree, out: Path, **values) -> list[str]:
    found = tree.examine(**values)
    return write_fixed_copy(found.facts, found.meaning, tree.root, out, lambda done, total: None).done


def state_of(root: Path) -> dict[str, str]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def masks_of(tree, root: Path) -> dict[str, np.ndarray]:
    return {id: np.array(Image.open(root / "SegmentationClass" / f"{id}.png")) for id in tree.ids()}


@pytest.mark.parametrize("name", IDS_FROM_COLOURS)
def test_the_copy_has_the_intended_ids(tree, tmp_path, name) -> None:
    meant = masks_of(tree, tree.root)
    IDS_FROM_COLOURS[name](tree)
    before = state_of(tree.root)
    (line,) = fix(tree, tmp_path / "mended")
    assert line.startswith("12 masks")
    assert state_of(tree.root) == before
    found = masks_of(tree, tmp_path / "mended")
    assert all((found[id] == meant[id]).all() for id in meant)
    assert tree.findings(root=str(tmp_path / "mended")) == []
    images = {name: digest for name, digest in before.items() if name.startswith(("JPEG", "ImageSets"))}
    assert images.items() <= state_of(tmp_path / "mended").items()


def test_black_and_white_becomes_0_and_1(tree, tmp_path) -> None:
    tree.change_masks(lambda m: np.where(m % 2, 255, 0).astype(np.uint8))
    source = masks_of(tree, tree.root)
    fix(tree, tmp_path / "mended")
    for id, mask in masks_of(tree, tmp_path / "mended").items():
        assert (mask == (source[id] == 255)).all()


@pytest.mark.parametrize("in_colours", [False, True])
def test_interpolated_borders_become_void_and_nothing_else_changes(tree, tmp_path, in_colours) -> None:
    meant = masks_of(tree, tree.root)
    tree.change_masks(lambda m: tree.smoothed(tree.colours(m) if in_colours else m))
    fix(tree, tmp_path / "mended")
    assert tree.findings(root=str(tmp_path / "mended")) == []
    for id, mask in masks_of(tree, tmp_path / "mended").items():
        inside = mask != 255
        assert (mask[inside] == meant[id][inside]).all()
        assert inside.mean() >= 24 * 8 / (32 * 16)  # a field loses at most 4 px per side


def test_one_faulty_mask_leaves_the_others_byte_for_byte(tree, tmp_path) -> None:
    tree.sort_palette("train_3")
    before = state_of(tree.root)
    assert fix(tree, tmp_path / "mended") == ["1 mask took the ids of the colours"]
    after = state_of(tmp_path / "mended")
    assert {name for name in before if before[name] != after[name]} == {"SegmentationClass/train_3.png"}


def test_damaged_samples_are_left_out_of_the_lists_too(tree, tmp_path) -> None:
    tree.cut(tree.image("train_5"), 0.5)
    tree.change_masks(lambda m: m[:-1], ["val_2"])
    (line,) = fix(tree, tmp_path / "mended")
    assert line.startswith("2 samples left out")
    section = tree.section(root=str(tmp_path / "mended"))
    assert open_split(section, "train").ids == [f"train_{i}" for i in range(8) if i != 5]
    assert open_split(section, "val").ids == ["val_0", "val_1", "val_3"]
    assert tree.findings(root=str(tmp_path / "mended")) == []


def test_masks_of_the_shape_of_their_images_are_resized_and_others_left_out_by_name(tree, tmp_path) -> None:
    meant = masks_of(tree, tree.root)
    tree.change_masks(lambda m: m[::2, ::2], ["train_1", "val_0"])
    tree.change_masks(lambda m: m[:-8], ["train_2"])
    lines = fix(tree, tmp_path / "mended")
    assert lines[0] == "2 masks resized to the image with nearest neighbour"
    assert "1 sample left out" in lines[1] and "train_2.png" in lines[1]
    reasons = (tmp_path / "mended/left_out.txt").read_text()
    assert "train_2.png: the mask is 112x88 px, the image 112x96" in reasons
    found = np.array(Image.open(tmp_path / "mended/SegmentationClass/train_1.png"))
    assert (found == meant["train_1"][::2, ::2].repeat(2, axis=0).repeat(2, axis=1)).all()


def test_a_mask_drawn_on_the_stored_pixels_of_a_rotated_photo_is_resized_to_those(tree, tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # 112 x 96 stored pixels are shown as 96 x 112
    tree.save_image("train_0", np.ascontiguousarray(np.rot90(tree.photo())), exif=exif)
    tree.change_masks(lambda m: np.ascontiguousarray(np.rot90(m))[::2, ::2], ["train_0"])
    fix(tree, tmp_path / "mended")
    assert Image.open(tmp_path / "mended/SegmentationClass/train_0.png").size == (96, 112)
    assert tree.findings(root=str(tmp_path / "mended")) == []


def test_what_data_ids_says_is_written(tree, tmp_path) -> None:
    meant = masks_of(tree, tree.root)
    tree.change_masks(lambda m: np.where(m == 255, np.nan, 10.0 * m).astype(np.float32))
    ids = {str(10 * id): id for id in range(21)} | {"nan": "void"}
    found = tree.examine(ids=ids)
    copy = write_fixed_copy(found.facts, found.meaning, tree.root, tmp_path / "out", lambda done, total: None)
    assert copy.changes == {"data.root": str(tmp_path / "out"), "data.ids": None}
    assert all((mask == meant[id]).all() for id, mask in masks_of(tree, tmp_path / "out").items())
    tree.change_masks(lambda m: np.where(np.isnan(m), 7, m).astype(np.float32), ["val_2"])
    with pytest.raises(DataError, match=r"1 mask holds values that have none: .*val_2"):
        fix(tree, tmp_path / "again", ids=ids)


def test_16_bit_ids_that_start_at_1_become_8_bit_ids_from_0(tree, tmp_path) -> None:
    meant = masks_of(tree, tree.root)
    tree.change_masks(lambda m: np.where(m == 255, 255, m + 1).astype(np.uint16))
    fix(tree, tmp_path / "mended")
    assert all((mask == meant[id]).all() for id, mask in masks_of(tree, tmp_path / "mended").items())


LISTS = {  # how it is written -> (name, line, encoding, end of a line)
    "endings": ("train.txt", "{}.jpg", "utf-8", "\n"),
    "BOM": ("train.txt", "{}", "utf-8-sig", "\n"),
    "UTF-16": ("lists/train.txt", "{}", "utf-16", "\r\n"),
    "pairs": ("train.txt", "JPEGImages/{0}.jpg SegmentationClass/{0}.png", "utf-8", "\r\n"),
    "CSV": ("splits/train.csv", "{0}.jpg,{0}.png", "utf-8", "\n"),
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_any_kind_lose_the_samples_that_are_left_out(tree, tmp_path, kind) -> None:
    name, line, encoding, end = LISTS[kind]
    for split in ("train", "val"):
        path = tree.root / name.replace("train", split)
        path.parent.mkdir(exist_ok=True)
        lines = ["image,mask"] * (kind == "CSV") + [line.format(id) for id in tree.ids(split)]
        path.write_bytes((end.join(lines) + end).encode(encoding))
    wanted = tree.ids("train")
    shutil.rmtree(tree.root / "ImageSets")
    tree.cut(tree.image("train_5"), 0.5)
    section = {"format": "folder", "classes": [f"class {id}" for id in range(21)]}
    lines = fix(tree, tmp_path / "mended", **section)
    assert len(lines) == 1 and "train_5" in lines[0]
    section["root"] = str(tmp_path / "mended")
    assert open_split(tree.section(**section), "train").ids == [id for id in wanted if id != "train_5"]
    assert tree.findings(**section) == []


def test_an_output_folder_that_is_not_empty_is_refused(tree, tmp_path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "file").write_text("mine")
    with pytest.raises(DataError, match="nothing is overwritten"):
        fix(tree, out)
    assert state_of(out) == {"file": hashlib.sha256(b"mine").hexdigest()}


@pytest.mark.parametrize("below", ["", "mended", "a/b"])
def test_the_source_as_output_folder_is_refused(tree, below) -> None:
    before = state_of(tree.root)
    with pytest.raises(DataError, match="nothing is overwritten|inside the source"):
        fix(tree, tree.root / below)
    assert state_of(tree.root) == before


def test_a_link_into_the_source_is_refused(tree, tmp_path) -> None:
    (tmp_path / "link").symlink_to(tree.root)
    with pytest.raises(DataError, match="inside the source"):
        fix(tree, tmp_path / "link" / "mended")


def test_a_copy_that_fails_leaves_no_files(tree, tmp_path) -> None:
    def fail(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    found = tree.examine()
    with pytest.raises(KeyboardInterrupt):
        write_fixed_copy(found.facts, found.meaning, tree.root, tmp_path / "out" / "mended", fail)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_split_that_cannot_be_opened_is_refused(tree, tmp_path) -> None:
    tree.mask("val_1").unlink()
    with pytest.raises(DataError, match="val_1"):
        fix(tree, tmp_path / "mended")
    assert not (tmp_path / "mended").exists()


def test_drawn_scenes_have_no_files_to_copy(tree, tmp_path) -> None:
    scenes = {"train_samples": 2, "val_samples": 2, "size": 32}
    with pytest.raises(DataError, match="has no files"):
        fix(tree, tmp_path / "x", format="synthetic", root=None, synthetic=scenes)
