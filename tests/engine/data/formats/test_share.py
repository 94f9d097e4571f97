"""A share of a folder's images for val: both splits have images wherever that is possible."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.formats.files import Pair
from engine.data.formats.share import USUAL, EmptyShare, fitting_share, in_val, side_of

IDS = st.lists(st.text("abc0123_", min_size=1, max_size=4), min_size=2, max_size=6, unique=True)


@given(IDS)
def test_two_images_are_on_different_sides(ids: list[str]) -> None:
    share = fitting_share(ids, None)
    assert share is not None and {in_val(id, share) for id in ids} == {True, False}


@given(st.integers(5, 400), st.integers(0, 99))
def test_val_has_about_a_fifth(count: int, start: int) -> None:
    """Also where the hashes of few ids are far from even."""
    ids = [f"{start}_{number}" for number in range(count)]
    share = fitting_share(ids, None)
    assert share is not None
    num_val = sum(in_val(id, share) for id in ids)
    assert 0.1 * count <= num_val <= 0.3 * count
    assert share == USUAL or not 0.1 * count <= sum(in_val(id, USUAL) for id in ids) <= 0.3 * count


def test_images_of_one_group_cannot_be_divided() -> None:
    assert fitting_share(["a_1", "a_2"], r"(a)_\d") is None
    assert fitting_share(["a_1", "a_2"], None) is not None
    assert fitting_share(["a_1"], None) is None


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_split_is_an_error_with_a_share_that_works(split: str) -> None:
    pairs = [Pair(id, Path(id), Path(id)) for id in ("a", "b", "c")]
    share = {"train": 0.999999, "val": 1e-9}[split]
    side = side_of(split, ("train", "val"), share, None, "data.folder")
    with pytest.raises(EmptyShare, match=f"'{split}' is empty.*none of the 3 images") as caught:
        side.of(pairs, Path("images"))
    right = caught.value.share
    assert right is not None and f"Type data.folder.val_share={right}." in str(caught.value)
    sides = [side_of(name, ("train", "val"), right, None, "data.folder") for name in ("train", "val")]
    found = [pair.id for side in sides for pair in side.of(pairs, Path("images"))]
    assert sorted(found) == ["a", "b", "c"]
