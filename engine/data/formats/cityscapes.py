"""Cityscapes: leftImg8bit/<split>/<city>/*_leftImg8bit.png, gtFine/<split>/<city>/*_gtFine_labelIds.png.

34 ids in the files become the 19 classes that the benchmark scores; the other ids are void. Masks that its
scripts converted (*_labelTrainIds.png: 0..18, 255 is void) are taken where there are no others.
"""

from pathlib import Path

from engine.data.formats.files import FileDataset, Pair
from engine.data.formats.listing import (
    folders_in,
    images_below,
    no_split,
    require_different_ids,
    require_files,
    root_with,
)
from engine.data.formats.masks import Table
from engine.data.sample import DataError, Palette
from models.class_names import CITYSCAPES

# Both by label id.
_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # in the files
CITYSCAPES_PALETTE: Palette = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153),
    (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152),
    (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70),
    (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip
IMAGE = "_leftImg8bit"


def open_cityscapes(
    root: str | Path, split: str, class_names: tuple[str, ...] = CITYSCAPES, ignore_index: int = 255
) -> FileDataset:
    """One split of the folder that holds leftImg8bit and gtFine.

    Raises:
        DataError: no such folder or split, or masks missing.
    """
    folder = root_with(root, "leftImg8bit", "Cityscapes")
    images = folder / "leftImg8bit" / split
    if not images.is_dir():
        raise no_split(split, images, folders_in(folder / "leftImg8bit"))
    photos = [path for path in images_below(images, (".png",)) if path.stem.endswith(IMAGE)]
    if not photos:
        raise DataError(f"The split is empty: {images}/<city> holds no *{IMAGE}.png.")
    as_ids, as_train_ids = (
        [_pair(photo, folder / "gtFine" / split, kind) for photo in photos]
        for kind in ("labelIds", "labelTrainIds")
    )
    converted = not any(pair.mask.is_file() for pair in as_ids) and as_train_ids[0].mask.is_file()
    pairs = as_train_ids if converted else as_ids
    require_different_ids(pairs, str(images))
    require_files(pairs)
    void = {255: ignore_index} if converted else dict.fromkeys((*range(34), 255), ignore_index)
    labels = {label if converted else id: label for label, id in enumerate(_IDS)}
    return FileDataset(
        pairs, class_names, CITYSCAPES_PALETTE, ignore_index, Table.of("Cityscapes", void | labels)
    )


def _pair(photo: Path, masks: Path, kind: str) -> Pair:
    id = photo.stem.removesuffix(IMAGE)
    return Pair(id, photo, masks / photo.parent.name / f"{id}_gtFine_{kind}.png")
