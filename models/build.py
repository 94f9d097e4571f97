"""`build_model`: from the name and options of an architecture to the network, with random weights."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from models.architectures import VARIANTS
from models.errors import ModelError, unknown_choice


def build_model(section: Any, class_names: Sequence[str]) -> nn.Module:
    """The network of a recipe, freshly initialised.

    Args:
        section: attributes `arch`, `encoder`, `variant`, `decoder_width`, `head`, `drop_path`, `dropout`,
            `checkpointing`.
            arch "segformer" without an encoder is this project's own SegFormer; anything else is an
            architecture of segmentation_models_pytorch on `encoder`, to which the other keys do not apply.
        class_names: one logit each, in this order.

    Returns:
        A module called on (B, 3, H, W) uint8 or float 0..255 that gives logits (B, K, h, w) at the same or a
        lower resolution. Its attribute `encoder` is the submodule that pretrained weights fill.

    Raises:
        ModelError: unknown arch, encoder, variant or head, or a key that does not apply.
    """
    if section.arch == "segformer" and section.encoder is None:
        return _build_segformer(section, len(class_names))
    from models.zoo import ZooModel  # here, because segmentation_models_pytorch takes seconds to import

    if section.decoder_width is not None or section.head != "paper" or section.checkpointing:
        raise ModelError(
            "model.decoder_width, model.head and model.checkpointing belong to Trident's own SegFormer, not "
            f"to {section.arch} on {section.encoder}. Remove them, or set model.arch=segformer "
            "model.encoder=null."
        )
    return ZooModel(section.arch, section.encoder, len(class_names))


def _build_segformer(section: Any, num_classes: int) -> nn.Module:
    from models.segformer import HEAD_TYPES, SegFormer

    if section.variant not in VARIANTS:
        raise unknown_choice("model.variant", section.variant, VARIANTS)
    if section.head not in HEAD_TYPES:
        raise unknown_choice("model.head", section.head, HEAD_TYPES)
    return SegFormer(
        section.variant,
        num_classes,
        section.decoder_width,
        section.head,
        section.drop_path,
        section.dropout,
        section.checkpointing,
    )
