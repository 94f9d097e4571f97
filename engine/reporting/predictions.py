"""Predictions as files: palette PNGs, overlays, confidence maps, probabilities.

    DIR/labels/<name>.png        class ids as a palette PNG
    DIR/overlay/<name>.jpg       the colours of the classes over the image; DIR/overlay/legend.png names them
    DIR/confidence/<name>.png    grey: the probability of the predicted class, 255 is 1
    DIR/probabilities.h5         (C, h, w) float16 of each image, under its path; a chunk is one class

Shapes: an image of h x w pixels, C classes.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from torch import Tensor

from engine.data.inputs import InputImage
from engine.data.sample import Palette
from engine.reporting.pictures import legend, overlay
from engine.run_folder import written_in_place

KINDS = {"labels": ".png", "overlay": ".jpg", "confidence": ".png", "probabilities": ".h5"}
LEGEND_PX = 480
JPEG_QUALITY = 92
VOID_NEVER = -1  # a prediction has a class everywhere

Writer = Callable[[InputImage, Tensor, Tensor, Tensor], None]


def files_of(images: Sequence[InputImage], out: Path, kinds: Sequence[str]) -> list[Path]:
    """Every file that the writer will write."""
    files = [
        out / kind / (image.name + KINDS[kind])
        for kind in kinds
        if kind != "probabilities"
        for image in images
    ]
    return (
        files
        + [out / "probabilities.h5"] * ("probabilities" in kinds)
        + [_legend(out)] * ("overlay" in kinds)
    )


@contextmanager
def prediction_writer(
    out: Path,
    kinds: Sequence[str],
    class_names: Sequence[str],
    palette: Palette,
    about: Mapping[str, object],
) -> Iterator[Writer]:
    """A function of (image, pixels (3, h, w), labels (h, w), probabilities (C, h, w)) that writes its files.

    Args:
        out: the folder; each file appears complete or not at all.
        kinds: of KINDS.
        about: what the attribute `about` of probabilities.h5 holds, as JSON.
    """
    with ExitStack() as stack:
        if "overlay" in kinds:
            _save(legend(list(zip(class_names, palette, strict=True)), LEGEND_PX), _legend(out))
        if "probabilities" in kinds:
            path = stack.enter_context(written_in_place(out / "probabilities.h5"))
            file = stack.enter_context(h5py.File(path, "w"))
            file.attrs["class_names"] = list(class_names)
            file.attrs["about"] = json.dumps(about)

        def write(image: InputImage, pixels: Tensor, labels: Tensor, probabilities: Tensor) -> None:
            def path(kind: str) -> Path:
                return out / kind / (image.name + KINDS[kind])

            if "labels" in kinds:
                _save(palette_image(labels, palette), path("labels"))
            if "overlay" in kinds:
                mixed = Image.fromarray(overlay(pixels, labels, palette, VOID_NEVER))
                _save(mixed, path("overlay"), quality=JPEG_QUALITY)
            if "confidence" in kinds:
                grey = (255 * probabilities.amax(dim=0)).round().byte().numpy()  # (h, w)
                _save(Image.fromarray(grey), path("confidence"))
            if "probabilities" in kinds:
                h, w = labels.shape
                file.create_dataset(
                    image.place,
                    data=probabilities.numpy().astype(np.float16),
                    chunks=(1, h, w),
                    compression=1,
                    shuffle=True,
                )

        yield write


def palette_image(labels: Tensor, palette: Palette) -> Image.Image:
    """(h, w) uint8 class ids as an image of mode P, whose values are the ids.

    The palette is filled up to 256 colours: with fewer, Pillow stores fewer bits and truncates larger ids.
    """
    image = Image.fromarray(labels.numpy())
    colours = [value for colour in palette for value in colour]
    image.putpalette(colours + [0] * (3 * 256 - len(colours)))
    return image


def _legend(out: Path) -> Path:
    return out / "overlay" / "legend.png"


def _save(image: Image.Image, path: Path, **options: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_in_place(path) as temporary:
        image.save(temporary, format={".png": "PNG", ".jpg": "JPEG"}[path.suffix], **options)
