"""The pitfalls of YAML, and that dumped text is read back."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.recipe.text import dump_value, dump_yaml, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1.0e-4", 1e-4), ("6e5", 6e5), (".5", 0.5), ("1.", 1.0), ("-2", -2), ("+3", 3),
        ("010", 10), (".inf", math.inf), ("-.Inf", -math.inf), ("true", True), ("FALSE", False),
        ("null", None), ("~", None), ("", None), ("no", "no"), ("Off", "Off"), ("yes", "yes"), ("on", "on"),
        ("y", "y"), ("1:30", "1:30"), ("0o17", "0o17"), ("0x1f", "0x1f"), ("1_000", "1_000"), ("=", "="),
        ("2024-01-01", "2024-01-01"), ("12 epochs", "12 epochs"), ("10%", "10%"), ("'16'", "16"),
        ("<<", "<<"), ('"true"', "true"), ("hf:nvidia/mit-b2", "hf:nvidia/mit-b2"), ("[1, a]", [1, "a"]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    parsed = parse_yaml(text, "here")
    assert parsed.values == value
    assert type(parsed.values) is type(value)
    assert parsed.problems == []


TEXT = st.text(
    st.characters(exclude_characters="\x85"), max_size=8
)  # PyYAML itself reads its own U+0085 as a blank
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
TREES = st.dictionaries(
    TEXT, PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(TEXT, PLAIN, max_size=3), max_size=3
)


@given(TREES)
def test_dumped_values_are_read_back(values: dict[str, Any]) -> None:
    parsed = parse_yaml(dump_yaml(values), "here")
    assert parsed.values == values
    assert parsed.problems == []


@given(TREES)
def test_a_value_that_is_shown_can_be_typed(values: dict[str, Any]) -> None:
    assert parse_yaml(dump_value(values), "here").values == values


@pytest.mark.parametrize(
    ("value", "typed"),
    [(None, "null"), (True, "true"), ("no", "'no'"), ([0.5, 1], "[0.5, 1]"),
     ([[0, 0], [1, 1]], "[[0, 0], [1, 1]]"), ({"a": [{"b": None}]}, "{a: [{b: null}]}"),
     ([*range(99)], str([*range(99)]))],
)  # fmt: skip
def test_a_value_is_shown_on_one_line(value: object, typed: str) -> None:
    assert dump_value(value) == typed


def test_text_that_other_readers_take_for_a_boolean_is_quoted() -> None:
    assert dump_yaml({"a": "no", "b": "1e-3", "c": "voc"}) == "a: 'no'\nb: '1e-3'\nc: voc\n"
