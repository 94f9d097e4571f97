"""From stored values to labels, against naive loops; and the messages for values without a class."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.formats.masks import BlackAndWhite, Colours, MappedValues, SameIds, Table, value_text
from engine.data.sample import DataError, UnreadableSample

PATH = Path("mask.png")
BYTES = st.integers(0, 255)


def mask_of(values: list[int], shape=(2, -1)) -> np.ndarray:
    return np.array(values, np.uint8).reshape(shape)


def message_of(read) -> str:
    with pytest.raises(DataError) as caught:
        read()
    assert not isinstance(caught.value, UnreadableSample)  # on_error=skip must not hide it
    return str(caught.value)


@given(st.lists(BYTES, min_size=4, max_size=4), st.integers(1, 255), BYTES)
def test_ids_within_the_classes_pass_and_others_are_an_error(
    values: list[int], num_classes: int, void: int
) -> None:
    mapping, stored = SameIds(num_classes, void), mask_of(values)
    strange = sorted({value for value in values if value >= num_classes and value != void})
    if not strange:
        assert mapping(stored, PATH) is stored
    else:
        assert f"label ids {', '.join(map(str, strange))}, outside" in message_of(
            lambda: mapping(stored, PATH)
        )


def test_ids_outside_the_classes_are_void_in_what_is_typed_to_score_which_is_short() -> None:
    message = message_of(lambda: SameIds(3, 255)(mask_of([0, 2, 7, 9]), PATH))
    before, after = message.split("'data.ids={0: 0, 1: 1, 2: 2, 255: void, 7: void, 9: void}'")
    assert before.endswith(
        "To score a trained model, whose classes are fixed, without the pixels of these ids, type "
    )
    assert "To train on them, name every class" in after and "data.ids" not in after
    message = message_of(lambda: SameIds(150, 255)(mask_of([0, 149, 200, 255]), PATH))
    assert "'data.ids={0: 0, 1: 1, ..., 149: 149, 255: void, 200: void}'" in message


@given(st.dictionaries(BYTES, BYTES, min_size=1), st.lists(BYTES, min_size=4, max_size=4))
def test_a_table_maps_each_value(labels: dict[int, int], values: list[int]) -> None:
    mapping = Table.of("some", labels)
    if set(values) <= labels.keys():
        found = mapping(mask_of(values), PATH)
        assert found.dtype == np.uint8 and found.ravel().tolist() == [labels[value] for value in values]
    else:
        message = message_of(lambda: mapping(mask_of(values), PATH))
        assert str(min(set(values) - labels.keys())) in message and "mask.png" in message


COLOUR = st.tuples(BYTES, BYTES, BYTES)


@given(st.dictionaries(COLOUR, BYTES, min_size=2, max_size=6), st.data())
def test_colours_are_mapped_as_by_a_dictionary(
    labels: dict[tuple[int, int, int], int], data: st.DataObject
) -> None:
    colours = data.draw(st.lists(st.sampled_from(sorted(labels)), min_size=6, max_size=6))
    mapping = Colours(tuple(labels), tuple(labels.values()))
    found = mapping(np.array(colours, np.uint8).reshape(2, 3, 3), PATH)
    assert found.dtype == np.uint8 and found.ravel().tolist() == [labels[colour] for colour in colours]


def test_unknown_colours_are_counted_most_often_first() -> None:
    mapping = Colours(((1, 2, 3), (4, 5, 6)), (0, 1))
    stored = np.array([[[1, 2, 3], [3, 2, 1], [9, 9, 9], [3, 2, 1]]], np.uint8)
    message = message_of(lambda: mapping(stored, PATH))
    assert "2 colours of no class in 3 pixels" in message
    assert message.index("(3, 2, 1)") < message.index("(9, 9, 9)")


def test_colours_that_differ_in_any_channel_are_distinguished() -> None:
    colours = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (255, 255, 255))
    found = Colours(colours, (4, 3, 2, 1, 0))(np.array([colours], np.uint8), PATH)
    assert found.tolist() == [[4, 3, 2, 1, 0]]


@pytest.mark.parametrize(
    "stored",
    [
        mask_of([0, 255, 255, 0]),
        mask_of([0, 1, 1, 0]),
        np.array([[False, True], [True, False]]),
        np.repeat(mask_of([0, 255, 255, 0])[..., None], 3, axis=2),
    ],
)
def test_black_and_white_is_0_and_1(stored: np.ndarray) -> None:
    found = BlackAndWhite()(stored, PATH)
    assert found.dtype == np.uint8 and found.tolist() == [[0, 1], [1, 0]]


def test_soft_edges_and_colours_are_refused_as_black_and_white() -> None:
    assert "17, 254" in message_of(lambda: BlackAndWhite()(mask_of([0, 254, 17, 255]), PATH))
    red = np.zeros((2, 2, 3), np.uint8)
    red[0, 0] = (255, 0, 0)
    assert "colours" in message_of(lambda: BlackAndWhite()(red, PATH))


STORED = {  # pixel type -> values that it can hold
    "uint8": [0, 1, 85, 170, 255],
    "uint16": [0, 7, 300, 65535],
    "int32": [-9999, -1, 0, 3, 70000],
    "float32": [-np.inf, -3.4028235e38, -1.5, 0, 0.1, 0.9, 2, 1e20, np.inf, np.nan],
}


@given(st.sampled_from(sorted(STORED)), st.data())
def test_mapped_values_are_those_of_a_dictionary(form: str, data: st.DataObject) -> None:
    """The recipe has the values as text; drawn are their places in the table above."""
    values = np.array(STORED[form], form)
    places = st.integers(0, len(values) - 1)
    named = data.draw(st.lists(places, min_size=1, unique=True))
    drawn = data.draw(st.lists(places, min_size=6, max_size=6))
    ids = {value_text(values[place].item()): label for label, place in enumerate(named)}
    mapping, stored = MappedValues.of(ids, 255), values[drawn].reshape(2, 3)
    if set(drawn) <= set(named):
        found = mapping(stored, PATH)
        assert found.dtype == np.uint8 and found.ravel().tolist() == [named.index(place) for place in drawn]
    else:
        assert "data.ids does not name" in message_of(lambda: mapping(stored, PATH))


def test_void_is_the_ignore_index_and_equal_channels_are_one() -> None:
    mapping = MappedValues.of({"0": "void", "85": 1}, 254)
    stored = mask_of([0, 85, 85, 0])
    for pixels in (stored, np.dstack([stored] * 3), np.dstack([stored, np.full_like(stored, 255)])):
        assert mapping(pixels, PATH).tolist() == [[254, 1], [1, 254]]
    assert "colours" in message_of(lambda: mapping(np.dstack([stored, stored, stored + 1]), PATH))


@pytest.mark.parametrize("form", ["uint16", "int32", "float32"])
def test_black_and_white_of_any_pixel_type(form: str) -> None:
    found = BlackAndWhite()(mask_of([0, 255, 255, 0]).astype(form), PATH)
    assert found.dtype == np.uint8 and found.tolist() == [[0, 1], [1, 0]]
    assert "0.5" in message_of(lambda: BlackAndWhite()(np.array([[0, 0.5]], np.float32), PATH))


@pytest.mark.parametrize("mapping", [SameIds(3, 255), Table.of("some", {0: 1}), Colours(((1, 2, 3),), (0,))])
def test_encodings_can_be_pickled_and_differ_in_identity(mapping) -> None:
    assert pickle.loads(pickle.dumps(mapping)) == mapping
    assert Table.of("a", {0: 1}).identity() != Table.of("a", {0: 2}).identity()
    assert Colours(((1, 2, 3),), (0,)).identity() != Colours(((3, 2, 1),), (0,)).identity()
