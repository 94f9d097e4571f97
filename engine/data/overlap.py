"""Images that two data sets share, whatever their names and folders are."""

import filecmp
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import torch

from engine.data.formats.files import FileDataset
from engine.data.resident import Resident
from engine.data.sample import DataError, Dataset, UnreadableSample
from engine.data.sets import SeveralSets

# Bytes at the start, in the middle and at the end, which are compared first of files of equal size.
PIECE = 4096
NUM_COMPARED = 16  # images without files whose pixels are compared first


def shared_images(dataset: Dataset, other: Dataset) -> set[str]:
    """The ids of the images of `dataset` that are in `other` too: the same file, or an equal one.

    Of data sets that have no image files, those of equal names and pixels, judged by a few. Several sets are
    compared one by one.
    """
    one, two = (d.source if isinstance(d, Resident) else d for d in (dataset, other))
    if isinstance(one, SeveralSets):
        return {part.prefix + id for part in one.parts for id in shared_images(part.dataset, two)}
    if isinstance(two, SeveralSets):
        return {id for part in two.parts for id in shared_images(one, part.dataset)}
    if not isinstance(one, FileDataset) or not isinstance(two, FileDataset):
        return set(one.ids) if one.fingerprint() == two.fingerprint() else _same_pixels(one, two)
    paths = {id: one.image_path(index) for index, id in enumerate(one.ids)}
    shared = shared_files(paths.values(), map(two.image_path, range(len(two))))
    return {id for id, path in paths.items() if path in shared}


def _same_pixels(one: Dataset, two: Dataset) -> set[str]:
    """The ids that both have, of images of equal sizes and pixels.

    The pixels of a few are compared, spread over the list: reading all can take as long as an epoch. Where
    none of these are equal, only the names are, such as 0, 1, 2, and where all are, the others of equal size
    are taken for equal too. Otherwise all are compared. What cannot be read is not known to be shared.
    """
    pairs = _of_one_name_and_size(one, two)

    def are_equal(id: str) -> bool | None:
        index, twin = pairs[id]
        try:
            return torch.equal(one[index].image, two[twin].image)
        except DataError:  # reported where it is read
            return None

    few = {id: are_equal(id) for id in list(pairs)[:: math.ceil(len(pairs) / NUM_COMPARED) or 1]}
    if True not in few.values():
        return set()
    if False not in few.values():
        return {id for id in pairs if few.get(id, True)}
    return {id for id in pairs if (few[id] if id in few else are_equal(id))}


def _of_one_name_and_size(one: Dataset, two: Dataset) -> dict[str, tuple[int, int]]:
    """Id -> its indices in both; without those of different sizes, and those of an unreadable image."""
    twins = {id: index for index, id in enumerate(two.ids)}
    pairs = {id: (index, twins[id]) for index, id in enumerate(one.ids) if id in twins}
    try:
        sizes, others = (one.sizes(), two.sizes()) if pairs else ([], [])
    except UnreadableSample:  # of an image; the pixels of the others can be compared
        return pairs
    return {id: (i, j) for id, (i, j) in pairs.items() if sizes[i] == others[j] and any(sizes[i])}


def image_files(dataset: Dataset) -> list[Path]:
    """The file of each image; none of data sets that have no image files."""
    source = dataset.source if isinstance(dataset, Resident) else dataset
    if isinstance(source, SeveralSets):
        return [path for part in source.parts for path in image_files(part.dataset)]
    return list(map(source.image_path, range(len(source)))) if isinstance(source, FileDataset) else []


def shared_files(paths: Iterable[Path], others: Iterable[Path]) -> set[Path]:
    """Those of `paths` that are among the others too, or whose content is."""
    of_size: dict[int, list[Path]] = defaultdict(list)
    for path in others:
        of_size[_size(path)].append(path)
    pieces: dict[Path, bytes] = {}

    def content(path: Path) -> bytes:
        if path not in pieces:
            pieces[path] = _pieces(path)
        return pieces[path]

    def are_equal(path: Path, twin: Path) -> bool:
        return content(path) == content(twin) and filecmp.cmp(path, twin, shallow=False)

    return {
        path
        for path in paths
        if any(path == twin or are_equal(path, twin) for twin in of_size.get(_size(path), ()))
    }


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # unreadable: reported where it is read
        return -1


def _pieces(path: Path) -> bytes:
    size = _size(path)
    try:
        with path.open("rb") as file:
            found = []
            for start in (0, size // 2, max(0, size - PIECE)):
                file.seek(start)
                found.append(file.read(PIECE))
            return b"".join(found)
    except OSError:
        return str(path).encode()
