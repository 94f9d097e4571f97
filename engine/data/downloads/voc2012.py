"""Downloads PASCAL VOC 2012 and the SBD masks, and writes the list trainaug of both.

SBD (Hariharan et al., "Semantic contours from inverse detectors", ICCV 2011) labels 11,355 photos of VOC.
Those that VOC labels too keep their official masks; those of VOC val are not used for training.
"""

import io
import os
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from engine.data.downloads.download import Remote, require_space
from engine.data.downloads.preparation import Preparation
from engine.data.downloads.unpack import contents, damage_named, read_members, write_beside
from engine.data.formats.voc import voc_palette
from engine.data.sample import DataError
from engine.wording import quantity
from models import class_names

# MD5 as in torchvision (datasets/voc.py, datasets/sbd.py).
VOC = Remote(
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    1_999_639_040,
    "md5:6cd6e144f989b92b3379bac3b3de84fd",
)
SBD = Remote(
    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    1_419_539_633,
    "md5:82b4d87ceb2ed10f6038a1cba92111cb",
)
MASK_BYTES = 8_192  # on the disk; the largest of 363 such masks has 4,331
MAT_ERRORS = (MatReadError, zlib.error, OSError, ValueError, TypeError, LookupError, NotImplementedError)
NUM_TRAINAUG = 10_582  # 1,464 of VOC train, and 9,118 of SBD
PALETTE = [value for colour in voc_palette() for value in colour]
FOLDERS = ("JPEGImages", "SegmentationClass", "ImageSets")


def prepare_voc2012(preparation: Preparation) -> None:
    """Download VOC2012, convert the masks of SBD, and write ImageSets/Segmentation/trainaug.txt.

    Existing files are kept: a call after an interrupted one completes it, and one after a completed one only
    checks.

    Raises:
        DataError: the folder holds something else, too little disk space, a damaged or malicious archive, or
            a list that is not the published one.
        DownloadError: a server or the network failed.
    """
    folder = VocFolder(preparation.root)
    official, trainaug = folder.ids("train", "val"), folder.ids("trainaug")
    needs_voc = not official or folder.lacks(official) or folder.without_image(trainaug or [])
    needs_sbd = not trainaug or folder.without_mask(trainaug)
    if needs_voc or needs_sbd:
        needed = [remote for remote, is_needed in ((VOC, needs_voc), (SBD, needs_sbd)) if is_needed]
        preparation.begin(FOLDERS, needed, "VOC2012")
    if needs_voc:
        preparation.bring(VOC, _official)
    if needs_sbd:
        _add_sbd(preparation, folder)
    _require_complete(folder)
    preparation.say(_summary(folder))
    preparation.end()


class VocFolder:
    """Lists and files of a folder in VOC layout, complete or not."""

    def __init__(self, root: Path):
        self.root = root

    def list_of(self, split: str) -> Path:
        return self.root / "ImageSets/Segmentation" / f"{split}.txt"

    def image(self, id: str) -> Path:
        return self.root / "JPEGImages" / f"{id}.jpg"

    def mask(self, id: str) -> Path:
        return self.root / "SegmentationClass" / f"{id}.png"

    def ids(self, *splits: str) -> list[str] | None:
        """The ids of all the splits; None if a list is missing."""
        lists = [self.list_of(split) for split in splits]
        if not all(path.is_file() for path in lists):
            return None
        return [id for path in lists for id in path.read_text().split()]

    def without_image(self, ids: Iterable[str]) -> list[str]:
        return _without(ids, self.image)

    def without_mask(self, ids: Iterable[str]) -> list[str]:
        return _without(ids, self.mask)

    def lacks(self, ids: list[str]) -> str | None:
        """What these ids lack, for a message; None if each has image and mask."""
        for what, without in (("images", self.without_image(ids)), ("masks", self.without_mask(ids))):
            if without:
                more = ", ..." if len(without) > 3 else ""
                return f"{len(without):,} of {len(ids):,} {what} ({', '.join(without[:3])}{more})"
        return None


def _without(ids: Iterable[str], path_of: Callable[[str], Path]) -> list[str]:
    """The ids whose file is missing; the folder is listed once, as it may be on a slow disk."""
    there = {path.name for path in path_of("any").parent.glob("*")}
    return [id for id in ids if path_of(id).name not in there]


def _official(name: str) -> str | None:
    """Where a member of VOC's tar goes: the files for segmentation, without VOCdevkit/VOC2012."""
    path = PurePosixPath(name)
    wanted = ("JPEGImages/*.jpg", "SegmentationClass/*.png", "ImageSets/Segmentation/*.txt")
    inside = any(path.match(f"VOCdevkit/VOC2012/{pattern}") for pattern in wanted)
    return str(PurePosixPath(*path.parts[2:])) if inside else None


