"""The label maps of a data set as PNG files, in the layout of data.format: folder."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from PIL import Image

from engine.data.formats.files import FileDataset
from engine.data.sample import DataError, Dataset, UnreadableSample, note_or_raise
from engine.reporting.predictions import palette_image


def write_masks(splits: Mapping[str, Dataset], out: Path, progress: Callable[[int, int], None]) -> int:
    """<out>/images/<split> and <out>/masks/<split>, complete or not at all, and the names in classes.txt.

    Masks are palette images of label ids, of the size in which the image is displayed. Returns their number.

    Raises:
        DataError: a sample cannot be read, its id is no path below the folder, or `out` cannot be written.
    """
    total = sum(map(len, splits.values()))
    done = written = 0
    try:
        with TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name}-") as temporary:
            draft = Path(temporary) / out.name
            for split, dataset in splits.items():
                for index in range(len(dataset)):
                    done += 1
                    progress(done, total)
                    try:
                        _write(dataset, index, draft / "images" / split, draft / "masks" / split)
                    except UnreadableSample as error:
                        note_or_raise(dataset, index, error)
                        continue
                    written += 1
            first = next(iter(splits.values()))
            (draft / "classes.txt").write_text("\n".join(first.class_names) + "\n", "utf-8")
            draft.rename(out)
    except OSError as error:
        raise DataError(
            f"{out} cannot be written: {error.strerror}. Name another folder with --out."
        ) from error
    return written


def _write(dataset: Dataset, index: int, images: Path, masks: Path) -> None:
    id = dataset.ids[index]
    if PurePosixPath(id).is_absolute() or ".." in PurePosixPath(id).parts:
        raise DataError(f"{id} is no path below a folder, so its mask has no place. Move the image.")
    labels = dataset.labels(index)
    mask = masks / f"{id}.png"
    mask.parent.mkdir(parents=True, exist_ok=True)
    palette_image(labels, dataset.palette).save(mask)
    source = dataset.image_path(index) if isinstance(dataset, FileDataset) else None
    image = images / f"{id}{source.suffix if source else '.png'}"
    image.parent.mkdir(parents=True, exist_ok=True)
    if source:
        shutil.copyfile(source, image)
    else:
        Image.fromarray(dataset[index].image.permute(1, 2, 0).numpy()).save(image)
