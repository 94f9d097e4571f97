"""The key layouts of published SegFormer weights, as tables of names.

A layout maps the name of a part of our SegFormer to the name of the module that holds it there. The parts are
our modules, except that the keys and the values of attention are two parts (`attn.k`, `attn.v`), as projects
differ in which of queries, keys and values they stack in one tensor: parts with the same module there are
stacked in it, in the order of the table. In a name, `{s}` is the stage counted from 0, `{S}` from 1, `{r}`
from the coarsest, `{b}` the block; the first row that matches is used. `models.translation` applies the
tables.
"""

from typing import NamedTuple


class Layout(NamedTuple):
    """
    name: in reports and `--layout`.
    prefix: of encoder keys inside a whole model; published backbones have none.
    encoder, head: part -> module there.
    pointwise: endings of the parts that are a 1x1 convolution there and a linear layer here.
    """

    name: str
    prefix: str
    encoder: dict[str, str]
    head: dict[str, str]
    pointwise: tuple[str, ...] = ()


STAGE = "encoder.stages.{s}"
BLOCK = "encoder.stages.{s}.blocks.{b}"

# The authors' repository, NVlabs/SegFormer: mit_b*.pth and whole models.
NVLABS = Layout(
    "nvlabs",
    "backbone.",
    {
        f"{STAGE}.embed.proj": "patch_embed{S}.proj",
        f"{STAGE}.embed.norm": "patch_embed{S}.norm",
        f"{BLOCK}.norm1": "block{S}.{b}.norm1",
        f"{BLOCK}.attn.q": "block{S}.{b}.attn.q",
        f"{BLOCK}.attn.k": "block{S}.{b}.attn.kv",
        f"{BLOCK}.attn.v": "block{S}.{b}.attn.kv",
        f"{BLOCK}.attn.reduce": "block{S}.{b}.attn.sr",
        f"{BLOCK}.attn.reduce_norm": "block{S}.{b}.attn.norm",
        f"{BLOCK}.attn.proj": "block{S}.{b}.attn.proj",
        f"{BLOCK}.norm2": "block{S}.{b}.norm2",
        f"{BLOCK}.mlp.fc1": "block{S}.{b}.mlp.fc1",
        f"{BLOCK}.mlp.dwconv": "block{S}.{b}.mlp.dwconv.dwconv",
        f"{BLOCK}.mlp.fc2": "block{S}.{b}.mlp.fc2",
        f"{STAGE}.norm": "norm{S}",
    },
    {
        "head.mlps.{s}": "decode_head.linear_c{S}.proj",
        "head.fuse": "decode_head.linear_fuse.conv",
        "head.norm": "decode_head.linear_fuse.bn",
        "head.classifier": "decode_head.linear_pred",
    },
)

# segmentation_models_pytorch: the encoder of the authors, a decoder of its own that counts from the coarsest.
SMP = Layout(
    "smp",
    "encoder.",
    NVLABS.encoder,
    {
        "head.mlps.{s}": "decoder.mlp_stage.{r}.linear",
        "head.fuse": "decoder.fuse_stage.0",
        "head.norm": "decoder.fuse_stage.1",
        "head.classifier": "segmentation_head.0",
    },
)

# Every file of Hugging Face transformers: version 5 renames when it reads and renames back when it writes.
HUGGING_FACE = Layout(
    "huggingface",
    "segformer.",
    {
        f"{STAGE}.embed.proj": "encoder.patch_embeddings.{s}.proj",
        f"{STAGE}.embed.norm": "encoder.patch_embeddings.{s}.layer_norm",
        f"{BLOCK}.norm1": "encoder.block.{s}.{b}.layer_norm_1",
        f"{BLOCK}.attn.q": "encoder.block.{s}.{b}.attention.self.query",
        f"{BLOCK}.attn.k": "encoder.block.{s}.{b}.attention.self.key",
        f"{BLOCK}.attn.v": "encoder.block.{s}.{b}.attention.self.value",
        f"{BLOCK}.attn.reduce": "encoder.block.{s}.{b}.attention.self.sr",
        f"{BLOCK}.attn.reduce_norm": "encoder.block.{s}.{b}.attention.self.layer_norm",
        f"{BLOCK}.attn.proj": "encoder.block.{s}.{b}.attention.output.dense",
        f"{BLOCK}.norm2": "encoder.block.{s}.{b}.layer_norm_2",
        f"{BLOCK}.mlp.fc1": "encoder.block.{s}.{b}.mlp.dense1",
        f"{BLOCK}.mlp.dwconv": "encoder.block.{s}.{b}.mlp.dwconv.dwconv",
        f"{BLOCK}.mlp.fc2": "encoder.block.{s}.{b}.mlp.dense2",
        f"{STAGE}.norm": "encoder.layer_norm.{s}",
    },
    {
        "head.mlps.{s}": "decode_head.linear_c.{s}.proj",
        "head.fuse": "decode_head.linear_fuse",
        "head.norm": "decode_head.batch_norm",
        "head.classifier": "decode_head.classifier",
    },
)

