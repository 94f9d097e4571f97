"""Some samples as the training sees them, one per row: the image, then its crops in several epochs.

The colours of the labels are drawn over every image; void, also outside the image, is pale, as in VOC.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from engine.data.bands import shown_bands
from engine.data.batches import TrainBatches
from engine.data.order import Draw
from engine.reporting.colours import VOID, Colour
from engine.reporting.label_sets import with_sets
from engine.reporting.pictures import (
    FAINT,
    GAP_PX,
    INK,
    MARGIN_PX,
    MAX_ASPECT,
    PAPER,
    TEXT_PX,
    Pixels,
    fitted,
    font,
    legend,
    overlay,
)

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
        images += [sample.image, *_bytes(crops.images)]
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
    return _paste(rows, headings, [dataset.ids[index] for index in indices], side_px, entries)


def _bytes(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)


def _paste(
    rows: list[list[Pixels]],
    headings: list[str],
    names: list[str],
    side_px: int,
    entries: Sequence[tuple[str, Colour]],
) -> Image.Image:
    first_px = max(fitted(row[0], MAX_ASPECT * side_px, side_px).width for row in rows)
    lefts = np.cumsum([MARGIN_PX, first_px + GAP_PX, *[side_px + GAP_PX] * (len(headings) - 2)]).tolist()
    width = lefts[-1] + side_px + MARGIN_PX
    names_px = TEXT_PX + GAP_PX
    row_px = names_px + side_px + GAP_PX
    table = legend(entries, width - 2 * MARGIN_PX)
    height = MARGIN_PX + names_px + len(rows) * row_px + GAP_PX + table.height + MARGIN_PX
    canvas = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    for left, heading in zip(lefts, headings, strict=True):
        draw.text((left, MARGIN_PX), heading, INK, font(), anchor="la")
    top = MARGIN_PX + names_px
    for name, row in zip(names, rows, strict=True):
        draw.text((MARGIN_PX, top + 2), name, FAINT, font(TEXT_PX - 2), anchor="la")
        for left, pixels in zip(lefts, row, strict=True):
            canvas.paste(fitted(pixels, MAX_ASPECT * side_px, side_px), (left, top + names_px))
        top += row_px
    canvas.paste(table, (MARGIN_PX, top + GAP_PX))
    return canvas
