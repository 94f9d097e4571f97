"""Which trained models may be shown the same images."""

import pytest
import torch

from engine.data.options import Data
from engine.run_folder import RunFolderError
from engine.scoring.trained import devices_of_members, require_read_alike

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


@pytest.mark.parametrize(
    ("device", "num_gpus", "expected"),
    [
        ("cuda", 3, ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]),
        ("cuda", 1, ["cuda:0"] * 4),
        ("cuda:1", 3, ["cuda:1"] * 4),
        ("cpu", 0, ["cpu"] * 4),
    ],
)
def test_members_of_an_ensemble_share_the_gpus(device, num_gpus, expected, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    assert [str(found) for found in devices_of_members(torch.device(device), 4)] == expected
