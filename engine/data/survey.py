"""What a folder of images and masks holds: its layout, its splits, and what the values of its masks mean.

The layouts are tried in turn with the formats' own code, so a section that is returned can be opened.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data import open_split
from engine.data.doctor.mask_facts import pack
from engine.data.formats.files import FileDataset
from engine.data.formats.folder import IMAGES, LIST_ENDINGS, LIST_FOLDERS, MASKS
from engine.data.formats.listing import IMAGE_ENDINGS, folders_in, images_below, is_of_a_tool, names_in
from engine.data.formats.pairing import PHOTO_ENDINGS
from engine.data.options import Data
from engine.data.sample import DataError, first_few
from models.class_names import VOC

TRAIN = ("train", "training", "trainaug", "trn")
VAL = ("val", "valid", "validation", "dev", "test", "testing")
DEPTH = 2  # folders below the given one that are looked into
SHARES = (0.2, 0.3, 0.1, 0.5)  # of a folder without splits, for val; the first that leaves no side empty
MASK_WORDS = re.compile(r"mask|label|annot|gt|ground|seg|target|matte|^y_|_y$", re.I)
NAME_FILES = ("classes.txt", "class_names.txt", "labels.txt", "labelmap.txt", "label_names.txt", "names.txt")
COLOUR_FILES = ("class_dict.csv", "labelmap.txt", "label_colors.txt", "classes.csv")
VOID_NAMES = ("void", "ignore", "__ignore__", "unlabelled", "unlabeled")
MAX_COLOURS = 64  # above, masks are not drawn in the colours of classes
RARE = 1e-4  # share of the pixels: many colours below it come from JPEG or from resizing
SOFT = (
    "they were saved as JPEG, or resized with interpolation, or are photos. Save them as PNG, from "
    "the program that drew them."
)
FRAMES = r"(.+?)[-_ ]?\d+"  # the number of a frame at the end of a name


@dataclass(frozen=True)
class Survey:
    """section: of a recipe's `data` that opens. findings: one line each. num_train, num_val: images.

    size: (h, w), the medians over the images.
    """

    section: dict[str, Any]
    findings: list[str]
    num_train: int
    num_val: int
    size: tuple[int, int]
    class_names: list[str]


@dataclass
class _Values:
    """What the masks hold: pixels by value (or by packed colour), over all masks, and their pixel types."""

    pixels: Counter[float] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)
    has_colours: bool = False
    are_jpeg: bool = False


def survey(root: Path, progress: Callable[[int, int], None]) -> Survey:
    """Find images and masks below a folder, and read every mask once.

    Raises:
        DataError: no layout fits, or the masks hold what no class can be; what was looked for and what was
            seen.
    """
    root = root.expanduser()
    if not root.is_dir():
        raise DataError(f"No folder {root}. Type the folder that holds your images and masks.")
    reasons: list[str] = []
    for section in _candidates(root):
        opened = _opened(section, reasons)
        if opened:
            train, val = opened
            findings = [_where(section, len(train), len(val))]
            if section["format"] == "coco":
                names = list(section["classes"])
                findings.append(f"objects of {len(names) - 1} categories: {first_few(names[1:], 12)}")
            else:
                values = _read_values([train, val], progress)
                meant, line = _meaning(values, Path(section["root"]), root)
                names = [item if isinstance(item, str) else item["name"] for item in meant["classes"]]
                folder = {**section.get("folder", {}), **meant.pop("folder", {})}
                section = {**section, **meant, **({"folder": folder} if folder else {})}
                findings.append(line)
            sizes = np.array([size for dataset in opened for size in dataset.sizes() if all(size)])
            if not len(sizes):
                raise DataError(f"None of the images in {section['root']} can be read.")
            h, w = (int(n) for n in np.median(sizes, axis=0))
            low, high = sizes.min(axis=0), sizes.max(axis=0)
            if (low == high).all():
                findings.append(f"every image has {w}x{h} px")
            else:
                findings.append(f"images of {low[1]}x{low[0]} to {high[1]}x{high[0]} px, median {w}x{h}")
            return Survey(section, findings, len(train), len(val), (h, w), names)
    raise DataError(_not_understood(root, reasons))


def _where(section: dict[str, Any], num_train: int, num_val: int) -> str:
    folder = section.get("folder", {})
    text = f"{num_train} images to train on and {num_val} to score on, in {section['root']}"
    if "val_share" in folder:
        text += f"; {folder['val_share']:.0%} are for val, by a hash of their names"
        if "group" in folder:
            text += ", with the frames of one sequence on the same side"
    return text


# Layouts


def _candidates(root: Path) -> Iterator[dict[str, Any]]:
    """Sections to try, the likely ones first, in the folder and then in the folders below it."""
    bases = [root]
    for _ in range(DEPTH + 1):
        for base in bases:
            for section in _in_folder(base):
                yield {"root": str(base), **section}
        bases = [base / name for base in bases for name in folders_in(base) if not is_of_a_tool(name)]


def _in_folder(base: Path) -> Iterator[dict[str, Any]]:
    yield from _coco(base)
    folders = folders_in(base)
    lowered = {name.lower(): name for name in folders}
    lists = {Path(name).stem for place in LIST_FOLDERS for name in names_in(base / place)
             if Path(name).suffix in LIST_ENDINGS}  # fmt: skip
    splits = _train_and_val({*folders, *lists, *(f for name in folders for f in folders_in(base / name))})
    for split in splits:  # <split>/images, images/<split>, and images with <split>.txt
        yield {"format": "folder", **split}
        for images, masks in _other_pairs(base, folders):
            yield {"format": "folder", **split, "folder": {"images": images, "masks": masks}}
        yield {"format": "folder", **split, "folder": {"images": "{split}", "masks": "{split}"}}
    for train, images, masks in _named_by_split(folders):  # train with trainannot, train_images, x_train ...
        for val in VAL:
            if {images.replace("{split}", val).lower(), masks.replace("{split}", val).lower()} <= {*lowered}:
                folder = {"images": images, "masks": masks}
                yield {"format": "folder", "train": train, "val": val, "folder": folder}
    usual = [(a, b) for a, b in permutations(folders, 2) if _is_usual(a, b)]
    here = [(".", ".")] if any(Path(name).suffix.lower() in IMAGE_ENDINGS for name in names_in(base)) else []
    per_sample = [(".", ".")] if not here and len(folders) > 1 else []  # a folder for each image
    for images, masks in [*usual, *_other_pairs(base, folders), *here, *per_sample]:
        for share in SHARES:
            shared: dict[str, Any] = {"images": images, "masks": masks, "val_share": share}
            yield {"format": "folder", "train": "train", "val": "val", "folder": shared}


def _coco(base: Path) -> Iterator[dict[str, Any]]:
    sources = {
        path.stem.removeprefix("instances_"): path for path in base.glob("annotations/instances_*.json")
    }
    sources |= {path.parent.name: path for path in base.glob("*/_annotations.coco.json")}
    for split in _train_and_val({*sources, *(re.sub(r"\d+$", "", name) for name in sources)}):
        named = {
            use: next(name for name in sources if name.startswith(split[use])) for use in ("train", "val")
        }
        try:
            categories = json.loads(sources[named["train"]].read_bytes())["categories"]
            names = list(dict.fromkeys(str(category["name"]) for category in categories))
        except (ValueError, KeyError, TypeError):  # the format itself says what is wrong
            names = ["object"]
        objects = [name for name in names if name.strip("_ ").lower() != "background"]
        yield {"format": "coco", **named, "classes": ["background", *objects]}


def _train_and_val(names: set[str]) -> Iterator[dict[str, str]]:
    """The splits among names of folders and lists; exact spellings first."""
    by_lower = {name.lower(): name for name in sorted(names, reverse=True)}
    for train in TRAIN:
        for val in VAL:
            if train in by_lower and val in by_lower:
                yield {"train": by_lower[train], "val": by_lower[val]}


def _named_by_split(folders: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(train, pattern of the images' folder, of the masks'), of folders whose names have the split inside."""
    for train in TRAIN:
        patterns = [re.sub(train, "{split}", name, count=1, flags=re.I) for name in folders]
        patterns = [pattern for pattern in patterns if "{split}" in pattern]
        masks = [pattern for pattern in patterns if MASK_WORDS.search(pattern)]
        images = [pattern for pattern in patterns if pattern not in masks]
        yield from ((train, image, mask) for image in images for mask in masks)


