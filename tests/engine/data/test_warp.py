"""The warp: where each pixel moves, that labels move with it, and that void never becomes a class."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.geometry import get_rotation_matrix2d, get_shear_matrix2d, warp_affine
from torch.nn import functional as F

from engine.data.augment import Augment, Parameters
from engine.data.options import Augment as Section

NEUTRAL = Parameters()
OFF = {"scale": [1, 1], "rotate_deg": 0, "flip": 0, "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}


def augment(crop, ignore_index=255, seed=0, **section):
    return Augment(Section.model_construct(crop=crop, **(OFF | section)), seed, ignore_index)


def scene(h, w, seed=0, ids=21):
    """An image of noise and its labels, noise too."""
    rng = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, h, w), dtype=torch.uint8, generator=rng)
    return image, torch.randint(0, ids, (h, w), dtype=torch.uint8, generator=rng)


def blocks(h, w, block_px=16):
    """Blocks of the ids 0, 1, 2; each painted grey 20 + 100 * id."""
    rows, columns = torch.arange(h)[:, None] // block_px, torch.arange(w) // block_px
    labels = ((rows + 2 * columns) % 3).byte()
    return (20 + 100 * labels).expand(3, h, w).contiguous(), labels


def batch_of(scenes, ignore_index=255):
    """Padded as in batches: (images, labels, sizes)."""
    H = -(-max(labels.shape[0] for _, labels in scenes) // 8) * 8
    W = -(-max(labels.shape[1] for _, labels in scenes) // 8) * 8
    images = torch.zeros(len(scenes), 3, H, W, dtype=torch.uint8)
    padded = torch.full((len(scenes), H, W), ignore_index, dtype=torch.uint8)
    for row, (image, labels) in enumerate(scenes):
        h, w = labels.shape
        images[row, :, :h, :w], padded[row, :h, :w] = image, labels
    return images, padded, [tuple(labels.shape) for _, labels in scenes]


def one(augmentation, image, labels, **changes):
    """One sample through `augmentation`: image (3, S, S) and labels (S, S)."""
    images, padded, sizes = batch_of([(image, labels)], augmentation.ignore_index)
    images, padded = augmentation(images, padded, sizes, [replace(NEUTRAL, **changes)])
    return images[0], padded[0]


def assert_same_image(found, expected):
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=0.02)  # of 0..255


# Where each pixel goes


def test_default_parameters_return_the_sample_unchanged():
    image, labels = scene(40, 40)
    found_image, found_labels = one(augment(40), image, labels)
    assert_same_image(found_image, image)
    assert torch.equal(found_labels, labels.long())


def test_a_batch_is_float_in_0_to_255_and_int64():
    sections = {"brightness": 1, "contrast": 1, "saturation": 1, "hue": 0.5, "blur": 2, "elastic": 5}
    for augmentation in (augment(32), augment(32, **sections)):
        images, labels, sizes = batch_of([scene(40, 33), scene(37, 48, seed=1)])
        parameters = [augmentation.parameters(id, 0) for id in ("a", "b")]
        images, labels = augmentation(images, labels, sizes, parameters)
        assert images.shape == (2, 3, 32, 32) and labels.shape == (2, 32, 32)
        assert images.dtype == torch.float32 and labels.dtype == torch.int64
        assert images.min() > -0.001 and 200 < images.max() <= 255.01


@pytest.mark.parametrize("offset", [(0.0, 0.0), (1.0, 1.0), (0.5, 0.25), (1.0, 0.0)])
def test_the_offset_places_the_crop_in_the_free_range(offset):
    image, labels = scene(40, 56)
    left, top = round(offset[0] * (56 - 32)), round(offset[1] * (40 - 32))
    found_image, found_labels = one(augment(32), image, labels, offset=offset)
    assert_same_image(found_image, image[:, top : top + 32, left : left + 32])
    assert torch.equal(found_labels, labels[top : top + 32, left : left + 32].long())


@pytest.mark.parametrize("offset", [(0.0, 0.0), (1.0, 1.0), (0.5, 0.25)])
def test_an_image_smaller_than_the_crop_is_whole_and_surrounded_by_void(offset):
    image, labels = scene(12, 20)
    left, top = round(offset[0] * (32 - 20)), round(offset[1] * (32 - 12))
    # The free range is negative here; offset 0 still means left and top.
    expected_image, expected_labels = torch.zeros(3, 32, 32), torch.full((32, 32), 255)
    expected_image[:, top : top + 12, left : left + 20] = image
    expected_labels[top : top + 12, left : left + 20] = labels
    found_image, found_labels = one(augment(32), image, labels, offset=offset)
    assert_same_image(found_image, expected_image)
    assert torch.equal(found_labels, expected_labels)


def test_a_flip_is_the_exact_mirror():
    image, labels = scene(40, 40)
    found_image, found_labels = one(augment(40), image, labels, flip=True)
    assert_same_image(found_image, image.flip(-1))
    assert torch.equal(found_labels, labels.flip(-1).long())


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_quarter_turns_of_a_square_are_exact_and_the_same_for_image_and_labels(quarter_turns):
    image, labels = scene(24, 24)
    found_image, found_labels = one(augment(24), image, labels, angle_rad=quarter_turns * math.pi / 2)
    assert_same_image(found_image, image.rot90(quarter_turns, (-2, -1)))
    assert torch.equal(found_labels, labels.rot90(quarter_turns, (-2, -1)).long())


def test_scale_2_shows_each_pixel_as_four():
    image, labels = scene(32, 32)
    found_image, found_labels = one(augment(32), image, labels, scale=2.0, offset=(1.0, 1.0))
    corner = labels[16:, 16:].long()
    assert torch.equal(found_labels, corner.repeat_interleave(2, 0).repeat_interleave(2, 1))
    means = F.avg_pool2d(found_image[:, 2:-2, 2:-2], 2)  # of the four, away from the border
    blurred = F.conv2d(  # bilinear at +-1/4 px, averaged: the weights 1/8, 3/4, 1/8 per axis
        image[:, None].float(), torch.outer(*[torch.tensor([1.0, 6.0, 1.0]) / 8] * 2)[None, None]
    )[:, 0]
    assert_same_image(means, blurred[:, 16:, 16:][:, :14, :14])


def smooth_scene(h, w, seed=0):
    """Noise without its highest frequencies, as in photos."""
    rng = torch.Generator().manual_seed(seed)
    image = F.interpolate(torch.rand(1, 3, h // 3, w // 3, generator=rng), (h, w), mode="bicubic")[0]
    return (255 * image.clamp(0, 1)).byte(), torch.zeros(h, w, dtype=torch.uint8)


def test_half_size_equals_torchs_antialiased_interpolation():
    image, labels = scene(64, 64)
    found, _ = one(augment(32), image, labels, scale=0.5)
    expected = F.interpolate(image[None].float(), (32, 32), mode="bilinear", antialias=True)[0]
    assert_same_image(found[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1])  # at the border torch reads no black


@pytest.mark.parametrize("crop", [72, 60, 54, 42, 36, 30, 24, 18, 12])
def test_a_smaller_image_is_antialiased_as_torch_does(crop):
    image, labels = smooth_scene(96, 96)
    found, _ = one(augment(crop), image, labels, scale=crop / 96)
    expected, aliased = (
        F.interpolate(image[None].float(), (crop, crop), mode="bilinear", antialias=antialias)[0]
        for antialias in (True, False)
    )

    def error(image):
        return (image - expected)[:, 2:-2, 2:-2].square().mean().sqrt()

    assert error(found) < 0.75 * error(aliased)


def test_only_the_axis_that_shrinks_is_smoothed():
    stripes = (torch.arange(64) % 2 * 255).byte().expand(3, 64, 64)
    labels = torch.zeros(64, 64, dtype=torch.uint8)
    wide, _ = one(augment(32), stripes.transpose(1, 2), labels, scale=2**-0.5, aspect=0.5)  # x halves
    assert_same_image(wide[:, 1:-1, 1:-1], stripes.transpose(1, 2)[:, 1:31, 1:31])
    high, _ = one(augment(32), stripes, labels, scale=2**-0.5, aspect=0.5)
    assert_same_image(high[:, :, 1:-1], torch.full((3, 32, 30), 127.5))


@pytest.mark.parametrize("scale", [0.5, 0.25, 0.125])
def test_a_fine_checkerboard_becomes_grey_when_it_shrinks(scale):
    board = (torch.arange(128)[:, None] + torch.arange(128)) % 2 * 255
    image, labels = board.byte().expand(3, 128, 128), torch.ones(128, 128, dtype=torch.uint8)
    found_image, _ = one(augment(int(128 * scale)), image, labels, scale=scale)
    found_image = found_image[:, 1:-1, 1:-1]  # the border of a checkerboard is not grey
    assert_same_image(found_image, torch.full_like(found_image, 127.5))


@pytest.mark.parametrize("step_px", [1.7, 2.7, 3.3, 3.9, 5.3, 7.3, 10.6, 14.6])  # pyramid levels 0 to 3
def test_a_crop_pixel_averages_as_a_triangle_filter_of_two_steps(step_px):
    """The weights of the source pixels in a crop pixel have the variance of the antialiasing triangle,
    step^2 / 6: with less the image aliases, with more it is blurred. (At steps just above 2, 4 and 8 px the
    mean over a pyramid pixel is itself up to a sixth wider; those are not tested.)"""
    apart, w = 64, 512  # impulses so far apart that each is read separately
    columns = torch.arange(w)
    impulses = (255 * (columns % apart == torch.arange(apart)[:, None])).byte()  # (apart, w)
    images = impulses[:, None, None].expand(apart, 3, apart, w).contiguous()
    labels = torch.zeros(apart, apart, w, dtype=torch.uint8)
    augmentation = augment(int(w / step_px))
    parameters = [replace(NEUTRAL, scale=1 / step_px)] * apart
    found, _ = augmentation(images, labels, [(apart, w)] * apart, parameters)
    edge = math.ceil(apart / 2 / step_px)
    row = int(apart / 2 / step_px)
    weights = found[:, 0, row, edge:-edge].double() / 255  # (apart, n): of the columns = i modulo `apart`
    centres = (torch.arange(edge, edge + weights.shape[1]).double() + 0.5) * step_px - 0.5  # (n,)
    distance = (torch.arange(apart)[:, None] - centres + apart / 2) % apart - apart / 2  # (apart, n)
    torch.testing.assert_close(weights.sum(0), torch.ones_like(centres), rtol=0, atol=1e-3)
    mean = (weights * distance).sum(0)
    variance = (weights * distance.square()).sum(0) - mean.square()
    assert variance.mean().item() == pytest.approx(step_px**2 / 6, rel=0.03)


def source_to_crop(p, h, w, crop):
    """(3, 3): source pixel to crop pixel, by index. kornia's matrix, composed in the other direction."""

    def move(x, y):
        return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])

    scale_x, scale_y = p.scale * math.sqrt(p.aspect), p.scale / math.sqrt(p.aspect)
    left, top = p.offset[0] * (scale_x * w - crop), p.offset[1] * (scale_y * h - crop)
    left, top = left + p.shift[0] * crop, top + p.shift[1] * crop
    radians = torch.tensor(p.shear_rad)[:, None]
    steps = [
        move(0.5, 0.5),  # an index is the centre of its pixel
        np.diag([scale_x, scale_y, 1]),
        move(-left - crop / 2, -top - crop / 2),
        get_shear_matrix2d(torch.zeros(1, 2), *radians)[0].double().numpy(),
        # kornia rotates counter-clockwise, in degrees
        np.vstack(
            [
                get_rotation_matrix2d(
                    torch.zeros(1, 2).double(),
                    torch.tensor([math.degrees(p.angle_rad)]).double(),
                    torch.ones(1, 2).double(),
                )[0].numpy(),
                [0, 0, 1],
            ]
        ),
        np.diag([-1.0 if p.flip else 1.0, 1, 1]),
        move(crop / 2 - 0.5, crop / 2 - 0.5),
    ]
    return np.linalg.multi_dot(steps[::-1])


