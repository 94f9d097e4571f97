"""Pictures, against pixels computed by hand. Void is 255."""

import math

import numpy as np
import torch

from engine.reporting.colours import UNSCORED, VOID, WRONG
from engine.reporting.pictures import (
    Picture,
    classes_in,
    colourise,
    error_map,
    fitted,
    overlay,
    panels,
    share_right,
    sheet,
)

PALETTE = ((0, 0, 0), (200, 140, 0), (0, 100, 250))
NAMES = ("background", "cat", "dog")
LABELS = torch.tensor([[0, 1, 255], [2, 2, 0]], dtype=torch.uint8)
PREDICTION = torch.tensor([[0, 2, 1], [2, 1, 0]])
PICTURE = Picture("one", torch.full((3, 2, 3), 100, dtype=torch.uint8), LABELS, PREDICTION)


def drawn(height: int, width: int, labels: int = 1, prediction: int = 1) -> Picture:
    """A picture of one class, predicted as one class."""
    image = torch.full((3, height, width), 90, dtype=torch.uint8)
    return Picture(
        f"{height}x{width}",
        image,
        torch.full((height, width), labels, dtype=torch.uint8),
        torch.full((height, width), prediction),
    )


def test_colours_are_those_of_the_palette_and_void_has_its_own() -> None:
    assert colourise(LABELS, PALETTE, 255).tolist() == [
        [[0, 0, 0], [200, 140, 0], list(VOID)],
        [[0, 100, 250], [0, 100, 250], [0, 0, 0]],
    ]


def test_any_integer_type_and_any_void_id_are_accepted() -> None:
    labels = torch.tensor([[-100, 2]])
    assert colourise(labels, PALETTE, -100).tolist() == [[list(VOID), [0, 100, 250]]]


def test_overlay_mixes_image_and_colour() -> None:
    mixed = overlay(PICTURE.image, LABELS, PALETTE, 255, opacity=0.25)
    assert mixed.dtype == np.uint8
    assert mixed[0, 0].tolist() == [75, 75, 75]  # 0.75 * 100 + 0.25 * 0
    assert mixed[0, 1].tolist() == [125, 110, 75]  # + 0.25 * (200, 140, 0)


def test_wrong_pixels_are_red_right_ones_dimmed_and_void_grey() -> None:
    right, wrong, void = [40, 40, 40], list(WRONG), list(UNSCORED)  # 0.4 * 100
    assert error_map(PICTURE, 255).tolist() == [[right, wrong, void], [right, wrong, right]]


def test_void_is_never_an_error() -> None:
    assert (error_map(drawn(2, 2, labels=255, prediction=255), 255) == UNSCORED).all()


def test_the_share_of_right_pixels_ignores_void() -> None:
    assert share_right(PICTURE, 255) == 3 / 5
    assert math.isnan(share_right(drawn(2, 2, labels=255), 255))


def test_classes_are_those_of_labels_and_predictions() -> None:
    assert classes_in([PICTURE], 255) == [0, 1, 2]
    assert classes_in([drawn(2, 2, labels=255, prediction=2)], 255) == [2]


def test_panels_do_not_modify_the_picture() -> None:
    before = PICTURE.image.clone()
    views = panels(PICTURE, PALETTE, 255)
    assert list(views) == ["image", "label", "prediction", "errors"]
    assert {view.shape for view in views.values()} == {(2, 3, 3)}
    assert torch.equal(PICTURE.image, before)


def test_fitted_keeps_proportions_and_sharp_pixels() -> None:
    pixels = colourise(LABELS, PALETTE, 255)  # 2 x 3
    large = fitted(pixels, 300, 20)
    assert large.size == (30, 20)
    assert np.array_equal(np.asarray(large), pixels.repeat(10, axis=0).repeat(10, axis=1))
    assert fitted(np.zeros((100, 50, 3), np.uint8), 10, 10).size == (5, 10)
    assert fitted(np.zeros((1000, 2, 3), np.uint8), 10, 10).size == (1, 10)


def test_all_rows_of_a_sheet_have_the_same_height() -> None:
    one = sheet([drawn(40, 60)], PALETTE, NAMES, 255, row_height_px=80)
    two = sheet([drawn(40, 60), drawn(60, 40)], PALETTE, NAMES, 255, row_height_px=80)
    assert one.mode == two.mode == "RGB"
    assert one.width == two.width  # the wider picture sets the columns
    assert 80 < two.height - one.height < 120


def test_sheet_shows_the_right_pixels_in_the_right_columns() -> None:
    pixels = np.asarray(
        sheet([drawn(40, 40, labels=1, prediction=2)], PALETTE, NAMES, 255, row_height_px=100)
    )
    middle = pixels[100]  # a line through the panels
    colours = [tuple(middle[20 + column * 108 + 50].tolist()) for column in range(4)]
    image, label, prediction = (90, 90, 90), (150, 118, 40), (40, 96, 178)  # 0.45 * 90 + 0.55 * colour
    assert colours == [image, label, prediction, WRONG]


def test_the_legend_names_the_classes_that_occur() -> None:
    def colours(picture: Picture) -> set[tuple[int, ...]]:
        image = sheet([picture], PALETTE, NAMES, 255, row_height_px=100)
        return {colour for _, colour in image.getcolors(1 << 20)}

    assert PALETTE[1] in colours(drawn(40, 40)) and PALETTE[2] not in colours(drawn(40, 40))
    assert PALETTE[2] in colours(drawn(40, 40, prediction=2))
    assert VOID in colours(drawn(40, 40, labels=255)) and VOID not in colours(drawn(40, 40))


def test_a_long_legend_takes_more_lines() -> None:
    labels = torch.arange(40).view(4, 10).to(torch.uint8)
    many = Picture("many", torch.zeros(3, 4, 10, dtype=torch.uint8), labels, labels)
    palette, names = tuple((i, i, i) for i in range(40)), [f"class number {i}" for i in range(40)]
    few = Picture("few", many.image, labels * 0, labels * 0)
    assert sheet([many], palette, names, 255).height > sheet([few], palette, names, 255).height + 40
