"""Images with their label, prediction and errors, as RGB pixels.

Shapes: every picture has its own h x w pixels, RGB, uint8.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from engine.data.bands import shown_bands
from engine.data.sample import DataError, Dataset, Palette, note_or_raise, read_or_error
from engine.reporting.colours import UNSCORED, VOID, WRONG, Colour, display_colours
from engine.reporting.label_sets import with_sets
from engine.scoring.predictor import Predictor
from models.folding import evaluating

Pixels = NDArray[np.uint8]  # (h, w, 3)

DIMMED = 0.4  # brightness of correct pixels in an error map

PAPER, INK, FAINT = (255, 255, 255), (32, 36, 44), (118, 124, 136)
MARGIN_PX, GAP_PX, TEXT_PX, SWATCH_PX = 20, 8, 15, 14
MAX_ASPECT = 2.0  # of a panel, width : height


@dataclass(frozen=True)
class Picture:
    """One image, its label and its prediction.

    image: (3, h, w) uint8, RGB. labels: (h, w) class ids and `ignore_index`. prediction: (h, w) class ids.
    Both are masks (C, h, w) where classes may overlap, until `with_sets_of` makes them ids of sets.
    confidence: (h, w) float, the probability of the predicted class, if known.
    """

    id: str
    image: Tensor
    labels: Tensor
    prediction: Tensor
    confidence: Tensor | None = None


def predict_pictures(
    model: nn.Module, dataset: Dataset, indices: Sequence[int], predictor: Predictor, device: torch.device
) -> list[Picture]:
    """Samples with the model's predictions, as they are scored, on the CPU; without unreadable samples."""
    pictures = []
    for index in indices:
        sample = read_or_error(dataset, index)
        if isinstance(sample, DataError):
            note_or_raise(dataset, index, sample)
            continue
        with evaluating(model):
            probabilities = predictor(model, sample.image[None].to(device))  # (1, C, H, W)
        prediction, confidence = predictor.kind.decide(probabilities)
        seen = shown_bands(sample.image, dataset.bands)
        image, labels = predictor.scored(seen), predictor.scored(sample.labels)
        parts = (image, labels, prediction[0], confidence[0])
        pictures.append(Picture(sample.id, *(part.cpu() for part in parts)))
    return pictures


def with_sets_of(
    pictures: Sequence[Picture], palette: Palette, class_names: Sequence[str], ignore_index: int
) -> tuple[list[Picture], Palette, list[str]]:
    """Pictures of masks as pictures of one id a pixel, and the colours and names of the ids; others as is."""
    maps = [map for picture in pictures for map in (picture.labels, picture.prediction)]
    shown, palette, names = with_sets(maps, palette, class_names, ignore_index)
    pairs = zip(pictures, shown[::2], shown[1::2], strict=True)
    return [replace(one, labels=own, prediction=found) for one, own, found in pairs], palette, names


def colourise(labels: Tensor, palette: Palette, ignore_index: int) -> Pixels:
    """(h, w) class ids -> (h, w, 3) colours; void is the light yellow of VOC."""
    ids = labels.cpu().numpy()
    void = ids == ignore_index
    colours = np.asarray(palette, dtype=np.uint8)[np.where(void, 0, ids)]  # (h, w, 3)
    colours[void] = VOID
    return colours


def overlay(
    image: Tensor, labels: Tensor, palette: Palette, ignore_index: int, opacity: float = 0.55
) -> Pixels:
    """The colours of (h, w) class ids drawn over a (3, h, w) image, (h, w, 3)."""
    mixed = (1 - opacity) * _photo(image) + opacity * colourise(labels, palette, ignore_index)
    blended: Pixels = np.rint(mixed).astype(np.uint8)
    return blended


def error_map(picture: Picture, ignore_index: int) -> Pixels:
    """(h, w, 3): the image, dimmed, where the prediction is correct; red where wrong; grey where void."""
    labels, prediction = picture.labels.cpu().numpy(), picture.prediction.cpu().numpy()
    pixels: Pixels = np.rint(DIMMED * _photo(picture.image)).astype(np.uint8)
    pixels[prediction != labels] = WRONG
    pixels[labels == ignore_index] = UNSCORED
    return pixels


def panels(picture: Picture, palette: Palette, ignore_index: int) -> dict[str, Pixels]:
    """The four views of a picture by caption, each (h, w, 3), in the order in which they are shown."""
    palette = display_colours(palette)
    return {
        "image": _photo(picture.image),
        "label": overlay(picture.image, picture.labels, palette, ignore_index),
        "prediction": overlay(picture.image, picture.prediction, palette, ignore_index),
        "errors": error_map(picture, ignore_index),
    }


def fitted(pixels: Pixels, width_px: float, height_px: float) -> Image.Image:
    """The largest size within a box that keeps the proportions; enlarged pixels stay sharp squares."""
    height, width = pixels.shape[:2]
    scale = min(width_px / width, height_px / height)
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    method = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    return Image.fromarray(pixels).resize(size, method)


