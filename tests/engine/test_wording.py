from pathlib import Path

import pytest

from engine.wording import did_you_mean, near_path, quantity, some_of


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ["image"], "0 images"),
        (1, ["image"], "1 image"),
        (2, ["image"], "2 images"),
        (1200, ["image"], "1,200 images"),
        (1, ["class", "classes"], "1 class"),
        (3, ["class", "classes"], "3 classes"),
    ],
)
def test_a_noun_follows_its_number(number: int, words: list[str], text: str) -> None:
    assert quantity(number, *words) == text


def test_the_verb_follows_the_number_and_the_noun_the_total() -> None:
    assert some_of(1, 20, "image", "is", "are") == "1 of 20 images is"
    assert some_of(3, 1200, "image", "is", "are") == "3 of 1,200 images are"
    assert some_of(1, 1, "mask", "has", "have") == "1 of 1 mask has"


def test_only_close_names_are_suggested() -> None:
    assert did_you_mean("trian", ["train", "val"]) == " Did you mean train?"
    assert did_you_mean("cat", ["cats", "car", "house"], most=2) == " Did you mean cats or car?"
    assert did_you_mean("test", ["images", "masks"]) == ""


def test_a_similar_path_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").touch()
    assert near_path(tmp_path / "photso/a.jpg") == f" Did you mean {tmp_path}/photos/a.jpg?"
    assert near_path(tmp_path / "photos/aa.jpg") == f" Did you mean {tmp_path}/photos/a.jpg?"
    for other in ("photos", "photso/b.jpg", "masks"):
        assert near_path(tmp_path / other) == ""
