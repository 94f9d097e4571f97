"""No class has a colour that looks like a wrong pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.formats.ade20k import ADE20K_PALETTE
from engine.data.formats.camvid import CAMVID_PALETTE
from engine.data.formats.cityscapes import CITYSCAPES_PALETTE
from engine.data.formats.voc import voc_palette
from engine.reporting.colours import LEAST_DISTANCE, UNSCORED, VOID, WRONG, display_colours, distance

CHAIR = 9  # (192, 0, 0) in VOC
palettes = st.lists(st.tuples(*[st.integers(0, 255)] * 3), max_size=30).map(tuple)


def test_distances_of_known_colours() -> None:
    """White has lightness 1 and no colour; red and green are those of CSS Color 4."""
    black, white = (0, 0, 0), (255, 255, 255)
    assert distance([black], [white])[0, 0] == pytest.approx(1, abs=1e-6)
    red = (0.628, 0.225, 0.126)
    assert distance([(255, 0, 0)], [black])[0, 0] == pytest.approx(np.linalg.norm(red), abs=1e-3)
    green = (0.866, -0.234, 0.179)
    apart = np.subtract(red, green)
    assert distance([(255, 0, 0)], [(0, 255, 0)])[0, 0] == pytest.approx(np.linalg.norm(apart), abs=1e-3)


@pytest.mark.parametrize(
    "palette",
    [voc_palette(21), voc_palette(60), voc_palette(200), ADE20K_PALETTE, CITYSCAPES_PALETTE, CAMVID_PALETTE],
    ids=["voc21", "voc60", "voc200", "ade20k", "cityscapes", "camvid"],
)
def test_the_colours_of_data_sets_stay_apart_from_wrong_and_different(palette) -> None:
    shown = display_colours(palette)
    assert len(shown) == len(palette) and len(set(shown)) == len(set(palette))
    assert distance(shown, [WRONG]).min() >= LEAST_DISTANCE
    changed = [new for old, new in zip(palette, shown, strict=True) if new != old]
    assert not {*changed} & {VOID, UNSCORED, *palette}


@given(palettes)
def test_only_colours_near_wrong_are_replaced(palette) -> None:
    near = distance(palette, [WRONG])[:, 0] < LEAST_DISTANCE
    for old, new, is_near in zip(palette, display_colours(palette), near, strict=True):
        assert (new != old) == is_near
        assert distance([new], [WRONG])[0, 0] >= LEAST_DISTANCE


def test_of_voc_only_the_red_of_chairs_is_replaced() -> None:
    palette = voc_palette(21)
    shown = display_colours([list(colour) for colour in palette])  # as JSON has it
    assert [id for id in range(21) if shown[id] != palette[id]] == [CHAIR]
