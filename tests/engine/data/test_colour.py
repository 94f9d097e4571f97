"""Colour and blur: equal to kornia and to values computed by hand, on the image only."""

import math
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from kornia import enhance
from PIL import Image

from engine.data.augment import Augment, Parameters
from engine.data.options import Augment as Section

NEUTRAL = Parameters()
SECTION = {
    "scale": [1, 1],
    "rotate_deg": 0,
    "brightness": 0.5,
    "contrast": 0.5,
    "saturation": 0.5,
    "hue": 0.5,
}
SIDE_PX = 40


def scene():
    """An image of noise and its labels, noise too."""
    rng = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, SIDE_PX, SIDE_PX), dtype=torch.uint8, generator=rng)
    return image, torch.randint(0, 21, (SIDE_PX, SIDE_PX), dtype=torch.uint8, generator=rng)


def one(image, labels, blur=0.0, **changes):
    """One sample whose pixels stay where they are: image (3, S, S) and labels (S, S)."""
    augmentation = Augment(Section.model_construct(crop=SIDE_PX, blur=blur, **SECTION), 0, 255)
    sizes = [(SIDE_PX, SIDE_PX)]
    images, labels = augmentation(image[None], labels[None], sizes, [replace(NEUTRAL, **changes)])
    return images[0], labels[0]


# Colour


@pytest.mark.parametrize(
    ("brightness", "contrast", "saturation", "hue"),
    [
        (0.1, 1, 1, 0),
        (0, 0.6, 1, 0),
        (0, 1, 1.4, 0),
        (0, 1, 1, 0.07),
        (0.12, 1.5, 0.5, -0.07),
        (-0.12, 1.3, 1.5, 0.5),
        (0.5, 0.5, 1, 0),
    ],
)
def test_colour_equals_kornias_functions_in_this_order(brightness, contrast, saturation, hue):
    image, labels = scene()
    found_image, found_labels = one(
        image, labels, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue
    )
    expected = enhance.adjust_brightness(image.float() / 255, float(brightness))
    expected = enhance.adjust_contrast(expected, float(contrast))
    expected = enhance.adjust_saturation(expected, float(saturation))
    expected = enhance.adjust_hue(expected, 2 * math.pi * hue)
    torch.testing.assert_close(found_image, 255 * expected, rtol=0, atol=0.1)
    assert torch.equal(found_labels, labels.long())


def test_known_colours_change_as_computed_by_hand():
    image, labels = scene()
    image[1:] = 0
    image[0] = 102  # red at 0.4

    def colour_of(**changes):
        return one(image, labels, **changes)[0][:, 4, 4].tolist()

    assert colour_of(brightness=0.2) == pytest.approx([153, 51, 51], abs=0.01)
    assert colour_of(brightness=0.2, contrast=0.5) == pytest.approx([76.5, 25.5, 25.5], abs=0.01)
    assert colour_of(saturation=0.5) == pytest.approx([102, 51, 51], abs=0.01)
    assert colour_of(hue=1 / 3) == pytest.approx([0, 102, 0], abs=0.01)
    assert colour_of(hue=-1 / 3) == pytest.approx([0, 0, 102], abs=0.01)


# Blur


def test_blur_changes_the_image_and_not_the_labels():
    image, labels = scene()
    image = torch.zeros_like(image)
    image[:, 16, 16] = 255
    found_image, found_labels = one(image, labels, blur=2, blur_px=1.5)
    distance = torch.arange(40.0) - 16
    bell = torch.exp(-(distance**2) / (2 * 1.5**2)) * (distance.abs() <= 6)  # as far as 3 x the largest sigma
    expected = 255 * torch.outer(bell, bell) / bell.sum() ** 2
    torch.testing.assert_close(found_image, expected.expand(3, -1, -1), rtol=0, atol=0.02)
    assert torch.equal(found_labels, labels.long())


def test_sigma_0_does_not_blur():
    image, labels = scene()
    torch.testing.assert_close(one(image, labels, blur=2, blur_px=0.0)[0], image.float(), rtol=0, atol=0.02)


# Grey, noise, JPEG


def test_grey_is_the_luminance_in_all_channels():
    image, labels = scene()
    found_image, found_labels = one(image, labels, grayscale=True)
    grey = (image.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)
    torch.testing.assert_close(found_image, grey.expand(3, -1, -1), rtol=0, atol=0.02)
    assert torch.equal(found_labels, labels.long())


def test_noise_has_its_sigma_and_depends_on_its_seed():
    _, labels = scene()
    image = torch.full((3, SIDE_PX, SIDE_PX), 128, dtype=torch.uint8)
    first, found_labels = one(image, labels, noise=0.1, noise_seed=1)
    assert abs((first - 128).mean()) < 1.5 and (first - 128).std() == pytest.approx(25.5, rel=0.05)
    assert torch.equal(one(image, labels, noise=0.1, noise_seed=1)[0], first)
    assert not torch.equal(one(image, labels, noise=0.1, noise_seed=2)[0], first)
    assert torch.equal(found_labels, labels.long())
    loud, _ = one(image, labels, noise=1.0)
    assert loud.min() == 0 and loud.max() == 255


@pytest.mark.parametrize("quality", [30, 60, 95])
def test_compression_is_close_to_that_of_jpeg(quality):
    _, labels = scene()
    waves = torch.arange(SIDE_PX) / 3
    image = (
        128 + 60 * torch.stack([waves.sin().outer(waves.cos()), waves.cos().outer(waves.cos())] * 2)[:3]
    ).byte()
    found_image, found_labels = one(image, labels, jpeg_quality=float(quality))
    file = BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    expected = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float()

    def difference(a, b):
        return (a - b).square().mean().sqrt()

    assert difference(found_image, expected) < 0.6 * difference(image, expected) + 1
    assert difference(found_image, image) > 0.5
    assert torch.equal(found_labels, labels.long())
