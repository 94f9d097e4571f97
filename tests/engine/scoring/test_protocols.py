"""The geometry of each protocol, against values computed by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.scoring.options import PROTOCOLS, Eval
from engine.scoring.protocols import EvaluationProtocol, Rectangle

WHOLE_VOC = Rectangle(0, 0, 375, 500)


def only_view(name: str, h: int, w: int, **settings):
    [view] = EvaluationProtocol(name, **settings).views(h, w)
    return view


def test_native_is_the_unchanged_image() -> None:
    view = only_view("native", 375, 500)
    assert (view.box, view.canvas, view.size, view.stops) == (WHOLE_VOC, (375, 500), (375, 500), ())


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((375, 500), (512, 683)),  # 500 * 512 / 375 = 682.67
        ((500, 333), (769, 512)),  # 500 * 512 / 333 = 768.77
        ((1024, 2048), (512, 1024)),
        ((100, 1000), (205, 2048)),  # the long side is the limit: 204.8
    ],
)
def test_mmseg_fits_the_image_into_2048_by_512(size, seen) -> None:
    view = only_view("mmseg", *size)
    assert (view.size, view.stops, view.canvas) == (seen, (seen,), size)
    assert not view.antialias  # as cv2.INTER_LINEAR


def test_mmseg_rounds_half_up_as_mmcv_does() -> None:
    """33 x 1024 px: a factor of 2, at a quarter of it 0.5, and 16.5 px, of which round() would make 16."""
    assert only_view("mmseg", 33, 1024, scales=(0.25,)).size == (17, 512)


def test_paddle_pads_to_512_and_does_not_change_larger_sides() -> None:
    assert only_view("paddle", 375, 500).canvas == (512, 512)
    assert only_view("paddle", 375, 600).canvas == (512, 600)
    assert only_view("paddle", 375, 500, scales=(0.5,)).size == (256, 256)


def test_centercrop_sees_and_scores_only_the_centre_square() -> None:
    view = only_view("centercrop", 375, 500)
    assert view.box == EvaluationProtocol("centercrop").region(375, 500) == Rectangle(0, 62, 375, 375)
    assert view.size == (513, 513)
    assert EvaluationProtocol("centercrop").card()["whole_image"] is False


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name != "centercrop"])
def test_all_others_score_the_whole_image(name: str) -> None:
    assert EvaluationProtocol(name).region(375, 500) == WHOLE_VOC
    assert EvaluationProtocol(name).card()["whole_image"] is True


def test_the_last_window_is_shifted_inside() -> None:
    protocol = EvaluationProtocol("slide", window_px=4, stride_px=3)
    lefts = [view.box.left for view in protocol.views(4, 12)]
    assert lefts == [0, 3, 6, 8]
    assert {view.box.height for view in protocol.views(3, 12)} == {3}  # an image lower than a window


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.data())
def test_windows_have_one_size_and_cover_the_image(h: int, w: int, window: int, data) -> None:
    stride = data.draw(st.integers(1, window))
    times = np.zeros((h, w), int)
    boxes = [view.box for view in EvaluationProtocol("slide", window_px=window, stride_px=stride).views(h, w)]
    for top, left, height, width in boxes:
        assert top >= 0 and left >= 0 and top + height <= h and left + width <= w
        times[top : top + height, left : left + width] += 1
    assert times.min() >= 1
    assert {(box.height, box.width) for box in boxes} == {(min(window, h), min(window, w))}
    assert len(set(boxes)) == len(boxes)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_each_box_is_seen_at_every_scale_and_mirrored(name: str) -> None:
    single = EvaluationProtocol(name, window_px=64, stride_px=64)
    several = EvaluationProtocol(name, (0.5, 1.0, 2.0), flip=True, window_px=64, stride_px=64)
    assert len(several.views(90, 100)) == 6 * len(single.views(90, 100))
    assert sum(view.mirrored for view in several.views(90, 100)) == 3 * len(single.views(90, 100))


def test_a_protocol_follows_the_recipe() -> None:
    section = Eval(
        protocol="slide", scales=[0.5], flip=True, average="logit", window=300, stride=200, multiple=8
    )
    assert EvaluationProtocol.of(section) == EvaluationProtocol("slide", (0.5,), True, "logit", 300, 200, 8)
    assert EvaluationProtocol.of(Eval()) == EvaluationProtocol()


@pytest.mark.parametrize(
    ("name", "size", "seen"),
    [
        ("native", (375, 500), (384, 512)),
        ("native", (384, 512), (384, 512)),
        ("mmseg", (375, 500), (512, 704)),  # 512 x 683 first
        ("paddle", (375, 600), (512, 608)),
        ("centercrop", (375, 500), (544, 544)),
        ("slide", (375, 500), (320, 320)),
    ],
)
def test_sides_are_rounded_up_to_multiples(name: str, size, seen) -> None:
    views = EvaluationProtocol(name, window_px=300, stride_px=200, multiple=32).views(*size)
    plain = EvaluationProtocol(name, window_px=300, stride_px=200).views(*size)
    assert {view.size for view in views} == {seen}
    assert {view.stops for view in views} == {(seen,) if name == "mmseg" else ()}
    assert [(view.box, view.canvas) for view in views] == [(view.box, view.canvas) for view in plain]


@given(st.integers(1, 3000), st.integers(1, 64), st.sampled_from([0.35, 0.5, 1.0, 1.75]))
def test_a_multiple_adds_less_than_itself(side: int, multiple: int, scale: float) -> None:
    size = only_view("native", side, 10, scales=(scale,)).size[0]
    up = only_view("native", side, 10, scales=(scale,), multiple=multiple).size[0]
    assert up % multiple == 0 and 0 <= up - size < multiple


def test_the_card_names_the_settings_of_each_protocol() -> None:
    cards = {name: EvaluationProtocol(name, window_px=300, stride_px=200).card() for name in PROTOCOLS}
    assert cards["slide"]["window"] == "300 px, stride 200 px"
    assert "2048 x 512" in str(cards["mmseg"]["resize"])
    assert "512 x 512" in str(cards["paddle"]["pad"])
    assert "513 x 513" in str(cards["centercrop"]["resize"])
    assert EvaluationProtocol(multiple=32).card()["resize"] == "up to multiples of 32 px"
    assert "kept, then up to multiples of 8 px" in str(
        EvaluationProtocol("mmseg", multiple=8).card()["resize"]
    )
    assert len({str(sorted((k, str(v)) for k, v in card.items())) for card in cards.values()}) == len(
        PROTOCOLS
    )
