"""Each fault, added to a data set without faults: the doctor reports it, and nothing else."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from engine.data import open_split
from engine.data.doctor import file_checks
from engine.data.doctor.findings import SEVERITIES
from engine.recipe.text import parse_yaml


def copy_image(tree, old: str, new: str, split: str, quality: int | None = None) -> None:
    """Copy the image and mask of one id to another id, in the list of `split`."""
    if quality:
        Image.open(tree.image(old)).save(tree.image(new), quality=quality)
    else:
        shutil.copy(tree.image(old), tree.image(new))
    shutil.copy(tree.mask(old), tree.mask(new))
    tree.write_list(split, [*tree.ids(split), new])


def contradict(tree) -> None:
    copy_image(tree, "train_0", "again", "train")
    tree.change_masks(lambda m: np.where(m == 20, 3, m).astype(np.uint8), ["again"])


def resize_both(tree, id: str, size: tuple[int, int]) -> None:
    tree.save_image(id, tree.photo(size))
    tree.change_masks(lambda m: np.asarray(Image.fromarray(m).resize(size[::-1], 0)), [id])


def without(class_id: int):
    return lambda m: np.where(m == class_id, 0, m).astype(np.uint8)


def shrink_class(labels: np.ndarray) -> np.ndarray:
    """Leaves 16 pixels of class 20 in each mask."""
    few = labels.copy()
    few[labels == 20] = 0
    y, x = np.argwhere(labels == 20)[0]
    few[y : y + 4, x : x + 4] = 20
    return few


def planted(form: type, value: float):
    """Masks of another pixel type, with a value that no id can be instead of class 5."""
    return lambda m: np.where(m == 5, np.array(value, form), m.astype(form))


def mostly_dog(labels: np.ndarray) -> np.ndarray:
    many = labels.copy()
    many[: len(labels) // 3] = 12
    return many


FAULTS = {  # name: (check, severity, files with the fault, function that adds it)
    "ids from 1": ("ids_from_one", "spoils", 12, lambda t: t.change_masks(
        lambda m: np.where(m == 255, 255, m + 1).astype(np.uint8))),
    "0 and 255": ("black_and_white", "spoils", 12, lambda t: t.change_masks(
        lambda m: np.where(m % 2, 255, 0).astype(np.uint8))),
    "colours": ("rgb_masks", "spoils", 12, lambda t: t.change_masks(t.colours)),
    "colours in one mask": ("rgb_masks", "spoils", 1, lambda t: t.change_masks(t.colours, ["val_1"])),
    "colours with alpha": ("rgb_masks", "spoils", 12, lambda t: t.change_masks(
        lambda m: np.dstack([t.colours(m), np.full_like(m, 255)]))),
    "swapped colours": ("bgr_masks", "spoils", 12, lambda t: t.change_masks(
        lambda m: np.ascontiguousarray(t.colours(m)[..., ::-1]))),
    "ids in three channels": ("rgb_masks", "spoils", 12, lambda t: t.change_masks(
        lambda m: np.stack([m] * 3, axis=2))),
    "other colours": ("unknown_colours", "spoils", 12, lambda t: t.change_masks(
        lambda m: np.random.default_rng(2).integers(1, 250, (256, 3), dtype=np.uint8)[m])),
    "16 bits": ("mask_type", "spoils", 12, lambda t: t.change_masks(lambda m: m.astype(np.uint16))),
    "a sorted palette": ("palette_order", "spoils", 1, lambda t: t.sort_palette("train_3")),
    "every palette sorted": ("palette_order", "spoils", 12, lambda t: [t.sort_palette(i) for i in t.ids()]),
    "smooth masks": ("rainbow_borders", "spoils", 12, lambda t: t.change_masks(t.smoothed)),
    "one smooth mask": ("rainbow_borders", "spoils", 1, lambda t: t.change_masks(t.smoothed, ["train_2"])),
    "unknown id": ("unknown_values", "spoils", 2, lambda t: t.change_masks(
        lambda m: np.where(m == 5, 77, m).astype(np.uint8), ["train_1", "val_2"])),
    "not a number": ("unknown_values", "spoils", 12, lambda t: t.change_masks(planted(np.float32, np.nan))),
    "below 0": ("unknown_values", "spoils", 12, lambda t: t.change_masks(planted(np.int32, -9999))),
    "a 16-bit maximum": ("unknown_values", "spoils", 12, lambda t: t.change_masks(
        planted(np.uint16, 65535))),
    "a fraction": ("unknown_values", "spoils", 12, lambda t: t.change_masks(planted(np.float32, 4.5))),
    "another size": ("size_mismatch", "spoils", 1, lambda t: t.change_masks(lambda m: m[:, :-1], ["val_0"])),
    "a truncated image": ("damaged", "spoils", 1, lambda t: t.cut(t.image("train_5"), 0.7)),
    "a truncated mask": ("damaged", "spoils", 1, lambda t: t.cut(t.mask("train_5"), 0.7)),
    "an empty image": ("damaged", "spoils", 1, lambda t: t.cut(t.image("val_3"), 0)),
    "text for an image": ("damaged", "spoils", 1, lambda t: t.image("val_3").write_text("<html>404</html>")),
    "a missing mask": ("split", "spoils", 0, lambda t: t.mask("val_3").unlink()),
    "an empty list": ("split", "spoils", 0, lambda t: t.write_list("val", [])),
    "a void mask": ("all_void", "hurts", 1, lambda t: t.change_masks(
        lambda m: np.full_like(m, 255), ["train_4"])),
    "an empty mask": ("only_background", "note", 1, lambda t: t.change_masks(np.zeros_like, ["train_4"])),
    "a class never trained": ("never_trained", "hurts", 4, lambda t: t.change_masks(
        without(20), t.ids("train"))),
    "a class never scored": ("never_scored", "note", 0, lambda t: t.change_masks(without(20), t.ids("val"))),
    "a class in no split": ("absent_classes", "note", 0, lambda t: t.change_masks(without(20))),
    "a rare class": ("rare_classes", "hurts", 0, lambda t: t.change_masks(shrink_class)),
    "shares that differ": ("class_shares", "hurts", 0, lambda t: t.change_masks(mostly_dog, t.ids("val"))),
    "a leak": ("leak", "hurts", 1, lambda t: copy_image(t, "train_0", "leaked", "val")),
    "a leak saved again": ("leak", "hurts", 1, lambda t: copy_image(t, "train_0", "leaked", "val", 40)),
    "an id in both lists": ("leak", "hurts", 1, lambda t: t.write_list("val", [*t.ids("val"), "train_0"])),
    "a repeat": ("repeats", "note", 1, lambda t: copy_image(t, "train_0", "again", "train")),
    "a repeat saved again": ("repeats", "note", 1, lambda t: copy_image(t, "train_0", "again", "train", 60)),
    "a contradiction": ("contradiction", "hurts", 1, contradict),
    "a grey image": ("grey_images", "note", 1, lambda t: t.save_image("val_1", t.photo()[..., 0])),
    "an image with alpha": ("alpha_images", "note", 1, lambda t: t.save_image(
        "val_1", np.dstack([t.photo(), t.photo()[..., 0]]), format="PNG")),
    "a tiny image": ("tiny_images", "note", 1, lambda t: resize_both(t, "val_1", (30, 42))),
    "a long image": ("long_images", "note", 1, lambda t: resize_both(t, "val_1", (63, 300))),
}  # fmt: skip


def test_a_tree_without_a_fault_has_no_finding(tree) -> None:
    report = tree.examine().report
    assert report.findings == []
    assert report.num_samples == {"train": 8, "val": 4}
    assert report.skipped == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_gives_its_finding_and_no_other(tree, name: str) -> None:
    check, severity, num_files, plant = FAULTS[name]
    plant(tree)
    findings = tree.findings()
    assert [(found.check, found.severity) for found in findings] == [(check, severity)]
    (found,) = findings
    assert found.num_files == num_files
    assert len(found.where) == min(5, num_files)
    assert all(found.what and found.why and found.remedy for found in findings)


RECIPE_LINE = re.compile(r"(?<![\w.])data\.([a-z_]+(?:\.[a-z_]+)*)=([a-z0-9]+)\b")


@pytest.mark.parametrize("name", FAULTS)
def test_a_remedy_is_not_so_already(tree, name: str) -> None:
    """With each recipe line that it names in the recipe, the remedy no longer names it."""
    FAULTS[name][-1](tree)
    for start in ({}, {"sampler": "uniform"}):
        for key, value in (
            line for found in tree.findings(**start) for line in RECIPE_LINE.findall(found.remedy)
        ):
            if "." in key:
                continue  # of a folder
            followed = tree.findings(**{**start, key: int(value) if value.isdigit() else value})
            assert (key, value) not in [line for f in followed for line in RECIPE_LINE.findall(f.remedy)]


def test_the_file_with_the_fault_is_named(tree) -> None:
    tree.change_masks(lambda m: np.where(m == 5, 77, m).astype(np.uint8), ["train_1", "val_2"])
    (found,) = tree.findings()
    assert found.where == (str(tree.mask("train_1")), str(tree.mask("val_2")))
    assert "77 (840 pixels)" in found.what  # two fields of 30 x 14 px


@pytest.mark.parametrize(
    ("form", "value", "shown"),
    [
        (np.float32, np.nan, "nan"),
        (np.float32, 4.5, "4.5"),
        (np.int32, -9999, "-9999"),
        (np.uint16, 300, "300"),
    ],
)
def test_a_value_that_no_id_can_be_is_named_and_what_is_suggested_reads_it(tree, form, value, shown) -> None:
    meant = tree.read_mask("val_0")
    tree.change_masks(planted(form, value))
    (found,) = tree.findings()
    assert f"{shown} (5,040 pixels)" in found.what
    ids = parse_yaml(re.search(r"data\.ids=({.*?})", found.remedy)[1], "remedy").values
    assert tree.findings(ids=ids)[0].check == "absent_classes"
    labels = open_split(tree.section(ids=ids), "val").labels(0).numpy()
    assert (labels == np.where(meant == 5, 255, meant)).all()


def test_a_value_that_data_ids_does_not_name_is_added_to_it(tree) -> None:
    tree.change_masks(lambda m: np.where(m == 5, 77, m).astype(np.uint8))
    ids = {str(id): id for id in range(21)} | {"255": "void"}
    (found,) = tree.findings(ids=ids)
    assert found.check == "unknown_values" and "77: void, 0: 0" in found.remedy


def test_a_class_that_a_geotiff_declares_as_no_data_is_named(tree) -> None:
    tag = TiffImagePlugin.ImageFileDirectory_v2()
    tag[42113], root = "0", tree.root.parent / "geo"
    for split in ("train", "val"):
        for id in tree.ids(split):
            images, masks = (root / split / name for name in ("images", "masks"))
            for folder in (images, masks):
                folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(tree.image(id), images)
            Image.fromarray(tree.read_mask(id)).save(masks / f"{id}.tif", tiffinfo=tag)
    values = {"root": str(root), "format": "folder", "classes": [f"class {id}" for id in range(21)]}
    (found,) = tree.findings(**values)
    assert found.check == "nodata" and "12 of 12 masks declare 0" in found.what
    ids = parse_yaml(re.search(r"data\.ids=({.*?})", found.remedy)[1], "remedy").values
    assert ids.pop("0") == "void" and "nodata" not in {
        f.check for f in tree.findings(**values, ids={**ids, "0": 0})
    }


def test_two_faults_give_two_findings_the_worst_first(tree) -> None:
    tree.save_image("val_1", tree.photo()[..., 0])
    tree.cut(tree.image("train_5"), 0.5)
    tree.change_masks(lambda m: m[:-1], ["train_2"])
    checks = [found.check for found in tree.findings()]
    assert sorted(checks[:2]) == ["damaged", "size_mismatch"] and checks[2:] == ["grey_images"]
    ranks = [SEVERITIES.index(found.severity) for found in tree.findings()]
    assert ranks == sorted(ranks)


def test_a_data_set_of_grayscale_images_has_no_finding(tree) -> None:
    for id in tree.ids():
        tree.save_image(id, tree.photo()[..., 0])
    assert tree.findings() == []


def test_a_split_whose_masks_are_all_void_spoils_the_training(tree) -> None:
    tree.change_masks(lambda m: np.full_like(m, 255), tree.ids("train")[:-1])
    (some,) = [found for found in tree.findings() if found.check == "all_void"]
    assert some.severity == "hurts"
    tree.change_masks(lambda m: np.full_like(m, 255), tree.ids("train")[-1:])
    (all_of_train,) = [found for found in tree.findings() if found.check == "all_void"]
    assert (all_of_train.severity, all_of_train.num_files) == ("spoils", 8)
    assert "all of train" in all_of_train.what


def test_a_huge_image_is_named(tree, monkeypatch) -> None:
    monkeypatch.setattr(file_checks, "HUGE_PX", 100 * 120)
    resize_both(tree, "val_1", (101, 120))
    (found,) = tree.findings()
    assert (found.check, found.num_files) == ("huge_images", 1)


def test_a_mask_of_either_orientation_fits_a_rotated_photo(tree) -> None:
    """EXIF orientation 6: 112 x 96 stored pixels are shown as 96 x 112; the mask has either size."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.ascontiguousarray(np.rot90(tree.photo()))
    tree.save_image("train_0", turned, exif=exif)
    assert tree.findings() == []
    tree.change_masks(lambda m: np.ascontiguousarray(np.rot90(m)), ["train_0"])
    assert tree.findings() == []


