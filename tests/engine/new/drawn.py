"""Images and masks that are drawn below data/, and `trident new` on them."""

import re
import shlex
from pathlib import Path

import numpy as np

from engine.data import open_split
from engine.new import main
from engine.recipe import Recipe, load_recipe
from tests.drawn_sets import save

H, W = 80, 96
COLOURS = np.array([[0, 0, 0], [200, 30, 30], [30, 30, 200]], np.uint8)


def labels_of(number: int) -> np.ndarray:
    labels = np.zeros((H, W), np.uint8)
    labels[20 + number : 50, 20:60], labels[55:75, 60:90] = 1, 2
    return labels


def draw(images: str, masks: str, numbers: range, change=lambda labels: labels) -> None:
    """Pairs below data/; `{}` in a name is the number."""
    noise = np.random.default_rng(0)
    for number in numbers:
        labels = labels_of(number)
        photo = labels[..., None] * 90 + noise.integers(0, 60, (H, W, 3))
        save(Path("data", images.format(number)), photo.astype(np.uint8))
        save(Path("data", masks.format(number)), change(labels))


def write(path: str, text: str, encoding: str = "utf-8") -> None:
    Path("data", path).parent.mkdir(parents=True, exist_ok=True)
    Path("data", path).write_text(text, encoding)


def new_recipe(*more: str, exit_code: int = 0) -> Recipe:
    assert main(["data", *more]) == exit_code
    return load_recipe("data.yaml")


def require_labels(recipe: Recipe, num_train: int, num_val: int) -> None:
    """The recipe opens, and the masks are those that were drawn."""
    train, val = (open_split(recipe.data, split) for split in (recipe.data.train, recipe.data.val))
    assert (len(train), len(val)) == (num_train, num_val)
    for dataset in (train, val):
        for index, id in enumerate(dataset.ids):
            number = int("".join(filter(str.isdigit, Path(id).name or id)) or 0)
            assert (dataset.labels(index).numpy() == labels_of(number)).all(), id


def two_splits(
    images: str, masks: str, train: str = "train", val: str = "val", change=lambda labels: labels
) -> None:
    for split, numbers in ((train, range(3)), (val, range(3, 5))):
        draw(images.replace("SPLIT", split), masks.replace("SPLIT", split), numbers, change)


def photo(labels: np.ndarray) -> np.ndarray:
    return np.random.default_rng(int(labels.sum())).integers(0, 256, (H, W, 3), dtype=np.uint8)


def printed(out: str, start: str) -> list[str]:
    """The last command in what was printed that begins like this, in words, without its first two."""
    return shlex.split(re.findall(rf"({start} .*)", out)[-1])[2:]
