"""The parameter groups of SegFormer against a classification by module type and name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from timm.layers import BatchNormAct2d
from torch import nn

from engine.recipe import RecipeError
from engine.training.optim import (
    build_optimizer,
    freeze,
    frozen_modules,
    in_eval_mode,
    matches,
    parameter_groups,
)
from engine.training.options import Optimizer
from models import ModelError
from models.segformer import SegFormer

SECTION = Optimizer(lr=6e-5, weight_decay=0.01, head_lr_mult=10.0)


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


def test_weights_are_decayed_and_norms_and_biases_are_not(model: nn.Module) -> None:
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


def test_groups_hold_the_initial_rates_that_the_schedule_multiplies(model: nn.Module) -> None:
    for group in build_optimizer(model, SECTION).param_groups:
        assert group["initial_lr"] == group["lr"] > 0


LAYERED = Optimizer(lr=1.0, weight_decay=0.01, head_lr_mult=10.0, layer_decay=0.5)


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


def rates(model: nn.Module, **keys: Any) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay by name of parameter, at lr 1, head_lr_mult 10, weight_decay 0.5."""
    section = Optimizer.model_validate({"lr": 1.0, "weight_decay": 0.5} | keys)
    groups = parameter_groups(model, section)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    return {name: found[id(p)] for name, p in model.named_parameters() if id(p) in found}


class ScheduleFree(torch.optim.AdamW):
    """Has the two modes of those in the package `schedulefree`."""

    def train(self) -> None: ...

    def eval(self) -> None: ...


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("encoder", "encoder.stages.0.norm.weight", True),
        ("encoder.*.norm*", "encoder.stages.0.norm.weight", True),
        ("encoder.*.norm*", "encoder.stages.0.blocks.1.norm2.bias", True),
        ("encoder.*.norm*", "encoder.stages.0.embed.proj.bias", False),
        ("*.bias", "head.classifier.bias", True),
        ("encoder.stages.0", "encoder.stages.01.weight", False),
        ("encoder.stages.[01]", "encoder.stages.1.norm.weight", True),
        ("head", "encoder.head.weight", False),
    ],
)
def test_a_pattern_matches_a_name_or_a_module_around_it(pattern: str, name: str, expected: bool) -> None:
    assert matches(name, pattern) == expected


def test_a_group_multiplies_the_rate_and_replaces_the_decay(model: nn.Module) -> None:
    before, layered = rates(model), rates(model, layer_decay=0.5)
    groups = {"encoder.*.norm*": {"lr_mult": 0.1}, "head": {"lr_mult": 2.0, "weight_decay": 0.25}}
    for start, keys in ((before, {}), (layered, {"layer_decay": 0.5})):
        found = rates(model, groups=groups, **keys)
        for name, (lr, decay) in start.items():
            if name.startswith("encoder.") and ".norm" in name:
                assert found[name] == (pytest.approx(0.1 * lr), decay)
            elif name.startswith("head."):
                assert found[name] == (20.0, 0.25)
            else:
                assert found[name] == (lr, decay), name


def test_the_last_pattern_that_matches_counts(model: nn.Module) -> None:
    general, special = {"*": {"lr_mult": 0.5}}, {"head.classifier": {"lr_mult": 3.0}}
    assert rates(model, groups=general | special)["head.classifier.bias"][0] == 30.0
    assert rates(model, groups=special | general)["head.classifier.bias"][0] == 5.0


def test_groups_are_named_after_their_pattern(model: nn.Module) -> None:
    section = Optimizer.model_validate({"groups": {"encoder.*.norm*": {"lr_mult": 0.1}}})
    names = {group["name"] for group in parameter_groups(model, section)}
    assert "encoder, encoder.*.norm*, no decay" in names and "head" in names


def test_a_pattern_without_a_match_is_an_error_with_near_names(model: nn.Module) -> None:
    section = Optimizer.model_validate({"groups": {"encoder.stages.0.nrom": {"lr_mult": 0.1}}})
    with pytest.raises(RecipeError, match=r"optimizer\.groups.*nrom.*encoder\.stages\.0\.norm"):
        parameter_groups(model, section)


def test_without_an_encoder_all_is_trained_at_one_rate() -> None:
    assert rates(nn.Sequential(nn.Linear(2, 2))) == {"0.weight": (1.0, 0.5), "0.bias": (1.0, 0.0)}


