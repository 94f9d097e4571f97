"""The drawn scenes: a pure function of (seed, split, index), balanced, with void borders, classes that differ
in shape and texture."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.data.sample import DataError
from engine.data.synthetic import FIGURES, SCENE_CLASSES, SCENE_PALETTE, SyntheticScenes, _around, _shrink

NUM_CLASSES = len(SCENE_CLASSES)
VOID = 255


@pytest.fixture(scope="module")
def scenes() -> SyntheticScenes:
    return SyntheticScenes("train", 60)


@pytest.fixture(scope="module")
def labels(scenes: SyntheticScenes) -> np.ndarray:
    return np.stack([scenes[i].labels.numpy() for i in range(len(scenes))])  # (60, 96, 96)


def figure(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mask and pattern of one object, upright, on a grid of -1..1: (128, 128) each."""
    y, x = np.mgrid[-1:1:128j, -1:1:128j].astype(np.float32)
    field, pattern = FIGURES[name][0](x, y, np.random.default_rng(seed))
    return field > 0, np.asarray(pattern, np.float32)


def test_a_sample_has_the_documented_types_and_shapes(scenes):
    sample = SyntheticScenes("val", 3, size_px=64)[1]
    assert sample.id == "val_00001"
    assert (sample.image.dtype, sample.image.shape) == (torch.uint8, (3, 64, 64))
    assert (sample.labels.dtype, sample.labels.shape) == (torch.uint8, (64, 64))
    assert scenes.sizes() == [(96, 96)] * 60 == [tuple(scenes[i].labels.shape) for i in range(60)]
    assert len(scenes) == len(set(scenes.ids)) == 60
    assert len(set(SCENE_PALETTE)) == NUM_CLASSES == len(set(SCENE_CLASSES))


def test_a_scene_depends_on_seed_split_and_index_alone(scenes):
    again = SyntheticScenes("train", 4)  # another length, drawn in another order
    for index in (3, 0, 2):
        assert torch.equal(again.labels(index), scenes[index].labels)
        assert torch.equal(again[index].image, scenes[index].image)
        assert torch.equal(again[index].labels, scenes[index].labels)
    assert not torch.equal(SyntheticScenes("train", 1, seed=1)[0].image, scenes[0].image)


def test_threads_and_worker_processes_get_the_same_scenes(scenes):
    fresh = SyntheticScenes("train", 8)
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(fresh.__getitem__, [*range(8), *range(8)]))
    assert all(drawn[i] is drawn[i + 8] for i in range(8))  # each was drawn once
    sent = pickle.loads(pickle.dumps(fresh))
    assert len(sent) == 8 and sent.fingerprint() == fresh.fingerprint()
    assert all(torch.equal(drawn[i].image, scenes[i].image) for i in range(8))


def test_an_index_outside_the_split_is_an_error():
    val = SyntheticScenes("val", 2)
    assert torch.equal(val[-1].image, val[1].image)
    with pytest.raises(IndexError):
        val[2]


def test_train_and_val_share_no_scene(scenes):
    val = SyntheticScenes("val", 60)
    seen = {scenes[i].image.numpy().tobytes() for i in range(60)}
    assert len(seen) == 60
    assert not any(val[i].image.numpy().tobytes() in seen for i in range(60))
    assert not set(val.ids) & set(scenes.ids)


def test_the_fingerprint_follows_the_pixels():
    assert SyntheticScenes("val", 3).fingerprint() == SyntheticScenes("val", 3).fingerprint()
    others = [("val", 4, 96, 0), ("train", 3, 96, 0), ("val", 3, 64, 0), ("val", 3, 96, 1)]
    assert len({SyntheticScenes(*key).fingerprint() for key in [("val", 3, 96, 0), *others]}) == 1 + len(
        others
    )