def midway_between_pixels(matrix, crop):
    """(S, S): the crop pixels that are read at a source point about halfway between two pixels."""
    places = np.stack(np.meshgrid(np.arange(crop), np.arange(crop))).reshape(2, -1)
    places = np.linalg.solve(matrix[:, :2], places - matrix[:, 2:])
    return torch.from_numpy((np.abs(places % 1 - 0.5) < 1e-3).any(axis=0).reshape(crop, crop))


@settings(max_examples=40)
@given(
    scale=st.floats(1.6, 4),  # so that no axis shrinks, which would be antialiased
    aspect=st.floats(0.75, 1.33),
    angle_rad=st.floats(-math.pi, math.pi),
    shear_rad=st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3)),
    shift=st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3)),
    flip=st.booleans(),
    offset=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_image_and_labels_go_where_kornia_puts_them(**warp):
    image, labels = scene(48, 40)
    found_image, found_labels = one(augment(32), image, labels, **warp)
    matrix = torch.from_numpy(source_to_crop(replace(NEUTRAL, **warp), 48, 40, 32))[None, :2]
    expected = warp_affine(image[None].double(), matrix, (32, 32), align_corners=True)[0]
    torch.testing.assert_close(found_image.double(), expected, rtol=0, atol=0.1)
    shifted = warp_affine(  # ids + 1, so that kornia's 0 outside is not an id
        labels[None, None].double() + 1, matrix, (32, 32), mode="nearest", align_corners=True
    )[0, 0]
    expected_labels = torch.where(shifted == 0, 256, shifted).long() - 1
    certain = ~midway_between_pixels(matrix[0].numpy(), 32)  # rounding may go either way for those
    assert torch.equal(found_labels[certain], expected_labels[certain])


