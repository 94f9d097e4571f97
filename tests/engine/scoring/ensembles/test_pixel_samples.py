"""Which pixels are drawn, and how many."""

import numpy as np
import torch

from engine.scoring.ensembles.pixel_samples import (
    BUDGET,
    MOST_AN_IMAGE,
    PixelSamples,
    draw_places,
    pixels_an_image,
)

VOID = 255


def test_pixels_are_labelled_rising_and_of_the_id_alone() -> None:
    labels = torch.full((20, 30), VOID, dtype=torch.uint8)
    labels[5:15, 10:20] = 3
    places = draw_places(labels, "a", 40, VOID)
    assert len(places) == 40
    assert (labels.flatten()[places] == 3).all()
    assert (places[1:] > places[:-1]).all()  # so none comes twice
    assert torch.equal(places, draw_places(labels, "a", 40, VOID))
    assert not torch.equal(places, draw_places(labels, "b", 40, VOID))


def test_an_image_with_fewer_labels_gives_all_of_them() -> None:
    labels = torch.full((4, 4), VOID)
    assert len(draw_places(labels, "void", 9, VOID)) == 0
    labels[1, 1:3] = 0
    assert draw_places(labels, "two", 9, VOID).tolist() == [5, 6]


def test_the_budget_holds_whatever_the_set() -> None:
    for num_images, num_members, num_classes in [(100, 3, 6), (1449, 3, 21), (2000, 3, 150), (5000, 10, 171)]:
        number = pixels_an_image(num_images, num_members, num_classes)
        assert 1 <= number <= MOST_AN_IMAGE
        assert number * num_images * num_members * num_classes <= BUDGET
    assert pixels_an_image(100, 3, 6) == MOST_AN_IMAGE


def test_those_of_some_images_are_taken_out() -> None:
    probabilities = torch.rand(4, 2, 3)
    samples = PixelSamples(probabilities, torch.tensor([0, 1, 2, 0]), torch.tensor([0, 0, 1, 2]))
    some = samples.of(np.array([True, False, True]))
    assert torch.equal(some.probabilities, probabilities[[0, 1, 3]])
    assert some.labels.tolist() == [0, 1, 0]
    assert len(PixelSamples.join([some, samples])) == 7
