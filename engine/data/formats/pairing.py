"""Which mask belongs to which image, by their names.

Four rules are tried on the whole data set, and the one that pairs most images is used: the names are equal;
the mask's name has a suffix or prefix (`a.jpg`, `a_mask.png`); both have one (`a_leftImg8bit.png`,
`a_gtFine_labelIds.png`); or the mask is named after the whole file (`a.jpg.png`, `a.jpg_mask.png`).
A folder in which all images or all masks lie does not count (`masks` in `tile 1/masks/a.png`), nor does a
word that all names of one kind begin or end with (`21_training.tif` and `21_manual1.gif`).
Files that remain without a partner are an error, never dropped.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path

from engine.data.formats.files import Pair
from engine.data.sample import DataError, first_few
from engine.wording import quantity, some_of

_MASK = "(?:gtFine_)?(?:mask|label|labelId|labelTrainId|gt|seg|segmentation|annot|annotation|target|matte)s?"
_IMAGE = "(?:image|img|im|photo|rgb|leftImg8bit|sat)"

PHOTO_ENDINGS = (".jpg", ".jpeg")
_MASK_FOLDER = re.compile(rf"(?:{_MASK}|ground_?truth|SegmentationClass)", re.I)
Names = dict[Path, str]  # file -> its path below its folder, without extension


def _without(marks: str) -> Callable[[str], str]:
    """Removes a suffix, else a prefix of the last part, joined by _ - . or a space, from a name."""
    at_the_end = re.compile(rf"(?<=[^/])[-_. ](?:{marks}|L|P)$|(?<=/)(?:{marks})$", re.I)  # a_mask, a/mask
    in_front = re.compile(rf"(?:(?<=/)|^)(?:{marks})[-_. ](?=[^/]+$)", re.I)

    def without(name: str) -> str:
        shorter = at_the_end.sub("", name)
        return shorter if shorter != name else in_front.sub("", name)

    return without


def _without_suffix(suffix: str) -> Callable[[str], str]:
    return lambda name: name.removesuffix(suffix)


def _same(name: str) -> str:
    return name


def _without_ending(name: str) -> str:
    """Without the ending of the image that a mask is named after, and what follows it."""
    ending = re.compile(r"(?<=[^/])\.(?:jpe?g|png|bmp|tiff?|webp|gif)$", re.I)
    shorter = ending.sub("", name)
    return shorter if shorter != name else ending.sub("", _without(_MASK)(name))


RULES = (
    (_same, _same),
    (_same, _without(_MASK)),
    (_without(_IMAGE), _without(_MASK)),
    (_same, _without_ending),
)


def pair_up(
    images: Names, masks: Names, mask_suffix: str | None = None, all_masks: bool = True
) -> list[Pair]:
    """A pair for each image, sorted by name; the ids are the images' names.

    Args:
        images, masks: files and their names; if both are the same files, masks are those with a mask's
            suffix, or those next to a JPEG of the same name, or those named after another whole file.
        mask_suffix: the suffix of masks; files without it are not masks.
        all_masks: whether each mask must have an image, too.

    Raises:
        DataError: images without mask, masks without image, or several for one; their number and the first
            few.
    """
    of_mask = _without(_MASK) if mask_suffix is None else _without_suffix(mask_suffix)
    if images == masks and mask_suffix is None and _are_side_by_side(images):
        masks = {path: name for path, name in images.items() if path.suffix.lower() not in PHOTO_ENDINGS}
        images = {path: name for path, name in images.items() if path not in masks}
    elif images == masks and mask_suffix is None and (named := _named_after_files(images)):
        masks, images = named, {path: name for path, name in images.items() if path not in named}
    elif images == masks and mask_suffix is None and (inside := _in_folders_of_masks(images)):
        masks, images = inside, {path: name for path, name in images.items() if path not in inside}
    elif images == masks or mask_suffix is not None:
        masks = {path: name for path, name in masks.items() if of_mask(name) != name}
        images = {path: name for path, name in images.items() if path not in masks}
    rules = RULES if mask_suffix is None else ((_same, of_mask), (_without(_IMAGE), of_mask))
    groups = [
        (_grouped(ours, rule[0]), _grouped(theirs, rule[1]))
        for ours, theirs in ((images, masks), (_without_folder(images), _without_folder(masks)))
        for rule in rules
    ]
    if mask_suffix is None:
        groups.append((_grouped(images, _without_shared(images)), _grouped(masks, _without_shared(masks))))
    found, candidates = max(groups, key=lambda group: len(group[0].keys() & group[1].keys()))
    if not all_masks:
        candidates = {core: paths for core, paths in candidates.items() if core in found}
    problems = [
        *_several("images", found),
        *_several("masks", candidates),
        *_alone("image", "mask", found, candidates),
        *_alone("mask", "image", candidates, found),
    ]
    if problems:
        raise DataError(
            "Images and masks cannot be paired by their names.\n"
            + "\n".join(problems)
            + "\nRename or remove those files, list the ids of the good ones in <split>.txt, or say how the "
            "names of masks end, for example data.folder.mask_suffix=_mask. If each class has masks of its "
            "own: docs/multi_label.md."
        )
    pairs = [Pair(images[path], path, candidates[core][0]) for core, [path] in found.items()]
    return sorted(pairs, key=lambda pair: pair.id)


def possible_masks(files: Names) -> Iterator[tuple[Path, Path]]:
    """(mask, image) for each file whose name is that of a mask of another file, by one of the rules.

    Names alone are no proof: `a.png` next to `a.jpg` may be the same photo.
    """
    for of_image, of_mask in RULES:
        images = _grouped(files, of_image)
        for path, name in files.items():
            yield from ((path, image) for image in images.get(of_mask(name), ()) if image != path)


def _are_side_by_side(files: Names) -> bool:
    """Whether each name is there twice: a photo as JPEG, and its mask in another format."""
    groups = _grouped(files, _same).values()
    return all(
        len(paths) == 2 and sum(path.suffix.lower() in PHOTO_ENDINGS for path in paths) == 1
        for paths in groups
    )


def _named_after_files(files: Names) -> Names:
    """Those that are named after another whole file, such as a.jpg.png next to a.jpg."""
    whole = {f"{name}{path.suffix}" for path, name in files.items()}
    return {path: name for path, name in files.items() if name in whole}


def _in_folders_of_masks(files: Names) -> Names:
    """Those in a folder called masks, labels or alike, such as tile 1/masks/a.png next to tile 1/images."""
    return {
        path: name for path, name in files.items() if "/" in name and _MASK_FOLDER.fullmatch(path.parent.name)
    }


def _without_folder(files: Names) -> Names:
    """Without the folder that all files are in, such as `pixel-level` of annotations/pixel-level/*.png, or
    `masks` of tile 1/masks/*.png and tile 2/masks/*.png."""
    if len({*map(_folder, files.values())}) == 1:
        return {path: name.rpartition("/")[2] for path, name in files.items()}
    if len({_folder(name).rpartition("/")[2] for name in files.values()}) > 1:
        return files
    return {
        path: f"{_folder(name).rpartition('/')[0]}/{name.rpartition('/')[2]}" for path, name in files.items()
    }


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _without_shared(files: Names) -> Callable[[str], str]:
    """Removes the words that all names begin or end with."""
    words = [re.split(r"[-_. ]", name.rpartition("/")[2]) for name in files.values()]
    first, last = _num_shared(words), _num_shared([each[::-1] for each in words])
    if not words or first + last >= min(map(len, words)):
        return _same

    def without(name: str) -> str:
        folder, _, file = name.rpartition("/")
        own = re.split(r"[-_. ]", file)
        return f"{folder}/{'_'.join(own[first : len(own) - last])}"

    return without


def _num_shared(words: list[list[str]]) -> int:
    """The number of words at the beginning that are the same in all lists."""
    return sum(1 for _ in takewhile(lambda place: len({*place}) == 1, zip(*words, strict=False)))


def _grouped(files: Names, core: Callable[[str], str]) -> dict[str, list[Path]]:
    groups = defaultdict(list)
    for path, name in files.items():
        groups[core(name)].append(path)
    return dict(groups)


def _several(what: str, groups: dict[str, list[Path]]) -> list[str]:
    several = [" and ".join(map(str, paths)) for paths in groups.values() if len(paths) > 1]
    if not several:
        return []
    return [f"{quantity(len(several), 'time')}, several {what} have the same name: {first_few(several)}."]


def _alone(what: str, other: str, ours: dict[str, list[Path]], theirs: dict[str, list[Path]]) -> list[str]:
    alone = sorted(str(path) for core, paths in ours.items() if core not in theirs for path in paths)
    have_none = some_of(len(alone), sum(map(len, ours.values())), what, "has", "have")
    return [f"{have_none} no {other}: {first_few(alone)}."] if alone else []
