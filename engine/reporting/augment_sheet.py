"""Some samples as the training sees them, one per row: the image, then its crops in several epochs.

The colours of the labels are drawn over every image; void, also outside the image, is pale, as in VOC.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine.data.bands import shown_bands
from engine.data.batches import TrainBatches
from engine.data.order import Draw
from engine.reporting.colours import VOID
from engine.reporting.label_sets import with_sets
from engine.reporting.pictures import overlay, table_of_panels

OPACITY = 0.45  # opacity of the labels, so that edges of the image stay visible


def augment_sheet(
    batches: TrainBatches, indices: Sequence[int], num_epochs: int = 4, side_px: int = 256
) -> Image.Image:
    """One sheet of all of them.

    Args:
        batches: of the training, with its augmentation and mixing.
        indices: of the samples, one row per sample.
        num_epochs: the crops of epochs 0, 1, ... in columns, next to the stored image.
        side_px: of each crop on the sheet.

    Raises:
        DataError: a sample cannot be read.
    """
    assert indices and num_epochs > 0, "a sheet needs at least one sample and one epoch"
    dataset = batches.dataset
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for index in indices:
        sample = dataset[index]
        crops = batches.of([Draw(index, epoch) for epoch in range(num_epochs)])
        images += [sample.image, *crops.images.round().clamp(0, 255).to(torch.uint8)]
        labels += [sample.labels, *crops.labels]
    void = dataset.ignore_index
    maps, palette, names = with_sets(labels, dataset.palette, dataset.class_names, void)
    drawn = [
        overlay(shown_bands(image, dataset.bands), map, palette, void, OPACITY)
        for image, map in zip(images, maps, strict=True)
    ]
    rows = [drawn[start : start + 1 + num_epochs] for start in range(0, len(drawn), 1 + num_epochs)]
    seen = {id for map in maps for id in np.unique(map.numpy()).tolist()}
    entries = [(names[id], palette[id]) for id in sorted(seen - {void})] + [("void", VOID)] * (void in seen)
    headings = ["as stored", *(f"epoch {epoch}" for epoch in range(num_epochs))]
    return table_of_panels(headings, [dataset.ids[index] for index in indices], rows, entries, side_px)
