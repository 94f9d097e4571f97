"""A share of a folder's images for val: both splits have images wherever that is possible."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.formats.files import Pair
from engine.data.formats.share import SHARES, EmptyShare, in_val, share_of_both, side_of

IDS = st.lists(st.text("abc0123_", min_size=1, max_size=4), min_size=2, max_size=6, unique=True)


@given(IDS)
def test_two_images_are_on_different_sides(ids: list[str]) -> None:
    share = share_of_both(ids, None)
    assert share is not None and {in_val(id, share) for id in ids} == {True, False}


def test_the_usual_share_is_taken_where_it_leaves_no_split_empty() -> None:
    assert share_of_both([str(number) for number in range(50)], None) == SHARES[0]


def test_images_of_one_group_cannot_be_divided() -> None:
    assert share_of_both(["a_1", "a_2"], r"(a)_\d") is None
    assert share_of_both(["a_1", "a_2"], None) is not None
    assert share_of_both(["a_1"], None) is None


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
