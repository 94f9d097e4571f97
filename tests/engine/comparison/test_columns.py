import pytest

from engine.comparison.columns import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.42 s"), (14, "14 s"), (119, "119 s"), (120, "2.0 min"), (7199, "120.0 min"), (9000, "2.5 h")],
)
def test_a_duration_has_the_unit_of_its_size(seconds: float, text: str) -> None:
    assert duration(seconds) == text
