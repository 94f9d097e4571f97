"""Masks are those of a sample's place, whatever computes it: rows of a whole draw."""

import pytest
import timm.layers
import torch
from torch import Tensor, nn

from engine.training.dropout import Places, draw_by_place
from models.segformer import DropPath

LAYERS = {
    "path": lambda: DropPath(0.4),
    "path of timm": lambda: timm.layers.DropPath(0.4),
    "values": lambda: nn.Dropout(0.4),
    "channels": lambda: nn.Dropout2d(0.4),
}
X = torch.ones(12, 3, 2, 2)


def dropped(layer: nn.Module, x: Tensor, rank: int, world_size: int, num_chunks: int) -> Tensor:
    """The output of one process, of all its chunks."""
    places, outputs, start = Places(rank, world_size), [], 0
    layer = nn.Sequential(layer)
    draw_by_place(layer, places)
    per_place = len(x) // 12
    mine = x.view(12, per_place, *x.shape[1:])[rank::world_size]
    for chunk in mine.chunk(num_chunks):
        torch.manual_seed(5)
        places.take(start, len(chunk), len(mine), x.device)
        outputs.append(layer(chunk.flatten(0, 1)))
        start += len(chunk)
    return torch.cat(outputs)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("world_size", "num_chunks"), [(1, 1), (1, 3), (2, 1), (3, 2), (12, 1)])
def test_processes_and_chunks_draw_the_masks_of_one(name, world_size, num_chunks) -> None:
    make = LAYERS[name]
    whole = dropped(make(), X, 0, 1, 1)
    for rank in range(world_size):
        assert torch.equal(dropped(make(), X, rank, world_size, num_chunks), whole[rank::world_size])


@pytest.mark.parametrize("name", LAYERS)
def test_masks_differ_between_samples_and_keep_the_mean(name: str) -> None:
    make = LAYERS[name]
    out = dropped(make(), X, 0, 1, 1)
    assert len({tuple(sample.flatten().tolist()) for sample in out}) > 1
    assert torch.equal(out, out.amax((2, 3), keepdim=True).expand_as(out)) == (name != "values")
    assert out.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    many = dropped(make(), torch.ones(12 * 500, *X.shape[1:]), 0, 1, 1)
    assert many.mean().item() == pytest.approx(1.0, abs=0.05)


def test_rows_of_one_sample_stay_together() -> None:
    """As the windows of a Swin transformer, which are rows of their own."""
    windows = torch.ones(12 * 4, 5)
    whole = dropped(nn.Dropout(0.5), windows, 0, 1, 1).view(12, 4, 5)
    second = dropped(nn.Dropout(0.5), windows, 1, 2, 3).view(6, 4, 5)
    assert torch.equal(second, whole[1::2])


def test_rows_that_are_not_of_samples_are_drawn_alike_by_all() -> None:
    layer, places = nn.Dropout(0.5), Places(1, 2)
    draw_by_place(layer, places)
    places.take(0, 4, 4, X.device)
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(layer(torch.ones(7, 9)))
    assert torch.equal(*found) and 0 < found[0].mean() < 2


def test_a_path_of_timm_that_does_not_scale_is_dropped_without() -> None:
    out = dropped(timm.layers.DropPath(0.4, scale_by_keep=False), X, 0, 1, 1)
    assert out.unique().tolist() == [0.0, 1.0]


def test_at_rest_and_with_a_rate_of_0_or_1_nothing_is_drawn() -> None:
    for layer, factor in ((nn.Dropout(0.0), 1.0), (nn.Dropout(1.0), 0.0), (DropPath(0.0), 1.0)):
        assert torch.equal(dropped(layer, X, 0, 2, 1), factor * X[0::2])
    for make in LAYERS.values():
        layer = nn.Sequential(make()).eval()
        draw_by_place(layer, Places())
        assert layer(X) is X
