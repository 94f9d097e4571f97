"""The folds of a comparison: made from the training split, or the user's own lists; kept in <out>/folds."""

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.comparison.grid import CompareError
from engine.comparison.groups import GROUP_FILE, recipe_pattern
from engine.comparison.notes import scarce_classes
from engine.data import DataError, Dataset, open_split
from engine.data.class_counts import count_classes
from engine.data.folds import group_pattern, make_folds
from engine.data.formats import LIST_ENDINGS
from engine.data.ranges import with_range
from engine.data.sample import first_few, require_one_class_a_pixel
from engine.data.sequences import group_name
from engine.data.sets import require_one_set
from engine.data.subset import listed_ids
from engine.recipe import Recipe
from engine.run_folder import write_text
from engine.wording import quantity

NO_VAL = "held_out"  # data.val of the runs, where data.train is data.val


@dataclass(frozen=True)
class Wish:
    """What the user asked for: a number of folds, or lists of them; and a pattern of groups, if any."""

    number: int | None
    lists: list[Path]
    group: str | None


@dataclass(frozen=True)
class Folds:
    """ids: of each fold. notes: how they came about. group: the pattern of --group."""

    ids: list[list[str]]
    out: Path
    notes: list[str]
    group: str | None = None

    @property
    def paths(self) -> list[Path]:
        return [_folder(self.out) / f"fold_{number}.txt" for number in range(len(self.ids))]

    def write(self) -> None:
        """The list of each fold, for the recipes of its runs."""
        _folder(self.out).mkdir(parents=True, exist_ok=True)
        for path, ids in zip(self.paths, self.ids, strict=True):
            write_text(path, "".join(f"{id}\n" for id in ids))
        if self.group:
            write_text(_folder(self.out) / GROUP_FILE, f"{self.group}\n")


def _folder(out: Path) -> Path:
    return out.resolve() / "folds"


def wish_of(folds: str, more: Sequence[str], group: str | None) -> Wish:
    """What `--folds` says: a number, a list, a folder of lists, or a pattern of their names.

    Args:
        more: lists that the shell put after the first, from a pattern without quotes.

    Raises:
        CompareError: it is neither, or there are fewer than two folds.
    """
    if group is not None:
        _require_one_group(group)
    if folds.lstrip("-").isdecimal():
        if int(folds) < 2:
            raise CompareError(f"--folds {folds}: expected 2 folds or more.")
        if more:
            raise CompareError(f"--folds {folds} and {more[0]}: name a number or lists, not both.")
        return Wish(int(folds), [], group)
    typed = os.path.expanduser(folds)
    if os.path.isdir(typed):
        lists = [file for file in Path(typed).iterdir() if file.suffix in LIST_ENDINGS]
    else:
        lists = [Path(file) for file in (*glob.glob(typed), *more)]
    if len(lists) < 2:
        raise CompareError(
            f"--folds {folds}: found {quantity(len(lists), 'list')}, and each fold needs one. Type a number, "
            "such as --folds 5, or name 2 or more lists of images: their folder, or a pattern such as "
            "'lists/fold_*.txt'."
        )
    if group is not None:
        raise CompareError("--group is for a number of folds; lists say themselves what stays together.")
    return Wish(None, sorted(lists, key=lambda file: (len(file.name), str(file))), group)


