"""HDF5 files that others wrote, or that are damaged."""

from pathlib import Path

import h5py

HEAP_OF_TEXT = b"GCOL\1\0\0\0"  # signature and version of a collection of texts


def require_sound_texts(path: Path) -> None:
    """Raises ValueError where a collection of texts is damaged so that libhdf5 would read it without end.

    A collection is its signature, its size (8 bytes) and its objects, each with 2 bytes of index, 6 others, 8
    of size, and the text, padded to 8 bytes. Index 0 is the free rest. An object without size never ends.
    """
    content = path.read_bytes()
    start = content.find(HEAP_OF_TEXT)
    while start >= 0:
        end = start + int.from_bytes(content[start + 8 : start + 16], "little")
        at, index = start + 16, 1
        while index and at + 16 <= end:
            index = int.from_bytes(content[at : at + 2], "little")
            size = int.from_bytes(content[at + 8 : at + 16], "little")
            at += size if index == 0 else 16 + -(-size // 8) * 8
            if at > end or (index == 0 and at < end):
                raise ValueError("its texts are damaged")
        start = content.find(HEAP_OF_TEXT, start + 8)


def require_own_content(group: h5py.Group) -> None:
    """Raises ValueError where a link or a data set, at any depth, leads to another file or place."""
    for name in group:
        path = f"{group.name}/{name}".lstrip("/")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"its {path} is a link, not a data set or group")
        item = group[name]
        if isinstance(item, h5py.Group):
            require_own_content(item)
        elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
            raise ValueError(f"the bytes of its {path} are in another file")
