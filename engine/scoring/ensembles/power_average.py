"""Moving averages of weights whose width is chosen after the training (Karras et al. 2023, arXiv 2312.02696).

After t updates, such an average gives update k the share (k / t)^(g + 1) - ((k - 1) / t)^(g + 1), so later
updates count more. Its width is the standard deviation of k / t, relative to the length of the training. Two
widths are tracked; a weighted sum of the saved averages approximates the average of any other width.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.recipe import Recipe
from engine.run_folder import Average, require_intact
from engine.scoring.ensembling import Candidate
from engine.scoring.trained import load_model

WIDTHS = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2)  # tried in addition to the tracked ones
MOST_ERROR = 0.02  # relative error of the shares of a weighted sum
MOST_SPANS = 10_000  # shares are computed for each update, or for as many spans of updates


@dataclass(frozen=True)
class Width(Candidate):
    """The average of one width at the last of the latest states: a weighted sum of the saved averages.

    parts: the saved averages with their factors, which add up to 1; some are below 0.
    """

    width: float
    parts: tuple[tuple[Average, float], ...]

    @property
    def label(self) -> str:
        return f"{super().label} width {self.width:g}"

    def to_dict(self, folder: Path) -> dict[str, object]:
        """As ensemble.json in `folder` has it."""
        factors = {os.path.relpath(self.run.path / one.file, folder): factor for one, factor in self.parts}
        return {"run": self.manifest.name, "step": self.member.step, "width": self.width, "factors": factors}


def exponent_of(width: float) -> float:
    """g of a width (sigma_rel) below 12^-0.5: width^2 = (g + 1) / ((g + 2)^2 (g + 3)), equation 123."""
    slope = width**-2  # x = g + 2 solves x^3 + x^2 = slope (x - 1)
    return float(np.roots([1, 1, -slope, slope]).real.max()) - 2


def decay_of(exponent: float, step: int) -> float:
    """The decay of the moving average at update `step`, counted from 1; equation 127."""
    return float((1 - 1 / step) ** (exponent + 1))


def combine(
    saved: Sequence[tuple[int, float]], step: int, width: float
) -> tuple[NDArray[np.floating], float]:
    """The factors that bring a sum of saved averages nearest to the average of a width after `step` updates.

    Like algorithm 3, with the shares of single updates in place of integrals.

    Args:
        saved: update and width of each.

    Returns:
        The factors, whose sum is 1, and the relative L2 error of the shares.
    """
    edges = np.linspace(0, step, min(step, MOST_SPANS) + 1)

    def shares(last: int, width: float) -> NDArray[np.float64]:
        return np.diff((np.minimum(edges, last) / last) ** (exponent_of(width) + 1))

    wanted = shares(step, width)
    known = np.stack([shares(*one) for one in saved], axis=1)  # (spans, saved)
    factors = np.linalg.lstsq(known, wanted)[0]
    factors /= factors.sum()
    error = np.linalg.norm(known @ factors - wanted) / np.linalg.norm(wanted)
    return factors, float(error)


def widths_of(candidates: Sequence[Candidate]) -> list[Width]:
    """For each run that saved averages, the tracked widths and those of WIDTHS that can be approximated."""
    runs = {candidate.run.path: candidate for candidate in candidates}
    found: list[Width] = []
    for one in runs.values():
        saved = [(state.step, average) for state in one.manifest.tail for average in state.averages]
        tracked = {average.width for _, average in saved}
        for width in sorted({*tracked, *WIDTHS} if tracked else tracked):
            last = one.manifest.tail[-1]
            factors, error = combine([(step, average.width) for step, average in saved], last.step, width)
            if error <= MOST_ERROR:
                parts = zip([average for _, average in saved], factors.tolist(), strict=True)
                found.append(Width(one.run, one.manifest, last, width, tuple(parts)))
    return found


def combined(candidate: Width) -> dict[str, Tensor]:
    """The sum of all floating-point tensors of the saved averages, in float64.

    Raises:
        RunFolderError: a file is missing or altered.
    """
    total: dict[str, Tensor] = {}
    for average, factor in candidate.parts:
        path = candidate.run.path / average.file
        require_intact(path, average.sha256)
        for key, value in load_file(path).items():
            if value.is_floating_point():
                part = factor * value.double()
                total[key] = total[key] + part if key in total else part
    return total


@torch.no_grad()
def load_width(candidate: Width, recipe: Recipe, device: torch.device) -> nn.Module:
    """The model of an average, in eval mode; BatchNorm statistics are averaged as the weights are.

    Args:
        recipe: of its run.

    Raises:
        RunFolderError: a file is missing, altered, or of other classes than the recipe says.
    """
    last, _ = candidate.parts[-1]
    names = candidate.manifest.class_names
    model = load_model(candidate.run.path / last.file, last.sha256, recipe, names, device)
    state = combined(candidate)
    for key in state:
        if key.endswith("running_var"):
            state[key].clamp_(min=0)  # some factors are below 0
    model.load_state_dict(state, strict=False)  # the others are integers, those of the last
    return model
