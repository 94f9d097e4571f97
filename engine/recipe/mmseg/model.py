"""The model and loss of a configuration of MMSegmentation, as the `model` and `loss` sections of a recipe."""

import re
from pathlib import Path
from typing import Any

from engine.recipe.mmseg.settings import NUMBER, Notes, Settings
from losses.terms import TERMS
from models.architectures import VARIANTS

ARCHITECTURES = {  # decode head -> architecture of SMP
    "ASPPHead": "deeplabv3",
    "DepthwiseSeparableASPPHead": "deeplabv3plus",
    "DPTHead": "dpt",
    "FPNHead": "fpn",
    "PSPHead": "pspnet",
    "SegformerHead": "segformer",
    "SegFormerHead": "segformer",
    "UPerHead": "upernet",
}
SWIN = {(96, 6): "tiny", (96, 18): "small", (128, 18): "base", (192, 18): "large"}  # width, depth of stage 3
LOSSES = {
    "CrossEntropyLoss": "cross_entropy",
    "DiceLoss": "dice",
    "FocalLoss": "focal",
    "LovaszLoss": "lovasz",
    "OhemCrossEntropy": "cross_entropy",
    "TverskyLoss": "tversky",
}


def model_section(values: Settings, notes: Notes) -> dict[str, Any]:
    """`model`: the nearest architecture and encoder, and where its first weights come from."""
    model = values.section("model")
    head, backbone = decode_head(values), model.section("backbone")
    kind, backbone_kind = head.take("type", str, "no type"), backbone.take("type", str, "no type")
    variant = _mit_variant(backbone_kind, backbone)
    arch = ARCHITECTURES.get(kind)
    if backbone_kind == "UNet":
        arch = "unet"
    if arch is None:
        notes.add(head, "type", "there is no such head; upernet takes its place")
        arch = "upernet"
    if arch == "segformer" and variant:
        section = {"arch": arch, "variant": variant} | _segformer_options(kind, head, backbone)
    else:
        encoder = f"mit_{variant}" if variant else _encoder(backbone_kind, backbone, notes)
        section = {"arch": arch, "encoder": encoder} | _drop_path(encoder, backbone)
    return section | _auxiliary(values, section, notes) | _weights(values, section, notes)


def decode_head(values: Settings) -> Settings:
    """The decode head; of a cascade, the last one, which gives the prediction."""
    model = values.section("model")
    heads = model.take("decode_head", list, [])
    if heads and isinstance(heads[-1], Settings):
        return heads[-1]
    return model.section("decode_head")


def _mit_variant(kind: str, backbone: Settings) -> str | None:
    """Which of MiT-B0 to B5 a backbone is; None for other backbones."""
    if named := re.fullmatch(r"mit_(b[0-5])", kind):
        return named[1]
    if kind != "MixVisionTransformer":
        return None
    depths = backbone.take("num_layers", list) or backbone.take("depths", list, [])
    widths = backbone.take("embed_dims", (int, list), 32)
    width = widths if isinstance(widths, int) else widths[0] if widths else 0
    for name, variant in VARIANTS.items():
        if (list(variant.depths), variant.channels[0]) == (depths, width):
            return name
    return "b0" if width == 32 else "b2"


def _segformer_options(kind: str, head: Settings, backbone: Settings) -> dict[str, Any]:
    if kind == "SegformerHead":
        width, options = head.take("channels", int), {"head": "mmseg"}
    else:  # of the authors' repository
        width, options = head.section("decoder_params").take("embed_dim", int), {}
        head.take("channels", int)
    wide: dict[str, Any] = {"decoder_width": width} if width else {}
    dropout = head.take("dropout_ratio", NUMBER, 0.1)
    drop_path = backbone.take("drop_path_rate", NUMBER, 0.1)
    rates = {"dropout": float(dropout), "drop_path": float(drop_path)}
    return options | wide | {key: rate for key, rate in rates.items() if rate != 0.1}


def _drop_path(encoder: str, backbone: Settings) -> dict[str, float]:
    """`encoder_drop_path`, where the backbone gives a rate; else both have the same default."""
    rate = backbone.take("drop_path_rate", NUMBER) if encoder.startswith("tu-") else None
    return {} if rate is None else {"encoder_drop_path": float(rate)}