def _require_one_group(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise CompareError(f"--group {pattern} is no regular expression: {error}.") from None
    if groups != 1:
        raise CompareError(
            rf"--group {pattern}: expected one group in parentheses, as in --group '(.+)_\d+'."
        )


def folds_of(
    recipes: Sequence[Recipe], wish: Wish, out: Path, progress: Callable[[int, int], None]
) -> tuple[list[Recipe], Folds]:
    """The recipes as the runs of all folds share them, and the folds of their training split.

    Folds of an earlier start of the same comparison are taken as they are.

    Raises:
        CompareError: the recipes have different training images, or the folds cannot be made.
        DataError: the training split cannot be opened, or a list names other images.
    """
    if fixed := next((recipe for recipe in recipes if recipe.data.fold is not None), None):
        raise CompareError(f"{fixed.name} has data.fold, which --folds sets. Leave it out of the recipe.")
    for recipe in recipes:
        require_one_set(recipe.data, "--folds")
        require_one_class_a_pixel(recipe.data, "--folds", "Compare the recipes with --seeds.")
    trains = [open_split(recipe.data, recipe.data.train) for recipe in recipes]
    first, train = recipes[0], trains[0]
    for recipe, other in zip(recipes, trains, strict=True):
        if other.ids != train.ids:
            raise CompareError(
                f"{recipe.name} and {first.name} have different images in data.train, so they have no folds "
                "in common. Compare recipes of one training split."
            )
    folds = _earlier(wish, train, first.data.train, out)
    if folds is None and wish.number:
        pattern = wish.group or recipe_pattern(first) or group_pattern(train.ids)
        folds = _new(wish.number, train, first.data.train, out, pattern, progress)
    elif folds is None:
        folds = _listed(wish.lists, train, first.data.train, out)
    held = [_about_held_out(recipe) for recipe in recipes]
    notes = [*folds.notes, *dict.fromkeys(held)]
    shared = [_for_folds(recipe, other) for recipe, other in zip(recipes, trains, strict=True)]
    return shared, Folds(folds.ids, out, notes, wish.group)


def open_held_out(recipe: Recipe) -> Dataset | str:
    """The recipe's own val split, which no fold sees; or why there is none."""
    data = recipe.data
    if data.val in (data.train, NO_VAL):
        return "data.val is data.train"
    try:
        return open_split(data.model_copy(update={"fold": None}), data.val)
    except DataError as error:
        return str(error)


def _about_held_out(recipe: Recipe) -> str:
    held = open_held_out(recipe)
    if isinstance(held, str):
        return f"no held-out split, so the ensembles over the folds are not scored: {held}"
    return (
        f"held out: {recipe.data.val}, {quantity(len(held), 'image')}, which no fold uses; the ensembles "
        "over the folds are scored on them"
    )


def _for_folds(recipe: Recipe, train: Dataset) -> Recipe:
    """With one range of pixel values for all folds, and checkpoints that are selected on the fold."""
    data = with_range(recipe.data, train)
    select = None if data.select in (data.val, data.train) else data.select
    val = NO_VAL if data.val == data.train else data.val
    return recipe.model_copy(update={"data": data.model_copy(update={"select": select, "val": val})})


def _earlier(wish: Wish, train: Dataset, split: str, out: Path) -> Folds | None:
    """The folds of an earlier start; None where there was none.

    Raises:
        CompareError: they are not those that are asked for now.
    """
    paths = sorted(_folder(out).glob("fold_*.txt"), key=lambda file: (len(file.name), file.name))
    if not paths:
        return None
    another = f"{_folder(out)} has the folds of an earlier comparison, and"
    if wish.number and wish.number != len(paths):
        raise CompareError(
            f"{another} these are {len(paths)}. Type --folds {len(paths)} to go on with them, or another "
            "--out."
        )
    try:
        ids = [listed_ids(path, train.ids, split) for path in paths]
    except DataError as error:
        raise CompareError(f"{another} not of the images of today: {error} Type another --out.") from None
    if wish.lists and ids != _listed(wish.lists, train, split, out).ids:
        raise CompareError(f"{another} they are not those of --folds. Type another --out.")
    if wish.number and sorted(id for fold in ids for id in fold) != sorted(train.ids):
        raise CompareError(f"{another} they are not all images of split {split!r}. Type another --out.")
    if wish.group and (torn := _torn(ids, wish.group)):
        raise CompareError(
            f"{another} they divide groups of --group, such as {torn[0]}. Leave --group out, or type another "
            "--out."
        )
    return Folds(ids, out, [f"the {len(ids)} folds of {_folder(out)}: {_sizes(ids)} images"])


def _torn(ids: Sequence[Sequence[str]], pattern: str) -> list[str]:
    """The groups that are in several folds."""
    names = [name for fold in ids for name in {group_name(id, pattern) for id in fold}]
    return [name for name, uses in Counter(names).items() if uses > 1]


def _new(
    number: int,
    train: Dataset,
    split: str,
    out: Path,
    pattern: str | None,
    progress: Callable[[int, int], None],
) -> Folds:
    num_images, num_groups = len(train), len({group_name(id, pattern) for id in train.ids})
    if num_images < number:
        raise CompareError(
            f"--folds {number}: split {split!r} has {quantity(num_images, 'image')}, and each fold needs one "
            "or more. Type a smaller number."
        )
    if pattern and not any(re.search(pattern, id) for id in train.ids):
        raise CompareError(
            f"The pattern of groups {pattern} fits none of the {quantity(num_images, 'image')} of split "
            f"{split!r}, such as {train.ids[0]}. Correct it, or type --group '(.+)' to take each image alone."
        )
    if num_groups < number:
        raise CompareError(
            f"--folds {number}: the images of split {split!r} are {quantity(num_groups, 'group')} by the "
            f"pattern {pattern}, and each fold needs one or more. Type a smaller number, or --group '(.+)' "
            "to take each image alone."
        )
    pixels = count_classes(train, progress).pixels
    ids = make_folds(train.ids, pixels, number, pattern)
    notes = [f"{number} folds of {split}, {quantity(num_images, 'image')}: {_sizes(ids)} images"]
    if num_groups < num_images:
        notes.append(
            f"{quantity(num_groups, 'group')} of images by the pattern {pattern}, each in one fold; "
            "--group '(.+)' takes each image alone"
        )
    return Folds(ids, out, notes + scarce_classes(train.class_names, (pixels > 0).sum(axis=0), number))


def _listed(lists: Sequence[Path], train: Dataset, split: str, out: Path) -> Folds:
    ids = [listed_ids(path, train.ids, split) for path in lists]
    of_image: dict[str, Path] = {}
    for path, fold in zip(lists, ids, strict=True):
        if twice := [id for id in fold if id in of_image]:
            raise CompareError(
                f"{path} and {of_image[twice[0]]} both name {first_few(twice)}. Keep each image in one list."
            )
        of_image |= dict.fromkeys(fold, path)
    notes = [f"{len(ids)} folds of {split}, as listed: {_sizes(ids)} images"]
    if rest := len(train) - len(of_image):
        notes.append(f"{quantity(rest, 'image')} of {split} in no list: every fold is trained on them")
    return Folds(ids, out, notes)


def _sizes(ids: Sequence[Sequence[str]]) -> str:
    return ", ".join(str(len(fold)) for fold in ids)
