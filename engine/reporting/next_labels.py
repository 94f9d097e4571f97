"""What to label next, as files: next.txt, a path a line; next.csv, with uncertainties; next.jpg, a sheet."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from engine.data.bands import shown_bands
from engine.diagnosis.next_labels import Pool, PoolImage
from engine.reporting.colours import display_colours
from engine.reporting.pictures import FAINT, GAP_PX, INK, MARGIN_PX, PAPER, TEXT_PX, fitted, font, overlay
from engine.reporting.uncertainty import coloured_bits
from engine.run_folder import write_text, written_in_place

NUM_SHOWN = 24
CELL_PX, PAIRS = 160, 2  # of a panel; images next to each other
CAPTIONS = ("image", "prediction", "uncertainty")
VOID_NEVER = -1  # a prediction has a class everywhere
JPEG_QUALITY = 90


def write_next(folder: Path, chosen: Sequence[PoolImage], pool: Pool) -> None:
    """Write the list, the table and the sheet into a folder that is there."""
    write_text(folder / "next.txt", "".join(f"{one.image.place}\n" for one in chosen))
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["rank", "image", "uncertainty_bits"])
    writer.writerows([rank, one.image.place, f"{one.bits:.6f}"] for rank, one in enumerate(chosen, 1))
    write_text(folder / "next.csv", table.getvalue())
    with written_in_place(folder / "next.jpg") as temporary:
        _sheet(chosen[:NUM_SHOWN], pool).save(temporary, format="JPEG", quality=JPEG_QUALITY)


def _sheet(shown: Sequence[PoolImage], pool: Pool) -> Image.Image:
    """Image, prediction and uncertainty of each; bright is the highest uncertainty on the sheet."""
    palette, bands = display_colours(pool.segmenter.palette), pool.segmenter.bands
    predicted = [pool.predict(one.image) for one in shown]
    most = max(max(float(bits.max()) for _, bits in predicted), 1e-6)
    line_px, columns = TEXT_PX + GAP_PX, len(CAPTIONS)
    row_px, pair_px = CELL_PX + line_px, columns * (CELL_PX + GAP_PX) + MARGIN_PX
    num_rows = -(-len(shown) // PAIRS)
    size = (MARGIN_PX + PAIRS * pair_px, 2 * MARGIN_PX + line_px + num_rows * row_px)
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text(
        (MARGIN_PX, MARGIN_PX), f"{', '.join(CAPTIONS)} (0 to {most:.3f} bits)", INK, font(), anchor="la"
    )
    for place, (one, (prediction, bits)) in enumerate(zip(shown, predicted, strict=True)):
        image = shown_bands(pool.segmenter.pixels(one.image.path), bands)  # (3, h, w)
        panels = (
            np.ascontiguousarray(image.permute(1, 2, 0).numpy()),
            overlay(image, prediction.labels, palette, VOID_NEVER),
            coloured_bits(bits, most),
        )
        left = MARGIN_PX + place % PAIRS * pair_px
        top = MARGIN_PX + line_px + place // PAIRS * row_px
        name = one.image.place.encode(errors="replace").decode()  # it may be no UTF-8
        text = f"{place + 1}  {name}  {one.bits:.4f} bits"
        draw.text((left, top), text, FAINT, font(TEXT_PX - 3), anchor="la")
        for column, panel in enumerate(panels):
            corner = (left + column * (CELL_PX + GAP_PX), top + TEXT_PX + 2)
            canvas.paste(fitted(panel, CELL_PX, CELL_PX), corner)
    return canvas
