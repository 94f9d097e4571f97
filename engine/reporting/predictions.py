"""Predictions as files: palette PNGs, overlays, confidence maps, probabilities.

    DIR/labels/<name>.png        class ids as a palette PNG
    DIR/overlay/<name>.jpg       the colours of the classes over the image; DIR/overlay/legend.png names them
    DIR/confidence/<name>.png    grey: the probability of the predicted class, 255 is 1
    DIR/polygons/<name>.geojson  connected parts of each class as polygons
    DIR/probabilities.h5         (C, h, w) float16 of each image, under its path; a chunk is one class

Of classes that may overlap, each has its own label maps: DIR/labels/<class>/<name>.png. Those of tiles are
written by `tiled_predictions.py`.

Shapes: an image of h x w pixels, C classes.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine.data.bands import Bands, shown_bands
from engine.data.inputs import InputImage
from engine.data.sample import Palette
from engine.reporting.label_sets import with_sets
from engine.reporting.pictures import legend, overlay
from engine.reporting.polygons import write_polygons
from engine.run_folder import write_json, written_in_place

KINDS = {
    "labels": ".png",
    "overlay": ".jpg",
    "confidence": ".png",
    "polygons": ".geojson",
    "areas": ".json",
    "probabilities": ".h5",
}
ENDINGS = KINDS | {"uncertainty": ".png", "votes": ".png"}  # those are written by `uncertainty.py`
OF_ALL = ("probabilities", "areas")  # one file for all images
MAPS = ("labels", "confidence")  # of tiles: TIFF
LEGEND_PX = 480
JPEG_QUALITY = 92
NOT_IN_A_FOLDER = re.compile(r"[/\\\0]")
VOID_NEVER = -1  # a prediction has a class everywhere

Writer = Callable[[InputImage, Tensor, Tensor, Tensor], None]


def files_of(
    images: Sequence[InputImage],
    out: Path,
    kinds: Sequence[str],
    tiled: bool = False,
    masks_of: Sequence[str] = (),
) -> list[Path]:
    """Every file that the writer will write; `masks_of`: the classes, where each has its own label maps."""
    files = [
        prediction_file(out, kind, image, tiled) for kind in kinds if kind not in OF_ALL for image in images
    ]
    if masks_of and "labels" in kinds:
        files += [file for image in images for file in mask_files(out, masks_of, image, tiled)]
    return (
        files
        + [out / f"{kind}{KINDS[kind]}" for kind in kinds if kind in OF_ALL]
        + [_legend(out)] * ("overlay" in kinds)
    )


def prediction_file(out: Path, kind: str, image: InputImage, tiled: bool = False) -> Path:
    """Of one image; `kind` may name a folder below that of the kind, too."""
    of_kind = kind.partition("/")[0]
    return out / kind / (image.name + (".tif" if tiled and of_kind in MAPS else ENDINGS[of_kind]))


def mask_files(out: Path, class_names: Sequence[str], image: InputImage, tiled: bool = False) -> list[Path]:
    """The label map of each class of an image, where classes may overlap.

    Their folders have the names of the classes, with `_` for what no folder may have in its name; where two
    would be the same, such as those of a/b and a_b, or of Cat and cat on some disks, each begins with the
    number of its class.
    """
    folders = [NOT_IN_A_FOLDER.sub("_", name) for name in class_names]
    if len({name.lower() for name in folders}) < len(folders):
        folders = [f"{number}_{name}" for number, name in enumerate(folders)]
    return [prediction_file(out, f"labels/{folder}", image, tiled) for folder in folders]


class _NoArrays(Exception):
    """No image had an array to be written."""


@contextmanager
def arrays_of_images(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file; without an array in it, it is not kept, and an earlier one stays."""
    with suppress(_NoArrays), written_in_place(path) as temporary, h5py.File(temporary, "w") as file:
        yield file
        if not len(file):
            raise _NoArrays


