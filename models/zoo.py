"""Every architecture and encoder of segmentation_models_pytorch (SMP), as a model of ours.

SMP takes normalised floats whose sides divide by the encoder's stride; a `ZooModel` takes pixels of any size.
Its submodules keep SMP's names, so a state dict that SMP saved fits as it is. What it computes is what SMP
computes, faster in three ways: memory is channels-last, SegFormer's decoder is folded as in
`models.segformer`, and in training mode the last upsampling of the logits is left to the loss.
"""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.decoders.dpt.decoder import DPTSegmentationHead
from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
from segmentation_models_pytorch.encoders import encoders as SMP_ENCODERS
from torch import Tensor, nn
from torch.nn import functional as F

from models.architectures import DropPathRate, EncoderOptions, SegFormerOptions
from models.channels import statistics_of
from models.encoders import (
    adapt,
    check_encoder,
    drop_path_option,
    is_vit,
    normalisation,
    sizes_of,
    timm_config,
)
from models.errors import ModelError, unknown_choice
from models.folding import with_folded_norms
from models.origin import NVIDIA, UNKNOWN
from models.segformer_heads import classify, folded_sum

SMP_ARCHITECTURES = smp.MODEL_ARCHITECTURES_MAPPING
SMP_WIDTH = 256  # of SegFormer's decoder there
SHALLOW = ("pspnet",)  # heads that leave out the last stages of the encoder, whose parameters SMP keeps
MIN_SIZE_PX = {"pan": 128}  # it pools its last grid three times


class Net(NamedTuple):
    """What a `ZooModel` is made of.

    multiple_px: of the sides of the images that the encoder takes.
    min_size_px: the smallest side.
    align_corners: how the last upsampling is done.
    is_upsampled: whether the decoder already gives a map of full size.
    """

    encoder: nn.Module
    decoder: nn.Module
    segmentation_head: nn.Module
    multiple_px: int
    min_size_px: int
    align_corners: bool
    is_upsampled: bool


