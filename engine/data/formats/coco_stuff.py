"""COCO-Stuff 164k: photos of COCO 2017 with a mask of things and stuff each, arXiv 1612.03716.

80 thing and 91 stuff classes. The published masks (stuffthingmaps) hold 0..181, the ids of the data set's own
list less one, and 255 for void; 11 of those ids are never drawn. Masks that MMSegmentation converted
(*_labelTrainIds.png) hold 0..170. COCO's own palette is not published: the VOC colour map colours them.
"""

from pathlib import Path

from engine.data.formats.files import FileDataset
from engine.data.formats.listing import folders_in, names_in, no_folder, no_split, same_names
from engine.data.formats.masks import Table
from engine.data.formats.voc import voc_palette
from engine.data.sample import DataError, Palette
from models.class_names import COCO_STUFF

# street sign, hat, shoe, eye glasses, plate, mirror, window, desk, door, blender, hair brush
_NEVER_DRAWN = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
COCO_STUFF_PALETTE: Palette = voc_palette(len(COCO_STUFF) + 1)[1:]  # without the black of VOC's 0
TRAIN_IDS = "_labelTrainIds"


def open_coco_stuff(
    root: str | Path, split: str, class_names: tuple[str, ...] = COCO_STUFF, ignore_index: int = 255
) -> FileDataset:
    """One split, such as "train2017": photos in <split> or images/<split>, masks in stuffthingmaps/<split>
    or annotations/<split>.

    Raises:
        DataError: no such folder or split, or masks missing.
    """
    folder = Path(root).expanduser()
    images = _first_folder(folder, (split, f"images/{split}"), split)
    masks = _first_folder(folder, (f"stuffthingmaps/{split}", f"annotations/{split}"), split)
    drawn = [id for id in range(182) if id not in _NEVER_DRAWN]
    if any(name.endswith(f"{TRAIN_IDS}.png") for name in names_in(masks)):
        suffix, labels = TRAIN_IDS, {label: label for label in range(171)}
    else:
        suffix, labels = "", {id: label for label, id in enumerate(drawn)}
    encoding = Table.of("COCO-Stuff", labels | {255: ignore_index})
    pairs = same_names(images, masks, suffix)
    return FileDataset(pairs, class_names, COCO_STUFF_PALETTE, ignore_index, encoding)


def _first_folder(root: Path, candidates: tuple[str, ...], split: str) -> Path:
    if not root.is_dir():
        raise DataError(f"{no_folder(root)} It should hold {' or '.join(candidates)}.")
    there = [root / candidate for candidate in candidates if (root / candidate).is_dir()]
    if not there:
        below = {name for candidate in candidates for name in folders_in((root / candidate).parent)}
        splits = sorted(below - {"images", "annotations", "stuffthingmaps"})
        raise no_split(split, root / candidates[0], splits)
    return there[0]