@contextmanager
def prediction_writer(
    out: Path,
    kinds: Sequence[str],
    class_names: Sequence[str],
    palette: Palette,
    about: Mapping[str, object],
    bands: Bands = None,
) -> Iterator[Writer]:
    """A function of (image, pixels (n, h, w), labels (h, w), probabilities (C, h, w)) that writes its files.

    Labels may also be masks (C, h, w) of classes that overlap: each class then has a file of its own.

    Args:
        out: the folder; each file appears complete or not at all.
        kinds: of KINDS.
        about: what the attribute `about` of probabilities.h5 holds, as JSON.
        bands: of the pixels; None is RGB.
    """
    with ExitStack() as stack:
        if "probabilities" in kinds:
            file = stack.enter_context(arrays_of_images(out / "probabilities.h5"))
            file.attrs["class_names"] = list(class_names)
            file.attrs["about"] = json.dumps(about)

        areas: dict[str, object] = {}

        def write(image: InputImage, pixels: Tensor, labels: Tensor, probabilities: Tensor) -> None:
            def path(kind: str) -> Path:
                return prediction_file(out, kind, image)

            is_multi = labels.dim() == 3
            if "labels" in kinds and is_multi:
                files = mask_files(out, class_names, image)
                for file_of_class, mask, colour in zip(files, labels, palette, strict=True):
                    save_image(palette_image(mask, ((0, 0, 0), colour)), file_of_class)
            elif "labels" in kinds:
                save_image(palette_image(labels, palette), path("labels"))
            if "overlay" in kinds:
                [shown], colours, _ = with_sets([labels], palette, class_names, VOID_NEVER)
                mixed = Image.fromarray(overlay(shown_bands(pixels, bands), shown, colours, VOID_NEVER))
                save_image(mixed, path("overlay"), quality=JPEG_QUALITY)
            if "confidence" in kinds:
                grey = (255 * probabilities.amax(dim=0)).round().byte().numpy()  # (h, w)
                save_image(Image.fromarray(grey), path("confidence"))
            if "areas" in kinds:
                areas[image.place] = areas_of(labels, class_names)
            if "polygons" in kinds:
                with written_in_place(with_folder(path("polygons"))) as temporary:
                    write_polygons(temporary, labels.numpy(), class_names, {})
            if "probabilities" in kinds:
                h, w = labels.shape[-2:]
                file.create_dataset(
                    image.place.encode(errors="surrogateescape"),  # names may be no UTF-8
                    data=probabilities.numpy().astype(np.float16),
                    chunks=(1, h, w),
                    compression=1,
                    shuffle=True,
                )

        yield write
        if areas:
            write_json(out / "areas.json", {**about, "images": areas})
        if _legend(out).parent.is_dir():  # else no image could be read, and the command can be repeated
            save_image(legend(list(zip(class_names, palette, strict=True)), LEGEND_PX), _legend(out))


def areas_of(labels: Tensor, class_names: Sequence[str]) -> dict[str, object]:
    """Pixels of each class, and the size of the image: from (h, w) class ids, or from masks (C, h, w)."""
    h, w = labels.shape[-2:]
    if labels.dim() == 3:
        pixels = labels.flatten(1).sum(dim=1, dtype=torch.int64)
    else:
        pixels = torch.bincount(labels.flatten(), minlength=len(class_names))
    return {"height": h, "width": w, "pixels": dict(zip(class_names, pixels.tolist(), strict=True))}


def palette_image(labels: Tensor, palette: Palette) -> Image.Image:
    """(h, w) uint8 class ids as an image of mode P, whose values are the ids.

    The palette is filled up to 256 colours: with fewer, Pillow stores fewer bits and truncates larger ids.
    """
    image = Image.fromarray(labels.numpy())
    colours = [value for colour in palette for value in colour]
    image.putpalette(colours + [0] * (3 * 256 - len(colours)))
    return image


def with_folder(path: Path) -> Path:
    """The path, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def save_image(image: Image.Image, path: Path, **options: int) -> None:
    """Write a PNG or JPEG, and the folder that it is in; the file appears complete or not at all."""
    with written_in_place(with_folder(path)) as temporary:
        image.save(temporary, format={".png": "PNG", ".jpg": "JPEG"}[path.suffix], **options)


def _legend(out: Path) -> Path:
    return out / "overlay" / "legend.png"
