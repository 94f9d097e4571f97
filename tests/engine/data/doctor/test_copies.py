"""Duplicates: which images are the same, and in which lists they are."""

import shutil

import numpy as np
import pytest
from PIL import Image

from engine.data.doctor.copies import find_groups


def add(tree, id: str, split: str) -> None:
    tree.save_mask(id, tree.read_mask("train_0"))
    tree.write_list(split, [*tree.ids(split), id])


def groups(tree) -> list[list[str]]:
    facts = tree.examine().facts
    return [[facts.listing.samples[i].id for i in group] for group in find_groups(facts)]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((56, 48)),
        lambda image: image.convert("L"),
        lambda image: image.point(lambda v: 20 + 0.8 * v),
    ],
    ids=["half the size", "grey", "paler"],
)
def test_a_changed_copy_is_found(tree, change) -> None:
    changed = change(Image.open(tree.image("train_0")))
    changed.save(tree.image("copy"), quality=70)
    add(tree, "copy", "val")
    assert groups(tree) == [["train_0", "copy"]]


def test_copies_of_copies_are_one_group(tree) -> None:
    shutil.copy(tree.image("train_0"), tree.image("same"))
    Image.open(tree.image("train_0")).save(tree.image("again"), quality=50)
    add(tree, "same", "train")
    add(tree, "again", "val")
    assert [sorted(group) for group in groups(tree)] == [["again", "same", "train_0"]]
    leak, repeats = tree.findings()
    assert (leak.check, leak.num_files, repeats.check, repeats.num_files) == ("leak", 1, "repeats", 1)
    assert "1 of 5 images of val" in leak.what and "1 of them saved again" in leak.what
    assert "1 of 9 images of train" in repeats.what and "saved again" not in repeats.what


def test_flat_images_are_not_duplicates_of_each_other(tree) -> None:
    """Fog, snow, a wall: all of their hashes are similar."""
    for number, id in enumerate(tree.ids("val")):
        tree.save_image(id, np.full((96, 112, 3), 200 + number, np.uint8))
    assert groups(tree) == []


def test_mirrored_and_shifted_images_are_not_duplicates(tree) -> None:
    photo = np.asarray(Image.open(tree.image("train_0")))
    tree.save_image("val_0", photo[:, ::-1])
    tree.save_image("val_1", np.roll(photo, 30, axis=1))
    assert groups(tree) == []
