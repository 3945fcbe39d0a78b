"""The event that stands for others."""

import pytest

from flowstore.errors import InvalidEventError
from flowstore.events import Compacted


def test_it_is_equal_by_what_it_says():
    assert Compacted("account", {"a": 1}) == Compacted("account", {"a": 1}, restore=lambda *_: 1)
    assert Compacted("account", {"a": 1}) != Compacted("account", {"a": 2})


def test_it_asks_the_codec_that_read_it():
    asked = []
    compacted = Compacted("account", {}, restore=lambda *args: asked.append(args))
    compacted.restored(int)
    assert asked == [(compacted, int)]


def test_one_that_no_store_has_read_knows_no_class():
    with pytest.raises(InvalidEventError, match="wasn't read from a store"):
        Compacted("account", {}).restored(int)
