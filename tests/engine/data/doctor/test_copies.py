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


def with_object(still: np.ndarray, at: int, noise: int) -> np.ndarray:
    """(h, w, 3): a still scene with sensor noise and an object of 12 px at column `at`."""
    scene = still.astype(float)
    scene[40:52, at : at + 12] = (200, 60, 30)
    noisy = scene + np.random.default_rng(noise).normal(0, 2, scene.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def object_mask(at: int, grown: int = 0) -> np.ndarray:
    mask = np.zeros((96, 112), np.uint8)
    mask[40 - grown : 52 + grown, at : at + 12] = 15
    return mask


@pytest.mark.parametrize("quality", [95, 75])
def test_successive_frames_do_not_contradict_each_other(tree, quality: int) -> None:
    """A small object moves through a still scene; it leaves the image in part, so pixel counts differ."""
    still, ids = tree.photo(), [f"clip_{number}" for number in range(8)]
    for number, id in enumerate(ids):
        tree.save_image(id, with_object(still, 20 + 3 * number, number), quality=quality)
        tree.save_mask(id, object_mask(20 + 3 * number, number % 2))
    tree.write_list("train", [*tree.ids("train"), *ids])
    assert len(groups(tree)) == 1  # they are near-duplicates
    assert {"contradiction", "repeats"}.isdisjoint(found.check for found in tree.findings())


def test_a_copy_among_frames_that_has_another_mask_contradicts_its_own_frame(tree) -> None:
    still, ids = tree.photo(), [f"clip_{number}" for number in range(6)]
    for number, id in enumerate(ids):
        tree.save_image(id, with_object(still, 20 + 5 * number, number))
        tree.save_mask(id, object_mask(20 + 5 * number))
    Image.open(tree.image("clip_3")).save(tree.image("again"), quality=80)
    tree.save_mask("again", np.where(object_mask(35) == 15, 3, 0))
    tree.write_list("train", [*tree.ids("train"), *ids, "again"])
    (found,) = [found for found in tree.findings() if found.check == "contradiction"]
    assert found.where == (f"{tree.mask('clip_3')} and {tree.mask('again')}",)
