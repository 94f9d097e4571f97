"""Blocks of a network: all trained parameters, once each, under readable names."""

from types import SimpleNamespace

import pytest
from torch import nn

from models import build_model
from models.blocks import trained_blocks

PLAIN = {"decoder_width": None, "head": "paper", "drop_path": 0.0, "dropout": 0.0, "checkpointing": False}


def build(arch: str, encoder: str | None) -> nn.Module:
    section = SimpleNamespace(arch=arch, encoder=encoder, variant="b0", **PLAIN)
    return build_model(section, ["ground", "cat"])


@pytest.mark.parametrize(
    ("arch", "encoder", "some"),
    [
        ("segformer", None, ["encoder.stages.0.embed", "encoder.stages.3.blocks.1", "head"]),
        ("unet", "resnet18", ["encoder.conv1", "encoder.layer1.0", "encoder.layer4.1", "decoder.blocks.4"]),
        ("fpn", "efficientnet-b0", ["encoder._conv_stem", "encoder._blocks.15", "segmentation_head"]),
    ],
)
def test_blocks_hold_every_parameter_once(arch: str, encoder: str | None, some: list[str]) -> None:
    model = build(arch, encoder)
    blocks = trained_blocks(model)
    held = [id(parameter) for parameters in blocks.values() for parameter in parameters]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    assert [name for name in some if name not in blocks] == []
    assert 10 < len(blocks) < 40


def test_frozen_parameters_are_left_out_and_so_is_a_block_of_them() -> None:
    model = build("segformer", None)
    model.encoder.stages[0].requires_grad_(False)
    model.head.classifier.bias.requires_grad_(False)
    blocks = trained_blocks(model)
    assert not any(name.startswith("encoder.stages.0.") for name in blocks)
    assert len(blocks["head"]) == len(list(model.head.parameters())) - 1


def test_parameters_outside_a_sequence_are_listed_under_their_module() -> None:
    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(nn.Linear(2, 2).weight.detach())
            self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(4, 1, 4) for _ in range(2))

    model = nn.ModuleDict({"encoder": Transformer(), "head": nn.Linear(4, 2)})
    assert list(trained_blocks(model)) == ["encoder", "encoder.blocks.0", "encoder.blocks.1", "head"]