def share_right(picture: Picture, ignore_index: int) -> float:
    """The share of labelled pixels that are predicted correctly, 0..1; NaN where no pixel has a label."""
    labelled = picture.labels != ignore_index
    right = (picture.prediction == picture.labels) & labelled
    return float(right.sum()) / float(labelled.sum()) if labelled.any() else float("nan")


def classes_in(pictures: Sequence[Picture], ignore_index: int) -> list[int]:
    """The class ids that a label or a prediction holds, in order."""
    maps = [map for picture in pictures for map in (picture.labels, picture.prediction)]
    ids = {int(id) for map in maps for id in np.unique(map.cpu().numpy())}
    return sorted(ids - {ignore_index})


def sheet(
    pictures: Sequence[Picture],
    palette: Palette,
    class_names: Sequence[str],
    ignore_index: int,
    row_height_px: int = 192,
) -> Image.Image:
    """A row of image, label, prediction and errors for each picture, and a legend below.

    The legend names the classes that occur. Pictures of different sizes are scaled to rows of one height.
    """
    assert pictures, "a sheet needs at least one picture"
    pictures, palette, class_names = with_sets_of(pictures, palette, class_names, ignore_index)
    rows = [panels(picture, palette, ignore_index) for picture in pictures]
    captions = [caption(picture, ignore_index) for picture in pictures]
    entries = _legend_entries(pictures, palette, class_names, ignore_index)
    return table_of_panels([*rows[0]], captions, [[*row.values()] for row in rows], entries, row_height_px)


def table_of_panels(
    headings: Sequence[str],
    captions: Sequence[str],
    rows: Sequence[Sequence[Pixels]],
    entries: Sequence[tuple[str, Colour]],
    row_height_px: int,
) -> Image.Image:
    """Rows of panels, each below its caption, with headings above the columns and a legend at the bottom."""
    scaled = [[fitted(panel, MAX_ASPECT * row_height_px, row_height_px) for panel in row] for row in rows]
    widths = [max(panel.width for panel in column) for column in zip(*scaled, strict=True)]
    *lefts, end = np.cumsum([MARGIN_PX, *(width + GAP_PX for width in widths)]).tolist()
    width = end - GAP_PX + MARGIN_PX
    names = legend(entries, width - 2 * MARGIN_PX)
    line_px = TEXT_PX + GAP_PX
    row_px = line_px + row_height_px + GAP_PX
    height = MARGIN_PX + line_px + len(rows) * row_px + GAP_PX + names.height + MARGIN_PX
    canvas = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    for left, heading in zip(lefts, headings, strict=True):
        draw.text((left, MARGIN_PX), heading, INK, font(), anchor="la")
    top = MARGIN_PX + line_px
    for text, row in zip(captions, scaled, strict=True):
        draw.text((MARGIN_PX, top + 2), text, FAINT, font(TEXT_PX - 2), anchor="la")
        for left, panel in zip(lefts, row, strict=True):
            canvas.paste(panel, (left, top + line_px))
        top += row_px
    canvas.paste(names, (MARGIN_PX, top + GAP_PX))
    return canvas


def caption(picture: Picture, ignore_index: int) -> str:
    """The id and the share of correct pixels."""
    share = share_right(picture, ignore_index)
    return f"{picture.id}   no labels" if math.isnan(share) else f"{picture.id}   {share:.1%} right"


def _photo(image: Tensor) -> Pixels:
    """(3, h, w) -> (h, w, 3)"""
    return image.permute(1, 2, 0).contiguous().cpu().numpy()


def _legend_entries(
    pictures: Sequence[Picture], palette: Palette, class_names: Sequence[str], ignore_index: int
) -> list[tuple[str, Colour]]:
    colours = display_colours(palette)
    entries = [(class_names[i], colours[i]) for i in classes_in(pictures, ignore_index)]
    if any((picture.labels == ignore_index).any() for picture in pictures):
        entries.append(("void", VOID))
    return [*entries, ("wrong", WRONG)]


def legend(entries: Sequence[tuple[str, Colour]], width_px: int) -> Image.Image:
    """Swatches with names, in as many lines as the width requires."""
    line_px = TEXT_PX + GAP_PX
    places, left, line = [], 0, 0
    for name, colour in entries:
        entry_px = SWATCH_PX + GAP_PX + round(font().getlength(name))
        if left and left + entry_px > width_px:
            left, line = 0, line + 1
        places.append((left, line * line_px, name, colour))
        left += entry_px + 2 * GAP_PX
    canvas = Image.new("RGB", (width_px, (line + 1) * line_px), PAPER)
    draw = ImageDraw.Draw(canvas)
    for left, top, name, colour in places:
        draw.rectangle((left, top + 1, left + SWATCH_PX, top + 1 + SWATCH_PX), colour, outline=FAINT)
        draw.text((left + SWATCH_PX + GAP_PX, top), name, INK, font(), anchor="la")
    return canvas


def font(size_px: int = TEXT_PX) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)
