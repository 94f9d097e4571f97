"""Decoders on a plain vision transformer: a linear layer, DPT, UPerNet.

The layers are those of segmentation_models_pytorch (SMP), under its names. A decoder is called with the maps,
(B, C, h, w) each, and their prefix tokens, (B, T, C) or None, and gives one map.
"""

from collections.abc import Sequence
from typing import Any

from segmentation_models_pytorch.decoders.dpt import decoder as smp_dpt
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from models.architectures import Readout


class LinearDecoder(nn.Module):
    """BatchNorm of the last map, before one linear layer: the linear probe of DINOv2 (arXiv 2304.07193)."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, maps: Sequence[Tensor], prefix_tokens: Sequence[Tensor | None]) -> Tensor:
        """-> (B, C, h, w)"""
        return self.norm(maps[-1])


class DPTDecoder(smp_dpt.DPTDecoder):  # type: ignore[misc]  # SMP is not typed
    """DPT (arXiv 2103.13413) on patches of any size: SMP's layers, for grids with odd sides too.

    Args:
        channels: C.
        patch_px: the side of a patch. SMP makes maps at strides 4, 8, 16 and 32 if it is a power of two; here
            it is rounded up to one, so that 14 px give the same four scales as 16 px.
        has_prefix_tokens: whether the encoder has a class token.
        readout: what is done with the class token.
        width: D.
    """

    def __init__(self, channels: int, patch_px: int, has_prefix_tokens: bool, readout: Readout, width: int):
        strides = [2 ** (patch_px - 1).bit_length()] * 4
        widths = (width, 2 * width, 4 * width, 4 * width)
        super().__init__([channels] * 4, strides, has_prefix_tokens, readout, widths, width)

    def forward(self, features: list[Tensor], prefix_tokens: list[Tensor | None]) -> Tensor:
        """-> (B, D, 8h, 8w) for patches of 14 or 16 px"""
        blocks = zip(self.projection_blocks, self.reassemble_blocks, features, prefix_tokens, strict=True)
        maps = [reassemble(project(x, tokens)) for project, reassemble, x, tokens in blocks]  # finest first
        height, width = maps[0].shape[2:]
        sizes = [(2 * height, 2 * width), *(x.shape[2:] for x in maps[:-1])]  # of what a map is upsampled to
        fused: Tensor | None = None
        fusions: Any = self.fusion_blocks
        for block, x, size in zip(fusions, maps[::-1], sizes[::-1], strict=True):
            x = block.residual_conv_block1(x)
            x = block.residual_conv_block2(x if fused is None else x + fused)
            # SMP doubles the sides here, which is wrong after an odd grid was halved.
            fused = block.project(F.interpolate(x, size, mode="bilinear", align_corners=True))
        assert fused is not None
        return fused


class PyramidUPerNetDecoder(UPerNetDecoder):  # type: ignore[misc]
    """SMP's UPerNet (arXiv 1807.10221) on the simple feature pyramid of the last map (arXiv 2203.16527).

    Its maps have 4, 2, 1 and 1/2 times the sides of the grid; the norms at its end are those that SMP's
    UPerNet begins with.

    Args:
        channels: C.
        width: D.
    """

    def __init__(self, channels: int, width: int):
        levels = (channels // 4, channels // 2, channels, channels)
        super().__init__(encoder_channels=(0, 0, *levels), encoder_depth=5, decoder_channels=width)
        half = channels // 2
        self.pyramid = nn.ModuleList([
            nn.Sequential(
                nn.ConvTranspose2d(channels, half, 2, stride=2),
                LayerNorm2d(half),
                nn.GELU(),
                nn.ConvTranspose2d(half, half // 2, 2, stride=2),
            ),
            nn.ConvTranspose2d(channels, half, 2, stride=2),
            nn.Identity(),
            nn.MaxPool2d(2, ceil_mode=True),
        ])  # fmt: skip

    def forward(self, maps: Sequence[Tensor], prefix_tokens: Sequence[Tensor | None]) -> Tensor:
        """-> (B, D, 4h, 4w)"""
        x = maps[-1]
        return super().forward([x, x, *(level(x) for level in self.pyramid)])  # it skips the first two
