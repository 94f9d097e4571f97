"""A network as its blocks, for looking at gradients: fine enough to name a culprit, coarse enough to read."""

from torch import nn

ROWS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def trained_blocks(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Name -> parameters that are trained, in the model's order; together they are all of them.

    Whatever holds a row of composed modules is taken apart, down to the modules of the row: a stage of an
    encoder becomes its blocks ("encoder.stages.0.blocks.1"), a block stays whole. Parameters that stand
    beside a row go under the name of their owner.
    """
    blocks: dict[str, list[nn.Parameter]] = {}
    _take_apart(model, "", blocks)
    return {name: trained for name, all in blocks.items() if (trained := [p for p in all if p.requires_grad])}


def _take_apart(module: nn.Module, name: str, blocks: dict[str, list[nn.Parameter]]) -> None:
    blocks[name] = list(module.parameters(recurse=False))
    for child_name, child in module.named_children():
        child_name = f"{name}.{child_name}".lstrip(".")
        if any(_is_row(inner) for inner in child.modules()):
            _take_apart(child, child_name, blocks)
        else:
            blocks[child_name] = list(child.parameters())


def _is_row(module: nn.Module) -> bool:
    return isinstance(module, ROWS) and any(_is_composed(child) for child in module.children())


def _is_composed(module: nn.Module) -> bool:
    """Convolution, norm and activation in a plain Sequential count as one layer."""
    return (
        type(module) is not nn.Sequential
        and any(True for _ in module.children())
        and any(True for _ in module.parameters())
    )
