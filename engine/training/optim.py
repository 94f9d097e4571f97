"""Parameter groups and the optimiser. Knows nothing of schedules or steps."""

from torch import nn
from torch.optim import AdamW

from models.depth import depth_from_head


def parameter_groups(model: nn.Module, section) -> list[dict]:
    """Encoder and head, each with and without weight decay; with `layer_decay`, each depth of the encoder.

    The head, which starts from nothing, learns `head_lr_mult` times faster. Norms, biases and every other
    parameter of one dimension are not decayed. Below 1, `layer_decay` slows a block down by that factor for
    each block between it and the head, as in BEiT (arXiv 2106.08254).

    Args:
        model: its encoder is the submodule `encoder`.
        section: a recipe's `optimizer`.

    Raises:
        ModelError: `layer_decay` for a model whose depths are not known.
    """
    encoder = {id(parameter) for parameter in model.encoder.parameters()}
    depths = depth_from_head(model) if section.layer_decay < 1 else dict.fromkeys(encoder, 0)
    groups = {}
    for parameter in model.parameters():
        in_encoder, decays = id(parameter) in encoder, parameter.ndim > 1
        depth = depths[id(parameter)] if in_encoder else 0
        words = ["encoder" if in_encoder else "head"]
        words += [f"depth {depth}"] if depth else []
        name = ", ".join(words if decays else [*words, "no decay"])
        factor = section.layer_decay**depth if in_encoder else section.head_lr_mult
        group = groups.setdefault(
            name,
            {
                "name": name,
                "params": [],
                "lr": section.lr * factor,
                "weight_decay": section.weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def build_optimizer(model: nn.Module, section) -> AdamW:
    """AdamW (arXiv 1711.05101) over `parameter_groups`; the fused kernel, which runs on CPU and CUDA."""
    optimizer = AdamW(parameter_groups(model, section), fused=True)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer
