"""What to do about an image that is in the wrong split.

Where a share of the names makes the splits, no list has a line to take out, and no image can be moved alone.
In a run of `trident compare --folds` the comparison divides the images, whatever divides them without it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from engine.data.formats import OF_POLYGONS
from engine.data.formats.share import shares_with_all

LARGEST = 0.5  # share for val that is suggested
OTHER_FOLDS = (
    "divide the images into other folds (another --folds, or lists of your own) and name another --out"
)


def share_key(section: Any) -> str | None:
    """The key of a `data` section whose share divides one folder into train and val; None where lists or
    folders do."""
    found = _divided_by(section)
    return found[0] if found else None


def _divided_by(section: Any) -> tuple[str, Any] | None:
    """That key, and the options that it is one of."""
    name = "polygons" if section.format in OF_POLYGONS else "folder"
    options = getattr(section, name, None)
    is_read = name == "polygons" or section.format == "folder"  # other formats ignore the section
    if is_read and options and options.val_share is not None:
        return f"data.{name}.val_share", options
    return None


def taken_out(section: Any) -> str:
    """How images are taken out of a split."""
    if share_key(section):
        return "move their files, images and masks, out of the folder"
    return "take their ids out of the split"


def by_hand(section: Any) -> str:
    """How the user divides the images where a share does."""
    return f"divide the images by lists or folders of your own (docs/data.md), with {share_key(section)}=null"


def made_alike(section: Any, split: str) -> str:
    """How the classes of a scored split become as frequent as those of train."""
    by_chance = "They differ by chance: label more images, or"
    if section.fold is not None:
        return f"{by_chance} {OTHER_FOLDS}"
    if key := share_key(section):
        return f"{by_chance} give {split} more by {key}"
    return f"Split the images into {section.train} and {split} at random"


def with_all_classes(section: Any, ids: Sequence[str], wanted: Iterable[Sequence[str]]) -> str | None:
    """How images with each class get into both splits; None where they can be moved one by one.

    Args:
        ids: of both splits.
        wanted: the ids of the images with each class.
    """
    if section.fold is not None:
        return f"Add images with them, or {OTHER_FOLDS}."
    found = _divided_by(section)
    if found is None:
        return None
    key, options = found
    shares = [share for share in shares_with_all(ids, wanted, options.group) if share <= LARGEST]
    if not shares:
        return f"Add images with them, or {by_hand(section)}."
    nearest = min(shares, key=lambda share: abs(share - options.val_share))
    return f"{key}={nearest} puts images with each class into both {section.train} and {section.val}."