def test_a_split_that_cannot_be_opened_does_not_stop_the_other_from_being_examined(tree) -> None:
    tree.mask("val_3").unlink()
    tree.cut(tree.image("train_5"), 0.5)
    checks = [found.check for found in tree.findings()]
    assert sorted(checks) == ["damaged", "split"]


def test_each_split_that_cannot_be_opened_is_one_finding(tree) -> None:
    findings = tree.findings(root=str(tree.root / "nowhere"))
    assert [found.check for found in findings] == ["split", "split"]
    assert "data.root" in findings[0].what


def test_training_and_scoring_on_the_same_split_is_a_leak(tree) -> None:
    (found,) = tree.findings(val="train")
    assert (found.check, found.severity) == ("leak", "hurts")


def test_the_split_of_data_select_is_examined_too(tree) -> None:
    tree.write_list("choose", ["train_7"])
    assert [found.check for found in tree.findings(select="choose")] == ["leak"]


def test_choosing_on_the_images_that_are_trained_on_names_its_own_key(tree) -> None:
    (found,) = tree.findings(select="train")
    assert (found.check, found.remedy) == ("leak", "data.select=<a split of other images>")


def test_choosing_on_images_that_are_scored_is_a_leak(tree) -> None:
    first, *others = tree.ids("val")
    tree.write_list("choose", [first])
    (found,) = tree.findings(select="choose")
    num = f"1 of {1 + len(others)} images of val is also in choose"
    assert found.check == "leak" and found.what.startswith(num) and "chosen" in found.why
    assert tree.findings(select="val") == []  # as without data.select


