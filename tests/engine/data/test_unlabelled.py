"""Images without masks: where they are found, the views of them, and what the doctor says of them."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.data import DataError
from engine.data.batches import UnlabelledViews
from engine.data.doctor import list_samples_of, report_on
from engine.data.options import Augment, Data, SmallerCrop, Unlabelled
from engine.data.unlabelled import UnlabelledBatches, num_unlabelled, open_unlabelled

CPU = torch.device("cpu")
SIDE = 32
STILL = Augment(
    crop=SIDE,
    scale=[1.0, 1.0],
    rotate_deg=0.0,
    flip=0.0,
    brightness=0.3,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
)  # its colours are those of labelled images
FEW = {"views": 2, "cutmix": 1.0, "blur": 0.0}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Seven images, in two folders; number i is (10 i, 20 i, 30 i) everywhere, and one is not square."""
    folder = tmp_path / "photos"
    for number in range(7):
        path = folder / ("a" if number < 4 else "b") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (SIDE, SIDE // 2) if number == 6 else (SIDE, SIDE)
        Image.new("RGB", size, (10 * number, 20 * number, 30 * number)).save(path)
    return folder


def section(**unlabelled: Any) -> Data:
    return Data(unlabelled=Unlabelled(**unlabelled))


def views(
    photos: Path, start: int, number: int, rank: int = 0, world: int = 1, augment: Augment = STILL
) -> list[UnlabelledViews]:
    data = section(root=str(photos), **FEW)
    batches = UnlabelledBatches(open_unlabelled(data), data.unlabelled, augment, 3, 4, CPU, rank, world, 0)
    return list(islice(batches.starting_at(start), number))


def test_images_are_found_in_sub_folders_and_have_a_blank_label_map(photos: Path) -> None:
    dataset = open_unlabelled(section(root=str(photos)))
    assert dataset.ids == [f"{'a' if number < 4 else 'b'}/{number}.png" for number in range(7)]
    assert dataset[6].labels.shape == (SIDE // 2, SIDE) and not dataset[6].labels.any()
    void_is_0 = Data(unlabelled=Unlabelled(root=str(photos)), ignore_index=0)
    assert (open_unlabelled(void_is_0)[0].labels == 1).all()


def test_all_views_of_an_update_have_its_crop(photos: Path) -> None:
    smaller = STILL.model_copy(update={"progressive": [SmallerCrop(crop=16, until=1)]})
    early, late = views(photos, 0, 2, augment=smaller)
    assert early.weak.shape[-1] == early.inside.shape[-1] == 16 and late.weak.shape[-1] == SIDE
    for images, pasted in early.strong:
        assert images.shape[-1] == pasted.shape[-1] == 16
    (again,) = views(photos, 1, 1)
    assert torch.equal(again.weak, late.weak) and torch.equal(again.strong[0][0], late.strong[0][0])


def test_a_split_of_voc_needs_no_masks(voc_folder: Path) -> None:
    lists = voc_folder / "ImageSets/Segmentation"
    (lists / "rest.txt").write_text("rest_1\nrest_2\n")
    for name in ("rest_1", "rest_2"):
        Image.new("RGB", (40, 30)).save(voc_folder / f"JPEGImages/{name}.jpg")
    dataset = open_unlabelled(Data(root=str(voc_folder), unlabelled=Unlabelled(split="rest")))
    assert dataset.ids == ["rest_1", "rest_2"] and dataset.sizes() == [(30, 40)] * 2


@pytest.mark.parametrize(
    ("unlabelled", "said"),
    [
        ({"root": "nowhere"}, r"data\.unlabelled\.root: no folder nowhere"),
        ({"split": "rest"}, r"split=rest: .*rest\.txt"),
        ({"split": "empty"}, "split=empty: Split 'empty' is empty"),
    ],
)
def test_what_is_not_there_is_named(voc_folder: Path, unlabelled: dict[str, str], said: str) -> None:
    (voc_folder / "ImageSets/Segmentation/empty.txt").write_text("")
    with pytest.raises(DataError, match=said):
        open_unlabelled(Data(root=str(voc_folder), unlabelled=Unlabelled(**unlabelled)))


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image in .*data\.unlabelled=null"):
        open_unlabelled(section(root=str(tmp_path)))


def test_the_weak_view_has_the_colours_of_the_image_and_a_strong_one_others(photos: Path) -> None:
    [first] = views(photos, 0, 1)
    assert first.weak.shape == (4, 3, SIDE, SIDE) and len(first.strong) == 2
    for image, inside in zip(first.weak, first.inside, strict=True):
        colour = image[:, inside].median(dim=1).values
        torch.testing.assert_close(colour, colour[0] * torch.tensor([1.0, 2.0, 3.0]))
        assert (image[:, ~inside] == 0).float().mean() > 0.9 or inside.all()  # a border between both
    assert any((strong != first.weak).any() for strong, _ in first.strong)
    assert (first.strong[0][0] != first.strong[1][0]).any()


def test_a_strong_view_shows_its_partner_inside_a_box(photos: Path) -> None:
    """Outside all boxes, a view is a function of its own image; inside, of the partner, half the batch on."""
    [first] = views(photos, 0, 1)
    for strong, pasted in first.strong:
        assert pasted.any() and not pasted.all()
        for own in range(4):
            partner = (own + 2) % 4
            for row, where in ((own, ~pasted[own]), (partner, pasted[own])):
                shown = strong[own][:, where & first.inside[row]]
                source = strong[row][:, ~pasted[row] & first.inside[row]]
                if shown.numel() and source.numel():
                    torch.testing.assert_close(shown.median(dim=1).values, source.median(dim=1).values)


def test_views_replay_nothing_and_are_those_of_one_process(photos: Path) -> None:
    whole = views(photos, 0, 4)
    assert_equal(views(photos, 3, 1)[0], whole[3], slice(None))
    for rank in (0, 1):
        assert_equal(views(photos, 2, 1, rank, 2)[0], whole[2], slice(rank, None, 2))


def assert_equal(part: UnlabelledViews, whole: UnlabelledViews, rows: slice) -> None:
    assert torch.equal(part.weak, whole.weak[rows]) and torch.equal(part.inside, whole.inside[rows])
    for (images, pasted), (all_images, all_pasted) in zip(part.strong, whole.strong, strict=True):
        assert torch.equal(images, all_images[rows]) and torch.equal(pasted, all_pasted[rows])


def test_a_split_of_several_sets_is_that_of_the_first(tmp_path: Path) -> None:
    for name, number in (("one", 2), ("two", 3)):
        for place in range(number):
            for folder, mode in (("images", "RGB"), ("masks", "L")):
                path = tmp_path / name / "more" / folder / f"{place}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new(mode, (SIDE, SIDE)).save(path)
    common = {"format": "folder", "classes": ["a", "b"]}
    one, two = ({**common, "root": str(tmp_path / name)} for name in ("one", "two"))
    data = Data(**one, also=[{**two, "val": None}], unlabelled={"split": "more"})
    assert open_unlabelled(data).ids == ["0", "1"]


@pytest.mark.parametrize(
    ("ratio", "world", "nearest"),
    [(0.4, 1, "0.5"), (0.5, 2, None), (0.5, 4, "1"), (1.1, 1, "1"), (0.0005, 1, "0.25")],
)
def test_images_are_paired_within_each_process(ratio: float, world: int, nearest: str | None) -> None:
    options = Unlabelled(root="x", ratio=ratio)
    if nearest is None:
        assert num_unlabelled(options, 8, world) == 4
        return
    with pytest.raises(DataError, match=rf"data\.unlabelled\.ratio={nearest}$"):
        num_unlabelled(options, 8, world)
    assert num_unlabelled(Unlabelled(root="x", ratio=float(nearest)), 8, world)


@pytest.mark.parametrize("batch", [3, 6, 7, 12])
def test_the_ratio_that_is_suggested_is_taken(batch: int) -> None:
    """Although it is rounded: two thirds are shown as 0.666667."""
    with pytest.raises(DataError) as error:
        num_unlabelled(Unlabelled(root="x", ratio=0.3), batch, 1)
    suggested = float(str(error.value).rpartition("=")[2])
    assert num_unlabelled(Unlabelled(root="x", ratio=suggested), batch, 1) % 2 == 0


def test_the_doctor_reads_each_and_names_those_that_are_scored(voc_folder: Path, photos: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"no image")
    copied = photos / "copy.jpg"
    copied.write_bytes((voc_folder / "JPEGImages/val_000000.jpg").read_bytes())
    data = Data(root=str(voc_folder), train="train", unlabelled=Unlabelled(root=str(photos)))
    report = report_on(list_samples_of(data), lambda done, total: None)
    assert report.num_unlabelled == 9
    [damaged] = [found for found in report.findings if found.check == "damaged"]
    assert damaged.severity == "spoils" and damaged.where == (str(photos / "broken.jpg"),)
    [leak] = [f for f in report.findings if f.check == "leak" and "unlabelled" in f.what]
    assert leak.where == ("copy.jpg",) and "also in val" in leak.what
    assert np.isfinite(report.divergence["val"])


def test_the_doctor_names_images_that_have_masks_and_the_masks(voc_folder: Path, photos: Path) -> None:
    for number, path in enumerate(sorted((voc_folder / "JPEGImages").iterdir())):
        with Image.open(path) as image:  # in the folder some are equal
            width, height = image.size
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    lists = voc_folder / "ImageSets/Segmentation"
    trained, scored = ((lists / f"{name}.txt").read_text().split() for name in ("train", "val"))
    (lists / "both.txt").write_text("\n".join([*trained[:2], *scored[:1]]))

    def found(**where: str) -> dict[str, tuple[str, str]]:
        data = Data(root=str(voc_folder), train="train", unlabelled=Unlabelled(**where))
        report = report_on(list_samples_of(data), lambda done, total: None)
        return {f.check: (f.severity, f.what) for f in report.findings if "unlabelled" in f.what}

    one = found(split="both")
    assert one["labelled"] == ("hurts", "2 of 3 unlabelled images are also in train")
    assert one["leak"] == ("hurts", "1 of 3 unlabelled images is also in val")
    assert found(split="train") == {"labelled": ("spoils", "6 of 6 unlabelled images are also in train")}
    whole = found(root=str(voc_folder))  # the masks are there, too
    assert whole["masks_as_images"] == ("spoils", "10 of 20 unlabelled images are masks of the data")
    assert "masks_as_images" not in found(root=str(voc_folder / "JPEGImages"))
    assert found(root=str(photos)) == {}


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_the_doctor_refuses_a_folder_of_which_no_image_can_be_read(
    voc_folder: Path, tmp_path: Path, on_error: str
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_text("no image")
    (broken / "b.png").symlink_to(tmp_path / "nowhere.png")
    unlabelled = Unlabelled(root=str(broken))
    data = Data(root=str(voc_folder), train="train", unlabelled=unlabelled, on_error=on_error)
    report = report_on(list_samples_of(data), lambda done, total: None)
    [damaged] = [found for found in report.findings if found.check == "damaged"]
    assert damaged.severity == "spoils" and damaged.what.startswith("2 unlabelled images")
    assert damaged.remedy.endswith("data.unlabelled=null") and "data.on_error" not in damaged.what
