"""The whole augmentation: equal to kornia's operators, without synchronisation, independent of the batch."""

import math
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from kornia import enhance
from kornia.geometry import get_shear_matrix2d, hflip, rotate, scale, translate, warp_affine
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from engine.data.augment import Augment
from engine.data.class_counts import ClassCounts
from engine.data.mixing import Mixing, paste_guests
from engine.data.options import Augment as Section

EVERYTHING = {
    "scale": [0.3, 2.0],
    "aspect": 1.3,
    "shear_deg": 10,
    "translate": 0.2,
    "category_max_ratio": 0.75,
    "crop_on": [5, 3],
    "blur": 1,
    "elastic": 3,
    "grayscale": 0.5,
    "noise": 0.1,
    "cutmix": 1,
    "classmix": 1,
    "mosaic": 1,
    "copy_paste": 1,
}


def scene(h, w, seed=0, ids=21):
    """An image of noise and its labels, noise too, padded to multiples of 8."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (1, 3, h, w), dtype=torch.uint8, generator=rng)
    labels = torch.randint(0, ids, (1, h, w), dtype=torch.uint8, generator=rng)
    padding = (0, -w % 8, 0, -h % 8)
    return F.pad(images, padding), F.pad(labels, padding, value=255)


# Against kornia


def kornias_chain(image, labels, p, size):
    """The same change by a chain of kornia's operators, around the centre: (3, S, S) and (S, S).

    Labels come back plus 1, so that kornia's 0 outside is not an id. A wide margin keeps out of view what
    only some of the operators move.
    """
    wide = 3 * size
    centre = torch.full((1, 2), (wide - 1) / 2)
    stretch = torch.tensor([[p.scale * math.sqrt(p.aspect), p.scale / math.sqrt(p.aspect)]])
    shear = get_shear_matrix2d(centre, *torch.tensor(p.shear_rad)[:, None])[:, :2]
    shift = -size * torch.tensor([p.shift])
    turn = torch.tensor([math.degrees(p.angle_rad)])
    chains = []
    for x, mode in ((image, "bilinear"), (labels + 1, "nearest")):
        x = F.pad(x, [size] * 4)
        x = scale(x, stretch, centre, mode=mode)
        x = translate(x, shift, mode=mode)
        x = warp_affine(x, shear, (wide, wide), mode=mode)
        x = rotate(x, turn, centre, mode=mode)
        x = hflip(x) if p.flip else x
        chains.append(x[0, :, size:-size, size:-size])
    colours = enhance.adjust_brightness(chains[0] / 255, p.brightness)
    colours = enhance.adjust_contrast(colours, p.contrast)
    colours = enhance.adjust_saturation(colours, p.saturation)
    return 255 * enhance.adjust_hue(colours, 2 * math.pi * p.hue), chains[1][0]


@pytest.mark.parametrize("number", range(12))
def test_one_warp_and_one_colour_equal_the_chain_of_kornias_operators(number):
    size = 96
    section = Section.model_construct(
        crop=size, scale=[1.3, 2.0], aspect=1.2, shear_deg=10, translate=0.1, rotate_deg=30
    )
    augmentation = Augment(section, 0, 255)
    p = replace(augmentation.parameters(f"{number}", 0), offset=(0.5, 0.5))  # the centre, which kornia keeps
    y, x = torch.meshgrid(torch.arange(size) / size, torch.arange(size) / size, indexing="ij")
    waves = [torch.sin(3 * x + 2 * y), torch.cos(4 * y - x), torch.sin(5 * x * y)]
    image = (128 + 100 * torch.stack(waves)).byte()[None]
    labels = (3 * (x + 0.3 * y)).byte()[None]
    [found], [found_labels] = augmentation(image, labels, [(size, size)], [p])
    expected, expected_labels = kornias_chain(image.float(), labels[:, None].float(), p, size)
    outside = F.pad((expected_labels == 0).float(), [7] * 4, value=1)  # it may also be outside the crop
    edge = F.max_pool2d(outside[None], 15, stride=1)[0] > 0
    # The chain interpolates four times, the warp once; hence the difference.
    difference = (found - expected)[:, ~edge]
    assert difference.abs().max() < 3 and difference.square().mean().sqrt() < 0.5  # of 0..255
    assert (found_labels + 1 != expected_labels)[~edge].float().mean() < 0.02
    assert ((found_labels == 255) != (expected_labels == 0)).float().mean() < 0.005


# On the device


class NoWaiting(TorchDispatchMode):
    """Raises for operations that synchronise with the device."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "bincount", "equal", "is_nonzero")

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator.overloadpacket.__name__
        assert name not in self.WAITS, f"{name} waits for the device"
        if name in ("index", "index_put_"):
            assert all(i is None or i.dtype != torch.bool for i in args[1]), "a mask as index waits"
        return operator(*args, **(kwargs or {}))


