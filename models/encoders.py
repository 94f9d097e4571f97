"""Encoders of segmentation_models_pytorch (SMP) and timm: which there are, and the sizes of images they take.

Some encoders of timm are made for one image size. Those that can take other sizes, with the same output as
before at their own, are adapted here; the rest are refused.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import timm
import torch
from segmentation_models_pytorch.encoders import encoders as SMP_ENCODERS
from segmentation_models_pytorch.encoders.efficientnet import EfficientNetEncoder
from segmentation_models_pytorch.encoders.timm_universal import TimmUniversalEncoder
from timm.layers import BatchNormAct2d, Conv2dSame, DropPath
from timm.models import group_parameters
from timm.models.hiera import Hiera, Reroll
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import ModelError, unknown_choice
from models.segformer import IMAGENET_MEAN, IMAGENET_STD

HALF = (0.5, 0.5, 0.5)  # mean and std of the Inception family
INCEPTION_FAMILY = ("inceptionv4", "inceptionresnetv2", "xception")
MULTIPLE_PX = 32  # of the sides: every stage then halves evenly
VIT_MODULES = ("deit", "eva", "vision_transformer", "vision_transformer_hybrid", "vitamin")  # of timm.models
SWIN_MODULES = ("swin_transformer", "swin_transformer_v2", "swin_transformer_v2_cr")
ONEDNN_CHANNELS = 16  # of a block of oneDNN's kernels


class Sizes(NamedTuple):
    """What sizes of images an encoder takes.

    multiple_px: of both sides.
    options: of timm's constructor, so that it takes them.
    """

    multiple_px: int = MULTIPLE_PX
    options: Mapping[str, bool] = MappingProxyType({})


def sizes_of(encoder: str) -> Sizes:
    """The sizes that an encoder takes.

    Raises:
        ModelError: it takes one size only.
    """
    config = timm_config(encoder)
    if config is None or not config.fixed_input_size:
        return Sizes()
    module = _module_of(encoder)
    if module in SWIN_MODULES:  # the masks of their windows are computed for each image
        return Sizes(options={"dynamic_img_size": True})
    if module == "hiera":  # by `AnySizeHiera`
        return Sizes()
    if module == "maxxvit" and "max" in encoder:  # windows of 1/32 of the size that divide all its maps
        return Sizes(max(config.input_size[1:]))
    raise ModelError(
        f"model.encoder={encoder} takes images of one size only. Type model.encoder=tu-convnext_tiny, or "
        "the name of another encoder."
    )


def timm_config(encoder: str) -> Any:
    """What timm says of an encoder and its weights; None where it is not of timm, or timm says nothing."""
    return timm.get_pretrained_cfg(encoder.removeprefix("tu-")) if encoder.startswith("tu-") else None


def is_vit(encoder: str) -> bool:
    """Whether it is one of timm's plain vision transformers that take images of any size."""
    return _is_of_timm(encoder) and _module_of(encoder) in VIT_MODULES


def _is_of_timm(encoder: str) -> bool:
    return encoder.startswith("tu-") and timm.is_model(encoder.removeprefix("tu-"))


def _module_of(encoder: str) -> str:
    """The module of timm.models that defines it."""
    return timm.model_entrypoint(encoder.removeprefix("tu-")).__module__.split(".")[-1]


def check_encoder(arch: str, encoder: str | None) -> str:
    """`encoder`, if it exists.

    Raises:
        ModelError: it is not given, or there is none of this name.
    """
    if encoder is None:
        raise ModelError(f"model.arch={arch} needs model.encoder, for example model.encoder=resnet34.")
    if encoder not in SMP_ENCODERS and not _is_of_timm(encoder):
        every = [*SMP_ENCODERS, *(f"tu-{name}" for name in timm.list_models())]
        raise unknown_choice("model.encoder", encoder, every, [*SMP_ENCODERS, "tu-<any timm model>"])
    return encoder


def drop_path_option(encoder: str, rate: float | None) -> dict[str, float]:
    """The option of timm's constructor for a drop path rate; none for None.

    Raises:
        ModelError: it is no encoder of timm.
    """
    if rate is None:
        return {}
    if not encoder.startswith("tu-"):
        raise ModelError(
            f"model.encoder_drop_path={rate} is for encoders of timm (tu-...), and model.encoder={encoder} "
            "is none. Type model.encoder_drop_path=null."
        )
    return {"drop_path_rate": rate}


