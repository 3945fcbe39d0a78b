"""BatchBlock(greedy=False): takes a whole group in one step, or nothing."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import ActionBlock, BatchBlock, BlockClosedError, BufferBlock, Network


async def test_post_is_refused_while_it_completes_no_group():
    async with Network() as network:
        batches = network.add(BatchBlock(2, greedy=False))
        assert batches.post(1) is False
        assert batches.post(2) is False
        assert batches.statistics().accepted == 0


async def test_post_is_accepted_when_one_item_is_a_group():
    async with Network() as network:
        batches = network.add(BatchBlock(1, greedy=False))
        assert batches.post(1) is True
        assert await batches.receive() == (1,)


async def test_post_is_accepted_when_it_completes_a_group_with_the_waiting_senders():
    async with Network() as network, trio.open_nursery() as nursery:
        batches = network.add(BatchBlock(3, greedy=False))
        for item in (1, 2):
            nursery.start_soon(batches.send, item)
            await wait_all_tasks_blocked()
        assert batches.post(3) is True
        assert sorted(await batches.receive()) == [1, 2, 3]
        assert batches.post(4) is False


async def test_a_sender_waits_until_its_group_is_whole():
    async with Network() as network, trio.open_nursery() as nursery:
        batches = network.add(BatchBlock(2, greedy=False))
        nursery.start_soon(batches.send, "first")
        await wait_all_tasks_blocked()
        counts = batches.statistics()
        assert (counts.accepted, counts.waiting_senders) == (0, 1)
        nursery.start_soon(batches.send, "second")
        assert await batches.receive() == ("first", "second")
        assert batches.statistics().waiting_senders == 0


async def test_a_cancelled_sender_no_longer_counts_for_a_group():
    async with Network() as network, trio.open_nursery() as nursery:
        batches = network.add(BatchBlock(2, greedy=False))
        with trio.CancelScope() as scope:
            nursery.start_soon(wait_then_cancel, scope)
            await batches.send("withdrawn")
        nursery.start_soon(batches.send, "a")
        await wait_all_tasks_blocked()
        assert batches.statistics().accepted == 0
        nursery.start_soon(batches.send, "b")
        assert await batches.receive() == ("a", "b")


async def wait_then_cancel(scope):
    await wait_all_tasks_blocked()
    scope.cancel()


async def test_a_waiting_sender_learns_that_the_block_has_closed():
    async with Network() as network:
        batches = network.add(BatchBlock(2, greedy=False))
        caught = []

        async def sender():
            with pytest.raises(BlockClosedError) as error:
                await batches.send(1)
            caught.append(error.value.__cause__)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender)
            await wait_all_tasks_blocked()
            batches.complete()
        assert caught == [None]


async def test_a_linked_source_counts_as_one_however_much_it_holds():
    async with Network() as network:
        left, right = network.add(BufferBlock(), BufferBlock())
        batches = BatchBlock(2, greedy=False)
        left.link_to(batches)
        right.link_to(batches)
        for item in ("a", "b", "c"):
            left.post(item)
        await wait_all_tasks_blocked()
        assert batches.statistics().accepted == 0
        assert left.statistics().inside == 3
        for item in ("x", "y", "z"):
            right.post(item)
        received = [await batches.receive() for _ in range(3)]
        assert [sorted(batch) for batch in received] == [["a", "x"], ["b", "y"], ["c", "z"]]


async def test_a_linked_source_and_a_sender_complete_a_group_together():
    async with Network() as network, trio.open_nursery() as nursery:
        items = network.add(BufferBlock())
        batches = BatchBlock(2, greedy=False)
        items.link_to(batches)
        items.post("linked")
        await wait_all_tasks_blocked()
        nursery.start_soon(batches.send, "sent")
        assert sorted(await batches.receive()) == ["linked", "sent"]


async def test_items_a_group_did_not_take_stay_free_for_another_target():
    taken = []
    async with Network() as network:
        items = network.add(BufferBlock())
        batches = BatchBlock(2, greedy=False)
        items.link_to(batches)
        items.link_to(ActionBlock(taken.append))
        for item in range(3):
            items.post(item)
        await wait_all_tasks_blocked()
        assert taken == [0, 1, 2]


@settings(deadline=None)
@given(
    sources=st.integers(1, 4),
    rounds=st.integers(0, 6),
    delays=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    capacity=st.integers(0, 4),
    schedule=st.random_module(),
)
async def test_every_group_takes_the_next_item_of_every_source(
    sources, rounds, delays, capacity, schedule
):
    async def feed(index, buffer):
        for item in range(rounds):
            for _ in range(delays[(index + item) % len(delays)]):
                await trio.lowlevel.checkpoint()
            await buffer.send((index, item))

    seen = []
    async with Network() as network:
        buffers = [BufferBlock(bounded_capacity=1 + index) for index in range(sources)]
        batches = BatchBlock(sources, greedy=False, bounded_capacity=sources + capacity)
        for buffer in buffers:
            buffer.link_to(batches)
        batches.link_to(ActionBlock(seen.append, bounded_capacity=1))
        network.add(batches)
        async with trio.open_nursery() as nursery:
            for index, buffer in enumerate(buffers):
                nursery.start_soon(feed, index, buffer)
    expected = [[(index, item) for index in range(sources)] for item in range(rounds)]
    assert [sorted(batch) for batch in seen] == expected
