"""The folds of a comparison: what --folds takes, what is kept from an earlier start, and what is refused."""

from pathlib import Path

import pytest

from engine.comparison.folds import Folds, Wish, folds_of, wish_of
from engine.comparison.grid import CompareError, load_recipes
from engine.data.sample import DataError
from engine.recipe import Recipe

TEXT = "model: {from_scratch: true}\nschedule: {warmup: 1}\ntrain: {steps: 10}\n"


def recipe(tmp_path: Path, root: Path, name: str = "a", **data: object) -> Recipe:
    keys = ", ".join(f"{key}: {value}" for key, value in {"root": root, "train": "train", **data}.items())
    file = tmp_path / f"{name}.yaml"
    file.write_text(f"{TEXT}data: {{{keys}}}\n")
    return load_recipes([file], ())[0]


def plan(recipes: list[Recipe], wish: Wish, tmp_path: Path) -> tuple[list[Recipe], Folds]:
    return folds_of(recipes, wish, tmp_path / "out", lambda done, total: None)


def lists(tmp_path: Path, *folds: str) -> list[Path]:
    """A list for each text, whose digits are the numbers of its images."""
    paths = [tmp_path / f"lists/fold_{number}.txt" for number in range(len(folds))]
    for path, numbers in zip(paths, folds, strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"train_00000{number}\n" for number in numbers))
    return paths


def test_folds_are_made_once_and_then_taken_from_their_lists(voc_folder: Path, tmp_path: Path) -> None:
    ours = recipe(tmp_path, voc_folder)
    before = sorted(voc_folder.rglob("*"))
    [shared], folds = plan([ours], Wish(3, [], None), tmp_path)
    assert sorted(id for fold in folds.ids for id in fold) == [f"train_00000{n}" for n in range(6)]
    assert [len(fold) for fold in folds.ids] == [2, 2, 2]
    assert any("held out: val, 4 images" in note for note in folds.notes)
    assert any("Fewer images than folds hold cat (2), dog (2), person (2)" in note for note in folds.notes)
    assert not (tmp_path / "out").exists() and sorted(voc_folder.rglob("*")) == before
    folds.write()
    written = [path.read_text().split() for path in folds.paths]
    assert written == folds.ids and shared.data == ours.data
    (tmp_path / "out/folds/fold_0.txt").write_text("\n".join(reversed(folds.ids[0])))
    assert plan([ours], Wish(3, [], None), tmp_path)[1].ids[0] == folds.ids[0][::-1]


def test_lists_of_ones_own(voc_folder: Path, tmp_path: Path) -> None:
    paths = lists(tmp_path, "14", "0", "5")
    _, folds = plan([recipe(tmp_path, voc_folder)], Wish(None, paths, None), tmp_path)
    assert folds.ids == [["train_000001", "train_000004"], ["train_000000"], ["train_000005"]]
    assert "2 images of train in no list: every fold is trained on them" in folds.notes


@pytest.mark.parametrize("typed", ["lists", "lists/fold_*.txt", "lists/fold_0.txt"])
def test_a_folder_a_pattern_and_what_the_shell_makes_of_it(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [path.relative_to(tmp_path) for path in lists(tmp_path, *"0123456789", "0")]
    more = [str(name) for name in names[1:]] if typed.endswith("fold_0.txt") else []
    assert wish_of(typed, more, None).lists == names  # fold_10 after fold_9


@pytest.mark.parametrize(
    ("typed", "group", "message"),
    [
        ("1", None, "--folds 1: expected 2 folds or more"),
        ("0", None, "--folds 0"),
        ("-3", None, "--folds -3"),
        ("", None, "found 0 lists"),
        ("five", None, "--folds five: found 0 lists"),
        ("lists/fold_0.txt", None, "found 1 list,"),
        ("lists", "(.+)_1", "--group is for a number"),
        ("5", "(.+", r"--group \(\.\+ is no regular expression"),
        ("5", ".+", "expected one group in parentheses"),
    ],
)
def test_what_is_no_wish(
    typed: str, group: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lists(tmp_path, "0", "1")
    with pytest.raises(CompareError, match=message):
        wish_of(typed, [], group)
    with pytest.raises(CompareError, match="a number or lists, not both"):
        wish_of("5", ["lists/fold_0.txt"], None)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Wish(7, [], None), r"--folds 7: split 'train' has 6 images"),
        (Wish(3, [], r"^(patient)_"), r"fits none of the .*such as train_00000.*--group '\(\.\+\)'"),
        (Wish(3, [], r"(train)_\d+"), r"1 group by the pattern .*--group '\(\.\+\)'"),
    ],
)
def test_more_folds_than_images_or_groups(wish: Wish, message: str, voc_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CompareError, match=message):
        plan([recipe(tmp_path, voc_folder)], wish, tmp_path)


