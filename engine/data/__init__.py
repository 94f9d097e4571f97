"""From a recipe's `data` section to one split, whatever its format."""

from engine.data.packed import PackedDataset
from engine.data.sample import DataError, Dataset, Palette, Sample
from engine.data.synthetic import SCENE_CLASSES, SyntheticScenes
from engine.data.voc import VOC_CLASSES, open_voc

__all__ = ["DataError", "Dataset", "Palette", "Sample", "class_table", "open_split"]

CLASS_TABLES = {"voc21": VOC_CLASSES, "scenes6": SCENE_CLASSES}


def class_table(section) -> tuple[str, ...]:
    """The class names by label id: a named table, or the list that the recipe holds."""
    return CLASS_TABLES[section.classes] if isinstance(section.classes, str) else tuple(section.classes)


def open_split(section, split: str) -> Dataset:
    """One split of the data that `section` (a recipe's `data`) names.

    Raises:
        DataError: no root, no such split, missing files.
    """
    if section.format == "synthetic":
        scenes = section.synthetic
        num_samples = {section.train: scenes.train_samples, section.val: scenes.val_samples}.get(split, 0)
        return SyntheticScenes(split, num_samples, scenes.size, scenes.seed)
    if section.root is None:
        raise DataError("data.root is not set; type data.root=<your VOC2012 folder> behind the command.")
    if section.format == "packed":
        return PackedDataset(section.root, split, class_table(section), section.ignore_index)
    return open_voc(section.root, split, class_table(section), section.ignore_index)
