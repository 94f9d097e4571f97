"""The auxiliary head: its gradient, its place in state and checkpoints, and what it needs of a layer."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from engine.recipe import RecipeError, load_recipe
from engine.recipe.sections import Auxiliary
from engine.run import main
from engine.run_folder import RunFolder
from engine.training.auxiliary import AuxiliaryBranch, AuxiliaryHead, build_auxiliary
from models import build_model
from models.segformer import SegFormer
from tests.engine.tiny_run import ADVERSARIAL, tiny

NUM_CLASSES, VOID = 3, 255
BRANCH = "model.auxiliary={layer: encoder.stages.2, weight: 0.4, channels: 8}"
QUICK = [*ADVERSARIAL, BRANCH, "log.to=[]", "log.images=0", "data.doctor=off", "keep.top=1", "train.ema=0.9"]


def with_branch(make_step, toy, weight: float = 0.4, **settings):
    model = toy(dropout=0.0)
    torch.manual_seed(1)
    head = AuxiliaryHead(8, 4, NUM_CLASSES)
    head.dropout.p = 0.0
    branch = AuxiliaryBranch(head, head, model.encoder, weight)
    return make_step(model, auxiliary=branch, **settings)


@pytest.mark.parametrize("adversarial", [None, {"start": 0}])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_its_loss_is_added_with_its_weight(make_step, draw_batch, toy, adversarial, accumulate: int) -> None:
    """The gradient is that of the main loss plus weight times that of the loss of its logits."""
    batch, settings = draw_batch(4), {"adversarial": adversarial, "accumulate": accumulate}

    def gradients(weight: float) -> dict[str, torch.Tensor]:
        step, found = with_branch(make_step, toy, weight, **settings), {}
        modules = nn.ModuleDict({"model": step.model, "auxiliary": step.auxiliary.head})

        def look(*_) -> None:
            found.update({name: p.grad.clone() for name, p in modules.named_parameters()})

        step.optimizers["optimizer"].register_step_pre_hook(look)
        metrics = step(batch)
        assert metrics["loss_auxiliary"] > 0
        main = metrics["loss_ce"] + metrics["loss_dice"]
        torch.testing.assert_close(metrics["loss"], main + weight * metrics["loss_auxiliary"])
        return found

    little, much = gradients(0.4), gradients(0.8)
    step = make_step(toy(dropout=0.0), **settings)
    plain: dict[str, torch.Tensor] = {}
    step.optimizers["optimizer"].register_step_pre_hook(
        lambda *_: plain.update(
            {f"model.{name}": p.grad.clone() for name, p in step.model.named_parameters()}
        )
    )
    step(batch)
    assert not torch.allclose(little["model.encoder.weight"], plain["model.encoder.weight"])
    for name, value in little.items():
        base = plain.get(name, torch.zeros_like(value))
        torch.testing.assert_close(much[name] - base, 2 * (value - base), rtol=1e-3, atol=1e-5)


def test_an_update_with_nan_leaves_its_statistics_as_they_were(make_step, draw_batch, toy) -> None:
    step, batch = with_branch(make_step, toy), draw_batch(4)
    before = {name: value.clone() for name, value in step.auxiliary.head.state_dict().items()}
    batch.images[0, 0, 0, 0] = torch.nan
    assert step(batch)["nan"]
    after = step.auxiliary.head.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items() if value.is_floating_point())


def test_a_resumed_run_is_bit_for_bit_the_same_and_checkpoints_have_no_such_head(tmp_path: Path) -> None:
    whole, halves = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "halves")
    assert main(tiny(tmp_path, "whole", *QUICK)) == 0
    assert main(tiny(tmp_path, "halves", *QUICK)) == 0
    halves.previous_state.replace(halves.last_state)  # of update 4
    assert main([*tiny(tmp_path, "halves", *QUICK), "--resume"]) == 0
    states = []
    for run in (whole, halves):
        with safe_open(run.last_state, framework="pt") as file:
            states.append({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
        [kept] = run.top.glob("*.safetensors")
        with safe_open(kept, framework="pt") as file:
            assert not any("auxiliary" in key for key in file.keys())  # noqa: SIM118
    assert any(key.startswith("auxiliary/") for key in states[0])
    assert all(torch.equal(states[1][key], value) for key, value in states[0].items())


def test_the_channels_are_those_of_the_layer() -> None:
    model = SegFormer("b0", NUM_CLASSES, decoder_width=16)
    head = build_auxiliary(Auxiliary(layer="encoder.stages.2"), model, NUM_CLASSES, 3, [64])
    assert head.convolution.in_channels == 160 and head.convolution.out_channels == 256
    assert head(torch.zeros(2, 160, 4, 4)).shape == (2, NUM_CLASSES, 4, 4)
    assert model.training


@pytest.mark.parametrize(
    ("layer", "crops_px", "said"),
    [
        ("encoder.stage.2", [64], "model.auxiliary.layer=encoder.stages.2"),
        ("encoder.stages.2.blocks.0", [64], "gives no map"),  # (B, h, w, C)
        ("encoder.stages.2", [70], "augment.crop=64"),
        ("encoder.stages.2", [20], "augment.crop=32"),
        ("encoder.stages.2", [48, 70], "not of 48 px.*augment.crop=64 augment.progressive=\\[\\]"),
    ],
)
def test_what_cannot_be_built_is_refused(layer: str, crops_px: list[int], said: str) -> None:
    model = SegFormer("b0", NUM_CLASSES, decoder_width=16)
    with pytest.raises(RecipeError, match=said):
        build_auxiliary(Auxiliary(layer=layer), model, NUM_CLASSES, 3, crops_px)


def test_the_crop_fits_the_patches_of_a_vision_transformer() -> None:
    model = build_model("linear", num_classes=NUM_CLASSES, encoder="tu-eva02_tiny_patch14_224")
    head = build_auxiliary(Auxiliary(layer="decoder"), model, NUM_CLASSES, 3, [70])
    assert head.convolution.in_channels == 192
    with pytest.raises(RecipeError, match=r"divides by 14.*augment\.crop=56"):  # of 64 px it would pad 6
        build_auxiliary(Auxiliary(layer="decoder"), model, NUM_CLASSES, 3, [64])


@pytest.mark.parametrize("line", ["train.compile=true", "train.shard=true"])
def test_it_is_neither_compiled_nor_sharded(line: str) -> None:
    with pytest.raises(RecipeError, match=r"model\.auxiliary .*train\.compile=auto train\.shard=false"):
        load_recipe(tiny(Path(), "a")[0], [BRANCH, line])
    load_recipe(tiny(Path(), "a")[0], [BRANCH, line, "train.compile=auto", "train.shard=false"])


def test_a_recipe_names_the_layer() -> None:
    with pytest.raises(RecipeError, match="layer"):
        load_recipe(tiny(Path(), "a")[0], ["model.auxiliary={weight: 0.4}"])
