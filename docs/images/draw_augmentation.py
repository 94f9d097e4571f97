"""The pictures of docs/augmentation.md: a drawn scene as it is stored, and three crops of it.

python docs/images/draw_augmentation.py
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from engine.data.augment import Augment
from engine.data.batches import TrainBatches
from engine.data.class_counts import count_classes
from engine.data.mixing import Mixing
from engine.data.options import Augment as Section
from engine.data.order import Draw, SampleOrder
from engine.data.synthetic import SyntheticScenes
from engine.reporting.pictures import overlay

SIDE_PX = 144
OFF = {"scale": [1.0, 1.0], "rotate_deg": 0.0, "flip": 0.0}
OFF |= dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)
SHOWN = {  # key -> its value in the picture
    "crop": 72,
    "scale": [0.5, 2.0],
    "rotate_deg": 30.0,
    "aspect": 1.8,
    "shear_deg": 20.0,
    "translate": 0.3,
    "flip": 1.0,
    "brightness": 0.3,
    "contrast": 0.6,
    "saturation": 0.9,
    "hue": 0.2,
    "blur": 3.0,
    "elastic": 9.0,
    "grayscale": 1.0,
    "noise": 0.2,
    "jpeg": 1.0,
    "cutmix": 1.0,
    "classmix": 1.0,
    "mosaic": 1.0,
    "copy_paste": 1.0,
}


def strip(key: str) -> Image.Image:
    """The stored scene and its crops in three epochs, with the colours of the labels over them."""
    scenes = SyntheticScenes("train", 12, SIDE_PX)
    section = Section(**{"crop": SIDE_PX, **OFF, key: SHOWN[key]})
    mixing = Mixing(
        section, 0, len(scenes), scenes.ignore_index, count_classes(scenes, lambda done, total: None)
    )
    order = SampleOrder(len(scenes), batch=1, seed=0)
    augment = Augment(section, 0, scenes.ignore_index)
    batches = TrainBatches(scenes, order, augment, torch.device("cpu"), workers=0, mixing=mixing)
    batch = batches.of([Draw(0, epoch) for epoch in range(3)])
    pairs = [
        (scenes[0].image, scenes[0].labels),
        *zip(batch.images.to(torch.uint8), batch.labels, strict=True),
    ]
    pictures = [overlay(*pair, scenes.palette, scenes.ignore_index, 0.25) for pair in pairs]
    whole = np.zeros((SIDE_PX, 4 * SIDE_PX + 24, 4), np.uint8)  # transparent between the pictures
    for place, picture in enumerate(pictures):
        left = place * (SIDE_PX + 8)
        whole[: picture.shape[0], left : left + picture.shape[1]] = np.dstack(
            [picture, np.full(picture.shape[:2], 255)]
        )
    return Image.fromarray(whole)


def main() -> None:
    for key in SHOWN:
        strip(key).save(Path(__file__).with_name(f"augment_{key}.webp"), quality=72, method=6)


if __name__ == "__main__":
    main()