def run_everything(device, **section):
    """One host and six guests through all operators."""
    section = Section.model_construct(crop=40, **(EVERYTHING | section))
    augmentation = Augment(section, 0, 255)
    counts = ClassCounts(np.ones((4, 21), np.int64), np.zeros(4, np.int64))
    guests = [Mixing(section, 0, 4, 255, counts).guests("a", 0)]
    scenes = [scene(40, 40, seed) for seed in range(1 + len(guests[0]))]
    images, labels = (torch.cat(tensors).to(device) for tensors in zip(*scenes, strict=True))
    parameters = [augmentation.parameters(f"{n}", 0) for n in range(len(scenes))]
    assert len(guests[0]) == 6 and len({p.grayscale for p in parameters}) == 2
    with NoWaiting() if device == "cpu" else nullcontext():
        images, labels = augmentation(images, labels, [(40, 40)] * len(scenes), parameters)
        return paste_guests(images, labels, guests)


def test_augmentation_does_not_synchronise_with_the_device():
    images, labels = run_everything("cpu", blur=0)
    assert images.shape == (1, 3, 40, 40) and labels.shape == (1, 40, 40)


def test_the_values_that_kornia_reads_are_on_the_host():
    # A tensor on meta has no value that could be read; noise is left out, as meta has no generator.
    images, labels = run_everything("meta", blur=1, jpeg=1, noise=0)
    assert images.is_meta and images.shape == (1, 3, 40, 40)
    assert labels.is_meta and labels.shape == (1, 40, 40)
    with pytest.raises(RuntimeError, match="meta"):
        images.sum().item()


@pytest.mark.parametrize(
    "wait",
    [lambda x: x.sum().item(), lambda x: bool(x.any()), lambda x: x[x > 0], lambda x: x.nonzero(),
     lambda x: x.unique(), lambda x: torch.where(x > 0)],
)  # fmt: skip
def test_the_guard_detects_each_kind_of_synchronisation(wait):
    with pytest.raises(AssertionError, match="waits"), NoWaiting():
        wait(torch.ones(3))


class Operations(TorchDispatchMode):
    """Counts them, views and copies to the device too, but not lift_fresh, a mark of host tensors."""

    num = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.num += operator is not torch.ops.aten.lift_fresh.default
        return operator(*args, **(kwargs or {}))


def num_operations(batch, **section):
    """Of a batch of photos of different sizes, on a device; meta has no generator, so noise is left out."""
    augmentation = Augment(Section.model_construct(crop=64, **section), 0, 255)
    images = torch.zeros(batch, 3, 104, 136, dtype=torch.uint8, device="meta")
    labels = torch.zeros(batch, 104, 136, dtype=torch.uint8, device="meta")
    parameters = [augmentation.parameters(f"{n}", 0) for n in range(batch)]
    with Operations() as operations:
        augmentation(images, labels, [(100 - n, 130 - n) for n in range(batch)], parameters)
    return operations.num


def test_a_batch_takes_60_operations_on_a_device_whatever_its_size():
    assert num_operations(4) == num_operations(16) <= 60


def test_no_operator_but_noise_and_jpeg_takes_operations_for_each_sample():
    every = EVERYTHING | {"noise": 0}
    assert num_operations(8, **every) == num_operations(16, **every)


