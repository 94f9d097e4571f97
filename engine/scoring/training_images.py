"""Which images models were trained on, whatever the names and folders of these are now."""

from collections.abc import Collection, Sequence
from pathlib import Path

from engine.data import open_split
from engine.data.options import Data
from engine.data.overlap import image_files, shared_images
from engine.data.sample import DataError, Dataset
from engine.scoring.trained import Trained


def trained_on(num: int, total: int) -> str:
    """What is said of a score on images of which `num` were trained on; empty where none was."""
    if not num:
        return ""
    which = "these images" if num >= total else f"{num} of these {total} images"
    return f"The model was trained on {which}: the score says little about other ones."


def num_trained_on(trained: Trained, dataset: Dataset) -> int:
    """How many images of a data set a member was trained on, as far as the training images can be found."""
    data = trained.data
    fingerprint = dataset.fingerprint()
    is_val, is_train = fingerprint == data.val_fingerprint, fingerprint == data.train_fingerprint
    if is_val and not is_train and data.num_val_trained_on is not None:
        return data.num_val_trained_on
    sections = trained.training_data
    return len(images_trained_on(dataset, sections, trained.recipe.data, [data.train_fingerprint]))


def images_trained_on(
    dataset: Dataset, sections: Sequence[Data], now: Data, fingerprints: Collection[str]
) -> set[str]:
    """The ids of the images of a data set that models were trained on, as far as their images can be found.

    Args:
        sections: the `data` section of each model, as it was trained.
        now: the section that says where the data is now.
        fingerprints: of the training splits.
    """
    found: set[str] | None = None
    for section in (*sections, now):
        try:
            train = open_split(section, section.train)
            if section in sections or train.fingerprint() in fingerprints:
                found = (found or set()) | shared_images(dataset, train)
        except DataError:  # moved since
            continue
    if found is None:  # of two splits with the same names and masks the fingerprint is the same
        return set(dataset.ids) if dataset.fingerprint() in fingerprints else set()
    return found


def training_files(trained: Trained) -> list[Path]:
    """The image files that members were trained on, as far as these are where the recipes say."""
    sections, found = list(trained.training_data), list[Path]()
    if trained.recipe.data not in sections:  # its data.root may have been changed
        sections.append(trained.recipe.data)
    for section in sections:
        try:
            found += image_files(open_split(section, section.train))
        except DataError:  # moved since
            continue
    return found