# Labels


def test_void_can_be_any_id_even_0():
    image, labels = scene(12, 12)
    _, found = one(augment(32, ignore_index=0), image, labels + 1)
    assert torch.equal(found[:12, :12], labels.long() + 1)
    assert found.bool().sum() == 144


def inside(labels, radius_px=4):
    """Where all labels within the radius are the same and none is void; beyond the crop all is void."""
    labels = F.pad(labels[None].float(), [radius_px] * 4, value=255)
    largest, smallest = (
        sign * F.max_pool2d(sign * labels, 2 * radius_px + 1, stride=1)[0] for sign in (1, -1)
    )
    return (largest == smallest) & (largest < 255)


def test_the_alignment_test_detects_a_shift_of_one_pixel():
    image, labels = blocks(64, 64)
    found_image, found_labels = one(augment(64), image, labels.roll(6, 1))
    whole = inside(found_labels)
    assert (found_image[0] - 20 - 100 * found_labels)[whole].abs().max() > 50


# Elastic


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_an_elastic_deformation_is_in_pixels_of_the_crop(scale):
    image, labels = blocks(64, 64, block_px=8)
    bend = np.zeros_like(NEUTRAL.bend_px)
    bend[0] = 4  # reads 4 px further right, everywhere
    bend[1] = -6  # and 6 px further up
    offset = (0.5, 0.5)
    straight = one(augment(64), image, labels, scale=scale, offset=offset)
    bent = one(augment(64, elastic=6), image, labels, scale=scale, offset=offset, bend_px=bend)
    assert_same_image(bent[0][:, 6:, :-4], straight[0][:, :-6, 4:])
    assert torch.equal(bent[1][6:, :-4], straight[1][:-6, 4:])


