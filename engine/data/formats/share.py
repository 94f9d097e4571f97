"""Two splits of one folder: `val_share` of the images, by a hash of their ids, are for data.val."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from engine.data.formats.files import Pair
from engine.data.sample import DataError
from engine.data.sequences import group_name
from engine.wording import quantity

USUAL = 0.2
MOST_OFF = 0.5  # of the usual number for val: where it is missed by more, another share is suggested
NUM_HASHES = 2**64


class EmptyShare(DataError):
    """A share leaves a split empty. share: one that does not; None where there is none."""

    def __init__(self, message: str, share: float | None):
        super().__init__(message)
        self.share = share


@dataclass(frozen=True)
class Side:
    """The images of one split.

    is_val: whether it is data.val. group: a pattern with one group; ids that agree in it are in the same
    split. section: of the recipe, for messages.
    """

    split: str
    is_val: bool
    share: float
    group: str | None
    section: str

    def has(self, id: str) -> bool:
        return in_val(id, self.share, self.group) == self.is_val

    def of(self, pairs: Sequence[Pair], where: Path) -> list[Pair]:
        """Those of the split among all images in a folder.

        Raises:
            EmptyShare: none is.
        """
        found = [pair for pair in pairs if self.has(pair.id)]
        if not found:
            raise self.empty([pair.id for pair in pairs], where)
        return found

    def empty(self, ids: Sequence[str], where: Path) -> EmptyShare:
        """What is raised where none of these ids of a folder is of the split."""
        share = fitting_share(ids, self.group)
        if len(ids) == 1:
            remedy = "Training takes one image at least, and scoring another one: add images."
        elif share is None:
            remedy = f"All of them are of the same group. Type {self.section}.group=null."
        else:
            remedy = f"Type {self.section}.val_share={share}."
        return EmptyShare(
            f"Split {self.split!r} is empty: the share took none of the "
            f"{quantity(len(ids), 'image')} in {where}. {remedy}",
            share,
        )


def side_of(split: str, shared: tuple[str, str], share: float, group: str | None, section: str) -> Side:
    """The images of `split`, which is one of the two in `shared`, train and val.

    Raises:
        DataError: it is neither.
    """
    train, val = shared
    if split not in shared:
        raise DataError(f"{section}.val_share makes two splits, {train} and {val}; there is no {split!r}.")
    if train == val:
        raise DataError(
            f"data.train and data.val are both {train!r}, and {section}.val_share makes two splits. "
            "Type data.train=train data.val=val."
        )
    return Side(split, split == val, share, group, section)


def in_val(id: str, share: float, group: str | None = None) -> bool:
    """Whether an id is for val: a pure function, so that adding images never moves others."""
    return _hash(id, group) < share * NUM_HASHES


def fitting_share(ids: Sequence[str], group: str | None) -> float | None:
    """The usual share; another one where by chance it takes far too many or too few of the ids.

    None where all ids are of one group, so that one of two splits is empty.
    """
    num_usual = USUAL * len(ids)
    num_val = sum(in_val(id, USUAL, group) for id in ids)
    if 0 < num_val < len(ids) and abs(num_val - num_usual) <= MOST_OFF * num_usual:
        return USUAL
    hashes = sorted({_hash(id, group) for id in ids})
    if len(hashes) < 2:
        return None
    last = max(1, round(USUAL * len(hashes)))
    return _between(hashes[last - 1], hashes[last])


def shares_with_all(
    ids: Sequence[str], wanted: Iterable[Sequence[str]], group: str | None
) -> Iterator[float]:
    """Shares with which some ids of each kind are for val, and others are not; the smallest one first.

    Args:
        ids: of both splits.
        wanted: the ids of each kind.

    Yields:
        One for each number of ids for val; none where the ids of a kind cannot be divided.
    """
    of_kinds = [[_hash(id, group) for id in own] for own in wanted]
    low, high = max(map(min, of_kinds)), min(map(max, of_kinds))
    for last, following in pairwise(sorted({_hash(id, group) for id in ids})):
        if low <= last and following <= high:
            yield _between(last, following)


def _between(low: int, high: int) -> float:
    """A share of few digits that takes the hashes up to `low`, and none from `high` on."""
    rounded = (round((low + high) / 2 / NUM_HASHES, digits) for digits in range(1, 18))
    return next(share for share in rounded if low < share * NUM_HASHES <= high)


def _hash(id: str, group: str | None) -> int:
    digest = hashlib.sha256(group_name(id, group).encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big")