class ZooModel(nn.Module):
    """An SMP architecture on an SMP encoder, or on a timm encoder (`tu-<timm name>`).

    Args:
        arch: a key of SMP's models: unet, unetplusplus, deeplabv3plus, fpn, upernet, segformer, dpt, ...
        encoder: resnet34, mit_b2, tu-convnext_tiny, ...
        num_classes: K.
        in_channels: of the images; mean, std: of each, in 0..255. None: of RGB, the encoder's own.
        create: makes the net from (arch, encoder, num_classes, weights, in_channels, drop_path).
        encoder_drop_path: the drop path rate of an encoder of timm; None: timm's default.

    Attributes:
        align_corners: how logits of a lower resolution are to be upsampled, as SMP upsamples its own.

    Raises:
        ModelError: an unknown name, a pair that SMP does not support, or an encoder without drop paths.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        arch: str,
        encoder: str | None = None,
        num_classes: int = 21,
        in_channels: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        create: Callable[..., Net] | None = None,
        encoder_drop_path: DropPathRate | None = EncoderOptions.encoder_drop_path,
    ):
        super().__init__()
        self._create = partial(create or create_smp, drop_path=encoder_drop_path)
        net = self._create(arch, encoder, num_classes, in_channels=in_channels)
        assert encoder is not None  # otherwise an error has been raised
        self.arch, self.encoder_name = arch, encoder
        self.multiple_px, self.min_size_px = net.multiple_px, net.min_size_px
        self.align_corners, self.is_upsampled = net.align_corners, net.is_upsampled
        self.in_channels = in_channels
        usual = normalisation(encoder)
        for name, given, own in zip(("mean", "std"), (mean, std), usual, strict=True):
            values = statistics_of(in_channels, given) if given else 255 * statistics_of(in_channels, own)
            self.register_buffer(name, values, persistent=False)
        self.encoder, self.decoder, self.segmentation_head = net[:3]
        for module in self.decoder.modules():
            if type(module) is nn.AdaptiveAvgPool2d and isinstance(module.output_size, int):
                module.__class__ = ExportedPool  # the same attributes
        adapt(self.encoder)
        if arch in SHALLOW:
            self._freeze_what_is_not_called()

    def _freeze_what_is_not_called(self) -> None:
        """With several processes, DDP would wait for the gradients of stages that the head does not use."""
        copy = deepcopy(self).to("meta").train()  # computes nothing
        side = max(self.min_size_px, 2 * self.multiple_px)
        copy(torch.empty(2, self.in_channels, side, side, device="meta")).sum().backward()
        for parameter, tried in zip(self.parameters(), copy.parameters(), strict=True):
            parameter.requires_grad_(tried.grad is not None)

    def forward(self, image: Tensor) -> Tensor:
        """Logits at full resolution; in training mode before the last upsampling of the head, if it has one.

        Args:
            image: (B, in_channels, H, W), RGB or other bands, uint8 or float in 0..255, any H and W. In
                training mode, sides that need padding, which do not divide by 32 or by the patches of a
                vision transformer, give logits at full resolution, too.

        Returns:
            (B, K, H, W), or in training mode (B, K, h, w), for the loss to upsample with `align_corners`.
        """
        H, W = image.shape[-2:]
        x = (image.to(self.mean.dtype) - self.mean) / self.std
        right, below = self._missing(W), self._missing(H)
        x = F.pad(x, (0, right, 0, below))  # (B, 3, H', W')
        features = self.encoder(x.contiguous(memory_format=torch.channels_last))
        head: Any = self.segmentation_head
        # A vision transformer gives (features, prefix tokens), the others a list of maps.
        x = self.decoder(*features) if isinstance(features, tuple) else self.decoder(features)
        if isinstance(self.decoder, FoldedDecoder):
            logits = classify(x, self.decoder.dropout, head[0])
        else:
            logits = head.head(x) if isinstance(head, DPTSegmentationHead) else head[0](x)
        if self.training and right == below == 0:
            return logits.contiguous()
        if not self.is_upsampled:
            size = H + below, W + right
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=self.align_corners)
        # Cropped by padding, not by a slice: torch.export fixes for all sizes whether a slice is contiguous.
        return F.pad(logits, (0, -right, 0, -below)).contiguous()

    def for_predictions(self) -> nn.Module:
        """On a CPU a copy with its norms folded; elsewhere the model itself."""
        if self.mean.device.type != "cpu":
            return self
        side = max(self.min_size_px, 2 * self.multiple_px)
        image = torch.arange(self.in_channels * side**2).view(1, self.in_channels, side, side) % 251
        return with_folded_norms(self, image)

    def _missing(self, size_px: int) -> int:
        multiple = (size_px + self.multiple_px - 1) // self.multiple_px * self.multiple_px
        return max(self.min_size_px, multiple) - size_px

    def pretrained_state(self, tag: str) -> dict[str, Tensor]:
        """State dict of the encoder with the published weights `tag`, which SMP or timm fetch and cache.

        Raises:
            ModelError: the encoder has no such weights.
            models.sources.NETWORK_ERRORS: no network, from the client of the hub.
        """
        published = SMP_ENCODERS.get(self.encoder_name, {"pretrained_settings": {"imagenet": None}})
        if tag not in published["pretrained_settings"]:
            raise unknown_choice("model.weights: smp", tag, published["pretrained_settings"])
        # In timm the tag is part of the encoder's name, so SMP only takes whether to load it.
        weights = True if self.encoder_name.startswith("tu-") else tag
        net = self._create(self.arch, self.encoder_name, 1, weights)
        return {f"encoder.{key}": value for key, value in net.encoder.state_dict().items()}

    def pretrained_licence(self) -> str:
        """Of the encoder's published weights: timm names it for each, SMP only in the code of its MiT."""
        if self.encoder_name.startswith("mit_"):
            return NVIDIA
        config = timm_config(self.encoder_name)
        return (config.license if config else None) or UNKNOWN