def test_lists_that_share_an_image_or_name_another_are_refused(voc_folder: Path, tmp_path: Path) -> None:
    ours = recipe(tmp_path, voc_folder)
    with pytest.raises(CompareError, match=r"fold_1.txt and .*fold_0.txt both name train_000003"):
        plan([ours], Wish(None, lists(tmp_path, "03", "31"), None), tmp_path)
    with pytest.raises(DataError, match=r"1 of 2 images of .*fold_1.txt are not in split 'train'"):
        plan([ours], Wish(None, lists(tmp_path, "03", "19"), None), tmp_path)


def test_recipes_need_the_same_training_images_and_no_fold(voc_folder: Path, tmp_path: Path) -> None:
    two = [recipe(tmp_path, voc_folder), recipe(tmp_path, voc_folder, "b", train="val", val="train")]
    with pytest.raises(CompareError, match="b and a have different images in data.train"):
        plan(two, Wish(2, [], None), tmp_path)
    with pytest.raises(CompareError, match=r"a has data\.fold, which --folds sets"):
        plan([recipe(tmp_path, voc_folder, fold="x.txt")], Wish(2, [], None), tmp_path)


def test_earlier_folds_that_are_not_asked_for_now_are_refused(voc_folder: Path, tmp_path: Path) -> None:
    ours = recipe(tmp_path, voc_folder)
    plan([ours], Wish(None, lists(tmp_path, "14", "0235"), None), tmp_path)[1].write()
    assert plan([ours], Wish(2, [], None), tmp_path)[1].ids[0] == ["train_000001", "train_000004"]
    for wish, message in (
        (Wish(3, [], None), "these are 2. Type --folds 2"),
        (Wish(None, lists(tmp_path, "1", "0"), None), "not those of --folds"),
        (Wish(2, [], r"(train_00000)\d"), "divide groups of --group, such as train_00000"),
    ):
        with pytest.raises(CompareError, match=message):
            plan([ours], wish, tmp_path)
    (voc_folder / "ImageSets/Segmentation/train.txt").write_text("train_000000\ntrain_000001\n")
    with pytest.raises(CompareError, match="not of the images of today"):
        plan([ours], Wish(2, [], None), tmp_path)


def test_without_a_held_out_split_that_is_said(voc_folder: Path, tmp_path: Path) -> None:
    for changes, why in (({"val": "train"}, "data.val is data.train"), ({"val": "vall"}, "Did you mean val")):
        [shared], folds = plan([recipe(tmp_path, voc_folder, **changes)], Wish(2, [], None), tmp_path)
        assert any("no held-out split" in note and why in note for note in folds.notes)
        assert shared.data.val != shared.data.train


def test_checkpoints_are_selected_on_the_fold_or_on_a_split_of_its_own(
    voc_folder: Path, tmp_path: Path
) -> None:
    for select, expected in (("val", None), ("train", None), ("other", "other")):
        [shared], _ = plan([recipe(tmp_path, voc_folder, select=select)], Wish(2, [], None), tmp_path)
        assert shared.data.select == expected