@pytest.fixture(params=[True, False], ids=["one by one", "together"])
def one_by_one(request, monkeypatch):
    """Samples one after the other, as on a CPU, or together, as on other devices."""
    set_one_by_one(monkeypatch, request.param)


def set_one_by_one(monkeypatch, value):
    for module in ("warp", "augment"):
        monkeypatch.setattr(f"engine.data.{module}.one_by_one", lambda images: value)


@pytest.mark.parametrize("section", [{}, EVERYTHING, {"scale": [0.1, 0.4], "aspect": 2}])
def test_samples_together_equal_those_one_by_one(section, monkeypatch):
    augmentation = Augment(Section.model_construct(crop=64, **section), 0, 255)
    sizes = [(50, 70), (96, 200), (64, 61), (333, 500), (9, 7), (1, 3)]
    scenes = [scene(h, w, seed) for seed, (h, w) in enumerate(sizes)]
    images, labels = (
        torch.cat([F.pad(t, (0, 504 - t.shape[-1], 0, 336 - t.shape[-2]), value=value) for t in tensors])
        for value, tensors in zip((0, 255), zip(*scenes, strict=True), strict=True)
    )
    parameters = [augmentation.parameters(id, 0) for id in "abcdef"]
    alone = augmentation(images, labels, sizes, parameters)
    set_one_by_one(monkeypatch, False)
    together = augmentation(images, labels, sizes, parameters)
    # Together, places are rounded to 1/8192 px, and noise changes by up to 255 a pixel along both axes. Where
    # a colour is nearly grey, its hue may change by more.
    difference = (alone[0] - together[0]).abs()
    assert difference.mean() < 0.02 and (difference > 0.2).float().mean() < 1e-3
    assert (alone[1] != together[1]).float().mean() < 1e-3


@pytest.mark.usefixtures("one_by_one")
def test_the_other_samples_of_a_batch_their_order_and_padding_change_nothing():
    augmentation = Augment(Section.model_construct(crop=33, **EVERYTHING), 0, 255)
    sizes = [(50, 70), (96, 40), (64, 61), (33, 120), (9, 7)]
    scenes = [scene(h, w, seed) for seed, (h, w) in enumerate(sizes)]
    parameters = [augmentation.parameters(id, 0) for id in "abcde"]

    def run(rows):
        padded = [
            F.pad(tensor, (0, 128 - tensor.shape[-1], 0, 96 - tensor.shape[-2]), value=value)
            for value, kind in ((0, 0), (255, 1))
            for tensor in (scenes[row][kind] for row in rows)
        ]
        images, labels = torch.cat(padded[: len(rows)]), torch.cat(padded[len(rows) :])
        if len(rows) == 1:
            images, labels = scenes[rows[0]]
        found = augmentation(images, labels, [sizes[row] for row in rows], [parameters[row] for row in rows])
        return dict(zip(rows, zip(*found, strict=True), strict=True))

    together = run([0, 1, 2, 3, 4])
    for others in (run([4, 3, 1, 0, 2]), run([2, 4]), *(run([row]) for row in range(5))):
        for row, (image, labels) in others.items():
            assert torch.equal(image, together[row][0]) and torch.equal(labels, together[row][1])


def test_the_number_of_threads_changes_nothing():
    augmentation = Augment(Section.model_construct(crop=64, **EVERYTHING), 0, 255)
    images, labels = scene(80, 80)
    parameters = [augmentation.parameters("a", 0)]
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(augmentation(images, labels, [(80, 80)], parameters))
    finally:
        torch.set_num_threads(before)
    for image, label in found[1:]:
        assert torch.equal(image, found[0][0]) and torch.equal(label, found[0][1])


def test_the_default_section_takes_photos_of_any_size():
    augmentation = Augment(Section(), 0, 255)
    for h, w, id in ((333, 500, "a"), (500, 375, "b"), (9, 7, "c"), (1, 1, "d")):
        images, labels = augmentation(*scene(h, w), [(h, w)], [augmentation.parameters(id, 0)])
        assert images.shape == (1, 3, 512, 512) and images.isfinite().all()
        assert images.min() > -0.001 and images.max() <= 255.01
        assert {*labels.unique().tolist()} <= {*range(21), 255}
