"""A compiled model: its logits where several processes train it, and its gradients."""

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from engine.command import recipe_file
from engine.recipe import RecipeError, load_recipe
from engine.training.build_step import build_step
from engine.training.distributed import Process, compiled, distribute
from engine.training.recorded import RecordedUpdates
from models.segformer import SegFormer
from tests.engine.training.recorder import OperationsOfTheCPU

CPU = torch.device("cpu")


@pytest.fixture
def group() -> Iterator[Process]:
    """The first of several processes, in a group that has no other."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield Process(0, 2, CPU)
    dist.destroy_process_group()
    torch._dynamo.reset()


def test_compiled_for_several_processes_it_returns_its_logits(group: Process) -> None:
    """The decoder of B2, whose gradients fill more than one bucket; torch's split returned shape ()."""
    torch.manual_seed(0)
    model = SegFormer("b0", 6, decoder_width=768, drop_path=0.0, dropout=0.0)
    image = 255 * torch.rand(2, 3, 32, 32)
    expected = model(image)
    found = distribute(compiled(model, group, "aot_eager"), group)(image)
    torch.testing.assert_close(found, expected)
    found.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert torch._dynamo.config.optimize_ddp  # of other models in this process


@pytest.mark.parametrize(
    ("value", "calls"),
    [("max", ["max-autotune-no-cudagraphs"]), ("true", [None]), ("false", []), ("auto", [])],
)
def test_each_value_asks_torch_for_a_mode(
    value: str, calls: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(torch, "compile", lambda model, backend, mode: seen.append(mode) or model)
    monkeypatch.setattr("engine.training.build_step.CudaGraphs", lambda device: OperationsOfTheCPU())
    recipe = load_recipe(recipe_file("demo"), [f"train.compile={value}"]).in_steps(300)
    step = build_step(recipe, SegFormer("b0", 6), 6, Process(0, 1, CPU))
    assert seen == calls
    assert isinstance(step.recorded, RecordedUpdates) == (value == "max")


def test_max_is_refused_where_layers_are_computed_twice() -> None:
    lines = ["data.root=a", "train.compile=max", "model.checkpointing=true"]
    with pytest.raises(RecipeError, match=r"CUDA graph .*Type train\.compile=true or model\.checkpointing=f"):
        load_recipe(recipe_file("b2_ce_dice"), lines)
    for line in ("train.compile=true", "model.checkpointing=false"):
        load_recipe(recipe_file("b2_ce_dice"), [*lines, line])


@pytest.mark.parametrize("line", ["train.accumulate=2", "train.accumulate=auto", "data.unlabelled={root: a}"])
def test_max_is_refused_where_an_update_has_several_parts(line: str) -> None:
    own = ["data.root=a", line]
    with pytest.raises(RecipeError, match=r"CUDA graph .*Type train\.compile=true, or train\.accumulate=1"):
        load_recipe(recipe_file("lite0_photos"), [*own, "train.compile=max"])
    load_recipe(recipe_file("lite0_photos"), [*own, "train.compile=true"])
    load_recipe(
        recipe_file("lite0_photos"), [*own, "train.compile=max", "train.accumulate=1", "data.unlabelled=null"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("variant", ["b0", "b2"])
def test_compiled_gradients_are_the_eager_ones(variant: str, checkpointing: bool) -> None:
    """In float64, relative to the largest value of each tensor, without dropout.

    The biases whose effect the BatchNorm of the decoder removes have a gradient of zero, of which rounding
    leaves about 1e-18 either way: compared relatively, those alone differ, by half to all of it.
    """
    torch.manual_seed(0)
    options = {"decoder_width": 64, "drop_path": 0.0, "dropout": 0.0, "checkpointing": checkpointing}
    model = SegFormer(variant, 6, **options).double()
    images = 255 * torch.rand(2, 3, 64, 64, dtype=torch.float64)
    labels = torch.randint(0, 6, (2, 16, 16))
    expected = gradients(model, model, images, labels)
    found = gradients(model, compiled(model, Process(0, 1, CPU)), images, labels)
    without_effect = {f"head.mlps.{n}.bias" for n in range(4)} | {"encoder.stages.3.norm.bias"}
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        assert (scale < 1e-12 * largest) == (name in without_effect), name
        tolerance = 1e-12 * (largest if name in without_effect else scale)
        assert (found[name] - gradient).abs().max() <= tolerance, name


def gradients(
    model: nn.Module, forward: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    model.zero_grad()
    F.cross_entropy(forward(images), labels).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
