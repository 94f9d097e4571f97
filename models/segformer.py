"""SegFormer (Xie et al. 2021, arXiv 2105.15203), written from the paper.

Tokens stay channels-last, (B, H, W, C), from the first patch embedding to the head: linear layers and layer
norms need no transpose, and a convolution sees the same memory as a channels-last (B, C, H, W) view.

Shapes: B batch, H x W input pixels, C channels of a stage, K classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from models.architectures import VARIANTS, HeadName, SegFormerOptions, VariantName
from models.channels import statistics_of
from models.segformer_heads import HEAD_TYPES, channels_first, channels_last

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of pixels in 0..1
PIXEL_MEAN, PIXEL_STD = ([255 * x for x in values] for values in (IMAGENET_MEAN, IMAGENET_STD))


HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)  # attention looks at keys and values on a grid this much coarser
MLP_RATIO = 4
MIN_SIZE_PX = 32  # the coarsest stage needs one token


class PatchEmbedding(nn.Module):
    """Overlapping patches: a strided convolution, then a layer norm."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, ceil(H / stride), ceil(W / stride), C)"""
        return self.norm(channels_last(self.proj(x)))


class Attention(nn.Module):
    """Multi-head attention of every token to a grid of keys and values that is `reduction` times coarser."""

    def __init__(self, channels: int, heads: int, reduction: int):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        self.reduction = reduction
        if reduction > 1:
            self.reduce = nn.Conv2d(channels, channels, reduction, stride=reduction)
            self.reduce_norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)"""
        B, H, W, C = x.shape
        context = x
        if self.reduction > 1:
            context = self.reduce_norm(channels_last(self.reduce(channels_first(x))))
        q = self.q(x).view(B, H * W, self.heads, -1).transpose(1, 2)  # (B, heads, H*W, C/heads)
        kv = self.kv(context).view(B, -1, 2, self.heads, C // self.heads)
        k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, h*w, C/heads) each
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(B, H, W, C))


class MixFFN(nn.Module):
    """Feed-forward with a 3x3 depthwise convolution inside, which replaces positional encodings."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = MLP_RATIO * channels
        self.fc1 = nn.Linear(channels, hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)"""
        x = channels_last(self.dwconv(channels_first(self.fc1(x))))  # (B, H, W, 4C)
        return self.fc2(F.gelu(x))


class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): in training, a sample becomes zeros with probability `drop_prob`.

    timm's does the same, but to import timm, which imports torch's compiler, takes longer than all else that
    a prediction imports beside torch.
    """

    def __init__(self, drop_prob: float):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if self.drop_prob == 0 or not self.training:
            return x
        keep = 1 - self.drop_prob
        return x * x.new_empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(keep).div_(keep)


class Block(nn.Module):
    """Attention and feed-forward, each pre-normed and residual, with stochastic depth."""

    def __init__(self, channels: int, heads: int, reduction: int, drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = Attention(channels, heads, reduction)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = MixFFN(channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Stage(nn.Module):
    """A patch embedding, its blocks, and a closing norm; gives (B, C, h, w) in channels-last memory."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, heads: int, reduction: int, rates: list[float]
    ):
        super().__init__()
        self.embed = PatchEmbedding(in_channels, channels, kernel=2 * stride - 1, stride=stride)
        self.blocks = nn.ModuleList(Block(channels, heads, reduction, rate) for rate in rates)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)  # (B, h, w, C)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointing else block(x)
        return channels_first(self.norm(x))


class MixTransformer(nn.Module):
    """The encoder: four stages at strides 4, 8, 16 and 32."""

    def __init__(self, variant: VariantName, drop_path: float, in_channels: int):
        super().__init__()
        channels, depths, _ = VARIANTS[variant]
        rates: Any = torch.linspace(0, drop_path, sum(depths), device="cpu")  # Any: split is not typed
        self.channels = channels
        self.stages: Any = nn.ModuleList(
            Stage(in_channels if i == 0 else channels[i - 1], channels[i], 4 if i == 0 else 2, HEADS[i],
                  REDUCTIONS[i], rates_of_stage.tolist())
            for i, rates_of_stage in enumerate(rates.split(depths))
        )  # fmt: skip

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, n, H, W) -> four maps (B, C_i, H / 2^(i+2), W / 2^(i+2))"""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters by block, first block first, with what is before and after it in its stage."""
        layers = []
        for stage in self.stages:
            blocks = [[*block.parameters()] for block in stage.blocks]
            blocks[0] += stage.embed.parameters()
            blocks[-1] += stage.norm.parameters()
            layers += blocks
        return layers


class SegFormer(nn.Module):
    """SegFormer-B0 to B5 (arXiv 2105.15203).

    Args:
        variant: "b0" to "b5".
        num_classes: K.
        decoder_width: D; None takes the paper's (256 for B0 and B1, 768 above) or, for the mmseg head, 256.
        head: "paper", or "mmseg" for weights trained with MMSegmentation.
        drop_path: stochastic depth of the last block; earlier blocks rise to it linearly.
        dropout: of whole channels before the classifier.
        checkpointing: keep only the input of each block for the backward pass, and compute the rest again.
        in_channels: of the images; mean, std: of each, in 0..255. None: of RGB, ImageNet's.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        variant: VariantName = SegFormerOptions.variant,
        num_classes: int = 21,
        decoder_width: int | None = SegFormerOptions.decoder_width,
        head: HeadName = SegFormerOptions.head,
        drop_path: float = SegFormerOptions.drop_path,
        dropout: float = SegFormerOptions.dropout,
        checkpointing: bool = SegFormerOptions.checkpointing,
        in_channels: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        super().__init__()
        width = decoder_width or (VARIANTS[variant].decoder_width if head == "paper" else 256)
        self.in_channels = in_channels
        self.register_buffer("mean", statistics_of(in_channels, mean or PIXEL_MEAN), persistent=False)
        self.register_buffer("std", statistics_of(in_channels, std or PIXEL_STD), persistent=False)
        self.encoder = MixTransformer(variant, drop_path, in_channels)
        for stage in self.encoder.stages:
            stage.checkpointing = checkpointing
        self.head = HEAD_TYPES[head](self.encoder.channels, width, num_classes, dropout)
        self.apply(_initialise)
        nn.init.normal_(self.head.classifier.weight, std=0.01)  # so that training starts at a loss of ln(K)

    def forward(self, image: Tensor) -> Tensor:
        """Logits at a quarter of the resolution.

        Args:
            image: (B, in_channels, H, W), uint8 or float in 0..255, RGB or other bands; any H and W.

        Returns:
            (B, K, ceil(H/4), ceil(W/4)); the loss or the predictor upsamples them (align_corners=False).
        """
        H, W = image.shape[-2:]
        x = (image.to(self.mean.dtype) - self.mean) / self.std
        # Reductions round down, as in the reference; only an image below one coarsest token needs padding.
        x = F.pad(x, (0, max(0, MIN_SIZE_PX - W), 0, max(0, MIN_SIZE_PX - H)))
        logits = self.head(self.encoder(x.contiguous(memory_format=torch.channels_last)))
        # Channels-first memory from here: upsampling and softmax over few classes are faster in it. The sizes
        # are sums and not -(-H // 4), since ONNX divides negative numbers towards zero.
        return logits[..., : (H + 3) // 4, : (W + 3) // 4].contiguous()


def _initialise(module: nn.Module) -> None:
    """Truncated normal for linear layers, He (fan out) for convolutions, as in the authors' code."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
