"""Plain vision transformers of timm as encoders: patches of any size, images of any size, three heads.

DINOv2, DINOv3, EVA-02, SigLIP, MAE and others give all their maps at one stride, the side of a patch. Images
are padded to whole patches, and timm interpolates the position embeddings to the grid, or computes them.

Shapes: B images, C channels of the encoder, a grid of h x w patches, D decoder width, K classes.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from segmentation_models_pytorch.base.heads import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.dpt.decoder import DPTSegmentationHead
from segmentation_models_pytorch.encoders.timm_vit import TimmViTEncoder
from torch import Tensor, nn

from models.architectures import DropPathRate, EncoderOptions, Readout, ViTOptions
from models.encoders import check_encoder, drop_path_option, is_vit
from models.errors import ModelError
from models.vit_heads import DPTDecoder, LinearDecoder, PyramidUPerNetDecoder
from models.zoo import Net, ZooModel

SMP_WIDTH = 256  # of the decoders of DPT and UPerNet in segmentation_models_pytorch
NUM_MAPS = {"linear": 1, "dpt": 4, "upernet": 1}
UNUSED = ("fc_norm", "attn_pool", "head", "head_dist")  # what timm calls after the blocks, to classify


def vit_model(
    arch: str,
    encoder: str | None = None,
    num_classes: int = 21,
    decoder_width: int | None = None,
    checkpointing: bool = False,
    feature_norm: bool = ViTOptions.feature_norm,
    readout: Readout = ViTOptions.readout,
    in_channels: int = 3,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    encoder_drop_path: DropPathRate | None = EncoderOptions.encoder_drop_path,
) -> ZooModel:
    """A head on a plain vision transformer.

    Args:
        arch: "linear", "dpt" or "upernet".
        encoder: `tu-<timm name>`.
        decoder_width: D of DPT and UPerNet; None: 256, as in SMP.
        checkpointing: keep only the input of each block for the backward pass, and compute the rest again.
        feature_norm: whether DPT takes the maps after the encoder's last norm.
        readout: what DPT does with the class token.
        in_channels, mean, std, encoder_drop_path: as in `ZooModel`.

    Raises:
        ModelError: an unknown name, an encoder that gives no maps at one stride or takes images of one size
            only, or an option that the head does not have.
    """
    own = {"feature_norm": feature_norm, "readout": readout}
    others = [key for key, value in own.items() if arch != "dpt" and value != getattr(ViTOptions, key)]
    others += ["decoder_width"] if arch == "linear" and decoder_width is not None else []
    if others:
        raise ModelError(
            f"model.{others[0]} is an option of another head. Remove it, or type model.arch=dpt."
        )
    create = partial(
        _create,
        width=decoder_width or SMP_WIDTH,
        checkpointing=checkpointing,
        feature_norm=feature_norm,
        readout=readout,
    )
    return ZooModel(arch, encoder, num_classes, in_channels, mean, std, create, encoder_drop_path)


class ViTEncoder(TimmViTEncoder):  # type: ignore[misc]  # SMP is not typed
    """SMP's encoder, which takes maps of timm's model; with timm's last norm applied to each if asked for.

    Args:
        name: of timm.
        num_maps: the number of blocks, at equal distances, whose maps are taken; 1 is the last block.
        norm: whether the last norm is applied to each map.
        checkpointing: as in `vit_model`.
        options: of timm's constructor.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool,
        in_channels: int,
        num_maps: int,
        norm: bool,
        checkpointing: bool,
        **options: Any,
    ):
        super().__init__(name, pretrained, in_channels, num_maps, dynamic_img_size=True, **options)
        self.has_norm = norm
        self.model.set_grad_checkpointing(checkpointing)
        # With several processes, DDP would wait forever for the gradients of what is not called.
        for part in (*UNUSED, *([] if norm else ["norm"])):
            if isinstance(module := getattr(self.model, part, None), nn.Module):
                module.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
        """(B, n, H, W), sides of whole patches -> maps (B, C, h, w), and the prefix tokens of each."""
        found = self.model.forward_intermediates(
            x,
            indices=self._output_indices,
            return_prefix_tokens=self.has_prefix_tokens,
            norm=self.has_norm,
            intermediates_only=True,
        )
        if not self.has_prefix_tokens:
            return found, [None] * len(found)
        return [map_ for map_, _ in found], [tokens for _, tokens in found]

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters by block, first block first; what is before and after is in the outer blocks."""
        blocks = [list(block.parameters()) for block in self.model.blocks]
        after = list(self.model.norm.parameters())
        inside = {id(parameter) for part in (*blocks, after) for parameter in part}
        before = [p for p in self.model.parameters() if id(p) not in inside]
        return [before + blocks[0], *blocks[1:-1], blocks[-1] + after]


def _create(
    arch: str,
    encoder: str | None,
    num_classes: int,
    weights: str | bool | None = None,
    in_channels: int = 3,
    drop_path: float | None = None,
    *,
    width: int,
    checkpointing: bool,
    feature_norm: bool,
    readout: Readout,
) -> Net:
    name = check_encoder(arch, encoder)
    if not is_vit(name):
        raise ModelError(
            f"model.arch={arch} needs a plain vision transformer of timm that takes images of any size, and "
            f"model.encoder={name} is none. Type model.encoder=tu-vit_small_patch14_dinov2."
        )
    has_norm = feature_norm or arch == "linear"
    timm_name, num_maps = name.removeprefix("tu-"), NUM_MAPS[arch]
    timm_options = drop_path_option(name, drop_path)
    vit = ViTEncoder(timm_name, bool(weights), in_channels, num_maps, has_norm, checkpointing, **timm_options)
    channels, patch_px = vit.out_channels[-1], vit.output_stride
    decoder: nn.Module
    head: nn.Module
    if arch == "linear":
        decoder, head = LinearDecoder(channels), SegmentationHead(channels, num_classes, kernel_size=1)
    elif arch == "upernet":
        decoder = PyramidUPerNetDecoder(channels, width)
        head = SegmentationHead(width, num_classes, kernel_size=1)
    else:
        decoder = DPTDecoder(channels, patch_px, vit.has_prefix_tokens, readout, width)
        head = DPTSegmentationHead(width, num_classes)
    initialize_decoder(decoder)
    initialize_head(head)
    return Net(vit, decoder, head, patch_px, patch_px, align_corners=arch != "linear", is_upsampled=False)
