"""The parameter groups of SegFormer against a classification by module type and name."""

from types import SimpleNamespace

import pytest
from torch import nn

from engine.training.optim import build_optimizer, parameter_groups
from models import ModelError
from models.segformer import SegFormer

SECTION = SimpleNamespace(lr=6e-5, weight_decay=0.01, head_lr_mult=10.0, layer_decay=1.0)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return SegFormer("b0", num_classes=3, decoder_width=16)


def test_four_groups_with_their_rates_and_decays(model: nn.Module) -> None:
    groups = {
        group["name"]: (group["lr"], group["weight_decay"]) for group in parameter_groups(model, SECTION)
    }
    assert groups == {
        "encoder": (6e-5, 0.01),
        "encoder, no decay": (6e-5, 0.0),
        "head": (pytest.approx(6e-4), 0.01),
        "head, no decay": (pytest.approx(6e-4), 0.0),
    }


def test_every_parameter_is_in_exactly_one_group(model: nn.Module) -> None:
    grouped = [id(p) for group in parameter_groups(model, SECTION) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_norms_and_biases_are_not_decayed_and_weights_are(model: nn.Module) -> None:
    norms = {
        id(p)
        for module in model.modules()
        if isinstance(module, nn.LayerNorm | nn.BatchNorm2d)
        for p in module.parameters()
    }
    assert norms
    of_parameter = {id(p): group for group in parameter_groups(model, SECTION) for p in group["params"]}
    for name, parameter in model.named_parameters():
        group = of_parameter[id(parameter)]
        assert group["name"].startswith("encoder" if name.startswith("encoder.") else "head"), name
        spared = id(parameter) in norms or name.endswith("bias")
        assert (group["weight_decay"] == 0) == spared, name


def test_other_parameters_of_one_dimension_are_not_decayed() -> None:
    model = nn.Module()
    model.encoder = nn.Linear(2, 2, bias=False)
    model.layer_scale = nn.Parameter(nn.init.ones_(model.encoder.weight[0].detach()))
    names = [group["name"] for group in parameter_groups(model, SECTION)]
    assert names == ["head, no decay", "encoder"]


def test_a_shared_parameter_is_in_one_group() -> None:
    model = nn.Module()
    model.encoder = nn.Linear(2, 2)
    model.head = model.encoder
    grouped = [p for group in parameter_groups(model, SECTION) for p in group["params"]]
    assert len(grouped) == 2


def test_the_optimiser_remembers_the_rates_that_the_schedule_multiplies(model: nn.Module) -> None:
    for group in build_optimizer(model, SECTION).param_groups:
        assert group["initial_lr"] == group["lr"] > 0


LAYERED = SimpleNamespace(lr=1.0, weight_decay=0.01, head_lr_mult=10.0, layer_decay=0.5)


def test_layer_decay_halves_the_rate_with_each_block_from_the_head(model: nn.Module) -> None:
    groups = parameter_groups(model, LAYERED)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len(groups) == 2 * (2 + 2 + 2 + 2) + 2
    assert len(rate) == len(list(model.parameters()))
    encoder = model.encoder.stages
    for stage, block, depth in [(3, 1, 1), (3, 0, 2), (2, 1, 3), (1, 0, 6), (0, 0, 8)]:
        assert {rate[id(p)] for p in encoder[stage].blocks[block].parameters()} == {0.5**depth}
    assert rate[id(encoder[0].embed.proj.weight)] == 0.5**8
    assert rate[id(encoder[2].embed.proj.weight)] == 0.5**4
    assert rate[id(encoder[2].norm.weight)] == 0.5**3
    assert {rate[id(p)] for p in model.head.parameters()} == {10.0}


def test_layer_decay_changes_no_weight_decay(model: nn.Module) -> None:
    decays = [
        {id(p): group["weight_decay"] for group in parameter_groups(model, section) for p in group["params"]}
        for section in (SECTION, LAYERED)
    ]
    assert decays[0] == decays[1]


def test_layer_decay_of_a_model_without_known_depths_is_refused() -> None:
    model = nn.Module()
    model.encoder = nn.Linear(2, 2)
    with pytest.raises(ModelError, match=r"optimizer\.layer_decay=1\.0"):
        parameter_groups(model, LAYERED)