def test_an_elastic_deformation_varies_over_the_image():
    augmentation = augment(64, elastic=8)
    bend = augmentation.parameters("a", 0).bend_px
    assert np.abs(bend).max() <= 8 and bend.std() > 2
    image, labels = blocks(64, 64)
    _, bent = one(augmentation, image, labels, bend_px=bend)
    moved = (bent != labels).float().mean()
    assert 0.02 < moved < 0.6


def test_masks_of_several_classes_move_as_each_alone():
    """(C, h, w) labels, void outside in every mask, through scale, rotation, flip and elastic deformation."""
    image, first = scene(40, 56, ids=2)
    second = scene(40, 56, seed=1, ids=2)[1]
    second[:5] = 255
    changes = {"scale": 0.8, "angle_rad": 0.4, "flip": True, "offset": (0.3, 0.6)}
    changes["bend_px"] = np.random.default_rng(0).uniform(-2, 2, NEUTRAL.bend_px.shape)
    augmentation = augment(32)
    alone = [one(augmentation, image, mask, **changes)[1] for mask in (first, second)]
    images, _, sizes = batch_of([(image, first)])
    masks = torch.full((1, 2, *images.shape[2:]), 255, dtype=torch.uint8)
    masks[0, :, :40, :56] = torch.stack([first, second])
    _, together = augmentation(images, masks, sizes, [replace(NEUTRAL, **changes)])
    assert together.shape == (1, 2, 32, 32)
    assert torch.equal(together[0], torch.stack(alone))
    assert (together == 255).any()
    assert set(together.unique().tolist()) == {0, 1, 255}
