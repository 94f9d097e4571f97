"""SegFormer-B0 weights, and the same tensors under the names that other projects give them.

The names are written out here from those projects, apart from the tables that the tests check.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.segformer import SegFormer

State = dict[str, Tensor]


@pytest.fixture(scope="session")
def b0_state() -> State:
    """Every tensor of a B0 with 21 classes, no two alike, the BatchNorm statistics included."""
    generator = torch.Generator().manual_seed(0)
    state = SegFormer("b0", num_classes=21).state_dict()
    return {
        key: torch.rand(value.shape, generator=generator) + 0.5 if value.is_floating_point() else value
        for key, value in state.items()
    }


@pytest.fixture(scope="session")
def as_hugging_face() -> Callable[[State], State]:
    return _as_hugging_face


@pytest.fixture(scope="session")
def as_nvlabs() -> Callable[[State], State]:
    return _as_nvlabs


def _as_hugging_face(state: State) -> State:
    """As transformers' SegformerForSemanticSegmentation named its parameters before version 5."""
    inside = {
        "norm1": "layer_norm_1",
        "attn.q": "attention.self.query",
        "attn.reduce": "attention.self.sr",
        "attn.reduce_norm": "attention.self.layer_norm",
        "attn.proj": "attention.output.dense",
        "norm2": "layer_norm_2",
        "mlp.fc1": "mlp.dense1",
        "mlp.dwconv": "mlp.dwconv.dwconv",
        "mlp.fc2": "mlp.dense2",
    }
    head = {"fuse": "linear_fuse", "norm": "batch_norm", "classifier": "classifier"}
    renamed = {}
    for key, value in state.items():
        module, leaf = key.rsplit(".", 1)
        words = module.split(".")
        if words[0] == "head":
            name = f"linear_c.{words[2]}.proj" if words[1] == "mlps" else head[words[1]]
            renamed[f"decode_head.{name}.{leaf}"] = value
        elif words[3] == "embed":
            name = "proj" if words[4] == "proj" else "layer_norm"
            renamed[f"segformer.encoder.patch_embeddings.{words[2]}.{name}.{leaf}"] = value
        elif words[3] == "norm":
            renamed[f"segformer.encoder.layer_norm.{words[2]}.{leaf}"] = value
        else:
            block = f"segformer.encoder.block.{words[2]}.{words[4]}"
            name = ".".join(words[5:])
            if name == "attn.kv":
                key_half, value_half = value.chunk(2)
                renamed[f"{block}.attention.self.key.{leaf}"] = key_half.clone()
                renamed[f"{block}.attention.self.value.{leaf}"] = value_half.clone()
            else:
                renamed[f"{block}.{inside[name]}.{leaf}"] = value
    return renamed


def _as_nvlabs(state: State) -> State:
    """As the authors' repository names the parameters of a whole model."""
    inside = {"attn.reduce": "attn.sr", "attn.reduce_norm": "attn.norm", "mlp.dwconv": "mlp.dwconv.dwconv"}
    head = {"fuse": "linear_fuse.conv", "norm": "linear_fuse.bn", "classifier": "linear_pred"}
    renamed = {}
    for key, value in state.items():
        module, leaf = key.rsplit(".", 1)
        words = module.split(".")
        if words[0] == "head":
            name = f"linear_c{int(words[2]) + 1}.proj" if words[1] == "mlps" else head[words[1]]
            renamed[f"decode_head.{name}.{leaf}"] = value
            continue
        stage = int(words[2]) + 1
        if words[3] == "embed":
            name = f"patch_embed{stage}.{words[4]}"
        elif words[3] == "norm":
            name = f"norm{stage}"
        else:
            inner = ".".join(words[5:])
            name = f"block{stage}.{words[4]}.{inside.get(inner, inner)}"
        renamed[f"backbone.{name}.{leaf}"] = value
    return renamed
