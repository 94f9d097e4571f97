"""METHODS: the ways to combine several members into one predictor, each chosen on one set of images.

Shapes: N images, M members, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.scoring.combining import Combination
from engine.scoring.ensembles.fitting import fit_temperatures, fit_weights, greedy_order
from engine.scoring.ensembles.observations import PixelSamples
from engine.scoring.metrics import mean_iou_of_overlaps
from engine.scoring.statistics import Overlaps

Soup = tuple[int, ...]  # the members whose weights are averaged, by number


@dataclass(frozen=True)
class SelectionData:
    """What a method may use to choose an ensemble.

    names: of the M members.
    ids: of the N images.
    overlaps: (N, 2, C) of each member.
    samples: pixels of the same images, where a method needs them.
    averageable: members of one architecture; overlaps_of_soup: (N, 2, C) of the mean of their weights.
    """

    names: Sequence[str]
    ids: Sequence[str]
    overlaps: Sequence[Overlaps]
    samples: PixelSamples | None
    averageable: Soup
    overlaps_of_soup: Callable[[Soup], Overlaps]

    def of_images(self, rows: NDArray[np.bool_]) -> "SelectionData":
        """The same for the images that `rows` (N,) marks."""
        return replace(
            self,
            ids=[id for id, is_kept in zip(self.ids, rows, strict=True) if is_kept],
            overlaps=[of_member[rows] for of_member in self.overlaps],
            samples=self.samples.of_images(rows) if self.samples else None,
            overlaps_of_soup=lambda soup: self.overlaps_of_soup(soup)[rows],
        )

    @property
    def pixels(self) -> PixelSamples:
        assert self.samples is not None, "this method is fitted on sampled pixels"
        return self.samples

    def mIoU(self, member: int) -> float:
        return _mIoU(self.overlaps[member])

    def mIoU_of_soup(self, soup: Soup) -> float:
        return _mIoU(self.overlaps_of_soup(soup))

    @property
    def best_member(self) -> int:
        """The first of those with the highest mIoU."""
        return max(range(len(self.names)), key=self.mIoU)


@dataclass(frozen=True)
class Ensemble:
    """What a method chose: a combination of the members' predictions, or a soup, the mean of their weights.

    `accepted` is False where the soup is worse than the best member, which then takes its place.
    """

    combination: Combination
    soup: Soup = ()
    note: str = ""
    accepted: bool = True

    @property
    def cost(self) -> int:
        """Forward passes of a prediction."""
        return 1 if self.soup else len(self.combination.used)

    @property
    def key(self) -> Combination | Soup:
        """Equal for ensembles that predict the same."""
        return self.soup or self.combination

    @property
    def single_member(self) -> int | None:
        """The only member, if it is used unchanged; None for any other ensemble."""
        used = self.combination.used
        is_one = not self.soup and len(used) == 1 and self.combination.temperatures[used[0]] == 1.0
        return used[0] if is_one else None


def choose_ensemble(method: str, data: SelectionData) -> Ensemble:
    """What `method`, one of METHODS, chooses."""
    return METHODS[method](data)


def one_hot(member: int, num_members: int) -> Combination:
    """One member, as a combination of all."""
    return mean_of([member], num_members)


def mean_of(members: Sequence[int], num_members: int) -> Combination:
    """The mean probability of some of the members."""
    weights = tuple((float(number in members) / len(members),) for number in range(num_members))
    return Combination("probability", weights, (1.0,) * num_members)


def _mean(data: SelectionData) -> Ensemble:
    return Ensemble(Combination.mean(len(data.names)))


def _mean_logit(data: SelectionData) -> Ensemble:
    return Ensemble(Combination.mean(len(data.names), "logit"))


def _weighted(data: SelectionData) -> Ensemble:
    combination = fit_weights(data.pixels)
    note = ", ".join(f"{row[0]:.2f}" for row in combination.weights)
    return Ensemble(combination, note=f"weights {note}")


def _class_weighted(data: SelectionData) -> Ensemble:
    combination = fit_weights(data.pixels, by_class=True)
    shares = ", ".join(f"{min(row):.2f} to {max(row):.2f}" for row in combination.weights)
    return Ensemble(combination, note=f"weights {shares}")


def _greedy(data: SelectionData) -> Ensemble:
    """The first members of the greedy order, as many as give the highest mIoU."""
    order = greedy_order(data.pixels)
    length = max(range(len(order)), key=lambda number: order[number].mIoU) + 1
    steps = [f"{data.names[order[0].member]} {order[0].mIoU:.4f}"] + [
        f"{data.names[after.member]} {after.mIoU - before.mIoU:+.4f}" for before, after in pairwise(order)
    ]
    chosen = mean_of([added.member for added in order[:length]], len(data.names))
    return Ensemble(chosen, note=f"takes {length}: {', '.join(steps)} (sampled pixels)")


def _temperature(data: SelectionData) -> Ensemble:
    M = len(data.names)
    temperatures = fit_temperatures(data.pixels)
    note = ", ".join(f"{temperature:.2f}" for temperature in temperatures)
    return Ensemble(replace(Combination.mean(M), temperatures=temperatures), note=f"temperatures {note}")


def _soup_uniform(data: SelectionData) -> Ensemble:
    return _soup_or_best_member(data, data.averageable)


def _soup_greedy(data: SelectionData) -> Ensemble:
    """Wortsman et al. 2022, arXiv 2203.05482, recipe 1: best first, each kept unless the mIoU falls."""
    ranked = sorted(data.averageable, key=lambda member: -data.mIoU(member))
    soup: Soup = tuple(ranked[:1])
    score = data.mIoU(soup[0]) if soup else float("nan")
    for member in ranked[1:]:
        tried = tuple(sorted((*soup, member)))
        if (with_it := data.mIoU_of_soup(tried)) >= score:
            soup, score = tried, with_it
    return _soup_or_best_member(data, soup)


def _soup_or_best_member(data: SelectionData, soup: Soup) -> Ensemble:
    """The soup, or the best member where the soup is worse."""
    best = data.best_member
    if len(data.averageable) < 2:
        reason = "no two members share an architecture"
    elif len(soup) < 2:
        reason = "no soup of the best of them with another one is as good as the best alone"
    elif (score := data.mIoU_of_soup(soup)) < (of_best := data.mIoU(best)):
        reason = f"mIoU {score:.4f} against {of_best:.4f} on the images it was chosen on"
    else:
        note = f"weights of {', '.join(data.names[member] for member in soup)}"
        return Ensemble(one_hot(best, len(data.names)), soup, note)
    note = f"rejected: {reason}; {data.names[best]} is used instead"
    return Ensemble(one_hot(best, len(data.names)), note=note, accepted=False)


def _mIoU(found: Overlaps) -> float:
    return mean_iou_of_overlaps(found.sum(axis=0))


METHODS: dict[str, Callable[[SelectionData], Ensemble]] = {
    "mean": _mean,
    "mean_logit": _mean_logit,
    "weighted": _weighted,
    "class_weighted": _class_weighted,
    "greedy": _greedy,
    "temperature": _temperature,
    "soup_uniform": _soup_uniform,
    "soup_greedy": _soup_greedy,
}
SAMPLED = ("weighted", "class_weighted", "greedy", "temperature")  # those that need pixels
SOUPS = ("soup_uniform", "soup_greedy")
CHOOSING = SAMPLED + SOUPS  # the others give all members equal weight
