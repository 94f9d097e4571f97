"""Which mask belongs to which image: by the usual names, and an error where it is ambiguous."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.formats.pairing import pair_up
from engine.data.sample import DataError


def files(folder: str, names: list[str], ending: str = "png") -> dict[Path, str]:
    return {Path(folder, f"{name}.{ending}"): name for name in names}


def paired(images: list[str], masks: list[str], **options) -> list[tuple[str, str]]:
    pairs = pair_up(files("i", images, "jpg"), files("m", masks), **options)
    return [(pair.id, pair.mask.relative_to("m").with_suffix("").as_posix()) for pair in pairs]


def message_of(images: list[str], masks: list[str], **options) -> str:
    with pytest.raises(DataError) as caught:
        paired(images, masks, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{}", "{}"),
        ("{}", "{}_mask"),
        ("{}", "{}-mask"),
        ("{}", "{}_Mask"),
        ("{}", "mask_{}"),
        ("{}", "{}_gt"),
        ("{}", "{}_labels"),
        ("{}", "{}_labelIds"),
        ("{}", "{}_segmentation"),
        ("{}", "{}_L"),
        ("{}_leftImg8bit", "{}_gtFine_labelTrainIds"),
        ("image_{}", "mask_{}"),
        ("{}", "{}.jpg"),  # Supervisely
        ("{}", "{}.PNG_mask"),
        ("image_{}", "image_{}_mask"),
        ("{}.rgb", "{}.label"),
        ("street_label_{}", "street_label_{}_label"),
    ],
)
def test_usual_names_pair_up(image: str, mask: str) -> None:
    numbers = ["0007", "12", "city/3", "mask", "x_y z"]
    if image.startswith("street"):
        numbers = numbers[:2]

    def name(pattern: str, number: str) -> str:
        folder, _, last = number.rpartition("/")
        return (f"{folder}/" if folder else "") + pattern.format(last)

    images, masks = [[name(p, number) for number in numbers] for p in (image, mask)]
    assert paired(images, masks[::-1]) == sorted(zip(images, masks, strict=True))


@given(st.sets(st.text("ab_01-", min_size=1, max_size=6), min_size=1, max_size=8))
def test_equal_names_always_pair_up(names: set[str]) -> None:
    ordered = sorted(names)
    assert paired(ordered, ordered) == [(name, name) for name in ordered]


def test_files_without_a_partner_are_counted_and_the_first_few_named() -> None:
    message = message_of([f"a{n}" for n in range(9)], ["a0", "a1", "b"])
    assert (
        "7 of 9 images have no mask: i/a2.jpg, i/a3.jpg, i/a4.jpg, i/a5.jpg, i/a6.jpg and 2 more." in message
    )
    assert "1 of 3 masks has no image: m/b.png." in message
    assert "1 of 3 masks has no image" not in message_of(["a0", "x"], ["a0", "b"], all_masks=False)
    assert paired(["a0"], ["a0", "b"], all_masks=False) == [("a0", "a0")]


def test_several_masks_for_one_image_are_an_error() -> None:
    message = message_of(["a", "b"], ["a_mask", "a_gt", "b_mask"])
    assert "several masks have the same name: m/a_mask.png and m/a_gt.png" in message
    assert "data.folder.mask_suffix=" in message
    two = {Path("i/a.jpg"): "a", Path("i/a.png"): "a"}
    with pytest.raises(DataError, match="several images have the same name"):
        pair_up(two, files("m", ["a"]))


def test_a_given_suffix_is_used() -> None:
    masks = ["a_labelIds", "a_color", "b_labelIds", "b_color", "a_mask"]
    assert paired(["a", "b"], masks, mask_suffix="_labelIds") == [("a", "a_labelIds"), ("b", "b_labelIds")]
    assert paired(["a", "b"], masks, mask_suffix="_color") == [("a", "a_color"), ("b", "b_color")]
    assert "2 of 2 images have no mask" in message_of(["a", "b"], masks, mask_suffix="_x")


def named(*names: str) -> dict[Path, str]:
    return {Path("i", name): name.rpartition(".")[0] for name in names}


@pytest.mark.parametrize("ending", ["jpg", "JPG", "png", "tif"])
def test_masks_named_after_the_whole_file_may_be_in_the_folder_of_the_images(ending: str) -> None:
    both = named(*[f"{name}.{ending}{more}" for name in ("a", "x/b") for more in ("", ".png")])
    pairs = [(pair.id, pair.image.name, pair.mask.name) for pair in pair_up(both, both)]
    assert pairs == [(n, f"{n[-1]}.{ending}", f"{n[-1]}.{ending}.png") for n in ("a", "x/b")]
    more = both | named(f"c.{ending}")
    with pytest.raises(DataError, match=f"1 of 3 images has no mask: i/c.{ending}"):
        pair_up(more, more)


def test_images_and_masks_in_one_folder_are_distinguished_by_suffix() -> None:
    both = files("i", ["a", "a_mask", "b", "b_mask"])
    assert [(pair.id, pair.mask.name) for pair in pair_up(both, both)] == [
        ("a", "a_mask.png"),
        ("b", "b_mask.png"),
    ]
