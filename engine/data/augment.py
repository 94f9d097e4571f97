"""Augmentation on the device: one warp and one colour change a sample, drawn from (seed, epoch, sample id).

Knows nothing of files, of batches' order and of what is laid over a sample afterwards (`mixing.py`).
"""

from torch import Tensor

from engine.data.colour import recolour
from engine.data.parameters import Parameters, draw_parameters
from engine.data.warp import warp


class Augment:
    """The `augment` section as a function of a padded batch.

    Args:
        section: every key of it but cutmix, classmix, mosaic and copy_paste.
        seed: of the run.
        ignore_index: the label of what lies outside the image.
    """

    def __init__(self, section, seed: int, ignore_index: int):
        self.section = section
        self.seed = seed
        self.ignore_index = ignore_index

    def parameters(self, id: str, epoch: int, host: str = "") -> Parameters:
        """A pure function of (seed, epoch, id); `host` is what the sample is laid over, if it is."""
        return draw_parameters(self.section, self.seed, epoch, id, host)

    def __call__(
        self, images: Tensor, labels: Tensor, sizes: list[tuple[int, int]], parameters: list[Parameters]
    ) -> tuple[Tensor, Tensor]:
        """Warp and colour a batch of B samples, padded to H x W px; S is the side of the crop.

        Args:
            images: (B, 3, H, W) uint8, each in the upper left of its padding; H and W multiples of 8.
            labels: (B, H, W) uint8, padded with `ignore_index`.
            sizes: (h, w) of each image inside its padding.
            parameters: one a sample.

        Returns:
            images (B, 3, S, S) float32 in 0..255, labels (B, S, S) int64.
        """
        s = self.section
        images, labels = warp(
            images, labels, sizes, parameters, s.crop, self.ignore_index, s.category_max_ratio
        )
        return recolour(images, parameters, s), labels