NAMES = [
    "adamw",
    "adam",
    "sgd",
    "momentum",
    "lion",
    "muon",
    "adopt",
    "lamb",
    "adan",
    "nadam",
    "adagrad",
    "rmsprop",
]


@pytest.mark.parametrize("name", NAMES)
def test_optimisers_by_name_learn(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))
    images, targets = torch.randn(4, 3, 8, 8), torch.randint(0, 2, (4, 4, 4))
    optimizer = build_optimizer(model, Optimizer(name=name, lr=3e-3, weight_decay=0.0))
    losses = []
    for _ in range(25):
        losses.append(nn.functional.cross_entropy(model(images), targets))
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]


def test_the_default_is_the_fused_adamw_of_torch(model: nn.Module) -> None:
    optimizer = build_optimizer(model, SECTION)
    assert type(optimizer) is torch.optim.AdamW
    for group in optimizer.param_groups:
        assert (group["fused"], group["betas"], group["eps"]) == (True, (0.9, 0.999), 1e-8)


def test_keys_reach_the_optimiser_and_null_is_its_default(model: nn.Module) -> None:
    adamw = build_optimizer(model, Optimizer(betas=[0.8, 0.9], eps=1e-6)).param_groups[0]
    assert (adamw["betas"], adamw["eps"]) == ((0.8, 0.9), 1e-6)
    assert build_optimizer(model, Optimizer(name="sgd", momentum=0.5)).param_groups[0]["momentum"] == 0.5
    assert build_optimizer(model, Optimizer(name="sgd")).param_groups[0]["momentum"] == 0.9
    assert build_optimizer(model, Optimizer(name="lion")).param_groups[0]["betas"] == (0.9, 0.99)


@pytest.mark.parametrize(
    ("keys", "texts"),
    [
        ({"name": "adamv"}, ["optimizer.name", "'adamv'", "adamw", "my_package:"]),
        ({"name": "sgd", "betas": [0.9, 0.99]}, ["optimizer.betas", "momentum", "optimizer.betas=null"]),
        ({"name": "lion", "eps": 1e-8}, ["optimizer.eps", "betas", "adamw"]),
        ({"momentum": 0.9}, ["optimizer.momentum", "adamw", "betas and eps", "sgd", "muon"]),
        ({"betas": [0.9, 0.9, 0.9]}, ["optimizer.betas", "adamw takes 2"]),
        ({"name": "adan", "betas": [0.9, 0.9]}, ["optimizer.betas", "adan takes 3"]),
        ({"name": "adahessian"}, ["adahessian", "second derivatives", "optimizer.name=adamw"]),
        ({"name": "lookahead_adam"}, ["lookahead_adam", "train.ema", "optimizer.name=adamw"]),
        ({"name": "torch.optim:LBFGS"}, ["LBFGS", "closure"]),
        ({"name": f"{__name__}:ScheduleFree"}, ["ScheduleFree", "2405.15682", "schedule.name=wsd"]),
        ({"name": "torch.optim:Rprop"}, ["Rprop", "does not take weight_decay"]),
        ({"name": "torch.optim:Adamm"}, ["optimizer.name", "torch.optim:Adamm"]),
        ({"name": "no_such_package:Adam"}, ["optimizer.name", "no_such_package"]),
        ({"name": "torch.optim:Muon"}, ["Muon", "2D", "optimizer.name=adamw"]),
        ({"name": "torch.nn:Linear"}, ["torch.nn:Linear", "not a subclass"]),
        ({"name": "torch.optim:SGD", "eps": 1e-8}, ["optimizer.eps", "momentum"]),
    ],
)  # fmt: skip
def test_optimisers_and_keys_that_cannot_work_are_refused_with_a_reason(
    model: nn.Module, keys: dict, texts: list[str]
) -> None:
    with pytest.raises(RecipeError) as caught:
        build_optimizer(model, Optimizer.model_validate(keys))
    assert caught.value.exit_code == 2
    assert [text for text in texts if text not in str(caught.value)] == []


@pytest.mark.parametrize("keys", [{"betas": [0.9]}, {"betas": [0.9, 1.0]}, {"momentum": 1.0}, {"eps": 0.0}])
def test_values_out_of_range_are_refused(keys: dict) -> None:
    with pytest.raises(ValidationError):
        Optimizer.model_validate(keys)


OWN = """
import torch

class Signed(torch.optim.Optimizer):
    def __init__(self, params, lr, weight_decay=0.0, momentum=0.5, *, power: float = 1.0):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, momentum=momentum, power=power))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad.sign(), alpha=group["lr"] * group["power"])
"""


