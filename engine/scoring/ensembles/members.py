"""The members of an ensemble, and the passes over a split that are made with them.

Shapes: N images, C classes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from statistics import median
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.data.batches import Batch, scoring_batches
from engine.data.sample import Dataset
from engine.recipe import Recipe
from engine.scoring.agreement import Agreement
from engine.scoring.combining import Combination
from engine.scoring.confusion import Scores
from engine.scoring.counting import Counts
from engine.scoring.ensembles.cross_validation import OnRow, Wanted
from engine.scoring.ensembles.methods import SAMPLED, SOUPS
from engine.scoring.ensembles.observations import (
    Losses,
    Observations,
    count_by_image,
    num_sampled_pixels,
    observe,
)
from engine.scoring.ensembles.selection import Ensemble, SelectionData, Soup, one_hot
from engine.scoring.ensembles.weight_averaging import (
    average_weights,
    averageable,
    recalibrate,
    training_images,
)
from engine.scoring.evaluation import ImageProgress, evaluate
from engine.scoring.predictor import Predictor
from engine.scoring.statistics import Overlaps
from engine.scoring.timing import TIMED_ROUNDS, interleaved, timed_batches

Show = Callable[[str], Callable[[int, int], None]]  # from a task's name to a callback (done, total)


@dataclass(frozen=True)
class Counted:
    """Scores of a split, and the (N, 2, C) overlaps of its images."""

    scores: Scores
    overlaps: Overlaps


@dataclass(frozen=True)
class Members:
    """The models, by name, in eval mode on `device`, and latest states and averages of their runs, for soups.

    Models, then states, then averages are numbered from 0 on.

    recipes, starts: of all of these; for a start see `start_of`.
    show: makes progress bars.
    states: by name, a function that loads a state or average as a model.
    tails: for each run the numbers of its states, the oldest first.
    widths: the numbers of the averages.
    """

    models: dict[str, nn.Module]
    recipes: Sequence[Recipe]
    starts: Sequence[str]
    predictor: Predictor
    device: torch.device
    workers: int | str
    show: Show
    states: Mapping[str, Callable[[], nn.Module]] = field(default_factory=dict)
    tails: Sequence[Soup] = ()
    widths: Soup = ()

    @property
    def names(self) -> list[str]:
        return list(self.models)

    def one_hot(self, member: int) -> Combination:
        return one_hot(member, len(self.models))

    def average_weights(self, soup: Sequence[int]) -> nn.Module:
        """The mean of the weights of these members and states, in eval mode; the same each time.

        Raises:
            DataError: the training images of the first of them, for BatchNorm statistics, are missing.
        """
        models, states = list(self.models.values()), list(self.states.values())
        chosen = [models[n] if n < len(models) else states[n - len(models)]() for n in soup]
        if len(chosen) == 1:
            return chosen[0]
        model = average_weights(chosen)
        first, *others = [self.recipes[number] for number in soup]
        if first.train.ema is None or any(other != first for other in others):
            recalibrate(model, training_images(first, self.device), chosen)
        return model

    def without_images(self) -> SelectionData:
        """Data without images, for methods that do not need any."""

        def no_soup(soup: Soup) -> NoReturn:
            raise AssertionError("a soup is chosen by its scores on images")

        nothing = [np.zeros((0, 2, 1), np.int64)] * len(self.models)
        return SelectionData(self.names, [], nothing, None, (), no_soup, no_soup)

    def observe(self, methods: Sequence[str], dataset: Dataset, task: str) -> SelectionData:
        """The data of one split for the methods; soups are made when a method asks for them."""
        num_pixels = 0
        if any(method in SAMPLED for method in methods):
            num_pixels = num_sampled_pixels(len(dataset), len(self.models), len(dataset.class_names))
        has_soup = any(method in SOUPS for method in methods)
        seen = self._observe(list(self.models.values()), dataset, num_pixels, task, with_losses=has_soup)

        names = [*self.names, *self.states]

        @cache
        def seen_of_soup(soup: Soup) -> tuple[Overlaps, Losses]:
            if len(soup) == 1 and soup[0] < len(self.models):
                assert seen.losses is not None, "no method with a soup was asked for"
                return seen.overlaps[soup[0]], seen.losses[soup[0]]
            task = f"{'soup of ' * (len(soup) > 1)}{', '.join(names[number] for number in soup)}"
            found = self._observe([self.average_weights(soup)], dataset, 0, task, with_losses=True)
            assert found.losses is not None
            return found.overlaps[0], found.losses[0]

        return SelectionData(
            names,
            seen.ids,
            seen.overlaps,
            seen.samples,
            averageable(self.starts[: len(self.models)]),
            lambda soup: seen_of_soup(soup)[0],
            lambda soup: seen_of_soup(soup)[1],
            self.tails,
            self.widths,
        )

    def count(
        self,
        dataset: Dataset,
        ensembles: Sequence[Ensemble],
        task: str,
        agreement: Agreement | None = None,
    ) -> dict[Combination | Soup, Counted]:
        """Count every single member and every ensemble, by `Ensemble.key`; each model runs once per image.

        Args:
            agreement: counts where the members agree.
        """
        members: dict[Combination | Soup, str] = {
            self.one_hot(number): name for number, name in enumerate(self.models)
        }
        soups = {ensemble.soup: f"soup of {ensemble.soup}" for ensemble in ensembles if ensemble.soup}
        combinations = {
            ensemble.combination: f"combination {number}"
            for number, ensemble in enumerate(ensembles)
            if not ensemble.soup and ensemble.single_member is None
        }
        rows: dict[str, list[Overlaps]] = {}
        progress = ImageProgress(len(dataset), self.show(task))

        def on_batch(ids: list[str], counts: dict[str, Counts]) -> None:
            progress.add(len(ids))
            for name, of_batch in counts.items():
                rows.setdefault(name, []).append(of_batch.overlaps())

        tallies = evaluate(
            self.models | {name: self.average_weights(soup) for soup, name in soups.items()},
            self._batches(dataset),
            self.predictor,
            len(dataset.class_names),
            dataset.ignore_index,
            self.device,
            on_batch,
            {name: _with_soups(combination, len(soups)) for combination, name in combinations.items()},
            on_maps=agreement.add if agreement else None,
        )
        progress.end()
        return {
            key: Counted(tallies[name].scores(dataset.class_names), np.concatenate(rows[name]))
            for key, name in (members | soups | combinations).items()
        }

    def certainties(self, member: int, dataset: Dataset, task: str) -> NDArray[np.float64]:
        """(N,): the certainty of a member for each image, in the order of `count`."""
        model = self.models[self.names[member]]
        progress, found = ImageProgress(len(dataset), self.show(task)), []
        for batch in self._batches(dataset):
            found.append(self.predictor.pieces(model, batch.images).certainty.double().cpu().numpy())
            progress.add(len(batch.ids))
        progress.end()
        return np.concatenate(found)

    def count_rows(
        self, dataset: Dataset, ids: Sequence[str], wanted: Wanted, on_row: OnRow, task: str
    ) -> None:
        """Count each image with its own combinations; the row of an image is its index in `ids`."""
        row_of = {id: row for row, id in enumerate(ids)}
        progress = ImageProgress(len(ids), self.show(task))

        def on_image(id: str, counts: Mapping[Combination, Overlaps]) -> None:
            on_row(row_of[id], counts)
            progress.add(1)

        count_by_image(
            list(self.models.values()),
            self._batches(dataset),
            self.predictor,
            dataset.ignore_index,
            lambda id: wanted(row_of[id]),
            on_image,
        )

    def images_per_second(
        self, dataset: Dataset, ensembles: Mapping[str, Ensemble], task: str
    ) -> dict[str, float]:
        """Median over a few rounds of scoring images in memory, without the decoding.

        A soup has the speed of a member with the same start, which is timed instead.
        """
        batches = timed_batches(dataset, self.device)
        runs = {
            name: self.one_hot(self.starts.index(self.starts[ensemble.soup[0]]))
            if ensemble.soup
            else ensemble.combination
            for name, ensemble in ensembles.items()
        }
        calls = {
            run: partial(
                evaluate,
                self.models,
                batches,
                self.predictor,
                len(dataset.class_names),
                dataset.ignore_index,
                self.device,
                combinations={"timed": run},
                counted=["timed"],
            )
            for run in runs.values()
        }
        seconds = interleaved(calls, TIMED_ROUNDS, self.show(task))
        return {name: len(batches) / median(seconds[run]) for name, run in runs.items()}

    def _batches(self, dataset: Dataset) -> Iterator[Batch]:
        return scoring_batches(dataset, self.device, workers=self.workers)

    def _observe(
        self, models: list[nn.Module], dataset: Dataset, num_pixels: int, task: str, with_losses: bool
    ) -> Observations:
        progress = ImageProgress(len(dataset), self.show(task))
        batches, ignore_index = self._batches(dataset), dataset.ignore_index
        found = observe(models, batches, self.predictor, ignore_index, num_pixels, progress.add, with_losses)
        progress.end()
        return found


def _with_soups(combination: Combination, num_soups: int) -> Combination:
    """The same combination, for a list of models in which soups follow the members, with weight 0."""
    nothing = (0.0,) * len(combination.weights[0])
    return replace(
        combination,
        weights=combination.weights + (nothing,) * num_soups,
        temperatures=combination.temperatures + (1.0,) * num_soups,
    )
