"""The parameters of augmentation: a pure function of (seed, epoch, id), spread over the section's ranges."""

import math

import numpy as np

from engine.data.augment import Augment
from engine.data.options import Augment as Section


def flat(p):
    return [p.scale, p.angle_rad, p.flip, *p.offset, p.brightness, p.contrast, p.saturation, p.hue, p.blur_px,
            math.log(p.aspect), *p.shear_rad, *p.shift, p.grayscale, p.noise, p.jpeg_quality is not None,
            *p.redraws.ravel(), *p.bend_px.ravel()]  # fmt: skip


NEW_KEYS = {"aspect": 1.5, "shear_deg": 20, "translate": 0.4, "grayscale": 0.25, "noise": 0.1, "jpeg": 0.5}


def test_parameters_are_a_pure_function_of_seed_epoch_and_id():
    section = Section.model_construct(blur=1, elastic=3, **NEW_KEYS)

    def draw(seed, epoch, id, host=""):
        return flat(Augment(section, seed, 255).parameters(id, epoch, host))

    first = draw(0, 0, "a")
    used = Augment(section, 0, 255)
    for id in "zyxa":
        last = flat(used.parameters(id, 0))
    assert last == first
    others = [draw(1, 0, "a"), draw(0, 1, "a"), draw(0, 0, "b"), draw(1, 1, "a"), draw(0, 2, "a")]
    others += [draw(0, 0, "a", "b 0"), draw(0, 0, "a", "b 1"), draw(0, 1, "a", "b 0")]  # as a guest
    for number, draws in enumerate([first, *others]):
        for more in others[number:]:
            same = [x == y for x, y in zip(draws, more, strict=True)]
            assert sum(same) <= 3  # flip, grayscale and compression, which have two values only


def test_new_keys_do_not_change_the_draws_of_old_ones():
    old, new = (Augment(Section.model_construct(**keys), 0, 255) for keys in ({}, NEW_KEYS))
    for id in "abc":
        before, after = flat(old.parameters(id, 0)), flat(new.parameters(id, 0))
        assert before[:10] == after[:10] and before[-72:] == after[-72:]


def test_a_smaller_crop_shows_the_same_part_of_the_image() -> None:
    """All lengths are in proportion to the crop: scale, blur, elastic; shares of it and colours stay."""
    smaller = [{"crop": 16, "until": 3}, {"crop": 48, "until": 5}]
    keys = {"crop": 64, "scale": [0.5, 2.0], "blur": 2.0, "elastic": 4.0, "translate": 0.2}
    augment = Augment(Section.model_validate({**keys, "progressive": smaller}), 0, 255)
    assert [augment.at(step).section.crop for step in range(7)] == [16, 16, 16, 48, 48, 64, 64]
    whole, part = (vars(augment.at(step).parameters("a", 1)) for step in (5, 2))
    for name, value in whole.items():
        share = 1 / 4 if name in ("scale", "blur_px", "bend_px") else 1
        expected = value if value is None else share * np.asarray(value)
        np.testing.assert_equal(part[name], expected, err_msg=name)  # a quarter is exact


def test_parameters_fill_the_ranges_of_the_section():
    section = Section.model_construct(blur=2, elastic=3, flip=0.25, **NEW_KEYS)
    augmentation = Augment(section, 0, 255)
    drawn = np.array([flat(augmentation.parameters(f"{n}", 0)) for n in range(1000)])
    turn, shear, aspect = math.radians(10), math.radians(20), math.log(1.5)
    places = [0] * 20, [1] * 20
    lowest = [0.5, -turn, 0, 0, 0, -0.12, 0.5, 0.5, -0.07, 0, -aspect, -shear, -shear, -0.4, -0.4, 0, 0, 0]
    highest = [2.0, turn, 1, 1, 1, 0.12, 1.5, 1.5, 0.07, 2, aspect, shear, shear, 0.4, 0.4, 1, 0.1, 1]
    lowest, highest = [*lowest, *places[0], *[-3] * 72], [*highest, *places[1], *[3] * 72]
    assert (drawn >= lowest).all() and (drawn <= highest).all()
    reach = np.subtract(highest, lowest)
    assert (drawn.max(axis=0) > highest - 0.02 * reach).all()
    assert (drawn.min(axis=0) < lowest + 0.02 * reach).all()
    means = np.add(highest, lowest) / 2
    means[[2, 15]] = 0.25
    assert (np.abs(drawn.mean(axis=0) - means) < 0.05 * reach).all()
    correlation = np.corrcoef(drawn[:, :38].T) - np.eye(38)
    assert np.abs(correlation).max() < 0.15


def test_the_quality_of_compression_is_within_its_range():
    augmentation = Augment(Section.model_construct(jpeg=1.0), 0, 255)
    drawn = [augmentation.parameters(f"{n}", 0).jpeg_quality for n in range(300)]
    assert 30 <= min(drawn) < 32 and 93 < max(drawn) <= 95
