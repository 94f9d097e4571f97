"""Which class each category of a COCO file is: by its name, in COCO's or VOC's spelling."""

import json
import shlex
import unicodedata
from pathlib import Path
from typing import Any

from engine.data.sample import DataError, first_few
from engine.wording import did_you_mean

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
        DataError: a class other than the first is no category; or the first one is, and is no background.
    """
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


def is_background(name: str) -> bool:
    """Whether a category is what converters list for the pixels of no object, such as _background_."""
    return _plain(name) == "background"


def _plain(name: str) -> str:
    """Without letter case and signs, and in VOC's spelling, to compare category names."""
    plain = "".join(filter(str.isalnum, unicodedata.normalize("NFC", name).lower()))
    return AS_VOC.get(plain, plain)
