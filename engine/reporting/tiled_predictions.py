"""The prediction of an image of any size, by tiles: maps are TIFF files with the georeference of the image.

An overlay is reduced; see `predictions.py` for the files.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from engine.data.bands import shown_bands
from engine.data.inputs import InputImage
from engine.data.rasters import Raster, new_map, open_map, open_raster
from engine.reporting.label_sets import with_sets
from engine.reporting.pictures import overlay
from engine.reporting.polygons import write_polygons
from engine.reporting.predictions import (
    JPEG_QUALITY,
    VOID_NEVER,
    mask_files,
    prediction_file,
    with_folder,
)
from engine.run_folder import written_in_place
from engine.scoring.protocols import Rectangle
from engine.scoring.segmenter import Segmenter
from engine.scoring.tiles import Tiling

REDUCED_PX = 2048  # longer side of an overlay


def predict_tiles(
    segmenter: Segmenter,
    image: InputImage,
    tiling: Tiling,
    out: Path,
    kinds: Sequence[str],
    show: Callable[[int, int], None],
) -> None:
    """Predict an image of any size tile by tile, and write its files; `labels` is always one of them.

    Args:
        show: is told how many tiles are done, and of how many.

    Raises:
        DataError: rasterio is not installed.
        UnreadableSample: the file is not an image, or damaged.
    """
    colours = dict.fromkeys([prediction_file(out, "labels", image, True)], segmenter.palette)
    if segmenter.kind.is_multi:
        files = mask_files(out, segmenter.class_names, image, True)
        colours = {file: ((0, 0, 0), colour) for file, colour in zip(files, segmenter.palette, strict=True)}
    with (
        ExitStack() as written,
        open_raster(image.path, segmenter.value_range, segmenter.bands) as raster,
    ):

        def new_file(path: Path) -> Path:
            return written.enter_context(written_in_place(with_folder(path)))

        path = {kind: new_file(prediction_file(out, kind, image, True)) for kind in kinds if kind != "labels"}
        labels = {new_file(file): of_file for file, of_file in colours.items()}
        with ExitStack() as stack:
            maps = [stack.enter_context(new_map(file, raster, of_file)) for file, of_file in labels.items()]
            grey = stack.enter_context(new_map(path["confidence"], raster)) if "confidence" in kinds else None
            pixels, ids = Reduced(raster, 3), Reduced(raster, len(maps))

            def pixels_in(box: Rectangle) -> Tensor:
                part = raster.read(box.rows, box.columns)
                pixels.put(shown_bands(part, segmenter.bands), box)
                return torch.tensor(part)

            parts = tiling.blended(raster.size, pixels_in, segmenter.probabilities)
            for done, (box, part) in enumerate(parts, start=1):
                decided, confidence = segmenter.kind.decide(part[None])
                layers = decided.byte().view(-1, box.height, box.width).numpy()  # (files, height, width)
                for file, layer in zip(maps, layers, strict=True):
                    file.write(layer, 1, window=(box.rows, box.columns))
                if grey:
                    rounded = (255 * confidence[0]).round().byte().numpy()
                    grey.write(rounded, 1, window=(box.rows, box.columns))
                ids.put(layers, box)
                show(done, tiling.number(raster.size))
        if "overlay" in kinds:
            decided = torch.from_numpy(ids.values if segmenter.kind.is_multi else ids.values[0])
            [shown], palette, _ = with_sets([decided], segmenter.palette, segmenter.class_names, VOID_NEVER)
            mixed = Image.fromarray(overlay(torch.from_numpy(pixels.values), shown, palette, VOID_NEVER))
            mixed.save(path["overlay"], format="JPEG", quality=JPEG_QUALITY)
        if "polygons" in kinds:
            with ExitStack() as stack:
                opened: Any = [stack.enter_context(open_map(file)) for file in labels]
                found = opened if segmenter.kind.is_multi else opened[0]
                write_polygons(path["polygons"], found, segmenter.class_names, raster.georeference)


class Reduced:
    """Every n-th pixel of a large image, so that no side is longer than REDUCED_PX.

    values: (channels, height, width) uint8.
    """

    def __init__(self, raster: Raster, num_channels: int):
        self._step = math.ceil(max(raster.size) / REDUCED_PX)
        size = (math.ceil(side / self._step) for side in raster.size)
        self.values = np.zeros([num_channels, *size], np.uint8)

    def put(self, part: NDArray[np.uint8], box: Rectangle) -> None:
        """The pixels of a part (channels, height, width) at its place."""
        step = self._step
        first_row, first_column = -box.top % step, -box.left % step
        kept = part[:, first_row::step, first_column::step]
        y, x = (box.top + first_row) // step, (box.left + first_column) // step
        self.values[:, y : y + kept.shape[1], x : x + kept.shape[2]] = kept
