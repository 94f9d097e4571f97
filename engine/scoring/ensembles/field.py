"""The members of an ensemble, and the passes over a split that are made with them.

Knows nothing of which method is better, of runs or of files.

Shapes: N images, C classes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import torch
from torch import nn

from engine.data.batches import Batch, scoring_batches
from engine.data.sample import Dataset, skipped_ids
from engine.scoring.combining import Combination
from engine.scoring.confusion import Scores
from engine.scoring.counting import Counts
from engine.scoring.ensembles.halves import OnRow, Wanted
from engine.scoring.ensembles.kitchen import Kitchen
from engine.scoring.ensembles.methods import SAMPLED, SOUPS, Choice, Evidence, Soup, alone
from engine.scoring.ensembles.pixel_samples import pixels_an_image
from engine.scoring.ensembles.speed import seconds_of
from engine.scoring.ensembles.survey import Survey, count_by_image, survey
from engine.scoring.evaluation import evaluate
from engine.scoring.metrics import overlaps
from engine.scoring.predictor import Predictor
from engine.scoring.statistics import Overlaps

TIMED_IMAGES = 2
Show = Callable[[str], Callable[[int, int], None]]  # of a task's name, a callback (done, total)


@dataclass(frozen=True)
class Counted:
    """Scores of a split, and (N, 2, C) of its images."""

    scores: Scores
    overlaps: Overlaps


@dataclass(frozen=True)
class Field:
    """The members by name, and how they are run."""

    models: dict[str, nn.Module]
    kitchen: Kitchen
    predictor: Predictor
    device: torch.device
    workers: int | str
    show: Show

    @property
    def names(self) -> list[str]:
        return list(self.models)

    def alone(self, member: int) -> Combination:
        return alone(member, len(self.models))

    def unseen(self) -> Evidence:
        """Nothing but the members' names: enough for what is not chosen."""

        def no_soup(soup: Soup) -> Overlaps:
            raise AssertionError("a soup is judged by what was seen of it")

        return Evidence(self.names, [], [], None, (), no_soup)

    def look(self, methods: Sequence[str], dataset: Dataset, task: str) -> Evidence:
        """What the methods may see of one split; soups are made when a method asks for them."""
        num_pixels = 0
        if any(method in SAMPLED for method in methods):
            num_pixels = pixels_an_image(len(dataset), len(self.models), len(dataset.class_names))
        seen = self._survey(list(self.models.values()), dataset, num_pixels, task)

        @cache
        def overlaps_of_soup(soup: Soup) -> Overlaps:
            task = f"soup of {', '.join(self.names[member] for member in soup)}"
            return self._survey([self.kitchen.cook(soup)], dataset, 0, task).overlaps[0]

        ingredients = self.kitchen.ingredients() if any(method in SOUPS for method in methods) else ()
        return Evidence(self.names, seen.ids, seen.overlaps, seen.samples, ingredients, overlaps_of_soup)

    def count(
        self, dataset: Dataset, choices: Sequence[Choice], task: str
    ) -> dict[Combination | Soup, Counted]:
        """Of every member alone and of every choice, by `Choice.what`; each model runs once an image."""
        members: dict[Combination | Soup, str] = {
            self.alone(number): name for number, name in enumerate(self.models)
        }
        soups = {choice.soup: f"soup of {choice.soup}" for choice in choices if choice.soup}
        mixed = {
            choice.combination: f"combination {number}"
            for number, choice in enumerate(choices)
            if not choice.soup and choice.member is None
        }
        rows: dict[str, list[Overlaps]] = {}
        progress = _Progress(len(dataset), self.show(task))

        def on_batch(ids: list[str], counts: dict[str, Counts]) -> None:
            progress.more(len(ids))
            for name, of_batch in counts.items():
                rows.setdefault(name, []).append(overlaps(of_batch.confusion.cpu().numpy()))

        tallies = evaluate(
            self.models | {name: self.kitchen.cook(soup) for soup, name in soups.items()},
            self._batches(dataset),
            self.predictor,
            len(dataset.class_names),
            dataset.ignore_index,
            self.device,
            on_batch,
            {name: _beside(combination, len(soups)) for combination, name in mixed.items()},
        )
        progress.end()
        return {
            what: Counted(tallies[name].scores(dataset.class_names), np.concatenate(rows[name]))
            for what, name in (members | soups | mixed).items()
        }

    def count_rows(
        self, dataset: Dataset, ids: Sequence[str], wanted: Wanted, on_row: OnRow, task: str
    ) -> None:
        """Each image by combinations of its own; its row is its place in `ids`."""
        row_of = {id: row for row, id in enumerate(ids)}
        progress = _Progress(len(ids), self.show(task))

        def on_image(id: str, counts: Mapping[Combination, Overlaps]) -> None:
            on_row(row_of[id], counts)
            progress.more(1)

        count_by_image(
            list(self.models.values()),
            self._batches(dataset),
            self.predictor,
            dataset.ignore_index,
            lambda id: wanted(row_of[id]),
            on_image,
        )

    def images_per_second(
        self, dataset: Dataset, choices: Mapping[str, Choice], task: str
    ) -> dict[str, float]:
        """Of a few images in memory: what their scoring takes but for the decoding.

        A soup takes what its first ingredient takes.
        """
        skipped = set(skipped_ids(dataset))
        readable = [index for index, id in enumerate(dataset.ids) if id not in skipped]
        spread = np.linspace(0, len(readable) - 1, min(TIMED_IMAGES, len(readable))).round().astype(int)
        samples = [dataset[readable[place]] for place in spread]
        batches = [
            Batch(s.image[None].to(self.device), s.labels[None].to(self.device), [s.id]) for s in samples
        ]
        runs = {
            name: self.alone(choice.soup[0]) if choice.soup else choice.combination
            for name, choice in choices.items()
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
        seconds = seconds_of(calls, self.show(task))
        return {name: len(batches) / seconds[run] for name, run in runs.items()}

    def _batches(self, dataset: Dataset) -> Iterator[Batch]:
        return scoring_batches(dataset, self.device, workers=self.workers)

    def _survey(self, models: list[nn.Module], dataset: Dataset, num_pixels: int, task: str) -> Survey:
        progress = _Progress(len(dataset), self.show(task))
        found = survey(
            models, self._batches(dataset), self.predictor, dataset.ignore_index, num_pixels, progress.more
        )
        progress.end()
        return found


@dataclass
class _Progress:
    """Counts images for a bar, whose end comes even where some were skipped."""

    total: int
    show: Callable[[int, int], None]
    done: int = 0

    def more(self, images: int) -> None:
        self.done += images
        self.show(self.done, self.total)

    def end(self) -> None:
        if self.done < self.total:
            self.show(self.total, self.total)


def _beside(combination: Combination, num_soups: int) -> Combination:
    """The same combination where soups stand behind the members."""
    nothing = (0.0,) * len(combination.weights[0])
    return replace(
        combination,
        weights=combination.weights + (nothing,) * num_soups,
        temperatures=combination.temperatures + (1.0,) * num_soups,
    )
