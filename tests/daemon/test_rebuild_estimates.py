"""How far a rebuild is, and how long it will take, in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore.daemon._estimate import Estimate


@pytest.mark.parametrize(
    ("progress", "now", "told"),
    [
        (0, 10.0, "rebuilding: 0% of 200,000"),
        (82_000, 10.2, "rebuilding: 41% of 200,000"),
        (82_000, 18.34, "rebuilding: 41% of 200,000, about 12 s left"),
        (199_999, 20.0, "rebuilding: 99% of 200,000, about 1 s left"),
        (2_000, 12.0, "rebuilding: 1% of 200,000, about 3 min left"),
        (20, 12.0, "rebuilding: 0% of 200,000, about 6 h left"),
        (200_000, 20.0, "rebuilding: 100% of 200,000"),
        (250_000, 20.0, "rebuilding: 100% of 200,000"),
    ],
)
def test_an_estimate_is_told_in_words(progress, now, told):
    assert Estimate(0, 200_000, began=10.0).tell(progress, now) == told


def test_a_part_is_counted_from_where_the_replay_began():
    assert (
        Estimate(100, 200, began=0.0).tell(150, 10.0) == "rebuilding: 50% of 100, about 10 s left"
    )


def test_an_empty_replay_has_nothing_left():
    assert Estimate(7, 7, began=0.0).tell(7, 1.0) == "rebuilding: nothing is left to read"


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(-5, 10**6), st.floats(0, 10**6))
def test_no_place_and_no_time_is_too_odd_to_be_told(floor, length, progress, elapsed):
    told = Estimate(floor, floor + length, began=3.0).tell(floor + progress, 3.0 + elapsed)
    assert told.startswith("rebuilding: ")
    assert "100%" not in told or progress >= length
