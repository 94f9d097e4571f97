"""METHODS: the ways to select and combine several members on one set of images."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from engine.scoring.combining import Combination
from engine.scoring.ensembles.fitting import (
    Added,
    diverse_order,
    fit_temperatures,
    fit_weights,
    greedy_order,
)
from engine.scoring.ensembles.selection import Ensemble, SelectionData, mean_of
from engine.scoring.ensembles.soups import ema_post_hoc, lawa, soup_greedy, soup_uniform, swa


def choose_ensemble(method: str, data: SelectionData) -> Ensemble:
    """The ensemble that `method`, one of METHODS, selects."""
    return METHODS[method](data)


def _mean(data: SelectionData) -> Ensemble:
    return Ensemble(Combination.mean(data.num_members))


def _mean_logit(data: SelectionData) -> Ensemble:
    return Ensemble(Combination.mean(data.num_members, "logit"))


def _weighted(data: SelectionData) -> Ensemble:
    combination = fit_weights(data.pixels)
    note = ", ".join(f"{row[0]:.2f}" for row in combination.weights)
    return Ensemble(combination, note=f"weights {note}")


def _class_weighted(data: SelectionData) -> Ensemble:
    combination = fit_weights(data.pixels, by_class=True)
    shares = ", ".join(f"{min(row):.2f} to {max(row):.2f}" for row in combination.weights)
    return Ensemble(combination, note=f"weights {shares}")


def _greedy(data: SelectionData) -> Ensemble:
    """The first k members of the greedy order, with the k of the highest mIoU."""
    order = greedy_order(data.pixels)
    length = max(range(len(order)), key=lambda number: order[number].mIoU) + 1
    return _first_of(order, length, data)


def _greedy_diverse(data: SelectionData) -> Ensemble:
    order = diverse_order(data.pixels)
    return _first_of(order, len(order), data)


def _first_of(order: Sequence[Added], length: int, data: SelectionData) -> Ensemble:
    """The mean probability of the first members of an order."""
    steps = [f"{data.names[order[0].member]} {order[0].mIoU:.4f}"] + [
        f"{data.names[after.member]} {after.mIoU - before.mIoU:+.4f}" for before, after in pairwise(order)
    ]
    chosen = mean_of([added.member for added in order[:length]], data.num_members)
    return Ensemble(chosen, note=f"takes {length}: {', '.join(steps)} (sampled pixels)")


def _temperature(data: SelectionData) -> Ensemble:
    M = data.num_members
    temperatures = fit_temperatures(data.pixels)
    note = ", ".join(f"{temperature:.2f}" for temperature in temperatures)
    return Ensemble(replace(Combination.mean(M), temperatures=temperatures), note=f"temperatures {note}")


METHODS: dict[str, Callable[[SelectionData], Ensemble]] = {
    "mean": _mean,
    "mean_logit": _mean_logit,
    "weighted": _weighted,
    "class_weighted": _class_weighted,
    "greedy": _greedy,
    "greedy_diverse": _greedy_diverse,
    "temperature": _temperature,
    "soup_uniform": soup_uniform,
    "soup_greedy": soup_greedy,
    "lawa": lawa,
    "swa": swa,
    "ema_post_hoc": ema_post_hoc,
}
SAMPLED = ("weighted", "class_weighted", "greedy", "greedy_diverse", "temperature")  # need sampled pixels
OF_TAILS = ("lawa", "swa")  # need the latest states of runs: keep.tail
OF_WIDTHS = ("ema_post_hoc",)  # need the moving averages of train.ema_widths
SOUPS = ("soup_uniform", "soup_greedy", *OF_TAILS, *OF_WIDTHS)
CHOOSING = SAMPLED + SOUPS  # the others give all members equal weight
