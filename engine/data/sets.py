"""Several sets in one training: their images as one data set, with the classes of the first one.

Shapes: N images of all sets.
"""

import hashlib
import json
import re
import shlex
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.data.options import Data
from engine.data.sample import DataError, Dataset, Sample, Skipped, first_few
from engine.data.set_options import REST, VOID, ImageSet
from engine.wording import did_you_mean, quantity

NUM_IDS = 256  # labels are uint8
OWN_KEY = re.compile(rf"\bdata\.({'|'.join(ImageSet.model_fields)})\b")  # as a set alone is told of


@dataclass(frozen=True)
class Part:
    """One set.

    place: in data.also; None for the first set. prefix: of its ids. table: (256,) uint8, from its label ids
    to those of the model; None: they are equal.
    """

    name: str
    place: int | None
    prefix: str
    dataset: Dataset
    table: Tensor | None

    def of_model(self, labels: Tensor) -> Tensor:
        """Labels of the set with the label ids of the model."""
        return labels if self.table is None else self.table[labels.long()]


class SeveralSets:
    """The images of several sets, one set after the other; a `Dataset`.

    Ids of the first set are its own; those of the others begin with the name of the set.
    """

    def __init__(self, parts: Sequence[Part], first: Dataset):
        self.parts = parts
        self.class_names, self.palette = first.class_names, first.palette
        self.ignore_index, self.bands = first.ignore_index, first.bands
        self.skipped = None if first.skipped is None else Skipped()
        self.ids = [part.prefix + id for part in parts for id in part.dataset.ids]
        self._ends = [*accumulate(len(part.dataset) for part in parts)]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        part, place = self.at(index)
        with naming_set(part.name, part.place):
            sample = part.dataset[place]
        return Sample(self.ids[index], sample.image, part.of_model(sample.labels))

    def at(self, index: int) -> tuple[Part, int]:
        """The set of an image, and its place there."""
        number = bisect_right(self._ends, index)
        return self.parts[number], index - (self._ends[number - 1] if number else 0)

    def labels(self, index: int) -> Tensor:
        part, place = self.at(index)
        with naming_set(part.name, part.place):
            return part.of_model(part.dataset.labels(place))

    def sizes(self) -> list[tuple[int, int]]:
        return [size for part in self.parts for size in part.dataset.sizes()]

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr(self.class_names).encode())
        for part in self.parts:
            table = "" if part.table is None else part.table.tolist()
            digest.update(f"{part.prefix} {part.dataset.fingerprint()} {table}\n".encode())
        return digest.hexdigest()


def in_set(text: str, name: str, place: int | None) -> str:
    """A text about a `data` section, with the keys that it has as a further set, at `place` of data.also."""
    if place is None:
        return text
    return f"set {name}: " + OWN_KEY.sub(rf"data.also.{place}.\1", text)


@contextmanager
def naming_set(name: str, place: int | None) -> Iterator[None]:
    """Errors in the block say which set they are about, and name its keys."""
    try:
        yield
    except DataError as error:
        error.args = (in_set(str(error), name, place),)
        raise


def sets_of(section: Any) -> dict[str, Any]:
    """By name, a `data` section for each set of a recipe's alone, the first one first."""
    alone = {section.name: section.model_copy(update={"also": []})}
    shared = {name: getattr(section, name) for name in Data.model_fields if name not in ImageSet.model_fields}
    first_only: dict[str, Any] = {"also": [], "select": None, "unlabelled": None}
    for further in section.also:
        own = {name: getattr(further, name) for name in ImageSet.model_fields}
        alone[further.name] = Data.model_construct(**{**shared, **own, **first_only})
    return alone


def require_one_set(section: Any, what: str) -> None:
    """Raises DataError where a recipe has several sets, and `what` works on one."""
    if section.also:
        names = ", ".join(further.name for further in section.also)
        raise DataError(
            f"{what} works on one set. Type data.also=[] for {section.name} alone; for each of {names} "
            "write a recipe with that set alone."
        )


