"""max_number_of_groups: a grouping block ends after that many groups, and loses nothing."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BatchBlock,
    BlockClosedError,
    BlockState,
    BufferBlock,
    JoinBlock,
    Network,
)


async def test_a_batch_block_declines_once_accepted_items_suffice_for_the_last_group():
    async with Network() as network:
        batches = network.add(BatchBlock(2, max_number_of_groups=2))
        assert [batches.post(item) for item in range(5)] == [True] * 4 + [False]
        assert [batch async for batch in batches] == [(0, 1), (2, 3)]


async def test_a_batch_block_completes_once_its_last_group_has_been_read():
    async with Network() as network:
        batches = network.add(BatchBlock(2, max_number_of_groups=1))
        for item in range(2):
            batches.post(item)
        await wait_all_tasks_blocked()
        assert batches.state is not BlockState.COMPLETED
        assert await batches.receive() == (0, 1)
        await batches.completion
        assert batches.state is BlockState.COMPLETED


async def test_senders_still_waiting_after_the_last_group_learn_that_the_block_has_closed():
    outcomes = {}

    async def sender(batches, item):
        try:
            await batches.send(item)
        except BlockClosedError as error:
            outcomes[item] = error.__cause__
        else:
            outcomes[item] = "accepted"

    async with Network() as network:
        batches = network.add(BatchBlock(2, bounded_capacity=2, max_number_of_groups=2))
        for item in range(2):
            batches.post(item)
        async with trio.open_nursery() as nursery:
            for item in (2, 3, 4):
                nursery.start_soon(sender, batches, item)
                await wait_all_tasks_blocked()
            assert [batch async for batch in batches] == [(0, 1), (2, 3)]
    assert outcomes == {2: "accepted", 3: "accepted", 4: None}


async def test_a_triggered_batch_counts_as_a_group():
    async with Network() as network:
        batches = network.add(BatchBlock(3, max_number_of_groups=1))
        batches.post(1)
        batches.trigger_batch()
        await wait_all_tasks_blocked()
        assert batches.post(2) is False
        assert [batch async for batch in batches] == [(1,)]
        await batches.completion


async def test_items_beyond_the_last_group_stay_with_the_linked_source():
    async with Network() as network:
        items = network.add(BufferBlock())
        batches = BatchBlock(2, max_number_of_groups=1)
        items.link_to(batches)
        for item in range(5):
            items.post(item)
        assert await batches.receive() == (0, 1)
        await batches.completion
        assert items.receive_all_nowait() == [2, 3, 4]


async def test_the_target_completes_after_the_last_group():
    seen = []
    async with Network() as network:
        batches = network.add(BatchBlock(2, max_number_of_groups=1))
        sink = ActionBlock(seen.append)
        batches.link_to(sink)
        for item in range(3):
            batches.post(item)
        await sink.completion
    assert seen == [(0, 1)]


async def test_a_join_declines_on_each_side_once_it_has_enough_for_the_last_group():
    async with Network() as network:
        join = network.add(JoinBlock(max_number_of_groups=2))
        left, right = join.targets
        assert [left.post(item) for item in "abc"] == [True, True, False]
        assert [right.post(item) for item in "xyz"] == [True, True, False]
        assert [pair async for pair in join] == [("a", "x"), ("b", "y")]
        await join.completion


@pytest.mark.parametrize("greedy", [True, False])
async def test_a_join_stops_after_its_groups_and_leaves_the_rest_with_its_sources(greedy):
    async with Network() as network:
        left, right = network.add(BufferBlock(), BufferBlock())
        join = JoinBlock(max_number_of_groups=1, greedy=greedy)
        left.link_to(join.targets[0])
        right.link_to(join.targets[1])
        for item in range(3):
            left.post(("left", item))
            right.post(("right", item))
        assert await join.receive() == (("left", 0), ("right", 0))
        await join.completion
        assert left.receive_all_nowait() == [("left", 1), ("left", 2)]
        assert right.receive_all_nowait() == [("right", 1), ("right", 2)]


async def test_items_beyond_the_last_group_stay_with_a_source_that_has_them_all_at_once():
    async with Network() as network:
        items = network.add(BufferBlock())
        await items.send_many(range(5))
        batches = BatchBlock(2, max_number_of_groups=1)
        items.link_to(batches)
        assert await batches.receive() == (0, 1)
        await batches.completion
        assert batches.statistics().accepted == 2
        assert items.receive_all_nowait() == [2, 3, 4]


async def test_items_beyond_the_last_tuple_stay_with_sources_that_have_them_all_at_once():
    async with Network() as network:
        left, right = network.add(BufferBlock(), BufferBlock())
        await left.send_many(range(3))
        await right.send_many("abc")
        join = JoinBlock(max_number_of_groups=1)
        left.link_to(join.targets[0])
        right.link_to(join.targets[1])
        assert await join.receive() == (0, "a")
        await join.completion
        assert join.statistics().accepted == 2
        assert left.receive_all_nowait() == [1, 2]
        assert right.receive_all_nowait() == ["b", "c"]


async def test_a_send_many_beyond_the_last_group_says_how_many_were_accepted():
    async with Network() as network:
        batches = network.add(BatchBlock(2, max_number_of_groups=2))
        with pytest.raises(BlockClosedError) as caught:
            await batches.send_many(range(10))
        assert caught.value.accepted == 4
        assert [batch async for batch in batches] == [(0, 1), (2, 3)]