def test_palettes_that_disagree_are_found_without_a_class_table(tree) -> None:
    names = [f"class {id}" for id in range(21)]
    assert tree.findings(classes=names) == []
    tree.sort_palette("train_3")
    (found,) = [f for f in tree.findings(classes=names) if f.check != "unknown_values"]
    assert (found.check, found.severity) == ("palette_order", "spoils")


def test_palettes_of_other_colours_give_no_finding(tree) -> None:
    other = np.random.default_rng(3).integers(0, 256, 768).tolist()
    for id in tree.ids():
        tree.save_mask(id, tree.read_mask(id), other)
    assert tree.findings() == []


def test_a_palette_without_colours_for_some_ids_is_not_compared(tree) -> None:
    """Tools that set five colours fill the others with black."""
    for id in tree.ids()[:6]:
        tree.save_mask(id, tree.read_mask(id), tree.palette[:15] + [0] * 753)
    assert tree.findings() == []


def test_interpolated_colour_masks_have_both_faults(tree) -> None:
    tree.change_masks(lambda m: tree.smoothed(tree.colours(m)))
    assert [found.check for found in tree.findings()] == ["rgb_masks", "rainbow_borders"]


def test_masks_saved_as_jpeg_have_interpolated_borders(tree) -> None:
    """Ids far apart, saved as JPEG: ringing next to every border."""
    for id in tree.ids():
        Image.fromarray(tree.read_mask(id)).save(tree.mask(id), format="JPEG", quality=90)
    assert "rainbow_borders" in [found.check for found in tree.findings()]