def _encoder(kind: str, backbone: Settings, notes: Notes) -> str:
    """The encoder of SMP, or of timm (`tu-`), that is nearest to a backbone."""
    kind = kind.rpartition(".")[2]  # mmpretrain.ConvNeXt
    depth = backbone.take("depth", int, 50)
    if kind in ("ResNetV1c", "ResNetV1d") and depth in (50, 101):
        return f"tu-resnet{depth}{kind[-1]}"
    if kind in ("ResNet", "ResNetV1c", "ResNetV1d") and depth in (18, 34, 50, 101, 152):
        return f"resnet{depth}"
    if kind == "ResNeXt" and depth in (50, 101):
        return {50: "resnext50_32x4d", 101: "resnext101_32x8d"}[depth]
    if kind == "ResNeSt" and depth in (50, 101):
        return f"tu-resnest{depth}{'d' if depth == 50 else 'e'}"
    if kind == "MobileNetV2":
        return "mobilenet_v2"
    if kind == "MobileNetV3":
        return f"tu-mobilenetv3_{backbone.take('arch', str, 'small')}_100"
    if kind == "ConvNeXt":
        return f"tu-convnext_{backbone.take('arch', str, 'tiny')}"
    if kind == "TIMMBackbone" and (name := backbone.take("model_name", str)):
        return f"tu-{name}"
    if kind == "HRNet":
        widths = backbone.section("extra").section("stage4").take("num_channels", list)
        backbone.pop("extra", None)  # the width says it all
        return f"tu-hrnet_w{widths[0] if widths else 48}"
    if kind == "SwinTransformer":
        depths = backbone.take("depths", list, [2, 2, 6, 2])
        size = SWIN.get((backbone.take("embed_dims", int, 96), depths[2] if len(depths) > 2 else 6), "tiny")
        is_wide = size in ("base", "large") and backbone.take("window_size", int, 7) == 12
        return f"tu-swin_{size}_patch4_window{'12_384' if is_wide else '7_224'}"
    if kind == "VisionTransformer":
        return "tu-vit_base_patch16_224"
    if "type" in backbone:
        notes.add(backbone, "type", "there is no such encoder; resnet34 takes its place")
    return "resnet34"


def _auxiliary(values: Settings, section: dict[str, Any], notes: Notes) -> dict[str, Any]:
    """`auxiliary`: an FCNHead on a stage of the encoder."""
    model = values.section("model")
    head = model.take("auxiliary_head", Settings)
    if not head:  # none, or several, which are listed
        return {}
    layer = _layer(model.section("backbone"), section, head.take("in_index", int, -1))
    if head.take("type", str, "FCNHead").rpartition(".")[2] != "FCNHead" or layer is None:
        notes.add(
            model, "auxiliary_head", "model.auxiliary is an FCNHead on a stage of a ResNet, ConvNeXt or MiT"
        )
        return {}
    if head.get("num_convs", 2) != 1 or head.get("concat_input", True):
        notes.append(
            f"{head.places['type']}: auxiliary_head: model.auxiliary has one convolution, and no other input"
        )
    (kinds, weight), (own_kinds, own_weight) = map(_kinds_and_weight, (decode_head(values), head))
    if kinds != own_kinds:
        notes.append(f"{head.places['type']}: auxiliary_head.loss_decode: its terms are those of `loss`")
    channels = head.take("channels", int, 256)
    model.pop("auxiliary_head")  # what is inside it needs no lines of its own
    return {
        "auxiliary": {
            "layer": layer,
            "weight": round(own_weight / weight, 4) if weight and own_weight else 0.4,
            "channels": channels,
        }
    }


def _layer(backbone: Settings, section: dict[str, Any], index: int) -> str | None:
    """The module that gives output `index` of a backbone with stages."""
    stages = [int(stage) for stage in backbone.numbers("out_indices", [0, 1, 2, 3])]
    kind = backbone.take("type", str, "").rpartition(".")[2]
    if kind in ("TIMMBackbone", "UNet") or not -len(stages) <= index < len(stages):
        return None
    stage, encoder = stages[index], section.get("encoder", "")
    if "variant" in section:
        return f"encoder.stages.{stage}"
    place = "encoder.model" if encoder.startswith("tu-") else "encoder"
    if encoder.removeprefix("tu-").startswith(("resnet", "resnext", "resnest")):
        return f"{place}.layer{stage + 1}"
    return f"{place}.stages_{stage}" if encoder.startswith("tu-convnext") else None