def _other_pairs(base: Path, folders: Sequence[str]) -> list[tuple[str, str]]:
    """Folders of images and of masks by words in their names, such as road_photos and road_labels_v2."""
    holding = [name for name in folders if not is_of_a_tool(name)]
    masks = [name for name in holding if MASK_WORDS.search(name)]
    pairs = [(a, b) for a, b in permutations(holding, 2) if b in masks and a not in masks]
    return [(a, b) for a, b in pairs if not _is_usual(a, b)]


def _is_usual(images: str, masks: str) -> bool:
    """Whether the format tries these names by itself."""
    names = ((images, IMAGES), (masks, MASKS))
    return all(name.lower() in {usual.lower() for usual in known} for name, known in names)


def _opened(section: dict[str, Any], reasons: list[str]) -> tuple[FileDataset, FileDataset] | None:
    """Both splits, if the section opens; else the reason is noted."""
    if section["format"] == "folder":  # binary: so that no value of a mask is refused yet
        folder = {**section.get("folder", {}), "values": "binary"}
        trial = {**section, "classes": ["no", "yes"], "folder": folder}
    else:
        trial = section
    trial = {**trial, "on_error": "skip"}  # the doctor names what is damaged
    try:
        data = Data.model_validate(trial)
        train, val = open_split(data, data.train), open_split(data, data.val)
    except DataError as error:
        reasons.append(str(error))
        return None
    assert isinstance(train, FileDataset) and isinstance(val, FileDataset)
    folder = section.get("folder", {})
    group = _group_of_frames([*train.ids, *val.ids]) if "val_share" in folder else None
    if group and "group" not in folder:
        folder["group"] = group
        return _opened(section, reasons)
    return train, val


