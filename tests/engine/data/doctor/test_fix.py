"""The repaired copy: its contents, that the doctor finds no fault in it, and that the source is unchanged."""

import hashlib
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
    assert fix(tree, tmp_path / "mended") == ["1 masks took the ids of their colours"]
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
