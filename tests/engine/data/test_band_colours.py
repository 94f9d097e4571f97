"""Augmentation of other bands than RGB: colours change in the bands that are colours, the geometry in all."""

import pytest
import torch

from engine.data.augment import Augment
from engine.data.options import Augment as Section

SIDE = 32
STRONG = {"crop": SIDE, "brightness": 0.3, "contrast": 0.5, "saturation": 0.5, "hue": 0.3, "grayscale": 0.5}
STILL = {"scale": [1, 1], "rotate_deg": 0, "flip": 0}


def augmented(images: torch.Tensor, bands: tuple[str, ...] | None, **changes: object) -> torch.Tensor:
    section = Section(**{**STRONG, **changes})
    augment = Augment(section, 3, 255, bands)
    parameters = [augment.parameters(str(i), 0) for i in range(len(images))]
    labels = torch.zeros(len(images), SIDE, SIDE, dtype=torch.uint8)
    return augment(images, labels, [(SIDE, SIDE)] * len(images), parameters)[0]


@pytest.fixture
def images() -> torch.Tensor:
    """(4, 5, S, S)"""
    return torch.randint(0, 256, (4, 5, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).byte()


@pytest.mark.parametrize("order", [[0, 1, 2], [4, 2, 0], [3, 1, 4]])
@pytest.mark.parametrize("jpeg", [0, 1])
def test_colours_change_as_in_an_rgb_image_and_other_bands_stay(images, order, jpeg) -> None:
    names = [f"other{i}" for i in range(5)]
    for name, place in zip(("red", "green", "blue"), order, strict=True):
        names[place] = name
    found = augmented(images, tuple(names), jpeg=jpeg, **STILL)
    alone = augmented(images[:, order], None, jpeg=jpeg, **STILL)
    others = [i for i in range(5) if i not in order]
    assert torch.equal(found[:, order], alone)
    assert (found[:, others] - images[:, others].float()).abs().max() < 1e-3  # the warp interpolates
    assert (alone - images[:, order].float()).abs().mean() > 10


def test_a_grey_band_changes_as_a_grey_rgb_image(images) -> None:
    grey = images[:, :1]
    found = augmented(grey, ("grey",), **STILL)
    alone = augmented(grey.expand(-1, 3, -1, -1), None, **STILL)
    assert torch.allclose(found, alone[:, :1], atol=1e-3)


def test_the_geometry_and_blur_and_noise_change_every_band(images) -> None:
    same = images[:, :1].expand(-1, 5, -1, -1).contiguous()
    off = dict.fromkeys(("brightness", "contrast", "saturation", "hue", "grayscale"), 0)
    found = augmented(same, ("a", "b", "c", "d", "e"), blur=1.5, **off)
    assert torch.allclose(found, found[:, :1].expand_as(found), atol=1e-3)
    assert (found - same.float()).abs().mean() > 10
    noisy = augmented(images, ("a", "b", "c", "d", "e"), noise=0.5, **off, **STILL)
    assert ((noisy - images.float()).abs().mean((2, 3)) > 1).all()
