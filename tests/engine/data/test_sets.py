"""Several sets as one data set: their splits, labels by class maps, mistakes in maps, weights."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.data import DataError, open_split
from engine.data.class_counts import ClassCounts, count_classes
from engine.data.mixing import Mixing
from engine.data.options import Augment, Data
from engine.data.overlap import shared_images
from engine.data.packs.pack import write_pack
from engine.data.ranges import with_range
from engine.data.sample import UnreadableSample
from engine.data.sets import SeveralSets, scored_further, shares_of_images
from engine.data.windows import open_sample
from engine.recipe import Recipe, load_recipe
from engine.training.imbalance import training_order
from models.class_names import VOC
from tests.drawn_sets import SIDE, drawn, folder_set, save, three_sets, voc_set


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(three_sets(tmp_path))
    return path


def loaded(path: Path, *overrides: str) -> Recipe:
    return load_recipe(path, overrides)


def opened(path: Path, *overrides: str) -> SeveralSets:
    data = loaded(path, *overrides).data
    train = open_split(data, data.train)
    assert isinstance(train, SeveralSets)
    return train


def test_the_training_images_are_those_of_all_sets_with_the_classes_of_the_first(recipe: Path) -> None:
    train = opened(recipe)
    assert train.class_names == ("background", "cat", "sofa")
    assert len(train) == len(train.ids) == len({*train.ids}) == len(train.sizes()) == 6 + 4 + 5
    assert [train.ids[i] for i in (0, 6, 10)] == ["000000", "coco/1000", "lorries/2000"]
    couch = train[train.ids.index("coco/1001")]
    assert torch.equal(couch.labels, torch.from_numpy(drawn(1001, "sofa")[1] * np.uint8(2)))
    lorry = train.labels(train.ids.index("lorries/2000"))
    _, inside = drawn(2000, "lorry")
    expected = np.where(inside, 255, 0)
    expected[0] = 255  # void of that set, 7, is void of the model
    assert torch.equal(lorry, torch.from_numpy(expected.astype(np.uint8)))
    assert torch.equal(lorry, train[train.ids.index("lorries/2000")].labels)


def test_each_split_of_a_set_can_be_opened_by_its_name(recipe: Path) -> None:
    data = loaded(recipe).data
    assert scored_further(data) == {"coco": "coco/val", "lorries": "lorries/val"}
    assert open_split(data, "val").ids == open_split(data, "voc/val").ids == ["000100", "000101", "000102"]
    assert open_split(data, "coco/val").ids == ["coco/1100", "coco/1101"]
    assert open_split(data, "voc/train").ids == [f"{n:06d}" for n in range(6)]
    with pytest.raises(DataError, match="test"):
        open_split(data, "lorries/test")
    for split in ("nope", "nope/val", "lorries/nope"):
        with pytest.raises(DataError, match="The sets are voc, coco, lorries: a split without the name"):
            open_split(data, split)


def test_only_what_is_trained_on_or_scored_is_opened(recipe: Path) -> None:
    train = opened(recipe, "data.also.0.train=null", "data.also.1.val=null")
    assert len(train) == 6 + 5
    data = loaded(recipe, "data.also.0.train=null", "data.also.1.val=null").data
    assert scored_further(data) == {"coco": "coco/val"}


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("data.also.0.map=null", ["data.also.0.map: 1 class of set coco is not", "couch", "map.other=void"]),
        ("data.also.0.map={coach: sofa, other: void}", ["'coach' is no class of set coco", "mean couch?"]),
        ("data.also.0.map={couch: soffa}", ["data.also.0.map.couch", "'soffa' is no class", "mean sofa?"]),
        ("data.also.1.map={}", ["data.also.1.map: 1 class of set lorries", "lorry"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_map_names_the_set_and_the_classes(
    recipe: Path, override: str, parts: list[str]
) -> None:
    text = recipe.read_text().replace("{other: void}", "null") if override.endswith("{}") else None
    if text:
        recipe.write_text(text)
    with pytest.raises(DataError) as caught:
        opened(recipe, override)
    for part in parts:
        assert part in str(caught.value)


def test_the_name_other_is_a_class_where_the_set_has_one(tmp_path: Path) -> None:
    voc_set(tmp_path / "a")
    folder_set(tmp_path / "b")
    text = """
data:
  - {root: a, train: train, classes: [background, cat, sofa]}
  - {format: folder, root: b, classes: [lorry, other], ignore_index: 7, map: {other: background}}
