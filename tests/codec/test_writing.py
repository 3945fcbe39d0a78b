"""JSON is written quickly where that changes nothing, and else as it always was."""

import json
from collections import OrderedDict
from datetime import UTC, datetime
from enum import IntEnum
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowstore.codec import EncodingLimits
from flowstore.codec._json import to_json
from flowstore.errors import FlowstoreError, InvalidEventError

LIMITS = EncodingLimits(max_bytes=200, max_depth=6)


class Rank(IntEnum):
    FIRST = 1


class Name(str):
    __slots__ = ()


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**66), 2**66)
    | st.floats()
    | st.text()
    | st.text(st.sampled_from('\0\x1f\x7f\u2028\ud800"\\/é\n\b\f')).map(Name)
    | st.text(st.sampled_from('\0\x1f\x7f\u2028\ud800"\\/é\n\b\f'))
    | st.sampled_from([Rank.FIRST, b"x", UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC), {1}])
)
KEYS = st.text(max_size=3) | st.integers(0, 3) | st.none() | st.booleans() | st.floats()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3).map(OrderedDict)
        | st.tuples(inner)
    ),
    max_leaves=12,
)


def written(value, **options):
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), **options)


@settings(max_examples=400)
@given(value=VALUES)
@example({"n": [float("nan")]})
@example([float("inf"), 1])
@example({"n": 1e16})
@example({"n": 1e-07})
@example([b"x"])
@example({"a": datetime(2026, 1, 1, tzinfo=UTC)})
@example({"a": UUID(int=1)})
@example({1: "a"})
@example({None: "a", "b": 1})
@example([{1}])
@example({"a": Name("x"), "b": Rank.FIRST})
@example({"a": OrderedDict(b=1), "c": (1, 2)})
@example({"a": "\x7f\x1f\b\f/\u2028é\U0001f600"})
@example({"a": "\ud800"})
@example({"a": "\0"})
@example([[[[[[[1]]]]]]])
def test_the_text_is_that_of_json_letter_for_letter_or_refused_as_json_refuses(value):
    try:
        expected = written(value)
        size = len(expected.encode())
    except (TypeError, ValueError):
        expected, size = None, 0
    text, refusal = None, ""
    try:
        text = to_json(value, what="it", limits=LIMITS, error=InvalidEventError)
    except FlowstoreError as error:
        refusal = str(error)
    if refusal:
        limited = ("bytes as JSON", "deep, and", "NUL")
        assert expected is None or any(reason in refusal for reason in limited)
        assert "bytes as JSON" not in refusal or f"takes {size} bytes" in refusal
    else:
        assert text == expected
        assert size <= LIMITS.max_bytes


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1, 10**40])
def test_whole_numbers_keep_all_their_digits(number):
    text = to_json([number], what="it", limits=LIMITS, error=InvalidEventError)
    assert text == f"[{number}]"


def test_what_contains_itself_is_refused():
    value = {}
    value["self"] = [value]
    with pytest.raises(InvalidEventError):
        to_json(value, what="it", limits=LIMITS, error=InvalidEventError)
