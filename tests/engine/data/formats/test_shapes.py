"""COCO's areas against naive code: a point-in-polygon test at every pixel's centre, run lengths by loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.formats.shapes import area_of
from engine.data.sample import DataError


def naive_polygon(points: list[tuple[float, float]], h: int, w: int) -> np.ndarray:
    """The even-odd rule at the centre of each pixel, one at a time."""
    area = np.zeros((h, w), bool)
    for row in range(h):
        for column in range(w):
            x, y, inside = column + 0.5, row + 0.5, False
            for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
                if (y0 <= y) != (y1 <= y) and x >= x0 + (y - y0) * ((x1 - x0) / (y1 - y0)):
                    inside = not inside
            area[row, column] = inside
    return area


# Sixteenths, so that the crossings are exact enough to be the same in both computations.
COORDINATE = st.integers(-40, 240).map(lambda number: number / 16)


@given(
    st.lists(st.tuples(COORDINATE, COORDINATE), min_size=1, max_size=8),
    st.integers(1, 12),
    st.integers(1, 12),
)
def test_a_polygon_covers_the_pixels_whose_centres_are_inside(points, h: int, w: int) -> None:
    flat = [number for point in points for number in point]
    assert (area_of([flat], h, w) == naive_polygon(points, h, w)).all()


def test_a_box_covers_its_pixels_and_parts_are_joined() -> None:
    area = area_of([[1, 1, 3, 1, 3, 4, 1, 4], [2, 3, 5, 3, 5, 5, 2, 5]], 5, 6)
    assert area.astype(int).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 1, 0],
        [0, 0, 1, 1, 1, 0],
    ]


def packed(counts: list[int]) -> str:
    """Run lengths as COCO's code packs them, from the description in its source."""
    text = ""
    for place, count in enumerate(counts):
        number = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            digit, number = number & 31, number >> 5
            more = number != (-1 if digit & 16 else 0)
            text += chr(48 + digit + 32 * more)
    return text


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=40))
def test_run_lengths_go_down_the_columns(columns: list[list[bool]]) -> None:
    counts, inside = [0], False
    for pixel in [pixel for column in columns for pixel in column]:
        if pixel != inside:
            counts.append(0)
            inside = pixel
        counts[-1] += 1
    for form in (counts, packed(counts)):
        area = area_of({"counts": form, "size": [3, len(columns)]}, 3, len(columns))
        assert area.T.tolist() == columns


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=20))
def test_long_runs_are_unpacked(counts: list[int]) -> None:
    total = sum(counts)
    area = area_of({"counts": packed(counts), "size": [total, 1]}, total, 1)
    assert np.count_nonzero(area) == sum(counts[1::2])


def test_text_written_by_pycocotools_is_decoded() -> None:
    """Its version 2.0.11, for a box, two whole columns and one pixel in 37 x 50 pixels."""
    expected = np.zeros((37, 50), bool)
    expected[5:30, 4:9] = expected[:, 20:22] = expected[3, 40] = True
    found = area_of({"size": [37, 50], "counts": "i4i0<0000000b<a1o7gMaF"}, 37, 50)
    assert (found == expected).all()


@pytest.mark.parametrize(
    ("segmentation", "text"),
    [
        ({"counts": [3, 3], "size": [2, 2]}, "do not fill 2 x 2"),
        ({"counts": [-1, 5], "size": [2, 2]}, "do not fill 2 x 2"),
        ({"counts": ["a"], "size": [2, 2]}, "not numbers"),
        ({"counts": [4], "size": [4, 1]}, "of size [4, 1] in an image of [2, 2]"),
        ({"counts": [4]}, "of size None"),
        ([[0, 0, 1]], "not a list of x, y"),
        ([[0, 0, 1, float("nan"), 2, 2]], "not a list of x, y"),
    ],
)
def test_invalid_segmentations_are_an_error_that_says_what_is_wrong(segmentation, text: str) -> None:
    with pytest.raises(DataError) as caught:
        area_of(segmentation, 2, 2)
    assert text in str(caught.value)
