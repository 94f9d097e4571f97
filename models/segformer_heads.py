"""SegFormer's decoders: the one of the paper, and MMSegmentation's.

The head of the paper is linear up to its BatchNorm, and a 1x1 convolution commutes with bilinear upsampling,
so

    fuse(concat_i(up(mlp_i(x_i))))  =  sum_i up((F_i M_i) x_i)

holds exactly. The right side is what runs: each scale is projected once, at its own resolution, and the
concatenated feature map of the paper is never built. The weights are composed at each call, so gradients
reach both factors.

Shapes: B batch, H x W input pixels, C channels of a stage, D decoder width, K classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.architectures import HeadName


class PaperHead(nn.Module):
    """The all-MLP decoder of the paper, folded: one projection per scale, summed at stride 4."""

    def __init__(self, channels: tuple[int, ...], width: int, num_classes: int, dropout: float):
        super().__init__()
        self.mlps: Any = nn.ModuleList(nn.Linear(c, width) for c in channels)
        self.fuse = nn.Conv2d(len(channels) * width, width, 1, bias=False)  # its input: coarsest scale first
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Four maps -> logits (B, K, H/4, W/4)"""
        fused = folded_sum(maps, self.mlps, self.fuse.weight, maps[0].shape[2:])  # (B, D, H/4, W/4)
        return classify(F.relu(self.norm(fused), inplace=True), self.dropout, self.classifier)


def folded_sum(
    maps: Sequence[Tensor], linears: Sequence[nn.Linear], fuse: Tensor, size: Sequence[int]
) -> Tensor:
    """fuse(concat_i(up(linear_i(x_i)))) as a sum of one projection per scale.

    Args:
        maps: (B, C_i, h_i, w_i), finest first.
        linears: from C_i to D channels, in the same order.
        fuse: (D, n D, 1, 1), the weight of a convolution whose input has the coarsest scale first.
        size: (h, w) of the result. A finer map is resized before its projection, a coarser one after it:
            bilinear interpolation commutes with both.

    Returns:
        (B, D, h, w)
    """
    factors = fuse.flatten(1).chunk(len(linears), dim=1)[::-1]  # F_i: (D, D), finest scale first
    bias: Any = sum(F_i @ linear.bias for F_i, linear in zip(factors, linears, strict=True))  # (D,)
    fused: Tensor | None = None
    for x, F_i, linear in zip(maps, factors, linears, strict=True):
        weight = (F_i @ linear.weight)[:, :, None, None]  # (D, C_i, 1, 1)
        x = resize(x, size) if x.shape[2] > size[0] else x
        projected = resize(F.conv2d(x, weight, bias if fused is None else None), size)
        # In place: no operation before needs its output again, and these are the largest maps.
        fused = projected if fused is None else fused.add_(projected)
    assert fused is not None
    return fused


class MMSegHead(nn.Module):
    """MMSegmentation's SegformerHead: each scale has BatchNorm and ReLU, so only the fuse layer folds."""

    def __init__(self, channels: tuple[int, ...], width: int, num_classes: int, dropout: float):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for c in channels
        )
        self.fuse = nn.Conv2d(len(channels) * width, width, 1, bias=False)  # its input: finest scale first
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Four maps -> logits (B, K, H/4, W/4)"""
        fused: Tensor | None = None
        for x, conv, weight in zip(maps, self.convs, self.fuse.weight.chunk(len(maps), dim=1), strict=True):
            projected = F.conv2d(conv(x), weight)
            # (B, D, H/4, W/4), in place: no operation before needs its output again, and these are the
            # largest maps.
            fused = projected if fused is None else fused.add_(resize(projected, fused.shape[2:]))
        return classify(F.relu(self.norm(fused), inplace=True), self.dropout, self.classifier)


HEAD_TYPES: dict[HeadName, type[PaperHead] | type[MMSegHead]] = {"paper": PaperHead, "mmseg": MMSegHead}


def channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)


def channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)


def classify(x: Tensor, dropout: nn.Dropout2d, classifier: nn.Conv2d) -> Tensor:
    """classifier(dropout(x)), (B, D, h, w) -> (B, K, h, w), without a dropped copy of the largest map.

    Dropping whole channels of a sample is dropping columns of the classifier for that sample.
    """
    if not dropout.training or dropout.p == 0:
        return classifier(x)
    B, D, h, w = x.shape
    kept = dropout(x.new_ones(B, D, 1, 1)).view(B, 1, D)
    weight = kept * classifier.weight.flatten(1)  # (B, K, D)
    tokens = channels_last(x).reshape(B, h * w, D)
    assert classifier.bias is not None
    logits = torch.baddbmm(classifier.bias, tokens, weight.mT)  # (B, h*w, K)
    return channels_first(logits.view(B, h, w, -1))


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, h, w) -> (B, C, *size), bilinear with align_corners=False.

    By matrix products where a gradient will pass on a GPU, as there the backward pass of `F.interpolate` adds
    with atomics, in no fixed order and in the dtype of its input: upsampled 8 times in bf16, a source pixel
    gets 256 additions, each of them rounded. A matrix product adds in float32 and rounds once. On a CPU
    products take 2 to 3.3 times as long (forward and backward, one thread, 256 and 768 channels, to 32 px by
    2, 4 and 8; torch 2.14). Scores and exported graphs use `F.interpolate`.
    """
    size = tuple(size)
    if x.shape[2:] == size:
        return x
    if x.is_cuda and x.requires_grad:
        return by_products(x, size)
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def by_products(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, h, w) -> (B, C, *size) in channels-last memory; as `F.interpolate` without align_corners."""
    (B, C, h, w), (H, W) = x.shape, size
    down, across = _matrix(H, h, x), _matrix(W, w, x)  # (H, h), (W, w)
    wide = across @ x.permute(0, 2, 3, 1)  # (B, h, W, C)
    found = down @ wide.reshape(B, h, W * C)  # (B, H, W * C)
    return found.view(B, H, W, C).permute(0, 3, 1, 2)


def _matrix(size: int, source_size: int, like: Tensor) -> Tensor:
    """(size, source_size): the weight of each source pixel in each pixel; exact in bf16 for 2, 4, 8 times."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    eye = torch.eye(source_size, dtype=dtype, device=like.device)[None]  # (1, sources, sources)
    return F.interpolate(eye, size, mode="linear", align_corners=False)[0].mT.to(like.dtype)
