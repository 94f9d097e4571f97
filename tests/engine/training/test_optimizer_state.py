"""The state of an optimiser in a saved state: restored bit for bit, or refused."""

import json
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.run_folder import RunFolder
from engine.training.checkpoint import (
    load_state,
    save_state,
)
from engine.training.fit import RunError
from engine.training.optimizer_state import load_optimizer, state_of
from tests.engine.training.checkpoints import (
    OPTIMIZERS,
    assert_same,
    everything,
)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_any_optimiser_is_restored_bit_for_bit(
    run: RunFolder, make_step, draw_batch, name: str
) -> None:
    whole, second = (make_step(optimizer={"name": name}) for _ in range(2))
    for seed in range(3):
        whole(draw_batch(seed=seed))
    save_state(run, whole)
    load_state(run, second)
    before, after = (step.optimizers["optimizer"].state_dict() for step in (whole, second))
    assert_equal(after["state"], before["state"])
    assert_equal(after["param_groups"], before["param_groups"])
    for seed in (3, 4):
        assert torch.equal(whole(draw_batch(seed=seed))["loss"], second(draw_batch(seed=seed))["loss"])
    assert_same(second.model.state_dict(), whole.model.state_dict())


def assert_equal(found: Any, expected: Any) -> None:
    """Equal in value, type and dtype, through lists, tuples and dicts."""
    assert type(found) is type(expected)
    if isinstance(expected, Tensor):
        assert found.dtype == expected.dtype and torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_equal(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            assert_equal(*pair)
    else:
        assert found == expected


def test_a_state_that_cannot_be_saved_is_named(run: RunFolder, make_step, draw_batch) -> None:
    step = make_step()
    step(draw_batch())
    step.optimizers["optimizer"].state[step.model.head.weight]["odd"] = object()
    with pytest.raises(RunError, match="odd is a object"):
        save_state(run, step)


def test_a_state_of_0_1_0_counts_unused_parameters_too(run: RunFolder, make_step, draw_batch, toy) -> None:
    """Its optimiser contained them, without a state; here "encoder.bias" (number 1 of 6) is unused."""
    step, other = (make_step(toy(), frozen="encoder.bias") for _ in range(2))
    step(draw_batch())
    names = [name for group in step.optimizers["optimizer"].param_groups for name in group["params"]]
    numbers = [0, 2, 3, 4, 5]
    assert len(names) == len(numbers)
    tensors = {f"model/{key}": value for key, value in step.model.state_dict().items()}
    for number, parameter in zip(numbers, names, strict=True):
        slots = step.optimizers["optimizer"].state[parameter]
        tensors |= {f"optimizer.state/{number}/{slot}": value for slot, value in slots.items()}
    header = {"step": 1, "scalers": {"optimizer": {}}}
    save_file(tensors, run.last_state, metadata={"trident": json.dumps(header)})
    load_state(run, other)
    assert_same(everything(other), everything(step))


def test_a_state_that_counts_unused_parameters_fits_an_optimiser_without_them() -> None:
    """As of a model whose unused parameters were part of the optimiser once."""
    first, unused, last = (nn.Parameter(torch.full((size,), 1.0)) for size in (2, 3, 4))
    before, now = torch.optim.AdamW([first, unused, last]), torch.optim.AdamW([first, last])
    (first.sum() + 2 * last.sum()).backward()
    before.step()
    load_optimizer(now, state_of(before))
    for parameter in (first, last):
        for slot, value in before.state[parameter].items():
            assert torch.equal(now.state[parameter][slot], value)


@pytest.mark.parametrize("shape", [(3, 2), (2, 3)])  # the same number of parameters, and of other shapes
def test_a_state_of_other_parameters_is_refused(shape: tuple[int, int]) -> None:
    """Fused kernels would read beyond its end."""
    layers = nn.Linear(2, 3), nn.Linear(*shape, bias=shape == (3, 2))
    saved, other = (torch.optim.AdamW(layer.parameters()) for layer in layers)
    layers[0](torch.ones(1, 2)).sum().backward()
    saved.step()
    with pytest.raises(ValueError, match="The state of the optimiser is of other parameters"):
        load_optimizer(other, state_of(saved))