def _group_of_frames(ids: Sequence[str]) -> str | None:
    """The pattern of a sequence's name, where the names show several sequences of several frames."""
    matches = [re.fullmatch(FRAMES, id) for id in ids]
    sequences = Counter(match[1] for match in matches if match)
    several = [name for name, frames in sequences.items() if frames > 1]
    is_video = len(several) >= 3 and all(matches) and len(ids) >= 3 * len(sequences)
    return f"^{FRAMES}$" if is_video else None


def _not_understood(root: Path, reasons: list[str]) -> str:
    seen = []
    for folder in [root, *(root / name for name in folders_in(root))][:12]:
        endings = Counter(path.suffix.lower() for path in folder.iterdir() if path.is_file())
        files = ", ".join(f"{number} {ending or 'files'}" for ending, number in endings.most_common(4))
        seen.append(f"  {folder}: {files or 'no files'}")
    num_images = len(images_below(root))
    near = [reason for reason in dict.fromkeys(reasons) if "no images and masks" not in reason][:2]
    return "\n".join(
        [
            f"{root} is not understood: no images with masks were found ({num_images} images below it).",
            "Looked for VOC and COCO, train/images with train/masks, images/train with masks/train, train "
            "with trainannot, images and masks with train.txt and val.txt, images with masks next to them or "
            "in a folder of their own.",
            "There are:",
            *seen,
            *(f"The nearest attempt said: {reason}" for reason in near),
            "If the folders have other names, write a recipe with data.format: folder and "
            "data.folder: {images: <folder>, masks: <folder>, val_share: 0.2} (docs/data.md).",
        ]
    )


