"""What happens to an item that no link's predicate accepts."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockState,
    BufferBlock,
    Network,
    TransformBlock,
    UnmatchedItemError,
)


def positive(item):
    return item > 0


async def test_an_unmatched_item_faults_its_block_by_default():
    seen = []
    block = TransformBlock(int, name="router")
    with pytest.RaisesGroup(UnmatchedItemError) as caught:
        async with Network() as network:
            network.add(block)
            block.link_to(ActionBlock(seen.append), positive)
            await block.send("-7")
            await trio.sleep_forever()
    assert block.state is BlockState.FAULTED
    assert seen == []
    error = caught.value.exceptions[0]
    words = "\n".join([str(error), *getattr(error, "__notes__", [])])
    assert "router" in words
    assert "-7" in words


async def test_items_before_an_unmatched_one_are_delivered():
    seen = []
    with pytest.RaisesGroup(UnmatchedItemError):
        async with Network() as network:
            buffer = network.add(BufferBlock())
            buffer.link_to(ActionBlock(seen.append), positive)
            await buffer.send_many([1, 2])
            await network.wait_idle()
            await buffer.send(-1)
            await trio.sleep_forever()
    assert seen == [1, 2]


async def test_an_unmatched_item_is_dropped_if_the_link_says_so():
    seen = []
    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(ActionBlock(seen.append), positive, unmatched="drop")
        await buffer.send_many([-1, 1, -2, -3, 2])
    assert seen == [1, 2]
    assert buffer.statistics().discarded == 3
    assert buffer.state is BlockState.COMPLETED


async def test_an_unmatched_item_is_held_if_the_link_says_so():
    seen = []
    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(ActionBlock(seen.append), positive, unmatched="hold")
        await buffer.send_many([1, -1, 2])
        await wait_all_tasks_blocked()
        assert seen == [1]
        assert buffer.state is BlockState.OPEN
        assert await buffer.receive() == -1
        await network.wait_idle()
        assert seen == [1, 2]


async def test_a_held_item_goes_to_a_later_link_that_accepts_it():
    seen, negative = [], []
    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(ActionBlock(seen.append), positive, unmatched="hold")
        await buffer.send_many([-1, 1])
        await wait_all_tasks_blocked()
        assert seen == []
        buffer.link_to(ActionBlock(negative.append), lambda item: item < 0)
    assert seen == [1]
    assert negative == [-1]


@pytest.mark.parametrize(
    ("first", "last", "outcome"),
    [("fault", "drop", "drop"), ("hold", "drop", "drop"), ("drop", "fault", "fault")],
)
async def test_the_last_link_in_order_decides(first, last, outcome):
    async def use():
        async with Network() as network:
            buffer = network.add(BufferBlock())
            buffer.link_to(ActionBlock(str), positive, unmatched=first)
            buffer.link_to(ActionBlock(str), lambda item: item > 10, unmatched=last)
            await buffer.send(-1)
            await network.wait_idle()
            assert buffer.statistics().discarded == 1

    if outcome == "fault":
        with pytest.RaisesGroup(UnmatchedItemError):
            await use()
    else:
        await use()


async def test_the_last_link_is_the_last_in_order_not_in_time():
    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(ActionBlock(str), positive, unmatched="drop")
        buffer.link_to(ActionBlock(str), positive, unmatched="fault", append=False)
        await buffer.send(-1)
        await network.wait_idle()
        assert buffer.statistics().discarded == 1


async def test_a_closed_link_decides_nothing():
    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(ActionBlock(str), positive, unmatched="drop")
        buffer.link_to(ActionBlock(str), positive, unmatched="fault").close()
        await buffer.send(-1)
        await network.wait_idle()
        assert buffer.statistics().discarded == 1


@pytest.mark.parametrize("unmatched", ["fault", "drop"])
async def test_a_matching_but_full_link_is_never_unmatched(unmatched):
    gate = trio.Event()
    seen = []

    async def hold(item):
        await gate.wait()
        seen.append(item)

    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(ActionBlock(hold, bounded_capacity=1), positive)
        buffer.link_to(ActionBlock(str), lambda item: item < 0, unmatched=unmatched)
        await buffer.send_many([1, 2, 3])
        await wait_all_tasks_blocked()
        gate.set()
    assert seen == [1, 2, 3]
    assert buffer.statistics().discarded == 0


async def test_without_a_link_an_item_is_held():
    async with Network() as network:
        buffer = network.add(BufferBlock())
        await buffer.send(1)
        await wait_all_tasks_blocked()
        assert buffer.statistics().inside == 1
        assert await buffer.receive() == 1


async def test_after_the_last_link_was_closed_an_item_is_held():
    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(ActionBlock(str), positive).close()
        await buffer.send(-1)
        await wait_all_tasks_blocked()
        assert buffer.state is BlockState.OPEN
        assert await buffer.receive() == -1


async def test_a_truthy_answer_of_a_predicate_is_acceptance():
    seen = []
    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(ActionBlock(seen.append), len, unmatched="drop")
        await buffer.send_many(["", "a", [], [0]])
    assert seen == ["a", [0]]


async def test_dropped_items_free_their_places():
    async with Network() as network:
        buffer = network.add(BufferBlock(bounded_capacity=1))
        buffer.link_to(ActionBlock(str), positive, unmatched="drop")
        for _ in range(20):
            await buffer.send(-1)
    assert buffer.statistics().discarded == 20


async def test_a_predicate_that_raises_faults_the_block_it_links_from():
    def broken(_item):
        raise ValueError("predicate")

    buffer, sink = BufferBlock(name="from"), ActionBlock(str)
    with pytest.RaisesGroup(ValueError) as caught:
        async with Network() as network:
            network.add(buffer)
            buffer.link_to(sink, broken)
            assert buffer.post("the item")
            await trio.sleep_forever()
    assert buffer.state is BlockState.FAULTED
    notes = "\n".join(caught.value.exceptions[0].__notes__)
    assert "from" in notes
    assert "'the item'" in notes


async def test_an_item_is_unmatched_once_the_full_link_that_accepts_it_is_closed():
    async with Network() as network:
        source, full = network.add(BufferBlock(), BufferBlock(bounded_capacity=1))
        link = source.link_to(full)
        source.link_to(ActionBlock(str), lambda _item: False, unmatched="drop")
        await source.send_many([1, 2])
        await network.wait_idle()
        assert source.statistics().output == 1
        link.close()
        await wait_all_tasks_blocked()
        assert source.statistics().discarded == 1
        assert full.receive_all_nowait() == [1]
