"""The discriminator of adversarial training: a PatchGAN (pix2pix, arXiv 1611.07004).

It classifies every patch of (image, class probabilities) as from an annotator or from the network. Void
pixels are hidden from it, and it returns the share of valid pixels of each patch.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.channels import statistics_of
from models.segformer import PIXEL_MEAN, PIXEL_STD

MAX_WIDENING = 8  # channels double with each layer, up to this factor


class PatchDiscriminator(nn.Module):
    """PatchGAN: `layers` convolutions 4x4 of stride 2, then one to a single channel.

    Differs from pix2pix in that the last convolution is 3x3 of stride 1, so that one logit belongs to exactly
    one cell of 2^layers pixels, and in that instance normalisation is affine.

    Args:
        num_classes: K, the channels of the probabilities.
        channels: of the first layer.
        layers: number of strided convolutions; a logit is for a cell of 2^layers x 2^layers pixels.
        sees_image: False: it scores the probabilities alone.
        in_channels: of the image; mean, std: of each, in 0..255. None: of RGB, ImageNet's.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        num_classes: int,
        channels: int = 64,
        layers: int = 4,
        sees_image: bool = True,
        in_channels: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        super().__init__()
        self.register_buffer("mean", statistics_of(in_channels, mean or PIXEL_MEAN), persistent=False)
        self.register_buffer("std", statistics_of(in_channels, std or PIXEL_STD), persistent=False)
        self.cell_px: int = 2**layers
        self.sees_image = sees_image
        widths = [channels * min(2**i, MAX_WIDENING) for i in range(layers)]
        body: list[nn.Module] = [
            _halving(num_classes + in_channels * sees_image, widths[0]),
            nn.LeakyReLU(0.2),
        ]
        for before, after in pairwise(widths):
            body += [_halving(before, after), nn.InstanceNorm2d(after, affine=True), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*body, nn.Conv2d(widths[-1], 1, 3, padding=1))
        self.apply(_initialise)

    def forward(self, image: Tensor, probabilities: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Scores each cell, and gives its weight.

        Args:
            image: (B, n, H, W) in 0..255, RGB or other bands; any H and W.
            probabilities: (B, K, H, W), of the network or one-hot labels.
            valid: (B, 1, H, W) bool; image and probabilities have no influence where it is False.

        Returns:
            logits (B, 1, h, w) and weight (B, 1, h, w), the share of valid pixels of each cell in 0..1; h and
            w are H and W over the cell's side, rounded up, and at least 2.
        """
        x = probabilities
        if self.sees_image:
            x = torch.cat([(image.to(self.mean.dtype) - self.mean) / self.std, x], dim=1)  # (B, n+K, H, W)
        x = x.masked_fill(~valid, 0.0)
        weight = valid.to(x.dtype)
        padding = (0, self._missing(valid.shape[-1]), 0, self._missing(valid.shape[-2]))
        if any(padding):  # a padding of 0 would be a copy
            x, weight = F.pad(x, padding), F.pad(weight, padding)
        logits = self.body(x)  # (B, 1, h, w)
        return logits, F.adaptive_avg_pool2d(weight, logits.shape[-2:])

    def _missing(self, size_px: int) -> int:
        """The padding to whole cells, at least two: instance normalisation of one value is undefined."""
        return max(2 * self.cell_px, -(-size_px // self.cell_px) * self.cell_px) - size_px


def _halving(before: int, after: int) -> nn.Module:
    return nn.Conv2d(before, after, 4, stride=2, padding=1)


def _initialise(module: nn.Module) -> None:
    """Normal of standard deviation 0.02, of mean 0 for convolutions and 1 for norms, as by the authors."""
    if isinstance(module, nn.Conv2d):
        assert module.bias is not None
        nn.init.normal_(module.weight, 0.0, 0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.InstanceNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
