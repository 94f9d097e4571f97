"""CamVid with the 11 classes of SegNet (arXiv 1511.00561), in the layouts in which it is distributed.

- the SegNet tutorial's: <split>/*.png and <split>annot/*.png of ids 0..10; 11 is void
- by split, as colours:  <split>/*.png and <split>_labels/*_L.png
- the original:          701_StillsRaw_full/*.png, LabeledApproved_full/*_L.png, and the split in <split>.txt

The 32 colours of the original labels are merged into 11 classes as by SegNet's authors; (0, 0, 0) is void.
"""

from pathlib import Path, PurePosixPath

from engine.data.formats.files import FileDataset, Pair, colours_in_file
from engine.data.formats.listing import (
    folders_in,
    ids_in_list,
    no_folder,
    no_split,
    require_different_ids,
    require_files,
    same_names,
)
from engine.data.formats.masks import Colours, Table
from engine.data.sample import DataError, Palette

# (name, its colour in SegNet's pictures, the original colours that it merges), by label id
_LABELS = (
    ("sky", (128, 128, 128), ((128, 128, 128),)),
    # bridge, building, wall, tunnel, archway
    ("building", (128, 0, 0), ((0, 128, 64), (128, 0, 0), (64, 192, 0), (64, 0, 64), (192, 0, 128))),
    ("pole", (192, 192, 128), ((192, 192, 128), (0, 0, 64))),  # column or pole, traffic cone
    # road, lane markings to drive on, lane markings not to drive on
    ("road", (128, 64, 128), ((128, 64, 128), (128, 0, 192), (192, 0, 64))),
    # sidewalk, parking block, road shoulder
    ("pavement", (60, 40, 222), ((0, 0, 192), (64, 192, 128), (128, 128, 192))),
    ("tree", (128, 128, 0), ((128, 128, 0), (192, 192, 0))),  # tree, other vegetation
    # sign or symbol, other text, traffic light
    ("sign symbol", (192, 128, 128), ((192, 128, 128), (128, 128, 64), (0, 64, 64))),
    ("fence", (64, 64, 128), ((64, 64, 128),)),
    # car, SUV or pickup truck, truck or bus, train, other moving
    ("car", (64, 0, 128), ((64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64))),
    # pedestrian, child, cart or luggage or pram, animal
    ("pedestrian", (64, 64, 0), ((64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64))),
    ("bicyclist", (0, 128, 192), ((0, 128, 192), (192, 0, 192))),  # bicyclist, motorcycle or scooter
)
CAMVID_CLASSES = tuple(name for name, _, _ in _LABELS)
CAMVID_PALETTE: Palette = tuple(colour for _, colour, _ in _LABELS)
STILLS, APPROVED = "701_StillsRaw_full", "LabeledApproved_full"


def open_camvid(
    root: str | Path, split: str, class_names: tuple[str, ...] = CAMVID_CLASSES, ignore_index: int = 255
) -> FileDataset:
    """One split, such as "train", of any of the three layouts.

    Raises:
        DataError: no such folder or split, or masks missing.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"{no_folder(folder)} It should hold train and trainannot, or {STILLS}.")
    if (folder / f"{split}annot").is_dir():
        pairs = same_names(folder / split, folder / f"{split}annot")
        ids = {label: label for label in range(11)} | {11: ignore_index}
        return FileDataset(pairs, class_names, CAMVID_PALETTE, ignore_index, Table.of("CamVid", ids))
    if (folder / f"{split}_labels").is_dir():
        pairs = same_names(folder / split, folder / f"{split}_labels", "_L")
    elif (folder / STILLS).is_dir() and (folder / f"{split}.txt").is_file():
        pairs = _listed(folder, split)
    else:
        raise _no_split(folder, split)
    colours = [(colour, label) for label, (_, _, joined) in enumerate(_LABELS) for colour in joined]
    colours.append(((0, 0, 0), ignore_index))
    encoding = Colours(tuple(colour for colour, _ in colours), tuple(label for _, label in colours))
    return FileDataset(pairs, class_names, CAMVID_PALETTE, ignore_index, encoding, colours_in_file)


def _listed(root: Path, split: str) -> list[Pair]:
    """The images in <split>.txt, one per line: an id, a file name or a path, and optionally the mask's."""
    ids = [PurePosixPath(line.split()[0]).stem for line in ids_in_list(root / f"{split}.txt")]
    pairs = [Pair(id, root / STILLS / f"{id}.png", root / APPROVED / f"{id}_L.png") for id in ids]
    require_different_ids(pairs, f"{split}.txt")
    require_files(pairs)
    return pairs


def _no_split(root: Path, split: str) -> DataError:
    names = folders_in(root)
    there = [name for name in names if {f"{name}annot", f"{name}_labels"} & set(names)]
    if STILLS in names:
        there += sorted(path.stem for path in root.glob("*.txt") if path.stem != "label_colors")
        return no_split(split, root / f"{split}.txt", there)
    return no_split(split, root / f"{split}annot", there)
