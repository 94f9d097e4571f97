"""Results as the PASCAL VOC evaluation server takes them: an archive of palette PNGs, checked first.

    results/VOC2012/Segmentation/comp6_<split>_cls/<id>.png

comp6 is the competition for training on any data (VOC2012 development kit, section 4.2).
"""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from engine.data.formats.images import read_header
from engine.data.formats.voc import voc_images, voc_palette
from engine.data.sample import first_few, require_one_class_a_pixel
from engine.exporting import ExportError
from engine.reporting.predictions import palette_image
from engine.run_folder import written_in_place
from engine.scoring.segmenter import Segmenter
from models.class_names import VOC

FOLDER = "results/VOC2012/Segmentation/comp6_{split}_cls"


def export_voc(
    segmenter: Segmenter,
    split: str,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Predict the images of ImageSets/Segmentation/<split>.txt and write `out`; returns their number.

    The archive has no times or owners in it: the same predictions give the same bytes.

    Raises:
        DataError: the data is not where the recipe says, or an image is missing or damaged.
        ExportError: the classes are not VOC's, or the results are not as the server expects them.
    """
    if segmenter.class_names != VOC:
        raise ExportError(
            f"The server scores the 21 classes of VOC ({first_few(VOC, 3)}), and {segmenter.name} "
            f"predicts others: {first_few(segmenter.class_names, 3)}."
        )
    require_one_class_a_pixel(
        segmenter.trained.recipe.data, "The server of VOC", "Predict with a run of one class a pixel."
    )
    root = segmenter.trained.recipe.data.root
    if root is None:
        raise ExportError("data.root is not set. Add data.root=<your VOC2012 folder> to the command.")
    images = voc_images(Path(root), split)
    pictures = {}
    for done, (id, path) in enumerate(images.items(), start=1):
        pictures[id] = _png(segmenter, path)
        progress(done, len(images))
    require_complete(pictures, images, len(VOC))
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_in_place(out) as temporary:
        _write(pictures, FOLDER.format(split=split), temporary)
    return len(pictures)


def require_complete(pictures: dict[str, bytes], images: dict[str, Path], num_classes: int) -> None:
    """Check the PNGs: one for each image, with a palette, of the image's size, with class ids only.

    Raises:
        ExportError: the first few that are wrong are named.
    """
    missing, unknown = [id for id in images if id not in pictures], pictures.keys() - images.keys()
    problems = [f"{id} is missing" for id in missing] + [f"{id} is not in the list" for id in sorted(unknown)]
    for id, content in pictures.items():
        if id in unknown:
            continue
        with Image.open(io.BytesIO(content)) as picture:
            ids = np.asarray(picture)
            (h, w), _ = read_header(images[id])
            if picture.mode != "P":
                problems.append(f"{id} has mode {picture.mode} and no palette")
            elif ids.shape != (h, w):
                problems.append(f"{id} is {ids.shape[1]}x{ids.shape[0]} px, its image {w}x{h}")
            elif ids.max() >= num_classes:
                problems.append(f"{id} holds id {ids.max()}, and the last class is {num_classes - 1}")
    if problems:
        raise ExportError(
            f"The server would refuse these results: {first_few(problems)}. Nothing was written."
        )


def _png(segmenter: Segmenter, path: Path) -> bytes:
    labels = segmenter.predict(path).labels  # (h, w)
    content = io.BytesIO()
    palette_image(labels, voc_palette()).save(content, format="PNG")
    return content.getvalue()


def _write(pictures: dict[str, bytes], folder: str, path: Path) -> None:
    with path.open("wb") as raw:
        packed = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0)
        with packed, tarfile.open(mode="w", fileobj=packed) as archive:
            for id, content in pictures.items():
                entry = tarfile.TarInfo(f"{folder}/{id}.png")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
