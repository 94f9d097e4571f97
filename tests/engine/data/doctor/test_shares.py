"""Remedies where data.folder.val_share makes the splits: they work, and speak of no list."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data.doctor import examine, list_samples_of
from engine.data.doctor.division import with_all_classes
from engine.data.doctor.findings import DataFinding
from engine.data.doctor.several import list_sets, report_on_sets
from engine.data.formats.share import in_val
from engine.data.options import Data

IDS = [f"{number:02}" for number in range(24)]
BY_SHARE = sorted(IDS, key=lambda id: sum(not in_val(id, share / 1000) for share in range(1000)))
VAL = [id for id in BY_SHARE if in_val(id, 0.3)]  # the last one leaves val first as the share falls
TRAIN = [id for id in BY_SHARE if not in_val(id, 0.3)]
RNG = np.random.default_rng(0)


def draw(root: Path, labels: dict[str, list[int]], ids: list[str] = IDS) -> None:
    """Photos that all differ, and masks of the labels that are given by id, in stripes."""
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    for id in ids:
        Image.fromarray(RNG.integers(0, 256, (48, 48, 3), np.uint8)).save(root / f"images/{id}.png")
        stripes = np.resize(labels.get(id, [0, 1]), 8).astype(np.uint8).repeat(6)
        Image.fromarray(np.tile(stripes, (48, 1))).save(root / f"masks/{id}.png")


def findings(root: Path, folder: dict | None = None, **more) -> dict[str, DataFinding]:
    section = {"format": "folder", "root": str(root), "classes": ["ground", "a", "b"], "train": "train"}
    data = Data.model_validate({**section, "folder": folder or {"val_share": 0.3}, **more})
    report = examine(list_samples_of(data), lambda done, total: None).report
    of_lists = re.compile("list of|their ids|Move images|Move some|<a split")
    assert not any(of_lists.search(one.remedy) for one in report.findings)
    return {one.check: one for one in report.findings}


def require_the_share_has_all(root: Path, remedy: str) -> None:
    [share] = re.findall(r"data\.folder\.val_share=(0\.\d+) puts", remedy)
    after = findings(root, {"val_share": float(share)})
    assert not {"never_trained", "never_scored", "split"} & after.keys()


@pytest.mark.parametrize("number", range(1, 5))
@pytest.mark.parametrize(("check", "only"), [("never_trained", VAL), ("never_scored", TRAIN)])
def test_the_share_that_is_named_puts_images_of_each_class_on_both_sides(
    tmp_path: Path, check: str, only: list[str], number: int
) -> None:
    draw(tmp_path, {id: [0, 1, 2] for id in only[:number]})
    remedy = findings(tmp_path)[check].remedy
    if number > 1:
        require_the_share_has_all(tmp_path, remedy)
    else:  # a single image is always on one side
        assert "Add images with them" in remedy and "data.folder.val_share=null" in remedy


@pytest.mark.parametrize(
    ("of_b", "checks"),
    [
        (TRAIN[:2], {"never_trained", "never_scored"}),
        ([VAL[-1], TRAIN[0]], {"never_trained"}),  # a smaller share, for class a, takes b from val
    ],
)
def test_no_share_is_named_that_takes_another_class_from_a_split(
    tmp_path: Path, of_b: list[str], checks: set[str]
) -> None:
    draw(tmp_path, {id: [0] for id in IDS} | {id: [0, 1] for id in VAL[:2]} | {id: [0, 2] for id in of_b})
    found = findings(tmp_path)
    assert {"never_trained", "never_scored"} & found.keys() == checks
    for check in checks:
        assert "Add images with them" in found[check].remedy and "val_share=0" not in found[check].remedy


def test_no_remedy_speaks_of_lists_or_of_a_further_split(tmp_path: Path) -> None:
    draw(tmp_path, {VAL[0]: [255], **{id: [0, 0, 0, 0, 0, 0, 0, 1] for id in VAL[1:]}})
    for copy, of in ((VAL[1], TRAIN[0]), (TRAIN[2], TRAIN[1])):
        for kind in ("images", "masks"):
            shutil.copy(tmp_path / f"{kind}/{of}.png", tmp_path / f"{kind}/{copy}.png")
    found = findings(tmp_path)
    assert {"leak", "repeats", "all_void", "class_shares"} <= found.keys()
    assert found["leak"].remedy == found["repeats"].remedy and "out of the folder" in found["leak"].remedy
    assert "out of the folder" in found["all_void"].remedy and "chance" in found["class_shares"].remedy
    assert found["class_shares"].remedy.count("or keep it") == 1
    assert findings(tmp_path, select="train")["leak"].remedy == "data.select=null"


@pytest.mark.parametrize(
    ("val_share", "remedy"),
    [
        (0.3, "Take them out of the folder of set more, with their masks, or out of the list of first/val."),
        (None, "Take them out of the list of more/train, or out of the list of first/val."),
    ],
)
def test_an_image_of_two_sets_is_taken_out_of_what_divides_each(
    tmp_path: Path, val_share: float | None, remedy: str
) -> None:
    for split, id in (("train", VAL[0]), ("val", TRAIN[0])):
        (tmp_path / "first" / split).mkdir(parents=True)
        draw(tmp_path / "first" / split, {}, [id])
    more = tmp_path / "more" / ("" if val_share else "train")
    more.mkdir(parents=True)
    draw(more, {})
    shutil.copy(tmp_path / f"first/val/images/{TRAIN[0]}.png", more / f"images/{TRAIN[0]}.png")
    of_both = {"format": "folder", "classes": ["ground", "a", "b"], "train": "train"}
    further = {**of_both, "root": str(tmp_path / "more"), "folder": {"val_share": val_share}}
    further["val"] = "val" if val_share else None
    data = Data.model_validate({**of_both, "root": str(tmp_path / "first"), "also": [further]})
    listings = list_sets(data).items()
    reports = {name: examine(listing, lambda done, total: None).report for name, listing in listings}
    [leak] = [found for found in report_on_sets(data, reports).findings if found.check == "leak"]
    assert leak.remedy == remedy


def test_the_share_of_outlines_is_named_by_its_own_key() -> None:
    polygons = {"val_share": 0.3}
    data = Data.model_validate({"format": "labelme", "polygons": polygons, "classes": ["ground", "a"]})
    remedy = with_all_classes(data, IDS, [IDS, VAL[:3]])
    [share] = re.findall(r"^data\.polygons\.val_share=(0\.\d+) puts", remedy)
    assert {in_val(id, float(share)) for id in VAL[:3]} == {True, False}
    lists = data.model_copy(update={"polygons": None})
    assert with_all_classes(lists, IDS, [IDS, VAL[:3]]) is None


def test_in_a_fold_no_remedy_names_the_share_that_divides_the_images_without_it(tmp_path: Path) -> None:
    only, rest = TRAIN[:4], TRAIN[4:]
    draw(tmp_path, {id: [0, 1, 2] for id in only} | {id: [0] for id in rest})
    (tmp_path / "fold_0.txt").write_text("\n".join(only))
    found = findings(tmp_path, fold=str(tmp_path / "fold_0.txt"))
    assert {"never_trained", "class_shares"} <= found.keys()
    for check in ("never_trained", "class_shares"):
        remedy = found[check].remedy
        assert (
            "into other folds (another --folds, or lists of your own) and name another --out" in remedy
            and "val_share" not in remedy
        )
