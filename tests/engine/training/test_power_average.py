"""From the updates of a model to its average of a width that was never tracked."""

import pytest
import torch
from torch import nn

from engine.recipe import load_recipe
from engine.run_folder import RunFolder, RunFolderError
from engine.scoring.ensembles.power_average import combined, widths_of
from engine.scoring.ensembling import Candidate
from engine.training.power_average import PowerAverage
from engine.training.tail import TailKeeper
from tests.engine.tiny_run import RECIPE
from tests.engine.training.checkpoints import new_keeper

WIDTHS = (0.03, 0.05, 0.07, 0.1)


def directly(values: list[torch.Tensor], width: float) -> torch.Tensor:
    """The sum over updates k of (k^p - (k - 1)^p) / t^p of their values; p from the definition of a width."""
    low, high = 1.0, 200.0
    for _ in range(100):
        p = (low + high) / 2
        low, high = (p, high) if p / ((p + 1) ** 2 * (p + 2)) > width**2 else (low, p)
    t = len(values)
    return sum((((k + 1) / t) ** p - (k / t) ** p) * value for k, value in enumerate(values))


@pytest.mark.parametrize(
    ("steps", "tail", "every", "tolerance"),
    [(40, 40, 1, 1e-5), (320, 8, 10, 0.02)],
    ids=["saved after each update", "saved over the last quarter"],
)
def test_the_combined_weights_are_those_of_an_average_of_that_width(
    run: RunFolder, steps: int, tail: int, every: int, tolerance: float
) -> None:
    """A random walk; the tolerance is a share of the distance between the averages of both tracked widths."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(100, 10), nn.BatchNorm1d(10))
    options = [f"keep.tail={tail}", f"keep.tail_every={every}", f"train.steps={steps}"]
    manifest = new_keeper(run).manifest
    keeper = TailKeeper(run, manifest, load_recipe(RECIPE, options).in_steps(8))
    tracked = [PowerAverage(model, width, foreach=True) for width in (0.05, 0.1)]
    values = []
    for step in range(1, steps + 1):
        with torch.no_grad():
            model[0].weight += 0.1 * torch.randn_like(model[0].weight)
        values.append(model[0].weight.detach().double())
        for average in tracked:
            average.update(model, step=step)
        if keeper.is_due(step):
            keeper.keep(step, model.state_dict(), {one.width: one.module.state_dict() for one in tracked})
    found = {one.width: one for one in widths_of([Candidate(run, manifest, manifest.tail[0])])}
    assert set(WIDTHS) <= found.keys()
    apart = (directly(values, 0.05) - directly(values, 0.1)).norm()
    for width in WIDTHS:
        weights = combined(found[width])
        off = (weights["0.weight"] - directly(values, width)).norm() / apart
        assert off < (1e-5 if width in (0.05, 0.1) else tolerance), (width, off)
        assert weights["0.bias"].allclose(model[0].bias.double(), atol=1e-5)  # it never changed
        assert "1.num_batches_tracked" not in weights

    (run.path / manifest.tail[0].averages[0].file).write_bytes(b"")
    with pytest.raises(RunFolderError, match="step-.*-width-0.05.safetensors was altered"):
        combined(found[0.07])
