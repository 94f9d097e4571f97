"""HDF5 files that others wrote: all their content has to be in the file itself."""

import h5py


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
