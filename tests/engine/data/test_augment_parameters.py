"""The parameters of augmentation: pure in (seed, epoch, id), and spread over the ranges of the section."""

import math

import numpy as np

from engine.data.augment import Augment
from engine.recipe.sections import Augment as Section


def flat(p):
    return [p.scale, p.angle_rad, p.flip, *p.offset, p.brightness, p.contrast, p.saturation, p.hue, p.blur_px,
            *p.bend_px.ravel()]  # fmt: skip


def test_parameters_are_a_pure_function_of_seed_epoch_and_id():
    section = Section.model_construct(blur=1, elastic=3)

    def draw(seed, epoch, id):
        return flat(Augment(section, seed, 255).parameters(id, epoch))

    first = draw(0, 0, "a")
    used = Augment(section, 0, 255)
    for id in "zyxa":
        last = flat(used.parameters(id, 0))
    assert last == first
    others = [draw(1, 0, "a"), draw(0, 1, "a"), draw(0, 0, "b"), draw(1, 1, "a"), draw(0, 2, "a")]
    for number, draws in enumerate([first, *others]):
        for more in others[number:]:
            same = [x == y for x, y in zip(draws, more, strict=True)]
            assert sum(same) <= 1  # flip, which has two values only


def test_parameters_fill_the_ranges_of_the_section():
    section = Section.model_construct(blur=2, elastic=3, flip=0.25)
    augmentation = Augment(section, 0, 255)
    drawn = np.array([flat(augmentation.parameters(f"{n}", 0)) for n in range(1000)])
    turn = math.radians(10)
    lowest = [0.5, -turn, 0, 0, 0, -0.12, 0.5, 0.5, -0.07, 0, *[-3] * 72]
    highest = [2.0, turn, 1, 1, 1, 0.12, 1.5, 1.5, 0.07, 2, *[3] * 72]
    assert (drawn >= lowest).all() and (drawn <= highest).all()
    reach = np.subtract(highest, lowest)
    assert (drawn.max(axis=0) > highest - 0.02 * reach).all()
    assert (drawn.min(axis=0) < lowest + 0.02 * reach).all()
    means = np.add(highest, lowest) / 2
    means[2] = 0.25
    assert (np.abs(drawn.mean(axis=0) - means) < 0.05 * reach).all()
    correlation = np.corrcoef(drawn[:, :10].T) - np.eye(10)
    assert np.abs(correlation).max() < 0.15