def normalisation(encoder: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of 0..1 pixels. SMP keeps its own in files on the hub; nearly all are ImageNet's."""
    if config := timm_config(encoder):
        return config.mean, config.std
    return (HALF, HALF) if encoder in INCEPTION_FAMILY else (IMAGENET_MEAN, IMAGENET_STD)


def adapt(encoder: nn.Module) -> None:
    """Replaces classes of the modules of an SMP encoder by those below, in place; tensors and maps stay."""
    for module in encoder.modules():
        if type(module) is nn.Conv2d and _breaks_onednn(module):
            module.__class__ = SubsampledConv2d  # the same attributes, here and below
        elif type(module) is Conv2dSame:
            module.__class__ = ExportedConv
        elif type(module) is Hiera:
            module.__class__ = AnySizeHiera
    if isinstance(encoder, TimmUniversalEncoder):
        encoder.__class__ = TimmEncoder
    elif isinstance(encoder, EfficientNetEncoder):
        _use_drop_path(encoder)


class TimmEncoder(TimmUniversalEncoder):  # type: ignore[misc]  # SMP is not typed
    """SMP's encoder of maps of a model of timm, with the order of its layers."""

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters by layer as timm groups them, first layer first.

        Raises:
            ModelError: timm does not group the layers of this model.
        """
        with torch.device("meta"):
            whole: Any = timm.create_model(self.name)
        if not hasattr(whole, "group_matcher"):
            raise ModelError(
                f"optimizer.layer_decay: timm does not say the order of the layers of tu-{self.name}. Type "
                "optimizer.layer_decay=1.0, or take another encoder."
            )
        groups = group_parameters(whole, whole.group_matcher(coarse=False), reverse=True)
        layer_of = {name.replace("_", "."): layer for name, layer in groups.items()}
        layers: dict[int, list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            name = name.removeprefix("model.").removeprefix("body.")  # timm takes the maps by a wrapper
            layers.setdefault(layer_of[name.replace("_", ".")], []).append(parameter)
        return [layers[number] for number in sorted(layers)]


class AnySizeHiera(Hiera):
    """Hiera (arXiv 2306.00989) for images whose sides divide by 32, its position embeddings interpolated."""

    def forward_intermediates(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As timm's; (B, n, H, W)."""
        image = x.shape[2:]
        grid = [side // stride for side, stride in zip(image, self.patch_stride, strict=True)]
        self.tokens_spatial_shape = self.unroll.size = grid
        self.mask_spatial_shape = [n // unit for n, unit in zip(grid, self.mask_unit_size, strict=True)]
        strides = self.unroll.schedule
        self.reroll.schedule = Reroll(
            image, self.patch_stride, strides, self.stage_ends, self.q_pool
        ).schedule
        return super().forward_intermediates(x, *args, **kwargs)

    def _pos_embed(self, x: Tensor) -> Tensor:
        codes: Any = self.pos_embed  # (1, tokens, C)
        if self.pos_embed_win is not None or codes.shape[1] == x.shape[1]:  # with window embeddings: any size
            return super()._pos_embed(x)
        side = round(codes.shape[1] ** 0.5)  # of the size that it was made for, which is a square
        codes = codes.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (1, C, side, side)
        codes = F.interpolate(codes, self.tokens_spatial_shape, mode="bicubic", antialias=True)
        interpolated: Tensor = x + codes.flatten(2).transpose(1, 2)
        return interpolated


class ExportedConv(Conv2dSame):
    """With constant padding in an export, where timm computes it from the size of the image.

    Tracing timm's nested divisions took most of the time of an export. Images are padded to `multiple_px`, so
    sides are multiples of the stride, and the padding is the same for all.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_exporting():
            return super().forward(x)  # type: ignore[no-untyped-call]
        needed = [
            max(dilation * (kernel - 1) + 1 - stride, 0)
            for kernel, stride, dilation in zip(self.kernel_size, self.stride, self.dilation, strict=True)
        ]
        (top, left), (bottom, right) = [n // 2 for n in needed], [n - n // 2 for n in needed]
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, self.weight, self.bias, self.stride, (0, 0), self.dilation, self.groups)


class SubsampledConv2d(nn.Conv2d):
    """A strided 1x1 convolution, computed with stride 1 on the pixels that it reads.

    With few channels in channels-last memory, oneDNN's backward pass of the strided one writes beyond its
    buffer, and the process ends with a segmentation fault (oneDNN's issue 6035, torch 2.14.1).
    """

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.stride
        return F.conv2d(x[..., ::rows, ::columns], self.weight, self.bias)


def _breaks_onednn(layer: nn.Conv2d) -> bool:
    is_strided_1x1 = layer.kernel_size == (1, 1) and max(layer.stride) > 1 and layer.padding in (0, (0, 0))
    return is_strided_1x1 and layer.groups == 1 and layer.in_channels < ONEDNN_CHANNELS


def _use_drop_path(encoder: EfficientNetEncoder) -> None:
    """The stochastic depth of SMP's EfficientNet as layers, where SMP calls a function."""
    rate, blocks = encoder._drop_connect_rate, encoder._blocks
    for number, block in enumerate(blocks):
        if block._has_drop_connect and rate * number > 0:
            norm = block._bn2
            block._bn2 = BatchNormAct2d(norm.num_features, norm.eps, norm.momentum, apply_act=False)
            block._bn2.drop = DropPath(rate * number / len(blocks))
            block._bn2.load_state_dict(norm.state_dict())
    encoder._drop_connect_rate = 0.0
