"""From a recipe's `data` section to one split, of any format. Torch is imported only by its opener."""

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from engine.components import ComponentError, import_component, is_import_path
from engine.data.bands import band_names, ranges_of
from engine.data.formats import CLASS_TABLES, format_of
from engine.data.sample import DataError, Dataset, Palette, Sample, Skipped

__all__ = ["DataError", "Dataset", "Palette", "Sample", "class_names_of", "open_split"]

INTERFACE = (  # of a Dataset; open_split sets `skipped`, `bands`, and `value_range` of a FileDataset
    "ids", "class_names", "palette", "ignore_index",
    "__len__", "__getitem__", "labels", "sizes", "fingerprint",
)  # fmt: skip


def class_names_of(section: Any) -> tuple[str, ...]:
    """The class names by label id: a named table, or the list that the recipe holds."""
    if isinstance(section.classes, str):
        names: tuple[str, ...] = resolve_name(CLASS_TABLES[section.classes])
        return names
    return tuple(item if isinstance(item, str) else item.name for item in section.classes)


def open_split(section: Any, split: str) -> Dataset:
    """One split of the data that `section` (a recipe's `data`) names.

    Of several sets, `data.train` is the training images of all together, `<name of a set>/<split>` is a split
    of one of them, and any other name a split of the first.
    With `data.fold`, train and val are two parts of `data.train`.

    Raises:
        DataError: no root, no such split, missing files, files or folders that may not be read; or a
            data.format that cannot be imported or does not return a `Dataset`; or a class of a further set
            that has no place among those of the first.
    """
    if not section.also:
        return _open_alone(section, split)
    from engine.data.sets import joined, naming_set, sets_of, told_of_sets

    sets = sets_of(section)
    name, _, own = split.partition("/")
    if split == section.train:
        wanted = {key: one.train for key, one in sets.items() if one.train is not None}
    elif own and name in sets:
        wanted = {name: own}
    else:
        wanted = {section.name: split}
    places = dict(zip(sets, [None, *range(len(section.also))], strict=True))
    opened = {}
    for of_set, split_of_set in wanted.items():
        try:
            with naming_set(of_set, places[of_set]):
                opened[of_set] = _open_alone(sets[of_set], split_of_set)
        except DataError as error:
            if split not in (section.train, section.val, section.select):
                error.args = (f"{error} {told_of_sets(section)}",)
            raise
    if [*opened] == [section.name]:
        return opened[section.name]
    first = opened.get(section.name) or _open_alone(sets[section.name], section.train)
    return joined(section, opened, first)


def _open_alone(section: Any, split: str) -> Dataset:
    """A split of a `data` section with a single set."""
    if section.fold is None or split not in (section.train, section.val):
        return _open(section, split)
    from engine.data.subset import fold_of

    train = _open(section, section.train)
    return fold_of(train, Path(section.fold), section.train, is_held_out=split == section.val)


def _open(section: Any, split: str) -> Dataset:
    opener = _opener(section.format)
    of_several = ("name", "weight", "also")
    offered = {
        **{name: value for name, value in vars(section).items() if name not in of_several},
        "split": split,
        "class_names": class_names_of(section),
        "palette": _colours(section.classes),
    }
    parameters = inspect.signature(opener).parameters
    if "root" in parameters and section.root is None:
        raise DataError("data.root is not set. Add data.root=<the folder of your data> to the command.")
    missing = [name for name, it in parameters.items() if name not in offered and _is_required(it)]
    if missing:
        raise DataError(f"data.format: {section.format} needs {', '.join(missing)} in the data section.")
    if is_import_path(section.format):
        _require_taken(section.format, offered, parameters)
    try:
        dataset = opener(**{name: offered[name] for name in parameters if name in offered})
    except OSError as error:
        denied = isinstance(error, PermissionError)
        hint = f" Type chmod -R u+rX {error.filename}, or ask its owner." if denied else ""
        if isinstance(error, NotADirectoryError) and "/" in split:
            hint = f" {split} is a path; give the name of a split, such as train or val."
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.{hint}") from error
    except Exception as error:
        if not is_import_path(section.format) or getattr(error, "exit_code", None):
            raise
        raise DataError(
            f"data.format: {section.format} failed to open split {split!r} with {type(error).__name__}: "
            f"{error}. --debug shows where."
        ) from error
    _require_data_set(dataset, section.format, split)
    dataset.skipped = Skipped() if section.on_error == "skip" else None
    dataset.bands = band_names(section.bands)
    if section.range != "auto" and hasattr(dataset, "value_range"):
        dataset.value_range = ranges_of(section)
    return dataset


def _require_taken(format: str, offered: Mapping[str, Any], parameters: Collection[str]) -> None:
    """Raises DataError for a key that is given, and that an opener from outside has no parameter for."""
    for name, key, remedy in (
        ("polygons", "data.polygons", "Type data.polygons=null"),
        ("palette", "the colours in data.classes", "Give the names of the classes alone"),
    ):
        if offered[name] is not None and name not in parameters:
            raise DataError(
                f"{key}: {format} has no parameter {name}, so this would have no effect. {remedy}, or give "
                "the function that parameter."
            )


def _require_data_set(dataset: Any, format: str, split: str) -> None:
    """Raises DataError where what an opener returned is no data set, is empty, or repeats ids."""
    lacking = [name for name in INTERFACE if not hasattr(dataset, name)]
    if lacking:
        raise DataError(
            f"data.format: {format} returned a {type(dataset).__name__}, which lacks "
            f"{', '.join(lacking)}. Return an engine.data.formats.files.FileDataset, or a "
            "class with everything that engine.data.sample.Dataset declares."
        )
    if not len(dataset):
        raise DataError(
            f"Split {split!r} is empty: data.format={format} found no image in it. Name another one "
            "with data.train, data.val or data.select."
        )
    if is_import_path(format) and len({*dataset.ids}) < len(dataset):
        raise DataError(
            f"data.format: in split {split!r} of {format}, several images have the id "
            f"{next(id for id, uses in Counter(dataset.ids).items() if uses > 1)!r}. Give each one of "
            "its own: scores are kept by id."
        )


def _is_required(parameter: inspect.Parameter) -> bool:
    var = (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and parameter.kind not in var


def _colours(classes: Any) -> Palette | None:
    """The colours by label id, where data.classes gives them."""
    if isinstance(classes, str) or not classes or isinstance(classes[0], str):
        return None
    return tuple((r, g, b) for r, g, b in (item.colour for item in classes))


def _opener(name: str) -> Callable[..., Dataset]:
    try:
        return import_component(format_of(name).opener)
    except ComponentError as error:
        raise DataError(f"data.format: {error}. Type package.module:function of your own opener.") from error
