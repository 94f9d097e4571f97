"""Input that could be waited for without end, or that grows while it is read: an error within seconds."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.data.formats.bands import decode_mask
from engine.data.formats.images import decode_image, read_header
from engine.data.formats.listing import ids_in_list
from engine.data.formats.voc import open_voc
from engine.data.packs.packed import require_whole
from engine.data.sample import DataError
from engine.recipe import RecipeError, load_recipe

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.fixture(autouse=True)
def within_seconds():
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("read", [decode_image, decode_mask, read_header, ids_in_list])
def test_a_pipe_is_no_image_and_no_list(tmp_path: Path, read) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero"), tmp_path):
        with pytest.raises(DataError, match="a folder, a pipe or a device"):
            read(path)


def test_a_pipe_in_a_split(voc_folder: Path) -> None:
    dataset = open_voc(voc_folder, "train")
    for path in (dataset.mask_path(0), dataset.image_path(1)):
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(DataError, match="a pipe"):
        dataset.fingerprint()
    for index in (0, 1):
        with pytest.raises(DataError, match="a pipe"):
            dataset[index]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "aliases .* multiply"),
        ("data: " + "[" * 20_000, "nested too deeply"),
        ("data: " + "[" * 20_000 + "]" * 20_000, "nested too deeply"),
        ("data: " + "{a: " * 900 + "1" + "}" * 900, "nested too deeply"),
        ("data: " + "[" * 101 + "]" * 101, "nested too deeply"),  # before the time grows with its square
        ("data: " + "[" * 100 + "]" * 100, "data .*expected"),
    ],
)
def test_a_recipe_that_grows_or_nests(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(RecipeError, match=said):
        load_recipe(tmp_path / "mine.yaml")


def test_a_pipe_is_no_recipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mine.yaml")
    with pytest.raises(RecipeError, match="a pipe"):
        load_recipe(tmp_path / "mine.yaml")


@pytest.mark.parametrize("number", [10**9, 0, 1.5, "2"])
def test_a_pack_that_claims_an_impossible_number_of_files(tmp_path: Path, number) -> None:
    shard = SimpleNamespace(path=tmp_path / "a.h5", header=SimpleNamespace(num_shards=number))
    with pytest.raises(DataError, match=rf"a\.h5 is damaged: .* has {number} files"):
        require_whole(tmp_path / "a.h5", [shard])