class ExportedPool(nn.AdaptiveAvgPool2d):
    """In an export, a product with matrices, since ONNX pools a map of any size wrongly."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_exporting():
            return super().forward(x)
        bins: Any = self.output_size  # of both sides
        rows, columns = (_bin_means(side, bins).to(x) for side in x.shape[2:])
        return rows @ x @ columns.mT


def _bin_means(size: int, bins: int) -> Tensor:
    """(bins, size): each row takes the mean over its bin, whose ends are rounded outwards."""
    number = torch.arange(bins)[:, None]
    start, end = number * size // bins, ((number + 1) * size + bins - 1) // bins
    place = torch.arange(size)
    return ((place >= start) & (place < end)).double() / (end - start)


class FoldedDecoder(SegformerDecoder):  # type: ignore[misc]  # SMP is not typed
    """SegFormer's decoder under SMP's names, computed as in `models.segformer_heads`.

    Attributes:
        dropout: of whole channels, which the model does together with the classifier.
    """

    dropout: nn.Dropout2d

    def forward(self, features: list[Tensor]) -> Tensor:
        """The encoder's maps, the image first -> (B, D, H'/4, W'/4), without SMP's concatenated map"""
        size = tuple(side // 4 for side in features[0].shape[2:])
        maps = features[2:] if features[1].shape[1] == 0 else features[1:]  # an empty one at stride 2
        linears = [stage.linear for stage in self.mlp_stage][::-1]  # finest first, as the maps
        convolution, norm, activation = self.fuse_stage
        fused: Tensor = activation(norm(folded_sum(maps, linears, convolution.weight, size)))
        return fused


def segformer_on(
    encoder: str,
    num_classes: int = 21,
    decoder_width: int | None = None,
    dropout: float = SegFormerOptions.dropout,
    in_channels: int = 3,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    encoder_drop_path: DropPathRate | None = EncoderOptions.encoder_drop_path,
) -> ZooModel:
    """SegFormer's decoder on an encoder of SMP or timm.

    Args:
        encoder, num_classes, in_channels, mean, std, encoder_drop_path: as in `ZooModel`.
        decoder_width: D; None: 256, as in SMP.
        dropout: of whole channels before the classifier.

    Raises:
        ModelError: as `ZooModel`.
    """
    create = partial(_create_segformer, width=decoder_width or SMP_WIDTH, dropout=dropout)
    return ZooModel("segformer", encoder, num_classes, in_channels, mean, std, create, encoder_drop_path)


def _create_segformer(*args: Any, width: int, dropout: float, **kwargs: Any) -> Net:
    net = create_smp(*args, **kwargs, decoder_segmentation_channels=width)
    net.decoder.__class__ = FoldedDecoder  # the same attributes
    net.decoder.dropout = nn.Dropout2d(dropout)
    return net


def create_smp(
    arch: str,
    encoder: str | None,
    num_classes: int,
    weights: str | bool | None = None,
    in_channels: int = 3,
    drop_path: float | None = None,
    **options: int,
) -> Net:
    """The net of SMP; `weights` downloads those of the encoder, `options` are of SMP's constructor."""
    if arch not in SMP_ARCHITECTURES:
        raise unknown_choice("model.arch", arch, ["linear", *SMP_ARCHITECTURES])
    encoder = check_encoder(arch, encoder)
    if is_vit(encoder):
        raise ModelError(
            f"model.arch={arch} needs maps at several strides, and model.encoder={encoder} gives all at one. "
            "Type model.arch=dpt, or model.arch=linear or upernet."
        )
    sizes = sizes_of(encoder)
    timm_options = {**sizes.options, **drop_path_option(encoder, drop_path)}
    try:
        net: Any = smp.create_model(
            arch, encoder, weights, in_channels, num_classes, **timm_options, **options
        )
    except (ValueError, KeyError, TypeError, RuntimeError, AssertionError) as error:
        raise ModelError(_refusal(arch, encoder, error)) from error
    multiple = math.lcm(sizes.multiple_px, net.encoder.output_stride)
    least = max(multiple, MIN_SIZE_PX.get(arch, 0))
    is_upsampled = isinstance(net.segmentation_head[1], nn.Identity)
    return Net(net.encoder, net.decoder, net.segmentation_head, multiple, least, True, is_upsampled)


def _refusal(arch: str, encoder: str, error: Exception) -> str:
    """Why SMP or timm cannot build a pair, and what can be built."""
    reason = str(error)
    remedy = "Type model.encoder=tu-convnext_tiny, or the name of another encoder."
    if "output_stride" in reason:  # as the name of an argument that is not known, or in an assertion
        reason = (
            "it needs dilated convolutions instead of the last strides, which this encoder does not have."
        )
        remedy = "Type model.arch=segformer, or model.arch=upernet or fpn."
    elif "drop_path_rate" in reason:  # the name of an argument that is not known
        reason, remedy = "it has no layers that drop paths.", "Type model.encoder_drop_path=null."
    elif "downsampling pattern" in reason:
        reason = "its maps are not at strides 4, 8, 16 and 32, with or without 2."
    return f"model.arch={arch} cannot be built on model.encoder={encoder}: {reason} {remedy}"
