"""JPEG decoders: Pillow as Trident reads photos, at half the size, and torchvision.

Files are in memory; the time is that of one photo as a contiguous (3, h, w) uint8 tensor. Pillow's draft mode
leaves out part of the inverse transform, so it needs less time for a smaller photo; it is not what a training
reads. Neither library decodes only a part of a photo.
"""

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from engine.benchmarks.data import write_voc
from engine.benchmarks.measuring import ratio
from engine.data.formats.images import decode_image
from engine.data.sample import OR_SKIP, DataError, UnreadableSample
from engine.scoring.timing import interleaved

OURS = "Pillow, as in a training"
JPEG_START = b"\xff\xd8"


def measure(
    root: Path | None, num_images: int, rounds: int, progress: Callable[[int, int], None]
) -> list[dict[str, object]]:
    """Rows of {contender, num_images, seconds (per image), images_per_s, times_faster, same}.

    `times_faster` is against `OURS`, and `same` the number of photos with the same pixels.

    Args:
        root: photos are in its JPEGImages; None draws some.
    """
    files = _files(root, num_images)
    exact = [pillow(file) for file in files]
    calls = {name: _decoding(decode, files) for name, decode in DECODERS.items()}
    seconds = {
        name: [time / len(files) for time in times]
        for name, times in interleaved(calls, rounds, progress).items()
    }
    return [
        {"contender": name, "num_images": len(files), "seconds": times}
        | {"images_per_s": 1 / median(times), "times_faster": ratio(seconds[OURS], times)}
        | {"same": sum(map(torch.equal, map(DECODERS[name], files), exact))}
        for name, times in seconds.items()
    ]


def pillow(file: bytes) -> Tensor:
    """(3, h, w)"""
    return torch.from_numpy(decode_image(io.BytesIO(file))[0]).permute(2, 0, 1).contiguous()


def pillow_at_half(file: bytes) -> Tensor:
    """(3, h / 2, w / 2), rounded up"""
    with Image.open(io.BytesIO(file)) as image:
        image.draft("RGB", (image.width // 2, image.height // 2))
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def by_torchvision(file: bytes) -> Tensor:
    """(3, h, w)"""
    pixels: Tensor = decode_jpeg(torch.frombuffer(bytearray(file), dtype=torch.uint8), ImageReadMode.RGB)
    return pixels


DECODERS = {OURS: pillow, "Pillow, at half the size": pillow_at_half, "torchvision": by_torchvision}


def _decoding(decode: Callable[[bytes], Tensor], files: list[bytes]) -> Callable[[], None]:
    def call() -> None:
        for file in files:
            decode(file)

    return call


def _files(root: Path | None, num_images: int) -> list[bytes]:
    if root is None:
        with tempfile.TemporaryDirectory() as folder:
            write_voc(Path(folder), num_images)
            return _files(Path(folder), num_images)
    paths = sorted((root / "JPEGImages").glob("*.jpg"))
    if not paths:
        raise DataError(
            f"{root / 'JPEGImages'} has no .jpg: --root is a folder of photos in the layout of VOC."
        )
    return [_read(path) for path in paths[:: max(1, len(paths) // num_images)][:num_images]]


def _read(path: Path) -> bytes:
    """Raises DataError: damaged, or not a JPEG, which torchvision would refuse."""
    try:
        decode_image(path)
    except UnreadableSample as error:
        raise DataError(str(error).replace(OR_SKIP, "")) from None  # the benchmark has no such option
    file = path.read_bytes()
    if not file.startswith(JPEG_START):
        raise DataError(f"{path} is not a JPEG file. Replace it, or take it out of the folder.")
    return file
