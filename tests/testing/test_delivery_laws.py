"""The laws of delivery hold for what is right, and tell the shortest story of what isn't."""

import attrs
import pytest
import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from flowstore.blocks import ActionBlock, SourceBlock, TransformBlock, run
from flowstore.testing import (
    BrokenLawError,
    check_no_skip_no_repeat,
    check_stream_order,
    event_histories,
    page_sizes,
)
from flowstore.testing._placing import place


@attrs.frozen
class Noted:
    number: int


FINDING = settings(phases=[Phase.generate], max_examples=300, database=None)
HISTORIES = event_histories(Noted, stream_identity="string")


def recorded(*facts):
    """Place facts, named as in `a1`: stream and number."""
    return place([(name[0], Noted(int(name[1:])), 1) for name in facts])


def pages(history, sizes, *, overlap=0, skip=0):
    """Cut as a source does that continues from `overlap` events before, or `skip` after, its page."""
    found, floor, turn = [], 0, 0
    while floor < len(history):
        size = sizes[turn % len(sizes)]
        found += history[floor : floor + size]
        floor, turn = floor + max(size - overlap, 1) + skip, turn + 1
    return found


@given(history=HISTORIES)
def test_a_history_is_in_stream_order_without_holes(history):
    check_stream_order(history, without_holes=True)


@given(history=HISTORIES, sizes=page_sizes())
def test_pages_that_meet_skip_nothing_and_repeat_nothing(history, sizes):
    check_no_skip_no_repeat(pages(history, sizes), history)


def test_a_swap_is_told_by_its_two_events():
    first, other, second, third = recorded("a1", "b1", "a2", "a3")
    with pytest.raises(AssertionError) as caught:
        check_stream_order([first, other, third, second])
    assert str(caught.value) == (
        "stream 'a': version 2 was delivered after version 3\n"
        "  first  sequence 4, version 3 of stream 'a': Noted(number=3)\n"
        "  then   sequence 3, version 2 of stream 'a': Noted(number=2)"
    )


def test_the_same_version_twice_in_a_row_is_out_of_order():
    first, second = recorded("a1", "a2")
    with pytest.raises(AssertionError, match="version 1 was delivered twice in a row"):
        check_stream_order([first, first, second])


def test_a_hole_is_out_of_order_only_where_asked():
    first, _, third = recorded("a1", "a2", "a3")
    check_stream_order([first, third])
    with pytest.raises(AssertionError, match="version 2 is missing: version 3 was delivered"):
        check_stream_order([first, third], without_holes=True)


def test_a_stream_that_does_not_begin_with_its_first_version_is_told_where_asked():
    first, second = recorded("a1", "a2")
    check_stream_order([second])
    check_stream_order([first, second], from_first=True)
    with pytest.raises(BrokenLawError) as caught:
        check_stream_order([second], from_first=True)
    assert caught.value.law == "order"
    assert str(caught.value) == (
        "stream 'a': version 1 is missing: what was delivered first is version 2\n"
        "  first  sequence 2, version 2 of stream 'a': Noted(number=2)"
    )


def test_two_tenants_streams_of_one_identity_are_two_streams():
    first, second = recorded("a1", "a2")
    check_stream_order([attrs.evolve(second, tenant_id="other"), first])


def test_what_was_delivered_twice_is_told_with_its_place():
    history = recorded("a1", "a2")
    with pytest.raises(AssertionError) as caught:
        check_no_skip_no_repeat([*history, *history], history)
    assert str(caught.value) == (
        "an event was delivered twice\n"
        "  sequence 1, version 1 of stream 'a': Noted(number=1)\n"
        "  and 1 more like it"
    )


def test_what_was_never_delivered_is_told():
    history = recorded("a1", "a2")
    with pytest.raises(AssertionError, match=r"never delivered\n  sequence 2, version 2"):
        check_no_skip_no_repeat(history[:1], history)


def test_what_nobody_expected_is_told():
    history = recorded("a1", "a2")
    with pytest.raises(AssertionError, match="nobody expected it"):
        check_no_skip_no_repeat(history, history[:1])


@pytest.mark.parametrize(
    ("bug", "story"), [({"overlap": 1}, "delivered twice"), ({"skip": 1}, "never delivered")]
)
def test_a_source_whose_pages_do_not_meet_is_found(bug, story):
    @FINDING
    @given(history=HISTORIES, sizes=page_sizes())
    def law(history, sizes):
        check_no_skip_no_repeat(pages(history, sizes, **bug), history)

    with pytest.raises(AssertionError, match=story):
        law()


def through_a_block(history, delays, seed, **how):
    """Send events through a block that takes its time over each, and return what came out."""
    arrived = []

    async def dawdle(event):
        for _ in range(delays[event.sequence % len(delays)]):
            await trio.lowlevel.checkpoint()
        return event

    async def main():
        block = TransformBlock(dawdle, max_degree_of_parallelism=4, **how)
        await run(SourceBlock(history), block, ActionBlock(arrived.append))

    trio.run(main)
    return arrived


DELAYS = st.lists(st.integers(0, 4), min_size=1, max_size=6)


@given(history=HISTORIES, delays=DELAYS, seed=st.random_module())
def test_a_parallel_block_keeps_streams_in_order(history, delays, seed):
    check_stream_order(through_a_block(history, delays, seed), without_holes=True)


def test_a_parallel_block_that_keeps_no_order_is_found():
    @FINDING
    @given(history=HISTORIES, delays=DELAYS, seed=st.random_module())
    def law(history, delays, seed):
        check_stream_order(through_a_block(history, delays, seed, ensure_ordered=False))

    with pytest.raises(AssertionError, match=r"version \d+ was delivered after version \d+"):
        law()
