"""Which trained models may be shown the same images."""

import pytest

from engine.data.options import Data
from engine.run_folder import RunFolderError
from engine.scoring.trained import require_read_alike

RGB = ["red", "green", "blue"]


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("bands", None, 4),
        ("bands", RGB, RGB[::-1]),
        ("labels", "single", "multi"),
        ("range", "auto", [0, 4095]),
        ("range", [0, 4095], [0, 1023]),
    ],
)
def test_models_that_read_images_or_labels_otherwise_are_not_scored_together(key, one, other) -> None:
    first, second = (
        Data(**{"format": "folder", "classes": ["a", "b"], key: value}) for value in (one, other)
    )
    require_read_alike({"runs/a": first, "runs/b": first})
    with pytest.raises(RunFolderError, match=rf"runs/c .*runs/a.* data\.{key} is .*\n.* evaluate runs/c$"):
        require_read_alike({"runs/a": first, "runs/b": first, "runs/c": second})


def test_ways_to_write_the_same_input_are_the_same() -> None:
    same = [Data(), Data(bands=3), Data(bands=RGB), Data(normalisation={"mean": [0] * 3, "std": [9] * 3})]
    require_read_alike({str(number): section for number, section in enumerate(same)})
