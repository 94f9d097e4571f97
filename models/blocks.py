"""The blocks of a network: for gradients per block, and for layer-wise decay of the learning rate."""

from typing import Any

from torch import nn

from models.errors import ModelError

SEQUENCES = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def depth_from_head(model: nn.Module) -> dict[int, int]:
    """id(parameter) -> number of blocks from it to the head, counted over all stages; 1 for the last block.

    The patch embedding of a stage belongs to its first block, the norm of a stage to its last one. (BEiT,
    which has one embedding, counts it as a block of its own.)

    Raises:
        ModelError: the encoder has no method `layers`, so the order of its blocks is not known.
    """
    encoder: Any = getattr(model, "encoder", None)
    if not hasattr(encoder, "layers"):
        raise ModelError(
            "optimizer.layer_decay works only for Trident's SegFormer and for encoders of timm (tu-...), as "
            "the order of their layers is known. Type optimizer.layer_decay=1.0, or model.arch=segformer "
            "model.encoder=null."
        )
    return {
        id(parameter): depth
        for depth, layer in enumerate(reversed(encoder.layers()), start=1)
        for parameter in layer
    }


def trained_blocks(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Name -> trainable parameters, in the model's order; together they are all trainable parameters.

    A sequence of blocks, such as a stage of an encoder, is divided into its blocks
    ("encoder.stages.0.blocks.1"); a block is not divided. Parameters outside of sequences are listed under
    the name of the module that owns them.
    """
    blocks: dict[str, list[nn.Parameter]] = {}
    _split(model, "", blocks)
    return {
        name: trained for name, every in blocks.items() if (trained := [p for p in every if p.requires_grad])
    }


def encoder_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> block, of the encoder, or of a model without an encoder.

    Blocks are the modules of a sequence that have submodules; where sequences are nested, of the inner one.
    """
    encoder = getattr(model, "encoder", model)
    members = {
        id(child) for module in encoder.modules() if _is_sequence(module) for child in module.children()
    }
    return {
        name: module
        for name, module in model.named_modules()
        if id(module) in members and _is_composed(module) and not any(map(_is_sequence, module.modules()))
    }


def _split(module: nn.Module, name: str, blocks: dict[str, list[nn.Parameter]]) -> None:
    blocks[name] = list(module.parameters(recurse=False))
    for child_name, child in module.named_children():
        child_name = f"{name}.{child_name}".lstrip(".")
        if any(_is_sequence(inner) for inner in child.modules()):
            _split(child, child_name, blocks)
        else:
            blocks[child_name] = list(child.parameters())


def _is_sequence(module: nn.Module) -> bool:
    return isinstance(module, SEQUENCES) and any(_is_composed(child) for child in module.children())


def _is_composed(module: nn.Module) -> bool:
    """Whether it has submodules and parameters; a plain Sequential (conv, norm, activation) is one layer."""
    return (
        type(module) is not nn.Sequential
        and any(True for _ in module.children())
        and any(True for _ in module.parameters())
    )