def _kinds_and_weight(head: Settings) -> tuple[list[Any], float]:
    """What the losses of a head are, and their summed weight."""
    given = head.take("loss_decode", list) or [head.section("loss_decode")]
    losses = [loss for loss in given if isinstance(loss, Settings)]
    kinds = [(loss.get("type", "CrossEntropyLoss"), loss.get("class_weight")) for loss in losses]
    return kinds, sum(float(loss.take("loss_weight", NUMBER, 1.0)) for loss in losses)


def _weights(values: Settings, section: dict[str, Any], notes: Notes) -> dict[str, Any]:
    """`weights` or `from_scratch`."""
    model = values.section("model")
    backbone = model.section("backbone")
    init = backbone.section("init_cfg")
    sources = [(values, "load_from"), (init, "checkpoint"), (backbone, "pretrained"), (model, "pretrained")]
    chosen = next(((where, key) for where, key in sources if where.take(key, str)), None)
    init.take("type", str)
    if chosen is None:
        return {"from_scratch": True}
    settings, key = chosen
    is_file, is_segformer = Path(settings[key]).is_file(), "variant" in section
    if is_segformer and (is_file or key == "load_from"):
        return {"weights": settings[key]}
    found = f"hf:nvidia/mit-{section['variant']}" if is_segformer else "smp:imagenet"
    notes.add(settings, key, f"{found} takes its place, ImageNet weights of the same encoder")
    return {"weights": found}


def loss_section(values: Settings, notes: Notes) -> list[dict[str, Any]]:
    """`loss`: the terms of the decode head."""
    head = decode_head(values)
    given = head.take("loss_decode", list) or [head.section("loss_decode")]
    terms: dict[str, dict[str, Any]] = {}
    for loss in given:
        if not isinstance(loss, Settings):
            continue
        kind = loss.take("type", str, "CrossEntropyLoss").rpartition(".")[2]
        if kind not in LOSSES:
            notes.whole(loss, "there is no such loss")
            continue
        name, weight = LOSSES[kind], float(loss.take("loss_weight", NUMBER, 1.0))
        if name in terms:
            terms[name]["weight"] += weight
        else:
            terms[name] = {"name": name, "weight": weight, **_loss_options(kind, loss, notes)}
    sampler = head.section("sampler")
    if sampler.take("type", str) == "OHEMPixelSampler" and "cross_entropy" in terms:
        terms["cross_entropy"]["ohem"] = _ohem(sampler, "thresh")
    return list(terms.values()) or [{"name": "cross_entropy", "weight": 1.0}]


def _loss_options(kind: str, loss: Settings, notes: Notes) -> dict[str, Any]:
    if kind == "OhemCrossEntropy":
        options: dict[str, Any] = {"ohem": _ohem(loss, "thres")}
    elif kind == "LovaszLoss":
        options = {"per_image": loss.take("per_image", bool, False)}
    elif kind == "FocalLoss":
        options = {"gamma": float(loss.take("gamma", NUMBER, 2.0))}
    elif kind == "TverskyLoss":
        options = {
            key: float(loss.take(key, NUMBER, 0.3 if key == "alpha" else 0.7)) for key in ("alpha", "beta")
        }
    else:
        options = {}
    own = TERMS[LOSSES[kind]].options.__annotations__
    if "class_weights" in own and (weights := loss.numbers("class_weight", [])):
        options["class_weights"] = weights
    if loss.get("use_sigmoid") is True:
        notes.add(loss, "use_sigmoid", "the loss is that of a softmax over all classes")
    return options


def _ohem(settings: Settings, threshold: str) -> dict[str, Any]:
    kept = settings.take("min_kept", int, 100_000)
    return {"thresh": float(settings.take(threshold, NUMBER, 0.7)), "min_kept": kept}
