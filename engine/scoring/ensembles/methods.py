"""The ways to make one predictor of several members, each decided on what was seen of one set of images.

Shapes: N images, M members, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.scoring.combining import Combination
from engine.scoring.ensembles.fitting import fit_temperatures, fit_weights, greedy_order
from engine.scoring.ensembles.pixel_samples import PixelSamples
from engine.scoring.metrics import mean_iou_of_overlaps
from engine.scoring.statistics import Overlaps

Soup = tuple[int, ...]  # the members whose weights are averaged, by number


@dataclass(frozen=True)
class Evidence:
    """What a method may look at.

    names: of the M members.
    ids: of the N images.
    overlaps: (N, 2, C) of each member.
    samples: pixels of the same images, where a method needs them.
    ingredients: members that may be averaged; overlaps_of_soup: (N, 2, C) of such an average.
    """

    names: Sequence[str]
    ids: Sequence[str]
    overlaps: Sequence[Overlaps]
    samples: PixelSamples | None
    ingredients: Soup
    overlaps_of_soup: Callable[[Soup], Overlaps]

    def of(self, rows: NDArray[np.bool_]) -> "Evidence":
        """Of the images that `rows` (N,) marks, and no others."""
        return replace(
            self,
            ids=[id for id, is_kept in zip(self.ids, rows, strict=True) if is_kept],
            overlaps=[of_member[rows] for of_member in self.overlaps],
            samples=self.samples.of(rows) if self.samples else None,
            overlaps_of_soup=lambda soup: self.overlaps_of_soup(soup)[rows],
        )

    @property
    def pixels(self) -> PixelSamples:
        assert self.samples is not None, "this method is fitted on sampled pixels"
        return self.samples

    def mIoU(self, member: int) -> float:
        return _of(self.overlaps[member])

    def mIoU_of_soup(self, soup: Soup) -> float:
        return _of(self.overlaps_of_soup(soup))

    @property
    def best_member(self) -> int:
        """The first of those with the highest mIoU."""
        return max(range(len(self.names)), key=self.mIoU)


@dataclass(frozen=True)
class Choice:
    """What a method came to: a combination of the members' predictions, or the mean of members' weights.

    `accepted` is false where a soup would lose, and the best member stands in.
    """

    combination: Combination
    soup: Soup = ()
    note: str = ""
    accepted: bool = True

    @property
    def cost(self) -> int:
        """Members that have to run."""
        return 1 if self.soup else len(self.combination.used)

    @property
    def what(self) -> Combination | Soup:
        """What has to be counted for it."""
        return self.soup or self.combination

    @property
    def member(self) -> int | None:
        """The member that this is alone, unaltered; None where it is more than that."""
        used = self.combination.used
        is_one = not self.soup and len(used) == 1 and self.combination.temperatures[used[0]] == 1.0
        return used[0] if is_one else None


def choose(method: str, seen: Evidence) -> Choice:
    """What `method`, one of METHODS, makes of the evidence."""
    return METHODS[method](seen)


def alone(member: int, num_members: int) -> Combination:
    """One member, as a combination of all."""
    weights = tuple((float(number == member),) for number in range(num_members))
    return Combination("probability", weights, (1.0,) * num_members)


def subset(members: Sequence[int], num_members: int) -> Combination:
    """The mean probability of some of the members."""
    weights = tuple((float(number in members) / len(members),) for number in range(num_members))
    return Combination("probability", weights, (1.0,) * num_members)


def _mean(seen: Evidence) -> Choice:
    return Choice(Combination.mean(len(seen.names)))


def _mean_logit(seen: Evidence) -> Choice:
    return Choice(Combination.mean(len(seen.names), "logit"))


def _weighted(seen: Evidence) -> Choice:
    combination = fit_weights(seen.pixels)
    note = ", ".join(f"{row[0]:.2f}" for row in combination.weights)
    return Choice(combination, note=f"weights {note}")


def _class_weighted(seen: Evidence) -> Choice:
    combination = fit_weights(seen.pixels, by_class=True)
    shares = ", ".join(f"{min(row):.2f} to {max(row):.2f}" for row in combination.weights)
    return Choice(combination, note=f"weights {shares}")


def _greedy(seen: Evidence) -> Choice:
    """The best start of the order; what comes behind adds nothing."""
    order = greedy_order(seen.pixels)
    length = max(range(len(order)), key=lambda number: order[number].mIoU) + 1
    steps = [f"{seen.names[order[0].member]} {order[0].mIoU:.4f}"] + [
        f"{seen.names[after.member]} {after.mIoU - before.mIoU:+.4f}" for before, after in pairwise(order)
    ]
    chosen = subset([added.member for added in order[:length]], len(seen.names))
    return Choice(chosen, note=f"takes {length}: {', '.join(steps)} (sampled pixels)")


def _temperature(seen: Evidence) -> Choice:
    M = len(seen.names)
    temperatures = fit_temperatures(seen.pixels)
    note = ", ".join(f"{temperature:.2f}" for temperature in temperatures)
    return Choice(replace(Combination.mean(M), temperatures=temperatures), note=f"temperatures {note}")


def _soup_uniform(seen: Evidence) -> Choice:
    return _accepted(seen, seen.ingredients)


def _soup_greedy(seen: Evidence) -> Choice:
    """Wortsman et al. 2022, arXiv 2203.05482, recipe 1: the best first, each kept where it does no harm."""
    ranked = sorted(seen.ingredients, key=lambda member: -seen.mIoU(member))
    soup: Soup = tuple(ranked[:1])
    score = seen.mIoU(soup[0]) if soup else float("nan")
    for member in ranked[1:]:
        tried = tuple(sorted((*soup, member)))
        if (with_it := seen.mIoU_of_soup(tried)) >= score:
            soup, score = tried, with_it
    return _accepted(seen, soup)


def _accepted(seen: Evidence, soup: Soup) -> Choice:
    """The soup, or the best member where the soup loses to it."""
    best = seen.best_member
    if len(seen.ingredients) < 2:
        reason = "no two members share an architecture"
    elif len(soup) < 2:
        reason = "no soup of the best of them and another one is as good as it alone"
    elif (score := seen.mIoU_of_soup(soup)) < (of_best := seen.mIoU(best)):
        reason = f"mIoU {score:.4f} against {of_best:.4f} where it was judged"
    else:
        note = f"weights of {', '.join(seen.names[member] for member in soup)}"
        return Choice(alone(best, len(seen.names)), soup, note)
    note = f"rejected: {reason}; {seen.names[best]} stands in"
    return Choice(alone(best, len(seen.names)), note=note, accepted=False)


def _of(found: Overlaps) -> float:
    return mean_iou_of_overlaps(found.sum(axis=0))


METHODS: dict[str, Callable[[Evidence], Choice]] = {
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
CHOOSING = SAMPLED + SOUPS  # the others take all members alike, whatever the images
