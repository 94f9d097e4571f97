"""Parameter groups and the optimiser. Knows nothing of schedules or steps."""

from torch import nn
from torch.optim import AdamW


def parameter_groups(model: nn.Module, section) -> list[dict]:
    """Four groups at the most: encoder and head, each with and without weight decay.

    The head, which starts from nothing, learns `head_lr_mult` times faster. Norms, biases and every other
    parameter of one dimension are not decayed.

    Args:
        model: its encoder is the submodule `encoder`.
        section: a recipe's `optimizer`.
    """
    encoder = {id(parameter) for parameter in model.encoder.parameters()}
    groups = {}
    for parameter in model.parameters():
        in_encoder, decays = id(parameter) in encoder, parameter.ndim > 1
        name = f"{'encoder' if in_encoder else 'head'}{'' if decays else ', no decay'}"
        group = groups.setdefault(
            name,
            {
                "name": name,
                "params": [],
                "lr": section.lr * (1.0 if in_encoder else section.head_lr_mult),
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
