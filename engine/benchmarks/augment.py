"""Augmentation compared with a chain of kornia's operators that does the same: flip, affine, crop, colour.

Both start from a batch of uint8 images and labels and end at what a model and a loss take.
"""

from collections.abc import Callable
from functools import partial

import torch
from kornia import augmentation as kornia
from torch import Tensor

from engine.benchmarks.measuring import ratio
from engine.data.augment import Augment
from engine.data.options import Augment as Section
from engine.scoring.timing import interleaved

NUM_CLASSES = 21


def measure(
    batch: int, size_px: int, rounds: int, progress: Callable[[int, int], None]
) -> list[dict[str, object]]:
    """Rows of {contender, batch, size_px, seconds, images_per_s, times_faster}.

    `times_faster` is ours, with the recipe's defaults, against the contender, within each round.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rng = torch.Generator().manual_seed(0)
    shape = (batch, 3, size_px, size_px)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=rng).to(device)
    labels = torch.randint(0, NUM_CLASSES, shape[:1] + shape[2:], dtype=torch.uint8, generator=rng).to(device)
    section = Section(crop=size_px)
    chain = kornias_chain(section)
    calls = {
        "trident": partial(ours, Augment(section, 0, 255), images, labels),
        "trident, category_max_ratio 0.75": partial(
            ours, Augment(Section(crop=size_px, category_max_ratio=0.75), 0, 255), images, labels
        ),
        "kornia's chain": partial(kornias, chain, images, labels),
    }
    seconds = interleaved(calls, rounds, progress)
    return [
        {"contender": name, "batch": batch, "size_px": size_px, "seconds": times}
        | {"images_per_s": batch / sorted(times)[len(times) // 2]}
        | {"times_faster": ratio(times, seconds["trident"])}
        for name, times in seconds.items()
    ]


def kornias_chain(section: Section) -> kornia.AugmentationSequential:
    """The recipe's defaults, written with kornia; outside the image its labels are 0, where ours are void."""
    return kornia.AugmentationSequential(
        kornia.RandomHorizontalFlip(p=section.flip),
        kornia.RandomAffine(section.rotate_deg, scale=(section.scale[0], section.scale[1]), p=1.0),
        kornia.RandomCrop((section.crop, section.crop), pad_if_needed=True, p=1.0),
        kornia.ColorJiggle(section.brightness, section.contrast, section.saturation, section.hue, p=1.0),
        data_keys=["input", "mask"],
    )


def ours(augment: Augment, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Parameters are drawn here, as kornia draws its own."""
    sizes = [(images.shape[2], images.shape[3])] * len(images)
    return augment(images, labels, sizes, [augment.parameters(f"{row}", 0) for row in range(len(images))])


def kornias(chain: kornia.AugmentationSequential, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels in 0..1 and labels as float channels, which the operators ask for."""
    images, labels = chain(images.float() / 255, labels[:, None].float())
    return images * 255, labels[:, 0].long()
