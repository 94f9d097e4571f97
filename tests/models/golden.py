"""Logits of transformers' SegFormer for weights and an image given by formulas, so that no file holds them.

    python tests/models/golden.py        writes golden_logits.json anew (needs transformers)

The fast tests compare our model with the file, `-m peers` the file with transformers.
"""

import json
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor, nn

from models.layouts import HUGGING_FACE_5
from models.segformer import VARIANTS, SegFormer
from models.translation import export

FILE = Path(__file__).with_name("golden_logits.json")
NUM_CLASSES = 3
CASES = {"b0": (64, 96), "b2": (75, 50)}  # variant: (height, width) px


def model_of(variant: str) -> SegFormer:
    """In float64 and eval mode; every weight is a sine of its index, scaled so that no output vanishes."""
    model = SegFormer(variant, NUM_CLASSES).double().eval()
    state = {}
    for name, tensor in model.state_dict().items():
        wave = (
            torch.arange(tensor.numel(), dtype=torch.float64).mul_(1.7).add_(zlib.crc32(name.encode()) % 997)
        )
        wave = wave.sin_().view(tensor.shape)
        if not tensor.is_floating_point():
            state[name] = tensor
        elif name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
            state[name] = 1 + wave / 2
        elif tensor.ndim == 1:
            state[name] = wave / 10
        else:
            state[name] = wave * math.sqrt(2 * tensor.shape[0] / tensor.numel())
    model.load_state_dict(state)
    return model


def image_of(variant: str) -> Tensor:
    """(1, 3, H, W) float64 in 0..255."""
    H, W = CASES[variant]
    return 127.5 * (1 + torch.arange(3 * H * W, dtype=torch.float64).mul_(0.37).sin_()).view(1, 3, H, W)


def golden(variant: str) -> Tensor:
    """(1, NUM_CLASSES, h, w) float64, from the file."""
    return torch.tensor(json.loads(FILE.read_text())[variant], dtype=torch.float64)


def transformers_of(model: SegFormer, variant: str) -> nn.Module:
    """Hugging Face's with the same weights.

    transformers leaves every LayerNorm at torch's eps of 1e-5, where the authors' code, whose weights it
    publishes, has 1e-6 in its blocks and stages; so it is given the eps of the authors.
    """
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    channels, depths, width = VARIANTS[variant]
    num_labels = model.head.classifier.out_channels
    config = SegformerConfig(
        depths=list(depths), hidden_sizes=list(channels), decoder_hidden_size=width, num_labels=num_labels
    )
    peer = SegformerForSemanticSegmentation(config).double().eval()
    renamed, left = export(model.state_dict(), HUGGING_FACE_5)
    assert left == []
    peer.load_state_dict(renamed)
    for name, module in peer.named_modules():
        if isinstance(module, nn.LayerNorm) and (
            "patch_embed" not in name and "sequence_reduction" not in name
        ):
            module.eps = 1e-6
    return peer


@torch.no_grad()
def transformers_logits(variant: str) -> Tensor:
    """Of transformers, for the formulas."""
    model = model_of(variant)
    return transformers_of(model, variant)((image_of(variant) - model.mean) / model.std).logits


if __name__ == "__main__":
    rows = {variant: transformers_logits(variant).tolist() for variant in CASES}
    FILE.write_text(json.dumps(rows))
