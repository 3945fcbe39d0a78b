"""Event identities that are drawn together."""

from time import time
from uuid import RFC_4122, UUID

import pytest

from flowstore.store._ids import new_event_id, new_event_ids


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_identities_that_are_drawn_together_are_as_many_and_all_different(count):
    drawn = new_event_ids(count)
    assert [len(each) for each in drawn] == [16] * count
    assert len(set(drawn)) == count


def test_they_are_of_the_same_kind_as_one_alone():
    before = int(time() * 1000)
    alone, *drawn = [new_event_id(), *(UUID(bytes=each) for each in new_event_ids(300))]
    after = int(time() * 1000)
    for each in (alone, *drawn):
        assert (each.version, each.variant) == (7, RFC_4122)
        assert before - 1 <= each.int >> 80 <= after + 1


def test_every_bit_that_is_free_is_drawn():
    drawn = [int.from_bytes(each, "big") for each in new_event_ids(400)]
    random = ((1 << 80) - 1) & ~((0xF << 76) | (0x3 << 62))
    ones = zeros = 0
    for each in drawn:
        ones |= each & random
        zeros |= ~each & random
    assert ones == zeros == random
