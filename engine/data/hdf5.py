"""HDF5 files that others wrote, or that are damaged."""

import subprocess
import sys
from pathlib import Path

import h5py

LEAST_S, BYTES_PER_S = 30.0, 10e6  # that a reader gets


def require_readable(path: Path) -> None:
    """Read all of a file in another process, as libhdf5 may crash on a damaged one, or read it without end.

    Raises:
        ValueError: the process failed, or did not end in time.
    """
    limit_s = LEAST_S + path.stat().st_size / BYTES_PER_S
    command = [sys.executable, "-P", __file__, str(path)]  # -P: the folder of this file hides no package
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"it cannot be read within {limit_s:.0f} s") from None
    if done.returncode:
        raise ValueError(done.stderr.strip().split("\n")[-1] or "libhdf5 crashes when it reads it")


def require_fixed_size(where: h5py.Dataset | h5py.h5a.AttrID, name: str) -> None:
    """Raises ValueError where values have lengths of their own, which libhdf5 may read without end."""
    if where.dtype.hasobject:
        raise ValueError(f"its {name} has no fixed size")


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


def _read_all(path: Path) -> None:
    with h5py.File(path) as file:
        require_own_content(file)
        file.visititems(lambda _, item: item[()] if isinstance(item, h5py.Dataset) else None)


if __name__ == "__main__":
    try:
        _read_all(Path(sys.argv[1]))
    except Exception as error:
        sys.exit(str(error))
