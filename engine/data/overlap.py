"""Images that two data sets share, whatever their names and folders are."""

import filecmp
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import torch

from engine.data.formats.files import FileDataset
from engine.data.resident import Resident
from engine.data.sample import Dataset, UnreadableSample
from engine.data.sets import SeveralSets

# Bytes at the start, in the middle and at the end, which are compared first of files of equal size.
PIECE = 4096


def shared_images(dataset: Dataset, other: Dataset) -> set[str]:
    """The ids of the images of `dataset` that are in `other` too: the same file, or an equal one.

    Of data sets that have no image files, those of equal names and pixels. Several sets are compared one
    by one.
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
    """The ids that both have, of equal images, or of images that cannot be read."""
    places = {id: index for index, id in enumerate(two.ids)}

    def are_equal(index: int, twin: int) -> bool:
        try:
            return torch.equal(one[index].image, two[twin].image)
        except UnreadableSample:
            return True

    return {id for index, id in enumerate(one.ids) if id in places and are_equal(index, places[id])}


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