# Values


def _read_values(datasets: Sequence[FileDataset], progress: Callable[[int, int], None]) -> _Values:
    values, done, total = _Values(), 0, sum(map(len, datasets))
    for dataset in datasets:
        for index in range(len(dataset)):
            try:
                stored = dataset.stored_mask(index)
            except DataError:  # the doctor counts and names them
                continue
            finally:
                done += 1
                progress(done, total)
            values.forms[stored.dtype.name] += 1
            values.are_jpeg |= dataset.mask_path(index).suffix.lower() in PHOTO_ENDINGS
            colours, counts = np.unique(_single(stored, values), return_counts=True)
            values.pixels.update(dict(zip(colours.tolist(), counts.tolist(), strict=True)))
    nan = sum(
        count for value, count in values.pixels.items() if value != value
    )  # each NaN is a key of its own
    if nan:
        values.pixels = Counter({v: n for v, n in values.pixels.items() if v == v} | {float("nan"): nan})
    return values


def _single(stored: NDArray[Any], values: _Values) -> NDArray[Any]:
    """(h, w): the values, or packed colours."""
    if stored.ndim == 2:
        return stored
    if stored.shape[2] < 3 or (stored[..., :3] == stored[..., :1]).all():
        single: NDArray[Any] = stored[..., 0]
        return single.astype(np.uint32) * 0x010101 if stored.shape[2] >= 3 else single
    values.has_colours = True
    return pack(stored[..., :3])


