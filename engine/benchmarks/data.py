"""Random reads of a packed data set, compared with the usual layouts of HDF5 and with plain files.

Drawn images of VOC's most frequent size, 375 x 500 px, in an order that is shuffled once. The time is
that of one image with its labels, decoded to uint8 and copied to its place in a batch, as in training; so a
mapped file has to be read. HDF5 holds images as decoders return them, (N, h, w, 3). Everything is in the page
cache after the first round, which is not counted, so this is the cost of the layouts and not of a disk.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine.benchmarks.measuring import ratio
from engine.data.formats.voc import open_voc
from engine.data.packs.pack import write_pack
from engine.data.packs.packed import PackedDataset
from engine.data.sample import Dataset
from engine.scoring.timing import interleaved

SIZE_PX = (375, 500)  # (h, w)
OURS = "pack, decoded"
FEWER = {"HDF5, chunks=True": 16}  # reads per round are divided by this, as each takes long
Reader = Callable[[int], tuple[Tensor, Tensor]]  # index -> image and labels, contiguous in any shape


def measure(num_images: int, rounds: int, progress: Callable[[int, int], None]) -> list[dict[str, object]]:
    """Rows of {contender, num_reads, seconds (per image), images_per_s, times_faster}, the slowest first.

    `times_faster` is the decoded pack against the contender, within each round.
    """
    with tempfile.TemporaryDirectory() as folder:
        readers = _readers(Path(folder), num_images)
        order = np.random.default_rng(0).permutation(num_images).tolist()
        orders = {name: order[: max(1, num_images // FEWER.get(name, 1))] for name in readers}
        calls = {name: _reading(reader, orders[name]) for name, reader in readers.items()}
        calls["pack, decoded, every read checked"] = _checking(Path(folder) / "decoded.h5", order)
        seconds = {
            name: [time / len(orders.get(name, order)) for time in times]
            for name, times in interleaved(calls, rounds, progress).items()
        }
    return [
        {"contender": name, "num_reads": len(orders.get(name, order)), "seconds": times}
        | {"images_per_s": 1 / float(np.median(times)), "times_faster": ratio(times, seconds[OURS])}
        for name, times in sorted(seconds.items(), key=lambda item: -float(np.median(item[1])))
    ]


def _readers(folder: Path, num_images: int) -> Mapping[str, Reader]:
    """Writes the same images in every layout; one way to read each."""
    write_voc(folder, num_images)
    files = open_voc(folder, "all")
    for layout in ("encoded", "decoded"):
        write_pack({"all": files}, folder / f"{layout}.h5", layout)
    encoded, decoded = (PackedDataset(folder / f"{layout}.h5", "all") for layout in ("encoded", "decoded"))
    file = _write_hdf5(folder / "usual.h5", decoded)

    usual = {f"HDF5, {name}": _rows_of(file[name]) for name in file}
    return usual | {
        "files (JPEG, PNG)": _samples_of(files),
        "pack, encoded": _samples_of(encoded),
        OURS: _samples_of(decoded),
    }


def _rows_of(group: h5py.Group) -> Reader:
    images, labels = group["images"], group["labels"]

    def read(index: int) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(images[index]), torch.from_numpy(labels[index])

    return read


def _samples_of(dataset: Dataset) -> Reader:
    def read(index: int) -> tuple[Tensor, Tensor]:
        sample = dataset[index]
        return sample.image, sample.labels

    return read


def _reading(read: Reader, order: list[int]) -> Callable[[], None]:
    num_px = SIZE_PX[0] * SIZE_PX[1]
    slot = torch.empty(3 * num_px, dtype=torch.uint8), torch.empty(num_px, dtype=torch.uint8)

    def call() -> None:
        for index in order:
            for place, pixels in zip(slot, read(index), strict=True):
                place.copy_(pixels.view(-1))

    return call


def _checking(path: Path, order: list[int]) -> Callable[[], None]:
    """Each round opens the pack anew, so each read compares its SHA-256."""

    def call() -> None:
        _reading(_samples_of(PackedDataset(path, "all")), order)()

    return call


def write_voc(folder: Path, num_images: int) -> None:
    """Smooth colours with some grain, and blocks of labels, in VOC layout."""
    rng = np.random.default_rng(0)
    h, w = SIZE_PX
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    ids = [f"{number:06d}" for number in range(num_images)]
    (folder / "ImageSets/Segmentation/all.txt").write_text("\n".join(ids))
    for id in ids:
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((w, h), Image.Resampling.BICUBIC))
        pixels = np.clip(smooth + rng.normal(0, 6, (h, w, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{id}.jpg", quality=90)
        labels = Image.fromarray(rng.choice([0, 0, 0, 8, 12, 15], (6, 8)).astype(np.uint8))
        labels.resize((w, h), Image.Resampling.NEAREST).save(folder / "SegmentationClass" / f"{id}.png")


def _write_hdf5(path: Path, source: Dataset) -> h5py.File:
    """The same pixels as datasets with a row per image, one group per layout; open for reading."""
    samples = [source[index] for index in range(len(source))]
    pixels = {
        "images": np.stack([sample.image.permute(1, 2, 0).numpy() for sample in samples]),  # (N, h, w, 3)
        "labels": np.stack([sample.labels.numpy() for sample in samples]),  # (N, h, w)
    }
    with h5py.File(path, "w") as file:
        for what, rows in pixels.items():
            file.create_dataset(f"chunks=True/{what}", data=rows, chunks=True)
            file.create_dataset(f"a chunk an image/{what}", data=rows, chunks=(1, *rows.shape[1:]))
            file.create_dataset(f"contiguous/{what}", data=rows)
            flat = file.create_dataset(f"variable length/{what}", len(rows), h5py.vlen_dtype(np.uint8))
            for index, row in enumerate(rows):
                flat[index] = row.ravel()
    return h5py.File(path, "r")
