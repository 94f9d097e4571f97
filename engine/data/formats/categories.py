"""Which class each category of a COCO file is: by its name, in COCO's or VOC's spelling."""

import json
import shlex
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.data.sample import DataError, first_few
from engine.wording import did_you_mean, some_of

# VOC's names of COCO's categories, where they differ in more than spaces, and that of the background
AS_VOC = {
    "airplane": "aeroplane", "motorcycle": "motorbike", "couch": "sofa", "tv": "tvmonitor",
    "bg": "background",
}  # fmt: skip


def labels_of_categories(
    categories: list[dict[str, Any]], class_names: tuple[str, ...], source: Path
) -> dict[str, int]:
    """Label ids by category id, as text.

    Raises:
        DataError: a class other than the first is no category; or the first one is, and is no background; or
            an id is that of two categories.
    """
    ids, names = ([str(category[key]) for category in categories] for key in ("id", "name"))
    require_ids_once("category", ids, names, source)
    there = {str(category["id"]): str(category["name"]) for category in categories}
    exact = {name: label for label, name in enumerate(class_names)}
    forms = {label: _plain(name) for label, name in enumerate(class_names) if name not in there.values()}
    by_form = {form: label for label, form in forms.items() if [*forms.values()].count(form) == 1}
    if not there:
        raise DataError(f"{source} lists no categories. Export it again, with the names of the classes.")
    found = {id: exact.get(name, by_form.get(_plain(name))) for id, name in there.items()}
    labels = {id: label for id, label in found.items() if label is not None}
    if 0 in labels.values() and not is_background(class_names[0]):
        named = ["background", *(name for name in class_names if not is_background(name))]
        raise DataError(
            f"data.classes begins with {class_names[0]}, a category of {source}, but the first class is the "
            f"background. Type {shlex.quote(f'data.classes={json.dumps(named, ensure_ascii=False)}')}."
        )
    missing = [name for label, name in enumerate(class_names) if label and label not in labels.values()]
    if missing:
        raise DataError(
            f"data.classes: {source} has no category {first_few(missing)}. "
            f"It has {first_few([*there.values()], 90)}.{did_you_mean(missing[0], there.values())}"
        )
    return labels


def require_ids_once(what: str, ids: Sequence[str], names: Sequence[str], source: Path) -> None:
    """Raises DataError where an id has several names, as in files that were joined."""
    by_id: dict[str, list[str]] = {}
    for id, name in zip(ids, names, strict=True):
        if name not in by_id.setdefault(id, []):
            by_id[id].append(name)
    twice = [f"{id} ({' and '.join(of_id[:2])})" for id, of_id in by_id.items() if len(of_id) > 1]
    if twice:
        raise DataError(
            f"{source}: {some_of(len(twice), len(by_id), f'{what} id', 'is that', 'are those')} of several: "
            f"{first_few(twice)}. Which of them an object belongs to cannot be known. Files that are joined "
            "need new ids first."
        )


def is_background(name: str) -> bool:
    """Whether a category is what converters list for the pixels of no object, such as _background_."""
    return _plain(name) == "background"


def _plain(name: str) -> str:
    """Without letter case and signs, and in VOC's spelling, to compare category names."""
    plain = "".join(filter(str.isalnum, unicodedata.normalize("NFC", name).lower()))
    return AS_VOC.get(plain, plain)
