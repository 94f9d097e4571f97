"""A sample of any size, whose image and labels are read in parts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from engine.data.formats.files import FileDataset
from engine.data.formats.masks import Labels
from engine.data.rasters import Raster, Span, in_memory, open_raster
from engine.data.sample import Dataset
from engine.data.sets import SeveralSets, naming_set

LabelReader = Callable[[Span, Span], Labels]  # rows and columns -> (height, width), or (C, height, width)


@contextmanager
def open_sample(dataset: Dataset, index: int) -> Iterator[tuple[Raster, LabelReader]]:
    """The image and the labels of `dataset[index]`; a data set without files holds them as a whole.

    Raises:
        DataError: as `dataset[index]` does, but an image may have any number of pixels. Labels that are wrong
            in a part show when that is read.
    """
    if isinstance(dataset, SeveralSets):
        part, place = dataset.at(index)
        with naming_set(part.name, part.place), open_sample(part.dataset, place) as (image, read_own):
            yield (
                image,
                lambda rows, columns: part.of_model(torch.from_numpy(read_own(rows, columns))).numpy(),
            )
        return
    if not isinstance(dataset, FileDataset):
        sample = dataset[index]
        labels = sample.labels.cpu().numpy()
        yield (
            in_memory(sample.image.cpu().numpy()),
            lambda rows, columns: labels[..., slice(*rows), slice(*columns)],
        )
        return
    with (
        open_raster(dataset.image_path(index), dataset.value_range, dataset.bands) as image,
        dataset.open_labels(index, image) as read_labels,
    ):
        yield image, read_labels
