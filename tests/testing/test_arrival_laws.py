"""The laws of arrival hold for what keeps order and loses nothing, and tell in short of the rest."""

import pytest
import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from flowstore.blocks import ActionBlock, Network, SourceBlock, TransformBlock
from flowstore.testing import (
    BrokenLawError,
    KeyedItem,
    check_key_order,
    check_nothing_lost,
    keyed_items,
)

FINDING = settings(phases=[Phase.generate], max_examples=300, database=None, deadline=None)
DELAYS = st.lists(st.integers(0, 4), min_size=1, max_size=6)


def arrived_before(items, delays, turns, *, lanes):
    """Send items through two blocks and cancel them after so many turns; give what came out."""
    arrived = []

    async def dawdle(item):
        for _ in range(delays[item.number % len(delays)]):
            await trio.lowlevel.checkpoint()
        return item

    async def arrive(item):
        await dawdle(item)
        arrived.append(item)

    async def main():
        async with trio.open_nursery() as nursery, Network() as network:
            source = SourceBlock(items)
            block = TransformBlock(dawdle, max_degree_of_parallelism=4)
            source.link_to(block)
            block.link_to(ActionBlock(arrive, max_degree_of_parallelism=lanes))
            network.add(source)
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            network.cancel()
            nursery.cancel_scope.cancel()

    trio.run(main)
    return arrived


@given(items=keyed_items(), delays=DELAYS, turns=st.integers(0, 60), seed=st.random_module())
def test_a_cancelled_pipeline_has_lost_only_what_was_to_come(items, delays, turns, seed):
    del seed
    check_nothing_lost(items, arrived_before(items, delays, turns, lanes=1))


def test_a_cancelled_pipeline_that_loses_what_was_overtaken_is_found():
    @FINDING
    @given(items=keyed_items(), delays=DELAYS, turns=st.integers(0, 60), seed=st.random_module())
    def law(items, delays, turns, seed):
        del seed
        check_nothing_lost(items, arrived_before(items, delays, turns, lanes=3))

    with pytest.raises(
        BrokenLawError, match=r"never arrived, though later ones did|arrived before"
    ):
        law()


def items_of(*places):
    return [KeyedItem(key, number) for key, number in places]


def test_the_end_may_be_missing_of_each_key():
    sent = items_of((0, 0), (1, 0), (0, 1), (1, 1), (0, 2))
    check_nothing_lost(sent, [])
    check_nothing_lost(sent, sent)
    check_nothing_lost(sent, items_of((1, 0), (1, 1), (0, 0)))


@pytest.mark.parametrize(
    ("arrived", "law", "story"),
    [
        ([0, 2], "no skip", "1 never arrived, though later ones did"),
        ([1], "no skip", "0 never arrived, though later ones did"),
        ([1, 0], "order", "1 arrived before 0"),
        ([0, 0], "exactly once", "0 arrived 2 times"),
        ([0, 7], "exactly once", "7 arrived, and nobody sent it"),
    ],
)
def test_all_else_is_told(arrived, law, story):
    with pytest.raises(BrokenLawError) as caught:
        check_nothing_lost([0, 1, 2], arrived)
    assert caught.value.law == law
    shown = " ".join(map(str, arrived))
    assert str(caught.value) == f"key None: {story}\n  sent     0 1 2\n  arrived  {shown}"


def test_keys_and_places_may_be_named():
    sent = ["a1", "b1", "a2"]
    named = {"key": lambda item: item[0], "place": lambda item: item[1]}
    check_nothing_lost(sent, ["b1", "a1"], **named)
    with pytest.raises(BrokenLawError, match="key 'a': '1' never arrived"):
        check_nothing_lost(sent, ["b1", "a2"], **named)
    with pytest.raises(BrokenLawError, match="key 'a': '2' arrived before '1'"):
        check_key_order(sent, ["a2", "a1", "b1"], **named)


def test_a_pipeline_that_ended_has_delivered_everything():
    check_key_order([0, 1], [0, 1])
    check_key_order([0, 1], [1], complete=False)
    with pytest.raises(BrokenLawError, match="1 never arrived"):
        check_key_order([0, 1], [0])
