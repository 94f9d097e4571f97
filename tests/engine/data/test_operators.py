"""Properties of every operator on images and labels: 100 random examples each, 10,000 in slow tests.

Labels out are labels in, or void; outside is void; colour leaves labels alone; a label painted into the
image comes back in place.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from engine.data.augment import ELASTIC_CELLS, REDRAWS, Parameters, recolour
from engine.data.class_counts import ClassCounts
from engine.data.mixing import BoxLayer, HalfClassesLayer, Mixing, OneClassLayer, paste_guests
from engine.data.options import Augment as Section
from engine.data.warp import Choice, warp

UNIT = st.floats(0, 1)
SEED = st.integers(0, 2**32 - 1)
VOID = st.sampled_from([255, 254, 21])


def pairs(reach):
    return st.tuples(st.floats(-reach, reach), st.floats(-reach, reach))


def places(aspect, shear_rad, scales, bend_px):
    """The parameters that move pixels."""
    return st.builds(
        Parameters,
        scale=st.floats(*scales),
        aspect=st.floats(1 / aspect, aspect),
        angle_rad=st.floats(-math.pi, math.pi),
        shear_rad=pairs(shear_rad),
        shift=pairs(0.4),
        flip=st.booleans(),
        offset=st.tuples(UNIT, UNIT),
        bend_px=st.none() | SEED,
    ).map(lambda p: with_bend(p, bend_px))


def with_bend(p, reach_px):
    """`bend_px` drawn from the seed that is given in its place."""
    shape = (2, ELASTIC_CELLS, ELASTIC_CELLS)
    bend = np.zeros(shape) if p.bend_px is None else np.random.default_rng(p.bend_px).uniform(-1, 1, shape)
    return Parameters(**(vars(p) | {"bend_px": reach_px * bend}))


def blocks(h, w, block_px, ids):
    """Blocks of `ids`, each painted grey 40 + 10 * id, in padding: images (1, 3, H, W), labels (1, H, W)."""
    ids = torch.tensor(sorted(ids), dtype=torch.uint8)
    rows, columns = torch.arange(h)[:, None] // block_px, torch.arange(w) // block_px
    labels = ids[(rows + 2 * columns) % len(ids)]
    padding = (0, -w % 8 + 8, 0, -h % 8)
    image = F.pad((40 + 10 * labels).expand(3, -1, -1), padding)
    return image[None], F.pad(labels, padding, value=255)[None]


def inside(labels, ignore_index, radius_px=4):
    """Where all labels within the radius are the same and none is void; beyond the crop all is void."""
    labels = F.pad(labels[None].float(), [radius_px] * 4, value=ignore_index)
    largest, smallest = (
        sign * F.max_pool2d(sign * labels, 2 * radius_px + 1, stride=1)[0] for sign in (1, -1)
    )
    return (largest == smallest) & (largest != ignore_index)


# Each draws an example and checks it.


@given(
    p=places(aspect=2, shear_rad=0.7, scales=(0.2, 4), bend_px=2),
    h=st.integers(5, 40),
    w=st.integers(5, 40),
    ids=st.sets(st.integers(1, 20), min_size=1, max_size=4),
    ignore_index=VOID,
)
def outside_is_void(p, h, w, ids, ignore_index):
    images, labels = blocks(h, w, 8, ids)
    labels[labels == 255] = ignore_index
    [image], [found] = warp(images, labels, [(h, w)], [p], 24, ignore_index)
    assert {*found.unique().tolist()} <= {*ids, ignore_index}  # never 0, which fills what kornia warps
    assert (found[image[0] == 0] == ignore_index).all()
    assert (image[0][found == ignore_index] <= 0.8 * (40 + 10 * max(ids))).all()  # some black


@given(
    p=places(aspect=1.3, shear_rad=0.2, scales=(0.5, 2), bend_px=2),
    ids=st.permutations(range(21)).map(lambda ids: ids[:3]),
)
def painted_labels_come_back(p, ids):
    images, labels = blocks(80, 72, 24, ids)
    [image], [found] = warp(images, labels, [(80, 72)], [p], 48, 255)
    whole = inside(found, 255)
    torch.testing.assert_close(image[0][whole], 40.0 + 10 * found[whole], rtol=0, atol=0.02)


@given(
    brightness=st.floats(-1, 1),
    contrast=st.floats(0, 2),
    saturation=st.floats(0, 2),
    hue=st.floats(-0.5, 0.5),
    blur_px=st.floats(0, 1),
    grayscale=st.booleans(),
    noise=st.floats(0, 1),
    noise_seed=st.integers(0, 2**63 - 1),
    jpeg_quality=st.one_of(*[st.none()] * 3, st.floats(30, 95)),
    seed=SEED,
)
def colour_stays_within_its_range_and_mates_do_not_matter(seed, **colour):
    images = 255 * torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    images[:, :, :2] = images[:, :1, :2]  # grey, which has no hue
    alone, mate = images[1:].clone(), Parameters(noise=0.1, noise_seed=3, saturation=1.3)
    section = Section.model_construct(blur=1)
    recolour(images, [mate, Parameters(**colour)], section)
    assert images.isfinite().all() and images.min() > -0.001 and images.max() <= 255.01
    assert torch.equal(images[1:], recolour(alone, [Parameters(**colour)], section))


@given(
    p=places(aspect=1.5, shear_rad=0.3, scales=(0.5, 3), bend_px=0),
    redraws=st.lists(st.tuples(UNIT, UNIT), min_size=REDRAWS, max_size=REDRAWS),
    max_ratio=st.floats(0.2, 0.99) | st.just(1.0),
    sought=st.sampled_from([(), (2,), (1, 2), (7, 2, 1), (7,)]),
    seed=SEED,
    ignore_index=VOID,
)
def the_first_good_crop_is_taken(p, redraws, max_ratio, sought, seed, ignore_index):
    rng = np.random.default_rng(seed)
    cells = rng.choice([0, 0, 0, 1, 2, ignore_index], (4, 4)).astype(np.uint8)
    labels = torch.from_numpy(cells.repeat(8, 0).repeat(8, 1))[None]
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)

    def crop(offset, choice=None):
        changed = Parameters(**(vars(p) | {"offset": offset, "redraws": np.array(redraws)}))
        return warp(images, labels, [(32, 32)], [changed], 12, ignore_index, choice)[1][0]

    crops = [crop(offset) for offset in [p.offset, *redraws]]
    wanted = next((id for id in sought if id in cells), None)
    most = max(int((candidate == wanted).sum()) for candidate in crops) if wanted is not None else 0

    def goodness(candidate):
        counts = candidate[candidate != ignore_index].bincount()
        ratio = counts.max() / counts.sum() if counts.sum() else 1.0
        balanced = max_ratio == 1 or bool(ratio < max_ratio)
        shows = wanted is None or 2 * int((candidate == wanted).sum()) >= most
        return shows, balanced

    assert torch.equal(crop(p.offset, Choice(max_ratio, sought)), max(crops, key=goodness))


def mixed(operator, seed, ignore_index):
    """One host and its guests through `operator`: the source of each pixel, the layers, and all labels."""
    rng = np.random.default_rng(seed)
    side = int(rng.integers(3, 20))
    counts = rng.integers(0, 3, (5, 21)) * rng.integers(0, 2, (1, 21))
    counts[0, 3] = 7
    section = Section.model_construct(**{operator: 1.0})
    class_counts = ClassCounts(counts, np.zeros(5, np.int64))
    guests = Mixing(section, seed, 5, ignore_index, class_counts).guests("host", int(rng.integers(9)))
    ids = [*range(21), ignore_index]
    cells = [rng.choice(rng.choice(ids, rng.integers(1, 8)), (side, side)) for _ in range(1 + len(guests))]
    labels = torch.from_numpy(np.stack(cells))
    places = torch.arange(float(side * side)).view(side, side)
    # The colour of a pixel encodes its label, its sample and its position.
    images = torch.stack(
        [torch.stack([row, torch.full_like(row, n), places]) for n, row in enumerate(labels)]
    )
    [image], [found] = paste_guests(images.clone(), labels.clone(), [guests])
    assert torch.equal(image[2], places)
    whose = image[1].long()
    assert torch.equal(found, labels.gather(0, whose[None])[0])
    assert torch.equal(image[0], found.float())
    assert {*found.unique().tolist()} <= {*labels.unique().tolist()}
    for guest in guests:
        assert 0 <= guest.index < 5
    return whose, guests, labels, counts


@given(seed=SEED, ignore_index=VOID)
def cutmix_is_one_box(seed, ignore_index):
    whose, [guest], _, _ = mixed("cutmix", seed, ignore_index)
    assert isinstance(guest.layer, BoxLayer)
    taken = whose == 1
    assert torch.equal(taken, taken.any(1)[:, None] & taken.any(0))
    for axis in (0, 1):
        assert (taken.any(axis).int().diff().abs().sum()) <= 2  # no gap


@given(seed=SEED, ignore_index=VOID)
def mosaic_is_four_rectangles(seed, ignore_index):
    whose, guests, _, _ = mixed("mosaic", seed, ignore_index)
    assert len(guests) == 3
    x, y = int((whose[0] == 0).sum()), int((whose[:, 0] == 0).sum())
    assert 0 < x < len(whose) and 0 < y < len(whose)
    expected = torch.full_like(whose, 3)
    expected[:y, :x], expected[:y, x:], expected[y:, :x] = 0, 1, 2
    assert torch.equal(whose, expected)


@given(seed=SEED, ignore_index=VOID)
def classmix_takes_half_of_the_classes_whole(seed, ignore_index):
    whose, [guest], labels, _ = mixed("classmix", seed, ignore_index)
    assert isinstance(guest.layer, HalfClassesLayer)
    classes = {*labels[1].unique().tolist()} - {ignore_index}
    taken = {*labels[1][whose == 1].tolist()}
    assert taken <= classes and len(taken) == len(classes) // 2
    assert torch.equal(whose == 1, torch.isin(labels[1], torch.tensor([*taken])))


@given(seed=SEED, ignore_index=VOID)
def copy_paste_takes_a_class_that_the_guest_has(seed, ignore_index):
    whose, [guest], labels, counts = mixed("copy_paste", seed, ignore_index)
    assert isinstance(guest.layer, OneClassLayer)
    assert counts[guest.index, guest.layer.id] > 0
    assert torch.equal(whose == 1, labels[1] == guest.layer.id)


OPERATORS = {
    check.__name__: check
    for check in (
        outside_is_void,
        painted_labels_come_back,
        colour_stays_within_its_range_and_mates_do_not_matter,
        the_first_good_crop_is_taken,
        cutmix_is_one_box,
        mosaic_is_four_rectangles,
        classmix_takes_half_of_the_classes_whole,
        copy_paste_takes_a_class_that_the_guest_has,
    )
}


@pytest.mark.parametrize("operator", OPERATORS)
def test_100_examples(operator):
    settings(max_examples=100)(OPERATORS[operator])()


@pytest.mark.slow
@pytest.mark.parametrize("operator", OPERATORS)
def test_10_000_examples(operator):
    settings(max_examples=10_000)(OPERATORS[operator])()


def test_the_alignment_check_detects_a_shift_of_one_pixel():
    images, labels = blocks(80, 72, 24, {0, 1, 2})
    [image], [found] = warp(images, labels.roll(6, 2), [(80, 72)], [Parameters()], 48, 255)
    whole = inside(found, 255)
    assert (image[0] - 40 - 10 * found)[whole].abs().max() > 5
