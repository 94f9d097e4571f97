"""Images that two data sets share, whatever their names and folders are."""

import filecmp
from collections import defaultdict
from pathlib import Path

from engine.data.formats.files import FileDataset
from engine.data.resident import Resident
from engine.data.sample import Dataset
from engine.data.sets import SeveralSets

# Bytes at the start, in the middle and at the end, which are compared first of files of equal size.
PIECE = 4096


def shared_images(dataset: Dataset, other: Dataset) -> set[str]:
    """The ids of the images of `dataset` that are in `other` too: the same file, or an equal one.

    Of data sets that have no image files all, where both hold the same, or none. Several sets are
    compared one by one.
    """
    one, two = (d.source if isinstance(d, Resident) else d for d in (dataset, other))
    if isinstance(one, SeveralSets):
        return {part.prefix + id for part in one.parts for id in shared_images(part.dataset, two)}
    if isinstance(two, SeveralSets):
        return {id for part in two.parts for id in shared_images(one, part.dataset)}
    if not isinstance(one, FileDataset) or not isinstance(two, FileDataset):
        return set(one.ids) if one.fingerprint() == two.fingerprint() else set()
    of_size: dict[int, list[Path]] = defaultdict(list)
    for path in map(two.image_path, range(len(two))):
        of_size[_size(path)].append(path)
    pieces: dict[Path, bytes] = {}

    def content(path: Path) -> bytes:
        if path not in pieces:
            pieces[path] = _pieces(path)
        return pieces[path]

    def are_equal(path: Path, twin: Path) -> bool:
        return content(path) == content(twin) and filecmp.cmp(path, twin, shallow=False)

    return {
        id
        for index, id in enumerate(one.ids)
        if (path := one.image_path(index))
        and any(path == twin or are_equal(path, twin) for twin in of_size.get(_size(path), ()))
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
