"""How far each parameter of an encoder lies from the head, for learning rates that fall with the depth."""

from torch import nn

from models.errors import ModelError
from models.segformer import SegFormer


def depth_from_head(model: nn.Module) -> dict[int, int]:
    """id(parameter) -> number of blocks up to the head, 1 for the last block, over all stages.

    The patch embedding of a stage counts as its first block, its norm as its last one; BEiT, which has one
    embedding, gives it a depth of its own.

    Raises:
        ModelError: another model than SegFormer, whose order is not known.
    """
    if not isinstance(model, SegFormer):
        raise ModelError(
            "optimizer.layer_decay knows the order of the layers in Trident's SegFormer only. Type "
            "optimizer.layer_decay=1.0, or take model.arch=segformer model.encoder=null."
        )
    layers = []
    for stage in model.encoder.stages:
        blocks = [[block] for block in stage.blocks]
        blocks[0].append(stage.embed)
        blocks[-1].append(stage.norm)
        layers += blocks
    return {
        id(parameter): depth
        for depth, modules in enumerate(reversed(layers), start=1)
        for module in modules
        for parameter in module.parameters()
    }