def test_every_class_is_frequent_relative_to_the_background(labels):
    assert set(np.unique(labels)) == {*range(NUM_CLASSES), VOID}
    for k in range(1, NUM_CLASSES):
        assert 0.4 < (labels == k).any((1, 2)).mean() < 0.95, SCENE_CLASSES[k]  # share of scenes
        assert (labels == k).mean() > 0.03, SCENE_CLASSES[k]  # share of pixels
    assert 0.3 < (labels == 0).mean() < 0.7


def test_a_void_border_separates_background_and_objects(labels):
    """No background pixel touches an object, and nearly every void pixel is next to an object."""
    padded = np.pad((labels > 0) & (labels < VOID), ((0, 0), (1, 1), (1, 1)))
    near = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2)).any((-1, -2))
    assert not (near & (labels == 0)).any()
    void = labels == VOID
    assert void.any((1, 2)).all()
    assert void.mean((1, 2)).max() < 0.15
    assert (void & near).sum() > 0.97 * void.sum()  # the rest bordered objects that a later one hides


def test_objects_overlap(scenes, labels):
    """In many scenes two different classes are separated by a single void pixel."""
    left, middle, right = labels[:, :, :-2], labels[:, :, 1:-1], labels[:, :, 2:]
    both_objects = (np.minimum(left, right) > 0) & (np.maximum(left, right) < VOID)
    facing = (middle == VOID) & (left != right) & both_objects
    assert facing.any((1, 2)).mean() > 0.5


@pytest.mark.parametrize("name", SCENE_CLASSES[1:])
def test_every_figure_is_connected_patterned_and_inside_its_frame(name):
    for seed in range(5):
        mask, pattern = figure(name, seed)
        assert 0.12 < mask.mean() < 0.6
        assert 0.1 < pattern[mask].mean() < 0.9
        assert pattern[mask].std() > 0.15
        assert pattern.min() >= 0 and pattern.max() <= 1


def test_shape_alone_distinguishes_the_classes():
    """The mean mask of each class is closer to a new figure of its own class than to one of any other."""
    means = {name: np.mean([figure(name, seed)[0] for seed in range(8)], axis=0) for name in FIGURES}
    for name in FIGURES:
        for seed in range(100, 105):
            mask, _ = figure(name, seed)
            assert min(means, key=lambda other: np.abs(mask - means[other]).sum()) == name


def test_texture_alone_distinguishes_the_classes():
    """The density and directions of the pattern's edges identify the class; the outline is not used."""

    def edges(name: str, seed: int) -> np.ndarray:
        mask, pattern = figure(name, seed)
        down, right = np.gradient(pattern)
        inner = mask & (np.hypot(down, right) > 0.2)
        angle = np.arctan2(np.abs(down[inner]), np.abs(right[inner]))  # 0: vertical, pi/2: horizontal
        return np.append(np.histogram(angle, 4, (0, np.pi / 2))[0] / inner.sum(), inner.sum() / mask.sum())

    means = {name: np.mean([edges(name, seed) for seed in range(8)], axis=0) for name in FIGURES}
    hits = [
        min(means, key=lambda other: np.abs(edges(name, seed) - means[other]).sum()) == name
        for name in FIGURES
        for seed in range(100, 110)
    ]
    assert np.mean(hits) > 0.8  # chance: 0.2


def test_dots_are_averaged_as_by_numpy_to_the_last_bit():
    fine = np.random.default_rng(0).uniform(size=(48, 34)).astype(np.float32)
    assert np.array_equal(_shrink(fine)[..., 0], fine.reshape(24, 2, 17, 2).mean((1, 3)))


@given(st.floats(0, 1), st.floats(0.015, 0.05), st.integers(8, 300))
def test_a_pebble_is_drawn_where_its_disk_reaches(centre: float, radius: float, size_px: int):
    places = np.arange(size_px, dtype=np.float32) / size_px
    touched = np.clip((radius - np.abs(places - centre)) * size_px + 0.5, 0, 1) > 0
    touched[_around(centre, radius, size_px)] = False
    assert not touched.any()


def test_an_unknown_split_is_a_users_error():
    with pytest.raises(DataError, match="'test'.*train, val"):
        SyntheticScenes("test", 3)
    assert DataError.exit_code == 2
