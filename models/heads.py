"""A classifier that starts from another one: each row from the class of the same name.

Knows nothing of files and layouts.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from models.class_names import known_set, matching_rows
from models.load_report import ClassReport

CLASSIFIERS = ("head.classifier.", "segmentation_head.")  # their first dimension is the class


def rows_by_name(
    own: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    here: Sequence[str],
    there: Sequence[str] | None,
) -> tuple[dict[str, Tensor], ClassReport | None]:
    """The model's classifier with the rows of `found` whose classes it has too.

    Args:
        own: the model's state dict, freshly initialised.
        found: loaded tensors under the model's names.
        here, there: class names of both. Where nothing says those of the file, a classifier of another size
            is taken for that of the one well-known data set that has so many classes, if there is one.

    Returns:
        The tensors and what was moved; nothing and None where there is nothing to move, because the classes
        are unknown or the same.
    """
    keys = [key for key in own if key.startswith(CLASSIFIERS) and key in found]
    if not keys or not here or any(own[key].shape[1:] != found[key].shape[1:] for key in keys):
        return {}, None
    num_there, source = len(found[keys[0]]), "the file's own list"
    if there is None and num_there != len(here) and (known := known_set(num_there)):
        source, there = f"{known[0]}, by their number", known[1]
    if there is None or len(there) != num_there or tuple(there) == tuple(here):
        return {}, None
    pairs = [(row, old) for row, old in enumerate(matching_rows(here, there)) if old is not None]
    rows, old_rows = [row for row, _ in pairs], [old for _, old in pairs]
    tensors = {key: own[key].clone() for key in keys}
    for key, tensor in tensors.items():
        tensor[rows] = found[key][old_rows].to(tensor)
    moved = {here[row]: there[old] for row, old in pairs}
    return tensors, ClassReport(source, moved, [name for name in here if name not in moved])