def test_a_class_one_pixel_wide_is_not_an_interpolated_border(tree) -> None:
    """Thin structures of a class between two others, such as a pole in front of two walls."""

    def with_poles(labels: np.ndarray) -> np.ndarray:
        labels = np.zeros_like(labels)
        labels[:, 56:] = 20
        labels[::8] = np.arange(21).repeat(6)[:112]  # every class in every mask
        labels[10:90, 56] = 10
        return labels

    tree.change_masks(with_poles)
    assert "rainbow_borders" not in [found.check for found in tree.findings()]


def test_each_mask_value_has_a_name_and_shares(tree) -> None:
    values = {row["value"]: row for row in tree.examine().report.values}
    assert list(values) == [*range(21), 255]
    assert values[15]["name"] == "person" and values[255]["name"] == "void"
    assert values[15]["masks"] == 12
    assert values[15]["share"]["val"] == pytest.approx(30 * 14 / (96 * 112))
    assert sum(row["share"]["train"] for row in values.values()) == pytest.approx(1)


def save_pages(tree, pages: list[np.ndarray], file, **options) -> None:
    first, *others = map(Image.fromarray, pages)
    first.save(file, "TIFF", save_all=True, append_images=others, **options)


def test_pages_after_the_first_are_named(tree) -> None:
    """A stack of slices and one of its masks; a photo with a smaller copy of itself is no stack."""
    root = tree.root.parent / "stack"
    for split in ("train", "val"):
        for id in tree.ids(split):
            images, masks = (root / split / name for name in ("images", "masks"))
            for folder in (images, masks):
                folder.mkdir(parents=True, exist_ok=True)
            photo = np.array(Image.open(tree.image(id)))
            save_pages(tree, [photo, photo[::2, ::2]], images / f"{id}.tif")
            shutil.copy(tree.mask(id), masks)
    values = {"root": str(root), "format": "folder", "classes": [f"class {id}" for id in range(21)]}
    assert tree.findings(**values) == []
    file, mask = root / "val/images/val_0.tif", root / "val/masks/val_0.tif"
    save_pages(tree, [np.array(Image.open(file))] * 3, file)
    labels = tree.read_mask("val_0")
    (root / "val/masks/val_0.png").unlink()
    save_pages(tree, [labels] * 3, mask)
    findings = tree.findings(**values)
    assert [(found.check, found.severity, found.where) for found in findings] == [
        ("pages", "hurts", (str(file),)),
        ("pages", "hurts", (str(mask),)),
    ]
    assert all("the first of these 3" in found.what for found in findings)
    assert "data.bands=3" in findings[0].remedy and "bands" not in findings[1].remedy


