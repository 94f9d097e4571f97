"""From a recipe's `data` section to one split, whatever its format."""

from engine.data.formats.ade20k import ADE20K_CLASSES, open_ade20k
from engine.data.formats.camvid import CAMVID_CLASSES, open_camvid
from engine.data.formats.cityscapes import CITYSCAPES_CLASSES, open_cityscapes
from engine.data.formats.coco import open_coco
from engine.data.formats.coco_stuff import COCO_STUFF_CLASSES, open_coco_stuff
from engine.data.formats.folder import open_folder
from engine.data.formats.voc import VOC_CLASSES, open_voc
from engine.data.packs.packed import PackedDataset
from engine.data.sample import DataError, Dataset, Palette, Sample, Skipped
from engine.data.synthetic import SCENE_CLASSES, SyntheticScenes

__all__ = ["DataError", "Dataset", "Palette", "Sample", "class_table", "open_split"]

CLASS_TABLES = {
    "voc21": VOC_CLASSES,
    "ade150": ADE20K_CLASSES,
    "cityscapes19": CITYSCAPES_CLASSES,
    "camvid11": CAMVID_CLASSES,
    "coco_stuff171": COCO_STUFF_CLASSES,
    "scenes6": SCENE_CLASSES,
}
FORMATS = {  # (root, split, class names, ignore index) -> Dataset
    "voc": open_voc,
    "coco": open_coco,
    "coco_stuff": open_coco_stuff,
    "ade20k": open_ade20k,
    "cityscapes": open_cityscapes,
    "camvid": open_camvid,
    "packed": PackedDataset,
}


def class_table(section) -> tuple[str, ...]:
    """The class names by label id: a named table, or the list that the recipe holds."""
    if isinstance(section.classes, str):
        return CLASS_TABLES[section.classes]
    return tuple(item if isinstance(item, str) else item.name for item in section.classes)


def open_split(section, split: str) -> Dataset:
    """One split of the data that `section` (a recipe's `data`) names.

    Raises:
        DataError: no root, no such split, missing files, files or folders that may not be read.
    """
    if section.format == "synthetic":
        scenes = section.synthetic
        num_samples = {section.train: scenes.train_samples, section.val: scenes.val_samples}.get(split, 0)
        return SyntheticScenes(split, num_samples, scenes.size, scenes.seed)
    if section.root is None:
        raise DataError("data.root is not set; type data.root=<the folder of your data> behind the command.")
    try:
        if section.format == "folder":
            dataset = open_folder(section, split, class_table(section))
        else:
            opener = FORMATS[section.format]
            dataset = opener(section.root, split, class_table(section), section.ignore_index)
    except OSError as error:
        denied = isinstance(error, PermissionError)
        hint = f" Type chmod -R u+rX {error.filename}, or ask its owner." if denied else ""
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.{hint}") from error
    dataset.skipped = Skipped() if section.on_error == "skip" else None
    return dataset