class SignedOptions(Optimizer):
    power: float = 1.0


def test_an_optimiser_from_outside(model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_optimisers.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    section = SignedOptions(name="own_optimisers:Signed", lr=0.25, weight_decay=0.5, power=4.0)
    optimizer = build_optimizer(model, section)
    assert type(optimizer).__name__ == "Signed"
    groups = {group["name"]: group for group in optimizer.param_groups}
    head = groups["head"]
    assert (head["lr"], head["weight_decay"], head["power"], head["momentum"]) == (2.5, 0.5, 4.0, 0.5)
    assert groups["encoder, no decay"]["weight_decay"] == 0


def new_model() -> nn.Module:
    return SegFormer("b0", num_classes=3, decoder_width=16)


def test_frozen_parameters_are_left_out_of_the_groups() -> None:
    model = new_model()
    in_encoder = sum(p.numel() for p in model.encoder.parameters())
    total = sum(p.numel() for p in model.parameters())
    note = freeze(model, "encoder")
    assert note is not None and f"{in_encoder:,} of {total:,}" in note and "model.freeze" in note
    grouped = {id(p) for group in build_optimizer(model, LAYERED).param_groups for p in group["params"]}
    assert grouped == {id(p) for p in model.head.parameters()}


def test_patterns_freeze_what_they_match() -> None:
    model = new_model()
    freeze(model, ["encoder.stages.[01]", "*.bias"])
    for name, parameter in model.named_parameters():
        is_frozen = name.startswith(("encoder.stages.0.", "encoder.stages.1.")) or name.endswith(".bias")
        assert parameter.requires_grad != is_frozen, name


def test_null_freezes_nothing() -> None:
    model = new_model()
    assert freeze(model, None) is None
    assert all(p.requires_grad for p in model.parameters()) and frozen_modules(model) == []


@pytest.mark.parametrize(
    ("patterns", "texts"),
    [
        ("encodr", ["model.freeze", "'encodr'", "encoder"]),
        (["encoder", "head.classifer"], ["model.freeze", "head.classifier"]),
        ("*", ["model.freeze", "nothing is left to train", "model.freeze=encoder", "model.freeze=null"]),
        (["encoder", "head"], ["nothing is left to train"]),
    ],
)
def test_freezing_nothing_or_everything_is_refused(patterns: str | list[str], texts: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        freeze(new_model(), patterns)
    assert [text for text in texts if text not in str(caught.value)] == []


def test_a_group_of_frozen_parameters_is_refused() -> None:
    model = new_model()
    freeze(model, "encoder")
    with pytest.raises(RecipeError, match=r"optimizer\.groups.*trained"):
        parameter_groups(model, Optimizer.model_validate({"groups": {"encoder": {"lr_mult": 0.1}}}))


def test_parameters_that_share_memory_are_frozen_under_either_name() -> None:
    model = nn.Module()
    model.encoder = nn.Linear(2, 2)
    model.again, model.head = model.encoder, nn.Linear(2, 2)
    freeze(model, "again")
    assert not any(p.requires_grad for p in model.encoder.parameters())


def test_frozen_norms_are_those_of_the_encoder_and_still_train() -> None:
    model = nn.Module()
    model.encoder = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), BatchNormAct2d(3))
    model.head = nn.BatchNorm2d(3)
    assert in_eval_mode(model, "sync") == in_eval_mode(model, "local") == []
    assert in_eval_mode(model, "frozen") == [model.encoder[1], model.encoder[2]]
    freeze(model, "encoder.0")
    assert in_eval_mode(model, "frozen") == [model.encoder[0], model.encoder[1], model.encoder[2]]
    assert model.encoder[1].weight.requires_grad
    for without in (new_model(), nn.Sequential(nn.BatchNorm2d(3))):
        with pytest.raises(RecipeError, match=r"no BatchNorm\. Type train\.batch_norm=sync"):
            in_eval_mode(without, "frozen")


def test_modules_are_frozen_where_all_of_their_parameters_are() -> None:
    model = nn.Sequential(BatchNormAct2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout())
    freeze(model, ["0", "2.weight"])
    assert model[0] in frozen_modules(model)
    assert model[2] not in frozen_modules(model) and model[3] not in frozen_modules(model)
    freeze(model, "2.bias")
    assert model[2] in frozen_modules(model) and model not in frozen_modules(model)