def test_masks_of_one_class_alone_are_named(tree) -> None:
    """As where the labels are in the transparency of white masks, which is not read."""
    for id in tree.ids():
        alpha = np.where(tree.read_mask(id) % 2, 255, 0).astype(np.uint8)
        Image.fromarray(np.dstack([np.full((*alpha.shape, 3), 255, np.uint8), alpha])).save(tree.mask(id))
    values = {"format": "folder", "classes": ["rest", "odd"], "folder": {"values": "binary"}}
    folders = {"images": "JPEGImages", "masks": "SegmentationClass"}
    values["folder"] |= folders
    (found,) = [found for found in tree.findings(**values) if found.check == "one_class"]
    assert found.severity == "hurts" and "odd is the only class" in found.what
    assert "transparency" in found.remedy


def test_real_photos_have_no_false_finding(shared_voc, tree) -> None:
    """As the README of that data says: four classes in no image; bird, boat and bus in no image of val.

    363 masks of trainaug are of SBD, which has no void borders.
    """
    report = tree.examine(root=str(shared_voc), train="trainaug").report
    checks = {found.check: found.what for found in report.findings}
    assert set(checks) == {"rare_classes", "never_scored", "absent_classes", "void_borders"}
    assert "(aeroplane, bicycle, motorbike, train)" in checks["absent_classes"]
    assert "(bird, boat, bus)" in checks["never_scored"]
    assert checks["void_borders"].startswith("363 of 797 masks have no void around the objects")
    assert report.num_samples == {"trainaug": 800, "val": 223}
