"""Downloads COCO 2017: train2017, val2017, annotations/instances_*.json, stuffthingmaps/*/*.png."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from engine.data.downloads.download import Remote
from engine.data.downloads.preparation import Preparation
from engine.data.downloads.unpack import Place
from engine.data.sample import DataError

FOLDERS = ("train2017", "val2017", "annotations", "stuffthingmaps")

# Its https has the certificate of another host; SHA-256 protects the bytes.
IMAGES = "http://images.cocodataset.org"


def _image(name: str) -> str | None:
    path = PurePosixPath(name)
    return f"{path.parent.name}/{path.name}" if path.suffix == ".jpg" else None


def _instances(name: str) -> str | None:
    path = PurePosixPath(name)
    return f"annotations/{path.name}" if path.match("instances_*2017.json") else None


def _stuff_map(name: str) -> str | None:
    path = PurePosixPath(name)
    return f"stuffthingmaps/{path.parent.name}/{path.name}" if path.suffix == ".png" else None


@dataclass(frozen=True)
class Part:
    """One archive, where its members go, and how many files of each pattern there must be."""

    remote: Remote
    place: Place
    num_files: dict[str, int]


# Sizes and SHA-256 as in tensorflow_datasets, url_checksums/coco.txt. None are published for the zip of
# stuffthingmaps; it has a CRC for each file.
PARTS = (
    Part(
        Remote(
            f"{IMAGES}/annotations/annotations_trainval2017.zip",
            252_907_541,
            "sha256:113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
        ),
        _instances,
        {"annotations/instances_train2017.json": 1, "annotations/instances_val2017.json": 1},
    ),
    Part(
        Remote(
            "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip"
        ),
        _stuff_map,
        {"stuffthingmaps/train2017/*.png": 118_287, "stuffthingmaps/val2017/*.png": 5_000},
    ),
    Part(
        Remote(
            f"{IMAGES}/zips/val2017.zip",
            815_585_330,
            "sha256:4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
        ),
        _image,
        {"val2017/*.jpg": 5_000},
    ),
    Part(
        Remote(
            f"{IMAGES}/zips/train2017.zip",
            19_336_861_798,
            "sha256:69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
        ),
        _image,
        {"train2017/*.jpg": 118_287},
    ),
)


def prepare_coco2017(preparation: Preparation) -> None:
    """Download and unpack COCO 2017; existing files are counted and kept.

    Raises:
        DataError: the folder holds something else, too little disk space, a damaged or malicious archive.
        DownloadError: a server or the network failed.
    """
    root = preparation.root
    todo = [part for part in PARTS if _missing(root, part)]
    if todo:
        preparation.begin(FOLDERS, [part.remote for part in todo], "COCO 2017")
    for part in todo:
        archive = preparation.bring(part.remote, part.place)
        if missing := _missing(root, part):
            raise DataError(f"{archive} is unpacked, but there are only {missing}. Remove it and try again.")
    num_files = sum(sum(part.num_files.values()) for part in PARTS)
    preparation.say(f"COCO 2017 is complete: {num_files:,} files in {root}, for data.root={root}")
    preparation.end()


def _missing(root: Path, part: Part) -> str | None:
    """What is missing of a part, or None; other files are ignored."""
    for pattern, expected in part.num_files.items():
        found = sum(1 for _ in root.glob(pattern))
        if found < expected:
            return f"{found:,} of {expected:,} {pattern}"
    return None
