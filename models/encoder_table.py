"""`python -m models.encoder_table` prints docs/encoders.md: which head can be built on which kind of encoder.

A cell is found by building the pair on torch's meta device, which makes no weights.
"""

from typing import Any

import torch

from models import ModelError, build_model

COLUMNS = {  # the heads of a column can be built on the same encoders
    "most": ("segformer", "unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet"),
    "`upernet`": ("upernet",),
    "dilated": ("pan", "deeplabv3", "deeplabv3plus"),
    "ViT": ("linear", "dpt"),
}
HEADS = tuple(head for column in COLUMNS.values() for head in column)
FAMILIES = {  # the smallest encoder of each
    "ResNet": "resnet18",
    "EfficientNet-Lite": "tu-tf_efficientnet_lite0",
    "ConvNeXt-V2": "tu-convnextv2_atto",
    "Swin": "tu-swin_tiny_patch4_window7_224",
    "Swin-V2": "tu-swinv2_tiny_window8_256",
    "MaxViT": "tu-maxvit_pico_rw_256",
    "PVT-V2": "tu-pvt_v2_b0",
    "Hiera": "tu-hiera_tiny_224",
    "Hiera, window embeddings": "tu-hiera_small_abswin_256",
    "MobileNetV4": "tu-mobilenetv4_conv_small",
    "EfficientViT": "tu-efficientvit_b0",
    "EfficientViT-M": "tu-efficientvit_m0",
    "FastViT": "tu-fastvit_t8",
    "CoAtNet": "tu-coatnet_pico_rw_224",
    "DINOv2": "tu-vit_small_patch14_dinov2",
}


REASONS = {  # the word in a cell -> what the error says, and the line under the table
    "dilation": (
        "dilated convolutions",
        "the head replaces the last strides by dilated convolutions, which timm does not offer here",
    ),
    "one size": ("one size only", "the encoder takes images of one size only"),
    "one stride": ("several strides", "the head needs maps at several strides"),
    "no ViT": ("plain vision transformer", "the head is for plain vision transformers"),
}
PAGE = """# Encoders and heads

Printed by `python -m models.encoder_table`; [Models](models.md) explains the names. Each family of encoders
is built here as its smallest member, with each `model.arch`. Other members of a family, and all other names
of timm, are built in the same way, and a pair that cannot be built is refused before a run creates anything.
The slow tests train each pair with "yes" for a step.

Heads with the same answers share a column.

{table}

{columns}
{legend}

"Sides" is what both sides of an image are padded to; images of any size are taken. Swin and Swin-V2 compute
the masks of their windows for each image; Hiera interpolates its position embeddings (better with window
embeddings, arXiv [2311.05613](https://arxiv.org/abs/2311.05613)); MaxViT keeps its windows, which have to
divide all its maps. At the size that timm made an encoder for, its maps are timm's. Take a crop that the
sides divide, since padding costs time: 256 for a MaxViT of 256 px.
"""


def row_of(family: str) -> str:
    """The row of the table for a family.

    Raises:
        ValueError: the heads of a column differ; then `COLUMNS` has to be divided.
    """
    words, parameters, sides = dict[str, str](), 0, ""
    for head in HEADS:
        try:
            with torch.device("meta"):
                model = build_model(head, num_classes=2, encoder=FAMILIES[family])
        except ModelError as error:
            words[head] = _word_for(str(error))
            continue
        words[head] = "yes"
        encoder: Any = model.encoder
        # some heads leave out stages
        parameters = max(parameters, sum(p.numel() for p in encoder.parameters()))
        sides = f"{model.multiple_px} px"
    cells = []
    for column in COLUMNS.values():
        [word] = {words[head] for head in column}
        cells.append(word)
    size = f"{parameters / 1e6:.1f} M" if parameters else ""
    return f"| {family} | `{FAMILIES[family]}` | {' | '.join([size, sides, *cells])} |"


def page() -> str:
    names = ["family", "`model.encoder`", "parameters", "sides", *COLUMNS]
    head = f"| {' | '.join(names)} |\n|{'---|' * len(names)}"
    table = "\n".join([head, *map(row_of, FAMILIES)])
    legend = "\n".join(f"- {word}: {text}." for word, (_, text) in REASONS.items())
    listed = ((name, ", ".join(f"`{head}`" for head in heads)) for name, heads in COLUMNS.items())
    columns = "\n".join(f"- {name}: {heads}." for name, heads in listed if name != heads)
    return PAGE.format(table=table, columns=columns, legend=legend)


def _word_for(error: str) -> str:
    return next(word for word, (said, _) in REASONS.items() if said in error)


if __name__ == "__main__":
    print(page().rstrip())
