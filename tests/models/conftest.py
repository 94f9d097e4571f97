"""SegFormer-B0 weights, and the same tensors under the names that other projects give them.

The names are written out here from those projects, apart from the tables that the tests check.
"""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.segformer import SegFormer

State = dict[str, Tensor]


@pytest.fixture(scope="session")
def b0_state() -> State:
    """Every tensor of a B0 with 21 classes, all different, including the BatchNorm statistics."""
    generator = torch.Generator().manual_seed(0)
    state = SegFormer("b0", num_classes=21).state_dict()
    return {
        key: torch.rand(value.shape, generator=generator) + 0.5 if value.is_floating_point() else value
        for key, value in state.items()
    }


@pytest.fixture(scope="session")
def b0_mmseg_state() -> State:
    """The same encoder with the other head."""
    generator = torch.Generator().manual_seed(1)
    state = SegFormer("b0", num_classes=21, head="mmseg").state_dict()
    return {
        key: torch.rand(value.shape, generator=generator) + 0.5 if value.is_floating_point() else value
        for key, value in state.items()
    }


@pytest.fixture(scope="session")
def renamers() -> dict[str, Callable[[State], State]]:
    """By layout: a state dict of ours as that project names it."""
    return {
        "trident": dict,
        "nvlabs": _as_nvlabs,
        "smp": _as_smp,
        "huggingface": _as_hugging_face,
        "huggingface5": _as_hugging_face5,
        "mmsegmentation": _as_mmsegmentation,
        "timm_pvt_v2": _as_timm,
    }


@pytest.fixture(scope="session")
def in_layout(b0_state, b0_mmseg_state, renamers) -> dict[str, State]:
    """A whole B0 in each layout, with the head that the layout has."""
    own = {name: b0_mmseg_state if name == "mmsegmentation" else b0_state for name in renamers}
    return {name: rename(own[name]) for name, rename in renamers.items()}


def _as_hugging_face(state: State) -> State:
    """The parameter names in files of transformers' SegformerForSemanticSegmentation."""
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
    """The parameter names of a whole model in the authors' repository."""
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


def _as_smp(state: State) -> State:
    """The names in segmentation_models_pytorch: the authors' encoder, a decoder that counts backwards."""
    head = {"fuse_stage.0": "linear_fuse.conv", "fuse_stage.1": "linear_fuse.bn"}
    head |= {f"mlp_stage.{4 - stage}.linear": f"linear_c{stage}.proj" for stage in range(1, 5)}
    renamed = {}
    for key, value in _as_nvlabs(state).items():
        key = key.replace("backbone.", "encoder.").replace("decode_head.linear_pred", "segmentation_head.0")
        for there, authors in head.items():
            key = key.replace(f"decode_head.{authors}.", f"decoder.{there}.")
        renamed[key] = value
    return renamed


def _as_hugging_face5(state: State) -> State:
    """The module names of transformers 5, by the renaming rules of that project."""
    rules = [
        (r"encoder\.patch_embeddings\.(\d)\.", r"stages.\1.patch_embeddings."),
        (r"encoder\.block\.(\d)\.", r"stages.\1.blocks."),
        (r"encoder\.layer_norm\.(\d)", r"stages.\1.layer_norm"),
        (r"attention\.self\.query", "attention.q_proj"),
        (r"attention\.self\.key", "attention.k_proj"),
        (r"attention\.self\.value", "attention.v_proj"),
        (r"attention\.self\.sr", "attention.sequence_reduction.sequence_reduction"),
        (r"attention\.self\.layer_norm", "attention.sequence_reduction.layer_norm"),
        (r"attention\.output\.dense", "attention.o_proj"),
        (r"mlp\.dense", "mlp.fc"),
        (r"layer_norm_1", "layernorm_before"),
        (r"layer_norm_2", "layernorm_after"),
        (r"decode_head\.linear_c", "decode_head.linear_projections"),
    ]
    renamed = {}
    for key, value in _as_hugging_face(state).items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def _as_mmsegmentation(state: State) -> State:
    """The names in MMSegmentation: queries, keys and values stacked, 1x1 convolutions for matrices."""
    inside = {"attn.reduce": "attn.sr", "attn.reduce_norm": "attn.norm", "attn.proj": "attn.attn.out_proj"}
    inside |= {"mlp.fc1": "ffn.layers.0", "mlp.dwconv": "ffn.layers.1", "mlp.fc2": "ffn.layers.4"}
    head = {"fuse": "fusion_conv.conv", "norm": "fusion_conv.bn", "classifier": "conv_seg"}
    renamed = {}
    for key, value in state.items():
        module, leaf = key.rsplit(".", 1)
        words = module.split(".")
        if words[0] == "head":
            name = (
                f"convs.{words[2]}.{('conv', 'bn')[int(words[3])]}" if words[1] == "convs" else head[words[1]]
            )
            renamed[f"decode_head.{name}.{leaf}"] = value
            continue
        stage = f"backbone.layers.{words[2]}"
        inner = ".".join(words[5:])
        if words[3] == "embed":
            renamed[f"{stage}.0.{'projection' if words[4] == 'proj' else 'norm'}.{leaf}"] = value
        elif words[3] == "norm":
            renamed[f"{stage}.2.{leaf}"] = value
        elif inner == "attn.q":
            stacked = torch.cat([value, state[key.replace(".q.", ".kv.")]])
            renamed[f"{stage}.1.{words[4]}.attn.attn.in_proj_{leaf}"] = stacked
        elif inner != "attn.kv":
            is_convolution = inner in ("mlp.fc1", "mlp.fc2") and leaf == "weight"
            name = f"{stage}.1.{words[4]}.{inside.get(inner, inner)}.{leaf}"
            renamed[name] = value[:, :, None, None] if is_convolution else value
    return renamed


def _as_timm(state: State) -> State:
    """The names of the encoder in timm's PyramidVisionTransformerV2."""
    names = {
        ".reduce.": ".sr.",
        ".reduce_norm.": ".norm.",
        "stages.0.embed": "patch_embed",
        "embed": "downsample",
    }
    renamed = {}
    for key, value in state.items():
        if key.startswith("encoder."):
            key = key.removeprefix("encoder.")
            for ours, theirs in names.items():
                key = key if "patch_embed" in key else key.replace(ours, theirs)
            renamed[key] = value
    return renamed
