import pytest

from engine.wording import quantity


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