"""
    path = tmp_path / "r.yaml"
    path.write_text(text.replace("root: ", f"root: {tmp_path}/"))
    with pytest.raises(DataError, match="1 class of set b is not .*: lorry"):
        opened(path)
    labels = opened(path, "data.also.0.map.lorry=cat").labels(6)
    assert labels.unique().tolist() == [0, 1, 255]


def test_images_are_drawn_by_the_weights_of_their_sets(recipe: Path) -> None:
    weights = ["data.weight=6", "data.also.0.weight=3", "data.also.1.weight=1"]
    chosen = loaded(recipe, *weights, "train.batch=5", "data.sampler=uniform")
    train = opened(recipe, *weights)
    shares = shares_of_images(chosen.data, train)
    assert shares is not None
    counts = count_classes(train, lambda done, total: None)
    for sampler in ("uniform", "rare"):
        data = chosen.data.model_copy(update={"sampler": sampler})
        order, _ = training_order(chosen.model_copy(update={"data": data}), counts, shares, [6, 4, 5])
        for epoch in range(8):  # of 15 draws, of which each set has its share, rounded up or down
            indices = [draw.index for step in range(3) for draw in order.update(3 * epoch + step)]
            of_sets = np.bincount(np.digitize(indices, [6, 10]), minlength=3)
            assert np.abs(of_sets - [9, 4.5, 1.5]).max() < 1
    mixing = Mixing(Augment(mosaic=1.0), 0, len(train), 255, counts, shares)
    guests = [guest.index for epoch in range(200) for guest in mixing.guests("a", epoch)]
    assert np.isclose((np.array(guests) < 6).mean(), 0.6, atol=0.06)


def test_without_weights_each_image_is_drawn_equally_often(recipe: Path) -> None:
    chosen = loaded(recipe, "train.batch=5", "data.sampler=uniform")
    assert shares_of_images(chosen.data, opened(recipe)) is None
    counts = ClassCounts(np.ones((15, 3), np.int64), np.zeros(15, np.int64))
    order, _ = training_order(chosen, counts)
    assert sorted(draw.index for step in range(3) for draw in order.update(step)) == [*range(15)]


def test_the_fingerprint_depends_on_every_set_and_map(recipe: Path) -> None:
    first = opened(recipe).fingerprint()
    assert opened(recipe).fingerprint() == first
    assert opened(recipe, "data.also.0.map.couch=void").fingerprint() != first
    assert opened(recipe, "data.also.1.train=val").fingerprint() != first


def test_images_that_two_sets_share_are_found(recipe: Path, tmp_path: Path) -> None:
    data = loaded(recipe).data
    assert shared_images(open_split(data, "coco/val"), open_split(data, "train")) == set()
    twin = tmp_path / "coco/val/1100.png"
    twin.write_bytes((tmp_path / "voc/JPEGImages/000003.jpg").read_bytes())
    assert shared_images(open_split(data, "coco/val"), open_split(data, "train")) == {"coco/1100"}


def test_each_set_has_its_own_range(recipe: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for path in (tmp_path / "lorries" / split / "images").iterdir():
            save(path, np.random.default_rng(0).integers(0, 4000, (SIDE, SIDE)).astype(np.uint16))
    data = loaded(recipe).data
    found = with_range(data, open_split(data, data.train))
    assert [found.range, *(further.range for further in found.also)] == ["auto", "auto", [0.0, 4095.0]]
    assert int(open_split(found, "lorries/val")[0].image.max()) > 240


def test_packs_of_several_sets_keep_their_classes_and_ranges(tmp_path: Path) -> None:
    """Of 12 and 16 bits: pixels and labels are those of the folders, in a fold of one pack, too."""
    sections = {}
    for name, top in (("dim", 4095), ("bright", 65535)):
        folder_set(tmp_path / name)
        for path in (tmp_path / name).glob("*/images/*"):
            pixels = np.random.default_rng(int(path.stem)).integers(0, top + 1, (SIDE, SIDE))
            save(path, pixels.astype(np.uint16))
        own = {
            "format": "folder",
            "root": str(tmp_path / name),
            "ignore_index": 7,
            "classes": ["bg", "lorry"],
        }
        files = Data.model_validate(own)
        files = with_range(files, open_split(files, "train"))
        splits = {split: open_split(files, split) for split in ("train", "val")}
        write_pack(splits, tmp_path / f"{name}.h5", "decoded")
        packed = {**own, "format": "packed", "root": str(tmp_path / f"{name}.h5"), "train": "train"}
        sections[name] = files, packed
    (of_dim, dim), (of_bright, bright) = sections.values()
    bright = {**bright, "map": {"lorry": "void"}}
    data = Data.model_validate({**dim, "also": [bright]})
    train = open_split(data, data.train)
    found = with_range(data, train)
    assert [found.range, found.also[0].range] == [[0, 4095], [0, 65535]]
    expected = [sample for files in (of_dim, of_bright) for sample in open_split(files, "train")]
    assert all(torch.equal(train[i].image, sample.image) for i, sample in enumerate(expected))
    assert 7 in train.labels(len(train) - 1) and 1 not in train.labels(len(train) - 1)
    (tmp_path / "fold.txt").write_text(train.ids[1] + "\n")
    fold = Data.model_validate({**dim, "fold": str(tmp_path / "fold.txt")})
    assert open_split(fold, "val").ids == [train.ids[1]]
    assert torch.equal(open_split(fold, "train")[0].image, expected[0].image)


def test_an_unreadable_image_of_any_set_is_left_out(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "coco/train/1002.png").write_bytes(b"no image")
    train = opened(recipe, "data.on_error=skip")
    assert (0, 0) in train.sizes()
    assert train.skipped is not None
    with pytest.raises(DataError, match="1002"):
        train[train.ids.index("coco/1002")]


def test_a_mistake_of_a_further_set_names_its_own_keys(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"set nowhere: data\.also\.1\.root: no folder"):
        opened(recipe, "data.also.1.root=/nowhere")
    with pytest.raises(DataError, match=r"set lorries: .*data\.also\.1\.range=auto"):
        data = loaded(recipe, "data.also.1.range=[0, 4095]").data
        with_range(data, open_split(data, data.train))
    mask = np.full((SIDE, SIDE), 3, np.uint8)
    save(tmp_path / "lorries/train/masks/2001.png", mask)
    train = opened(recipe)
    with pytest.raises(DataError, match=r"set lorries: .*2001"):
        train.labels(train.ids.index("lorries/2001"))


def test_an_image_of_any_set_is_read_in_parts(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = opened(recipe)
    samples = [train[index] for index in range(len(train))]
    monkeypatch.delattr(SeveralSets, "__getitem__")  # which reads whole images
    rows, columns = (3, 30), (0, 25)
    for index, sample in enumerate(samples):
        with open_sample(train, index) as (image, labels):
            assert np.array_equal(image.read(rows, columns), sample.image[:, 3:30, :25])
            assert np.array_equal(labels(rows, columns), sample.labels[3:30, :25])
            assert np.array_equal(labels((0, SIDE), (0, SIDE)), sample.labels)
    (recipe.parent / "coco/train/1001.png").write_bytes(b"no image")
    with (
        pytest.raises(UnreadableSample, match=r"set coco: .*1001\.png"),
        open_sample(train, train.ids.index("coco/1001")),
    ):
        pass


def test_workers_get_all_sets(recipe: Path) -> None:
    train = opened(recipe)
    sent = pickle.loads(pickle.dumps(train))
    assert all(torch.equal(sent[i].labels, train[i].labels) for i in (0, 7, 12))


def test_one_section_alone_opens_as_before(tmp_path: Path) -> None:
    voc_set(tmp_path / "voc")
    data = Data(root=str(tmp_path / "voc"), train="train", classes=["background", "cat", "sofa"])
    assert not isinstance(open_split(data, "train"), SeveralSets)
    assert data.name is None


def test_photos_of_a_set_with_other_names_get_the_labels_of_the_model(
    shared_voc: Path, tmp_path: Path
) -> None:
    names = ["kitty" if name == "cat" else name for name in VOC]
    text = f"""
data:
  - {{root: {shared_voc}, train: train}}
  - {{root: {shared_voc}, train: trainaug, name: renamed, classes: {names}, map: {{kitty: cat, dog: void}}}}
"""
    path = tmp_path / "r.yaml"
    path.write_text(text)
    train = opened(path)
    assert len(train) == 437 + 800
    for place in range(0, 437, 40):
        own, again = train.labels(place), train.labels(train.ids.index(f"renamed/{train.ids[place]}"))
        assert torch.equal(again, own.where(own != VOC.index("dog"), torch.tensor(255, dtype=torch.uint8)))
