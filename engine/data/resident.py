"""A data set that is decoded once and kept in memory: on the GPU where it fits, otherwise in RAM."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from engine.data.bands import RGB
from engine.data.sample import DataError, Dataset, Sample, UnreadableSample, note_or_raise, read_all

IMAGES, IN_MEMORY, ON_DISK = "images", "in memory", "on disk"  # as a run's manifest says where they were
# By version of Linux's control groups: the limit, what is used, and in memory.stat the cache that can go.
CONTROL_GROUP_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
SHARE_OF_FREE = 0.4  # the rest is left to the model, the page cache and other programs


class Resident:
    """A Dataset whose samples are tensors in memory.

    `source` is the data set on the disk. Where it skips unreadable samples, reading one raises its error
    every time.

    Raises:
        DataError: samples that cannot be read; all are tried, the first few named.
    """

    def __init__(self, dataset: Dataset, device: torch.device, progress: Callable[[int, int], None]):
        self.source = dataset
        self.ids, self.class_names, self.palette = dataset.ids, dataset.class_names, dataset.palette
        self.ignore_index, self.skipped = dataset.ignore_index, dataset.skipped
        self.bands = dataset.bands
        self._fingerprint = dataset.fingerprint()

        def read(index: int) -> Sample | None:
            try:
                sample = dataset[index]
            except UnreadableSample as error:
                note_or_raise(dataset, index, error)
                return None
            # A copy even where the device is the same: the samples of a pack are views of its file.
            image, labels = (pixels.to(device, copy=True) for pixels in (sample.image, sample.labels))
            return Sample(sample.id, image, labels)

        self._samples = read_all(read, range(len(dataset)), progress)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self._samples[index]
        if sample is None:
            assert self.skipped is not None
            raise UnreadableSample(self.skipped.reasons[self.ids[index]])
        return sample

    def labels(self, index: int) -> torch.Tensor:
        return self[index].labels

    def sizes(self) -> list[tuple[int, int]]:
        return [(0, 0) if s is None else s.size for s in self._samples]

    def fingerprint(self) -> str:
        return self._fingerprint


def kept_where(dataset: Dataset) -> str:
    """IN_MEMORY or ON_DISK."""
    return IN_MEMORY if isinstance(dataset, Resident) else ON_DISK


def choose_residence(
    dataset: Dataset, wish: str, device: torch.device, sharers: int = 1, masks: int = 1
) -> tuple[str, int]:
    """Where to keep the decoded data set: ("gpu" | "ram" | "disk", its size in bytes).

    `wish` "auto" decides by the free memory, where `sharers` processes each keep a copy in the same RAM. An
    image has `masks` label maps.
    """
    require_device(wish, device)
    bytes_per_px = len(dataset.bands or RGB) + masks
    num_bytes = bytes_per_px * sum(h * w for h, w in dataset.sizes())
    if wish != "auto":
        return wish, num_bytes
    if device.type == "cuda" and num_bytes < SHARE_OF_FREE * torch.cuda.mem_get_info(device)[0]:
        return "gpu", num_bytes
    return ("ram" if num_bytes < SHARE_OF_FREE * free_ram_bytes() / sharers else "disk"), num_bytes


def label_maps(section: Any, dataset: Dataset) -> int:
    """How many label maps an image has, by the `data` section of a recipe."""
    return len(dataset.class_names) if section.labels == "multi" else 1


def require_device(wish: str, device: torch.device) -> None:
    """Raises DataError where the data set is to be kept on a GPU, and there is none."""
    if wish == "gpu" and device.type != "cuda":
        raise DataError("data.resident is gpu, but training runs on the CPU; type data.resident=auto.")


def free_ram_bytes() -> int:
    """On Linux what the machine and the limits of a container leave, page cache included.

    Elsewhere half of the installed memory.
    """
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        [line] = [line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:")]
        return min([int(line.split()[1]) * 1024, *free_in_control_groups()])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def free_in_control_groups(
    groups: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> list[int]:
    """What the limit of each control group of this process leaves, in bytes; of version 1 or 2.

    In a container the path of the group may be that of the host, which is not there; the limit is then in the
    root of the mount.
    """
    free = []
    for line in groups.read_text().splitlines() if groups.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = mount / "memory" if controllers else mount
        limit, usage, cache = CONTROL_GROUP_FILES[1 if controllers else 2]
        group = root / path.lstrip("/")
        for folder in (group, *group.parents[: len(group.relative_to(root).parts)]):
            with suppress(OSError, ValueError, KeyError):  # no such group, or "max": no limit
                most, used = (int((folder / name).read_text()) for name in (limit, usage))
                stat = dict(row.split() for row in (folder / "memory.stat").read_text().splitlines())
                free.append(max(0, most - used + int(stat[cache])))
    return free
