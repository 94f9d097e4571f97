"""Which images below a folder are masks.

Those in a folder of masks beside one of images, by the names of the folders; and those beside their images in
one folder, by their own names and by what they hold.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from functools import cache
from itertools import product, takewhile
from pathlib import Path, PurePosixPath
from typing import Any

from engine.data.formats import format_of
from engine.data.formats.folder import IMAGES, MASKS
from engine.data.formats.listing import folders_in
from engine.data.formats.pairing import PHOTO_ENDINGS, possible_masks
from engine.data.inputs import InputImage, with_names
from engine.data.sample import UnreadableSample, first_few
from engine.data.survey.contents import num_values_in_parts
from engine.data.survey.values import MAX_COLOURS
from engine.wording import some_of


def without_masks(images: Sequence[InputImage], section: Any) -> tuple[list[InputImage], str]:
    """The images that are no masks, and sentences on the others; all images if none would be left.

    Args:
        images: a mask that the user named, or whose folder they named, is not left out.
        section: a recipe's `data`, whose names of folders count besides the usual ones.
    """
    names = [*product(IMAGES, MASKS), *format_of(section.format).masks_beside, *_own_names(section.folder)]

    @cache
    def is_of_masks(folder: Path) -> bool:
        beside = [name.lower() for name in folders_in(folder.parent) if name != folder.name]
        return any(
            fnmatch(folder.name.lower(), masks.lower()) and any(fnmatch(name, of.lower()) for name in beside)
            for of, masks in names
        )

    def folder_of_masks(image: InputImage) -> Path | None:
        inside = takewhile(lambda folder: folder != image.input_folder, image.path.parents)
        return next(filter(is_of_masks, inside), None)

    found = [folder_of_masks(image) for image in images]
    left = [image for image, folder in zip(images, found, strict=True) if folder is None]
    folders = list(dict.fromkeys(folder for folder in found if folder))
    notes = []
    if folders:
        what = some_of(len(images) - len(left), len(images), "image", "is", "are")
        notes.append(
            f"{what} left out, found in a folder of masks beside one of images: {first_few(folders)}."
        )
    if beside := _masks_beside(left):
        left = with_names([image for image in left if image.path not in beside])
        what = some_of(len(beside), len(images), "image", "is", "are")
        why = "as a mask beside its image" if len(beside) == 1 else "as masks beside their images"
        notes.append(f"{what} left out {why}: {first_few(sorted(beside))}.")
    return (left, " ".join(notes)) if left else (list(images), "")


def _masks_beside(images: Sequence[InputImage]) -> set[Path]:
    """Those with the name of a mask of another image of their folder, and as few values as masks have."""
    typed = {image.path for image in images if image.is_typed}
    in_folder = defaultdict[Path, dict[Path, str]](dict)
    for image in images:
        in_folder[image.path.parent][image.path] = image.path.stem

    @cache
    def holds_few_values(path: Path) -> bool:
        try:
            return path.suffix.lower() not in PHOTO_ENDINGS and num_values_in_parts(path) <= MAX_COLOURS
        except UnreadableSample:
            return False

    pairs = (pair for files in in_folder.values() for pair in possible_masks(files))
    return {
        mask
        for mask, image in pairs
        if mask not in typed and holds_few_values(mask) and not holds_few_values(image)
    }


def _own_names(options: Any) -> Iterator[tuple[str, str]]:
    """The names of a folder of images and of one of masks in the same place, by a recipe's data.folder."""
    given = (options.images, options.masks) if options else (None, None)
    if given == (None, None):
        return
    for pair in product([given[0]] if given[0] else IMAGES, [given[1]] if given[1] else MASKS):
        images, masks = (PurePosixPath(name.replace("{split}", "*")).parts for name in pair)
        yield from [(one, other) for one, other in zip(images, masks, strict=False) if one != other][:1]
