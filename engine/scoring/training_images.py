"""Which images models were trained on, whatever the names and folders of these are now."""

from collections.abc import Sequence
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
    return len(images_trained_on(dataset, _training_splits_of(trained), trained.train_fingerprints))


def images_trained_on(
    dataset: Dataset, trains: Sequence[Dataset], fingerprints: Sequence[str | None]
) -> set[str]:
    """The ids of the images of a data set that models were trained on, as far as their images can be found.

    Args:
        trains: what `training_splits` found.
        fingerprints: of the training splits.
    """
    if not trains:  # of two splits with the same names and masks the fingerprint is the same
        return set(dataset.ids) if dataset.fingerprint() in fingerprints else set()
    return {id for train in trains for id in shared_images(dataset, train)}


def training_splits(sections: Sequence[Data], now: Data, fingerprints: Sequence[str | None]) -> list[Dataset]:
    """The training splits of models, each once, as far as they can be found.

    A split that is no longer where its recipe says is looked for under the same name where the data is now.
    There it counts if its fingerprint is known, or if that of its model is not.

    Args:
        sections: the `data` section of each model, as it was trained.
        now: the section that says where the data is now.
        fingerprints: of the training split of each model; None: not known.
    """
    found, moved = list[Dataset](), list[tuple[Data, str | None]]()
    for place, (section, fingerprint) in enumerate(zip(sections, fingerprints, strict=True)):
        if section in sections[:place]:
            continue
        if (train := _opened(section)) is not None:
            found.append(train)
        else:
            moved.append((_moved(section, now), fingerprint))
    tried = list(sections)
    for section, fingerprint in (*moved, (now, "")):
        if section in tried:
            continue
        tried.append(section)
        train = _opened(section)
        if train is not None and (fingerprint is None or train.fingerprint() in fingerprints):
            found.append(train)
    return found


def _opened(section: Data) -> Dataset | None:
    try:
        return open_split(section, section.train)
    except DataError:  # moved since
        return None


def _moved(section: Data, now: Data) -> Data:
    """The same training split where the data is now."""
    roots = {one.name: one.root for one in now.also}
    also = [one.model_copy(update={"root": roots.get(one.name, one.root)}) for one in section.also]
    own = {"train": section.train, "val": section.val, "fold": section.fold, "also": also}
    return now.model_copy(update=own)


def training_files(trained: Trained) -> list[Path]:
    """The image files that members were trained on, as far as these can be found."""
    return [path for split in _training_splits_of(trained) for path in image_files(split)]


def _training_splits_of(trained: Trained) -> list[Dataset]:
    return training_splits(trained.training_data, trained.recipe.data, trained.train_fingerprints)