def _add_sbd(preparation: Preparation, folder: VocFolder) -> None:
    """Write the masks of SBD, and after them the list, whose presence means that they are complete."""
    archive = preparation.fetch(SBD)
    names = [PurePosixPath(member.name) for member in read_members(archive, preparation.track)]
    lists = [str(name) for name in names if name.match("dataset/train.txt") or name.match("dataset/val.txt")]
    masks = {str(name): name.stem for name in names if name.match("dataset/cls/*.mat")}
    with damage_named(archive):
        of_sbd = {id for _, content in contents(archive, lists) for id in content.read().decode().split()}
    if len(lists) != 2 or not of_sbd <= set(masks.values()):
        raise DataError(
            f"{archive} is not SBD: its lists and its dataset/cls/*.mat differ. Remove it and try again."
        )
    train, val = folder.ids("train"), folder.ids("val")
    assert train and val, "VOC is unpacked first"
    trainaug = sorted({*train, *of_sbd} - {*val})
    if folder.without_image(trainaug):  # VOC was unpacked partly
        preparation.bring(VOC, _official)
    if lacking := folder.without_image(trainaug):
        raise DataError(
            f"{archive} names {quantity(len(lacking), 'image')} that VOC2012 does not have, "
            f"such as {lacking[0]}."
        )
    new = set(folder.without_mask(trainaug))
    _convert(preparation, folder, archive, {name: id for name, id in masks.items() if id in new})
    if not folder.list_of("trainaug").exists():
        text = "".join(f"{id}\n" for id in trainaug).encode()
        write_beside(folder.list_of("trainaug"), io.BytesIO(text), len(text), archive)


def _convert(preparation: Preparation, folder: VocFolder, archive: Path, masks: dict[str, str]) -> None:
    """Write these masks, {member of SBD: id}, as PNG."""
    require_space(folder.root, MASK_BYTES * len(masks), "Writing the masks of SBD")
    with damage_named(archive), preparation.track("convert the masks of SBD", "files") as progress:
        for done, (member, content) in enumerate(contents(archive, masks), start=1):
            id = masks[member.name]
            labels = _labels_of_sbd(content.read(), f"{member.name} in {archive}", folder.image(id))
            png = _palette_png(labels)
            write_beside(folder.mask(id), io.BytesIO(png), len(png), archive)
            progress(done, len(masks))
    os.sync()  # the masks before the list


def _labels_of_sbd(mat: bytes, where: str, image: Path) -> NDArray[np.uint8]:
    """(h, w) uint8 class ids, 0..20; SBD has no void. Raises DataError for anything else."""
    try:
        labels = np.asarray(loadmat(io.BytesIO(mat), variable_names=["GTcls"])["GTcls"][0]["Segmentation"][0])
        with Image.open(image) as photo:
            w, h = photo.size
    except MAT_ERRORS as error:
        raise DataError(
            f"{where} or {image} is damaged: {error!r}. Remove the damaged file and try again."
        ) from error
    if labels.shape != (h, w) or labels.dtype != np.uint8:
        raise DataError(
            f"{where} is not a mask for {image}: {labels.shape} {labels.dtype}, not {(h, w)} uint8."
        )
    if labels.max() >= len(class_names.VOC):
        raise DataError(f"{where} holds the id {labels.max()}; SBD has 0 to {len(class_names.VOC) - 1}.")
    return labels


def _palette_png(labels: NDArray[np.uint8]) -> bytes:
    """In the form of VOC's own masks: 8-bit ids with VOC's palette."""
    mask = Image.fromarray(labels)
    mask.putpalette(PALETTE)
    file = io.BytesIO()
    mask.save(file, "PNG")
    return file.getvalue()


def _require_complete(folder: VocFolder) -> None:
    """Raises DataError where an existing list does not match the archives."""
    for split in ("train", "val", "trainaug"):
        if lacking := folder.lacks(folder.ids(split) or []):
            raise DataError(
                f"{folder.list_of(split)} names what VOC2012 and SBD do not have: {lacking}. Move the list "
                "away and type the same command again."
            )
    if shared := sorted({*(folder.ids("trainaug") or [])} & {*(folder.ids("val") or [])}):
        raise DataError(
            f"{folder.list_of('trainaug')} names {quantity(len(shared), 'image')} of val, "
            f"such as {shared[0]}: scores "
            "on val would be invalid. Move the list away and type the same command again."
        )


def _summary(folder: VocFolder) -> str:
    counts = {split: len(folder.ids(split) or []) for split in ("train", "trainaug", "val")}
    parts = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    summary = f"VOC2012 is complete: {parts} images, for data.root={folder.root}"
    if counts["trainaug"] == NUM_TRAINAUG:
        return summary
    return f"{summary}\nNote: trainaug usually has {NUM_TRAINAUG:,} images. Published scores refer to those."
