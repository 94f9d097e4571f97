"""COCO-Stuff 164k: photos of COCO 2017 with a mask of things and stuff each, arXiv 1612.03716.

80 thing and 91 stuff classes. The published masks (stuffthingmaps) hold 0..181, the ids of the data set's own
list less one, and 255 for void; 11 of those ids are never drawn. Masks that MMSegmentation converted
(*_labelTrainIds.png) hold 0..170. COCO's own palette is not published: the VOC colour map colours them.
"""

from pathlib import Path

from engine.data.formats.files import FileDataset
from engine.data.formats.listing import folders_in, names_in, no_split, same_names
from engine.data.formats.masks import Table
from engine.data.formats.voc import voc_palette
from engine.data.sample import DataError, Palette

COCO_STUFF_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse",
    "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie",
    "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove",
    "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon",
    "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut",
    "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse",
    "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book",
    "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush", "banner", "blanket", "branch",
    "bridge", "building-other", "bush", "cabinet", "cage", "cardboard", "carpet", "ceiling-other",
    "ceiling-tile", "cloth", "clothes", "clouds", "counter", "cupboard", "curtain", "desk-stuff", "dirt",
    "door-stuff", "fence", "floor-marble", "floor-other", "floor-stone", "floor-tile", "floor-wood",
    "flower", "fog", "food-other", "fruit", "furniture-other", "grass", "gravel", "ground-other", "hill",
    "house", "leaves", "light", "mat", "metal", "mirror-stuff", "moss", "mountain", "mud", "napkin",
    "net", "paper", "pavement", "pillow", "plant-other", "plastic", "platform", "playingfield", "railing",
    "railroad", "river", "road", "rock", "roof", "rug", "salad", "sand", "sea", "shelf", "sky-other",
    "skyscraper", "snow", "solid-other", "stairs", "stone", "straw", "structural-other", "table", "tent",
    "textile-other", "towel", "tree", "vegetable", "wall-brick", "wall-concrete", "wall-other",
    "wall-panel", "wall-stone", "wall-tile", "wall-wood", "water-other", "waterdrops", "window-blind",
    "window-other", "wood",
)  # fmt: skip
# street sign, hat, shoe, eye glasses, plate, mirror, window, desk, door, blender, hair brush
_NEVER_DRAWN = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
COCO_STUFF_PALETTE: Palette = voc_palette(len(COCO_STUFF_CLASSES) + 1)[1:]  # without the black of VOC's 0
TRAIN_IDS = "_labelTrainIds"


def open_coco_stuff(
    root: str | Path, split: str, class_names: tuple[str, ...] = COCO_STUFF_CLASSES, ignore_index: int = 255
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
    mapping = Table.of("COCO-Stuff", labels | {255: ignore_index})
    pairs = same_names(images, masks, suffix)
    return FileDataset(pairs, class_names, COCO_STUFF_PALETTE, ignore_index, mapping)


def _first_folder(root: Path, candidates: tuple[str, ...], split: str) -> Path:
    if not root.is_dir():
        raise DataError(f"data.root: no folder {root}. It should hold {' or '.join(candidates)}.")
    there = [root / candidate for candidate in candidates if (root / candidate).is_dir()]
    if not there:
        below = {name for candidate in candidates for name in folders_in((root / candidate).parent)}
        splits = sorted(below - {"images", "annotations", "stuffthingmaps"})
        raise no_split(split, root / candidates[0], splits)
    return there[0]