def scored_further(section: Any) -> dict[str, str]:
    """Of each set after the first that is scored: its name, and the split as `open_split` knows it."""
    return {
        further.name: f"{further.name}/{further.val}" for further in section.also if further.val is not None
    }


def told_of_sets(section: Any) -> str:
    """How the splits of several sets are named, for messages."""
    name = section.also[0].name
    names = ", ".join((section.name, *(further.name for further in section.also)))
    return (
        f"The sets are {names}: a split without the name of a set is of {section.name}, and {name}/<split> "
        f"is one of {name}."
    )


def joined(section: Any, opened: Mapping[str, Dataset], first: Dataset) -> SeveralSets:
    """Splits of several sets as one data set with the classes of the first.

    Args:
        section: a recipe's `data`.
        opened: a split by the name of its set.
        first: any split of the first set.

    Raises:
        DataError: a class map names a class that does not exist, or a class has no place.
    """
    parts, places = [], {further.name: place for place, further in enumerate(section.also)}
    for name, dataset in opened.items():
        place, table, prefix = places.get(name), None, ""
        if place is not None:
            prefix = f"{name}/"
            table = class_table(dataset, section.also[place].map or {}, first, f"data.also.{place}.map", name)
        parts.append(Part(name, place, prefix, dataset, table))
    return SeveralSets(parts, first)


def class_table(own: Dataset, class_map: Mapping[str, str], model: Dataset, key: str, name: str) -> Tensor:
    """(256,) uint8: the label id of the model for each label id of a set; what is void in it stays void.

    Args:
        own: a split of the set.
        class_map: `map` of its section.
        model: a split of the set that has the classes of the model.
        key, name: of the map and the set, for messages.

    Raises:
        DataError: all that is wrong with the map.
    """
    ids = {class_name: id for id, class_name in enumerate(model.class_names)} | {VOID: model.ignore_index}
    problems = [
        f"{key}: {_unknown(source, own.class_names, f'class of set {name}')}"
        for source in class_map
        if source not in own.class_names and source != REST
    ]
    problems += [
        f"{key}.{source}: {_unknown(target, ids, 'class of the model')}"
        for source, target in class_map.items()
        if target not in ids
    ]
    targets = {class_name: class_name for class_name in own.class_names if class_name in model.class_names}
    rest = class_map.get(REST) if REST not in own.class_names else None
    lacking = [c for c in own.class_names if c not in class_map and c not in targets]
    targets |= {**{c: rest for c in lacking if rest is not None}, **class_map}
    if lacking and rest is None:
        given = json.dumps(dict.fromkeys(lacking, VOID), ensure_ascii=False)
        problems.append(
            f"{key}: {quantity(len(lacking), 'class', 'classes')} of set {name} "
            f"{'is' if len(lacking) == 1 else 'are'} not among those of the model: "
            f"{first_few(lacking, 12)}. Say what each becomes, one of {', '.join(ids)}: "
            f"{shlex.quote(f'{key}={given}')}, or for all of them {key}.{REST}={VOID}"
        )
    if problems:
        raise DataError("\n".join(problems))
    table = torch.full((NUM_IDS,), model.ignore_index, dtype=torch.uint8)
    for id, class_name in enumerate(own.class_names):
        if id != own.ignore_index:
            table[id] = ids[targets[class_name]]
    return table


def _unknown(name: str, choices: Any, what: str) -> str:
    return f"{name!r} is no {what}.{did_you_mean(name, choices)} Choices: {', '.join(choices)}."


def shares_of_images(section: Any, train: Dataset) -> NDArray[np.float64] | None:
    """(N,): how often each image is drawn by the weights of the sets, with sum 1; None where they have none.

    Args:
        section: a recipe's `data`.
        train: its training split.
    """
    weights = {section.name: section.weight} | {further.name: further.weight for further in section.also}
    if not isinstance(train, SeveralSets) or section.weight is None:
        return None
    of_parts = [np.full(len(part.dataset), weights[part.name] / len(part.dataset)) for part in train.parts]
    shares = np.concatenate(of_parts)
    return np.asarray(shares / shares.sum())