def _meaning(values: _Values, base: Path, root: Path) -> tuple[dict[str, Any], str]:
    """Keys of the data section for these values, and what was found in a line.

    Raises:
        DataError: the values cannot be classes.
    """
    names, colours = _class_table(base, root)
    pixels = values.pixels
    if values.has_colours:
        return _colours(pixels, colours)
    packed = {value for value in pixels if value > 255 and value % 0x010101 == 0}
    if packed and {value for value in pixels if value} == packed:  # three equal channels hold the id
        pixels = Counter({value // 0x010101: count for value, count in pixels.items()})
        if set(pixels) - {0, 255}:
            grey = {v * 0x010101: n for v, n in pixels.items()}
            return _colours(Counter(grey), {})
    there = sorted(value for value in pixels if value == value)
    if not there:
        raise DataError(f"No mask in {base} can be read.")
    if set(there) <= {0, 255} and 255 in there:
        classes = names if len(names) == 2 else ["background", "class_1"]
        return {"classes": classes, "folder": {"values": "binary"}}, "masks of 0 and 255: two classes"
    if set(there) <= {0, 1} and values.forms["bool"]:
        classes = names if len(names) == 2 else ["background", "class_1"]
        return {"classes": classes, "folder": {"values": "binary"}}, "masks of one bit: two classes"
    odd = [value for value in there if value != int(value)]
    if odd:
        raise DataError(
            f"The masks in {base} hold {first_few(odd)}: values between whole numbers, such as "
            "probabilities, are no classes. Save masks of whole ids, for example (mask > 0.5) as 0 and 255."
        )
    rare = [value for value in there if pixels[value] < RARE * pixels.total()]
    if values.are_jpeg or (len(there) > MAX_COLOURS and len(rare) > len(there) / 2):
        raise DataError(f"The masks in {base} hold {len(there)} values, most of them rare: {SOFT}")
    void = [value for value in there if value in (255, 65535) or value < 0]
    ids = [int(value) for value in there if value not in void]
    if not ids:
        raise DataError(f"The masks in {base} hold only {first_few(there)}, and no class.")
    plain = set(values.forms) <= {"uint8"} and not any(value < 0 for value in void) and 65535 not in void
    if plain and (ids == [*range(len(ids))] or (names and max(ids) < len(names))):
        classes = names if len(names) > max(ids) else _numbered(max(max(ids), 1) + 1)
        line = f"masks of ids 0 to {max(ids)}" + (", void is 255" if void else "")
        return {"classes": classes}, line
    if plain and not names and max(ids) < len(VOC) and "SegmentationClass" in folders_in(base):
        line = f"masks of {len(ids)} of the {len(VOC)} ids of PASCAL VOC, whose names they get"
        return {"classes": list(VOC)}, line
    classes = names if len(names) == len(ids) else _numbered(len(ids))
    table: dict[str, int | str] = {str(int(value)): "void" for value in void}
    if any(value != value for value in pixels):
        table["nan"] = "void"
    table |= {str(id): label for label, id in enumerate(ids)}
    shown = ", ".join(f"{value} is {label}" for value, label in list(table.items())[:8])
    return {"classes": classes, "ids": table}, f"masks of {len(ids)} values, renumbered: {shown}"


def _colours(pixels: Counter[float], table: dict[int, str]) -> tuple[dict[str, Any], str]:
    """Classes by colour, black first, then by frequency; or as a file of the data set names them."""
    total = pixels.total()
    found = [int(value) for value, count in pixels.most_common() if count >= RARE * total]
    rare = len(pixels) - len(found)
    unknown = [colour for colour in found if table and colour not in table]
    if len(found) > MAX_COLOURS or rare > MAX_COLOURS:
        raise DataError(f"The masks hold {len(pixels):,} colours, {rare:,} of them rare: {SOFT}")
    if table and not unknown:
        void = [colour for colour, name in table.items() if name.lower() in VOID_NAMES]
        named = {colour: name for colour, name in table.items() if colour not in void}
        line = f"masks in {len(found)} of the {len(table)} colours that a file names"
    else:
        ordered = sorted(map(int, pixels), key=lambda colour: (colour != 0, -pixels[colour]))
        void, labels = [], _numbered(len(ordered))
        named = dict(zip(ordered, labels, strict=True))
        line = f"masks in {len(ordered)} colours, by frequency: {first_few([_rgb(c) for c in ordered], 8)}"
    classes = [{"name": name, "colour": _rgb(colour)} for colour, name in named.items()]
    if len(classes) < 2:
        raise DataError("The masks hold a single colour, and no class can be told from another.")
    return {
        "classes": classes,
        **({"folder": {"void_colours": [_rgb(c) for c in void]}} if void else {}),
    }, line


def _rgb(colour: int) -> list[int]:
    return [colour >> 16 & 255, colour >> 8 & 255, colour & 255]


def _numbered(num_classes: int) -> list[str]:
    return ["background", *(f"class_{id}" for id in range(1, num_classes))]


def _class_table(*folders: Path) -> tuple[list[str], dict[int, str]]:
    """Class names by id, and by packed colour, from a file that annotation tools write next to the data."""
    for folder in dict.fromkeys(folders):
        for name in dict.fromkeys((*NAME_FILES, *COLOUR_FILES)):
            if not (folder / name).is_file():
                continue
            try:
                lines = (folder / name).read_text("utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError):
                continue
            rows = [row for row in csv.reader(re.sub(r"[:\t]", ",", line) for line in lines) if row]
            colours = {_packed(row): row[0].strip() for row in rows if _packed(row) is not None}
            names = [row[0].strip() for row in rows if row[0].strip() and not row[0].startswith("#")]
            names = [name for name in names if name.lower() not in VOID_NAMES]
            if colours or len({*names}) == len(names) >= 2:
                return ([] if colours else names), {c: n for c, n in colours.items() if c is not None}
    return [], {}


def _packed(row: list[str]) -> int | None:
    """0xRRGGBB of a row: name, red, green, blue."""
    numbers = [int(cell) for cell in row[1:4] if cell.strip().isdigit() and int(cell) < 256]
    return int.from_bytes(bytes(numbers), "big") if len(numbers) == 3 else None
