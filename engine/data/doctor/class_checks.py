"""Checks of the classes and their frequencies: train against the splits that are scored."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.data.doctor.division import made_alike, with_all_classes
from engine.data.doctor.findings import HURTS, NOTE, DataFinding, finding
from engine.data.doctor.meaning import Meaning
from engine.data.doctor.scan import Facts
from engine.data.rare_classes import RARE_SHARE
from engine.data.sample import first_few
from engine.wording import quantity

DIVERGENCE = 0.05  # bits; two classes at 50:50 against 25:75 are 0.049 apart
NUM_WORST = 5
NUM_CLASSES = 10  # named in a sentence


class CountsBySplit:
    """pixels, masks: split -> (C,) labelled pixels of each class, and masks that contain it."""

    def __init__(self, facts: Facts, meaning: Meaning):
        num_classes, e = len(facts.listing.class_names), facts.entries
        self.labels = meaning.labels
        self.pixels: dict[str, NDArray[np.int64]] = {}
        self.masks: dict[str, NDArray[np.int64]] = {}
        for split, indices in facts.listing.splits.items():
            own = np.isin(e["file"], indices)
            is_class = own & (meaning.labels >= 0) & (meaning.labels != facts.listing.ignore_index)
            labels, count = meaning.labels[is_class], e["count"][is_class]
            pixels = np.zeros(num_classes, np.int64)
            np.add.at(pixels, labels, count)  # not bincount: its float weights lose counts above 2**53
            pairs = np.unique(np.stack([e["file"][is_class], labels]), axis=1)
            self.pixels[split] = pixels
            self.masks[split] = np.bincount(pairs[1], minlength=num_classes)

    def share(self, split: str) -> NDArray[np.float64]:
        """(C,) of the labelled pixels of a split; zeros where it has none."""
        pixels = self.pixels[split]
        return np.asarray(pixels / max(1, pixels.sum()))


def check_classes(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Every finding about classes; only for masks whose values match the recipe."""
    counts, listing = CountsBySplit(facts, meaning), facts.listing
    if listing.train in counts.pixels:
        yield from presence(facts, counts)
        yield from rare(facts, counts.share(listing.train))
        for split in listing.scored:
            if split in counts.pixels and split != listing.train:
                remedy = made_alike(listing.section, split)
                yield from drift(listing.class_names, counts, listing.train, split, remedy)


def presence(facts: Facts, counts: CountsBySplit) -> Iterator[DataFinding]:
    """Classes that no split has, that only a scored split has, or that only train has."""
    names, train = facts.listing.class_names, facts.listing.train
    in_train = counts.pixels[train] > 0
    scored = [s for s in facts.listing.scored if s in counts.pixels and s != train]
    in_scored = np.any([counts.pixels[split] > 0 for split in scored], axis=0) if scored else in_train
    where = " and ".join(scored)
    by_share = None
    if (in_scored != in_train).any():
        by_share = _by_share(facts, counts, np.flatnonzero(in_scored | in_train))
    if (unseen := in_scored & ~in_train).any():
        found = _names_of(names, unseen)
        files = [i for c in np.flatnonzero(unseen) for i in _masks_with(facts, counts, int(c), scored)]
        by_hand = f"Move images with them from {where} to {train}, or take those images out of {where}."
        yield finding(
            "never_trained",
            HURTS,
            f"{_counted(found)}: in {where}, but in no mask of {train}",
            "The model never sees these classes; their IoU is 0 and lowers the mean.",
            by_share or by_hand,
            facts.listing.names(files),
            found,
        )
    unscored = in_train & ~in_scored
    if found := _names_of(names, unscored):
        by_hand = f"Move some images with them from {train} to {where}."
        yield finding(
            "never_scored",
            NOTE,
            f"{_counted(found)}: in {train}, but in no mask of {where}",
            f"They are learned, but {where} {'do' if len(scored) > 1 else 'does'} not measure how well.",
            by_share or by_hand,
            classes=found,
        )
    if in_train.sum() == 1 < len(names):
        [only] = _names_of(names, in_train)
        yield finding(
            "one_class",
            HURTS,
            f"{only} is the only class in the masks of {train}",
            "There is nothing to learn: a model that predicts it everywhere is right.",
            _remedy_for_one_class(facts),
            classes=[only],
        )
    absent = ~in_train & ~in_scored
    if found := _names_of(names, absent):
        first = " Class 0 is among them: check whether ids start at 1." if absent[0] else ""
        yield finding(
            "absent_classes",
            NOTE,
            f"{_counted(found)}: in the class table, but in no mask",
            "This mIoU cannot be compared with one over all classes: a class that the model predicts nowhere "
            f"is left out of the mean, and one that it predicts somewhere counts with an IoU of 0.{first}",
            "Nothing, if a pretrained head or a fixed table needs them; otherwise "
            "data.classes=[those present], with masks of the new ids.",
            classes=found,
        )