# The modules of transformers 5, which a state dict has that was saved without its `save_pretrained`.
HUGGING_FACE_5 = Layout(
    "huggingface5",
    "segformer.",
    {
        f"{STAGE}.embed.proj": "stages.{s}.patch_embeddings.proj",
        f"{STAGE}.embed.norm": "stages.{s}.patch_embeddings.layer_norm",
        f"{BLOCK}.norm1": "stages.{s}.blocks.{b}.layernorm_before",
        f"{BLOCK}.attn.q": "stages.{s}.blocks.{b}.attention.q_proj",
        f"{BLOCK}.attn.k": "stages.{s}.blocks.{b}.attention.k_proj",
        f"{BLOCK}.attn.v": "stages.{s}.blocks.{b}.attention.v_proj",
        f"{BLOCK}.attn.reduce": "stages.{s}.blocks.{b}.attention.sequence_reduction.sequence_reduction",
        f"{BLOCK}.attn.reduce_norm": "stages.{s}.blocks.{b}.attention.sequence_reduction.layer_norm",
        f"{BLOCK}.attn.proj": "stages.{s}.blocks.{b}.attention.o_proj",
        f"{BLOCK}.norm2": "stages.{s}.blocks.{b}.layernorm_after",
        f"{BLOCK}.mlp.fc1": "stages.{s}.blocks.{b}.mlp.fc1",
        f"{BLOCK}.mlp.dwconv": "stages.{s}.blocks.{b}.mlp.dwconv.dwconv",
        f"{BLOCK}.mlp.fc2": "stages.{s}.blocks.{b}.mlp.fc2",
        f"{STAGE}.norm": "stages.{s}.layer_norm",
    },
    HUGGING_FACE.head | {"head.mlps.{s}": "decode_head.linear_projections.{s}.proj"},
)

# MMSegmentation: torch's MultiheadAttention stacks queries, keys and values; its head is our `mmseg`.
MMSEGMENTATION = Layout(
    "mmsegmentation",
    "backbone.",
    {
        f"{STAGE}.embed.proj": "layers.{s}.0.projection",
        f"{STAGE}.embed.norm": "layers.{s}.0.norm",
        f"{BLOCK}.norm1": "layers.{s}.1.{b}.norm1",
        f"{BLOCK}.attn.q": "layers.{s}.1.{b}.attn.attn.in_proj_",  # a parameter: in_proj_weight
        f"{BLOCK}.attn.k": "layers.{s}.1.{b}.attn.attn.in_proj_",
        f"{BLOCK}.attn.v": "layers.{s}.1.{b}.attn.attn.in_proj_",
        f"{BLOCK}.attn.reduce": "layers.{s}.1.{b}.attn.sr",
        f"{BLOCK}.attn.reduce_norm": "layers.{s}.1.{b}.attn.norm",
        f"{BLOCK}.attn.proj": "layers.{s}.1.{b}.attn.attn.out_proj",
        f"{BLOCK}.norm2": "layers.{s}.1.{b}.norm2",
        f"{BLOCK}.mlp.fc1": "layers.{s}.1.{b}.ffn.layers.0",
        f"{BLOCK}.mlp.dwconv": "layers.{s}.1.{b}.ffn.layers.1",
        f"{BLOCK}.mlp.fc2": "layers.{s}.1.{b}.ffn.layers.4",
        f"{STAGE}.norm": "layers.{s}.2",
    },
    {
        "head.convs.{s}.0": "decode_head.convs.{s}.conv",
        "head.convs.{s}.1": "decode_head.convs.{s}.bn",
        "head.fuse": "decode_head.fusion_conv.conv",
        "head.norm": "decode_head.fusion_conv.bn",
        "head.classifier": "decode_head.conv_seg",
    },
    pointwise=(".mlp.fc1", ".mlp.fc2"),
)

# timm's PVT v2, the same encoder as SegFormer's; but only pvt_v2_b5 has its widths: the others have
# feed-forwards twice as wide in their first two stages.
TIMM_PVT = Layout(
    "timm_pvt_v2",
    "",
    {
        "encoder.stages.0.embed.proj": "patch_embed.proj",
        "encoder.stages.0.embed.norm": "patch_embed.norm",
        f"{STAGE}.embed.proj": "stages.{s}.downsample.proj",
        f"{STAGE}.embed.norm": "stages.{s}.downsample.norm",
        f"{BLOCK}.norm1": "stages.{s}.blocks.{b}.norm1",
        f"{BLOCK}.attn.q": "stages.{s}.blocks.{b}.attn.q",
        f"{BLOCK}.attn.k": "stages.{s}.blocks.{b}.attn.kv",
        f"{BLOCK}.attn.v": "stages.{s}.blocks.{b}.attn.kv",
        f"{BLOCK}.attn.reduce": "stages.{s}.blocks.{b}.attn.sr",
        f"{BLOCK}.attn.reduce_norm": "stages.{s}.blocks.{b}.attn.norm",
        f"{BLOCK}.attn.proj": "stages.{s}.blocks.{b}.attn.proj",
        f"{BLOCK}.norm2": "stages.{s}.blocks.{b}.norm2",
        f"{BLOCK}.mlp.fc1": "stages.{s}.blocks.{b}.mlp.fc1",
        f"{BLOCK}.mlp.dwconv": "stages.{s}.blocks.{b}.mlp.dwconv",
        f"{BLOCK}.mlp.fc2": "stages.{s}.blocks.{b}.mlp.fc2",
        f"{STAGE}.norm": "stages.{s}.norm",
    },
    {},
)

# Our own: every part under its name, keys and values stacked; the rows of both heads.
KEY_AND_VALUE = {f"{BLOCK}.attn.k": f"{BLOCK}.attn.kv", f"{BLOCK}.attn.v": f"{BLOCK}.attn.kv"}
TRIDENT = Layout(
    "trident",
    "",
    {part: part for part in NVLABS.encoder} | KEY_AND_VALUE,
    {part: part for part in NVLABS.head | MMSEGMENTATION.head},
)

LAYOUTS = (TRIDENT, NVLABS, SMP, HUGGING_FACE, HUGGING_FACE_5, MMSEGMENTATION, TIMM_PVT)
