"""Where the members of an ensemble disagree, as pictures and arrays next to their predictions.

DIR/uncertainty/<name>.png  mutual information of the members
DIR/uncertainty_scale.png   its colours in bits
DIR/votes/<name>.png        grey: the share of the members that predict the label, white is all
DIR/uncertainty.h5          of each image, under its path: mutual_information (h, w) float16 in bits, and
                            votes (h, w) uint8, a number of members
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from engine.data.inputs import InputImage
from engine.reporting.pictures import GAP_PX, INK, PAPER, TEXT_PX, Pixels, font
from engine.reporting.predictions import arrays_of_images, prediction_file, save_image
from engine.scoring.disagreement import Disagreement

COLOURS = "inferno"
SCALE_PX, NUM_TICKS = 400, 4
Writer = Callable[[InputImage, Disagreement], None]


def uncertainty_files(images: Sequence[InputImage], out: Path) -> list[Path]:
    """Every file that the writer will write."""
    maps = [prediction_file(out, kind, image) for kind in ("uncertainty", "votes") for image in images]
    return [*maps, out / "uncertainty.h5", _scale(out)]


@contextmanager
def uncertainty_writer(
    out: Path, member_names: Sequence[str], most_bits: float, about: Mapping[str, object]
) -> Iterator[Writer]:
    """A function that writes the files of one image; each file appears complete or not at all.

    Args:
        most_bits: of mutual information, drawn as the brightest colour.
        about: what the attribute `about` of uncertainty.h5 holds, as JSON.
    """
    with arrays_of_images(out / "uncertainty.h5") as arrays:
        arrays.attrs["members"] = list(member_names)
        arrays.attrs["about"] = json.dumps(about)

        def write(image: InputImage, found: Disagreement) -> None:
            coloured = coloured_bits(found.mutual_information, most_bits)
            share = found.votes.float() / len(member_names)
            save_image(Image.fromarray(coloured), prediction_file(out, "uncertainty", image))
            grey = (255 * share).round().byte().numpy()  # (h, w)
            save_image(Image.fromarray(grey), prediction_file(out, "votes", image))
            group = arrays.create_group(image.place.encode(errors="surrogateescape"))
            information = found.mutual_information.numpy().astype(np.float16)
            for name, values in (("mutual_information", information), ("votes", found.votes.numpy())):
                group.create_dataset(name, data=values, compression=1, shuffle=True)

        yield write
        if len(arrays):  # else no image could be read, and the command can be repeated
            save_image(_drawn_scale(most_bits), _scale(out))


def coloured_bits(bits: Tensor, most_bits: float) -> Pixels:
    """(h, w) -> (h, w, 3). Colours follow the root of the share of `most_bits`, as most values are small."""
    shares = (bits.float() / most_bits).clamp(0, 1).sqrt().numpy()
    pixels: Pixels = np.rint(255 * mpl.colormaps[COLOURS](shares)[..., :3]).astype(np.uint8)
    return pixels


def _drawn_scale(most_bits: float) -> Image.Image:
    """The colours from 0 to `most_bits`, with values and what they are below."""
    ramp = np.linspace(0, most_bits, SCALE_PX, dtype=np.float32)[None].repeat(2 * TEXT_PX, axis=0)
    canvas = Image.new("RGB", (SCALE_PX + 8 * TEXT_PX, 4 * TEXT_PX + 5 * GAP_PX), PAPER)
    left = 2 * TEXT_PX
    canvas.paste(Image.fromarray(coloured_bits(Tensor(ramp), most_bits)), (left, GAP_PX))
    draw = ImageDraw.Draw(canvas)
    for tick in range(NUM_TICKS + 1):
        place = left + SCALE_PX * tick / NUM_TICKS
        text = f"{most_bits * tick / NUM_TICKS:.2f}" + " bits" * (tick == NUM_TICKS)
        draw.text((place, 2 * TEXT_PX + 2 * GAP_PX), text, INK, font(), anchor="ma")
    title = "mutual information: how much the members disagree"
    draw.text((left, 3 * TEXT_PX + 4 * GAP_PX), title, INK, font())
    return canvas


def _scale(out: Path) -> Path:
    return out / "uncertainty_scale.png"  # not in uncertainty/, where an image may have any name