def _remedy_for_one_class(facts: Facts) -> str:
    if any(form.endswith(("x2", "x4")) for form in facts.forms):
        return "The masks have transparency, which is not read. Where it holds the labels, save that."
    return "Look at the masks: others may be meant, or their values mean something else (docs/data.md)."


def rare(facts: Facts, share: NDArray[np.float64]) -> Iterator[DataFinding]:
    """Classes that are present, but with less than 1 % of the labelled pixels of train."""
    listing = facts.listing
    few = np.flatnonzero((share > 0) & (share < RARE_SHARE))
    if len(few):
        few = few[np.argsort(share[few])]
        rare_names = [listing.class_names[int(c)] for c in few]
        shares = [f"{name} {_percent(share[c])}" for name, c in zip(rare_names, few, strict=True)]
        listed = first_few(shares, NUM_CLASSES)
        sampling = (
            "data.sampler=rare draws their images more often; "
            if listing.section.sampler == "uniform"
            else "data.sampler already draws their images more often; "
        )
        yield finding(
            "rare_classes",
            HURTS,
            f"under {_percent(RARE_SHARE)} of the labelled pixels of {listing.train}: {listed}",
            "The loss is a mean over pixels, so these classes hardly count: they are learned late or never.",
            f"{sampling}augment.crop_on=rare, if the recipe does not have it yet, puts crops where they are.",
            classes=rare_names,
        )


def drift(
    names: Sequence[str], counts: CountsBySplit, train: str, split: str, remedy: str
) -> Iterator[DataFinding]:
    """A scored split whose class shares differ from those of train."""
    p, q = counts.share(train), counts.share(split)
    distance = jensen_shannon(p, q)
    if distance > DIVERGENCE and p.any() and q.any():
        worst = np.argsort(-np.abs(p - q), kind="stable")[:NUM_WORST]
        listed = ", ".join(f"{names[c]} {_percent(p[c])} / {_percent(q[c])}" for c in worst if p[c] != q[c])
        yield finding(
            "class_shares",
            HURTS,
            f"class shares of {train} / {split} are {distance:.3f} bits apart (Jensen-Shannon; above "
            f"{DIVERGENCE}): {listed}",
            "The model expects the class frequencies of train, and is scored on others.",
            f"{remedy}; or keep it, if {split} is what counts.",
        )


def jensen_shannon(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Divergence of two distributions in bits: 0 where they are equal, 1 where they share no class.

    Lin, Divergence measures based on the Shannon entropy, 1991.
    """
    middle = (p + q) / 2

    def relative_entropy(a: NDArray[np.float64]) -> float:
        there = a > 0
        return float((a[there] * np.log2(a[there] / middle[there])).sum())

    return max(0.0, (relative_entropy(p) + relative_entropy(q)) / 2)


def _masks_with(
    facts: Facts, counts: CountsBySplit, class_id: int, splits: Sequence[str]
) -> NDArray[np.int64]:
    """The samples of these splits that have a class."""
    own = np.isin(facts.entries["file"], np.concatenate([facts.listing.splits[split] for split in splits]))
    return np.unique(facts.entries["file"][own & (counts.labels == class_id)])


def _by_share(facts: Facts, counts: CountsBySplit, classes: NDArray[np.int64]) -> str | None:
    listing = facts.listing
    ids, splits = [sample.id for sample in listing.samples], [*counts.pixels]
    wanted = ([ids[i] for i in _masks_with(facts, counts, int(c), splits)] for c in classes)
    return with_all_classes(listing.section, ids, wanted)


def _names_of(names: Sequence[str], which: NDArray[np.bool_]) -> list[str]:
    return [names[int(c)] for c in np.flatnonzero(which)]


def _counted(names: Sequence[str]) -> str:
    return f"{quantity(len(names), 'class', 'classes')} ({first_few(names, NUM_CLASSES)})"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
