"""BatchBlock: tuples of up to `batch_size` items, in order, the tail on completion."""

import math

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BatchBlock,
    BlockClosedError,
    BlockFaultedError,
    BlockState,
    BufferBlock,
    Network,
    SourceBlock,
    run,
)


async def batches_of(items, batch_size, **options):
    seen = []
    await run(SourceBlock(items), BatchBlock(batch_size, **options), ActionBlock(seen.append))
    return seen


def post_until_refused(block, limit=10_000):
    return next((count for count in range(limit) if not block.post(count)), limit)


async def test_items_leave_in_tuples_of_the_batch_size():
    assert await batches_of(range(6), 3) == [(0, 1, 2), (3, 4, 5)]


async def test_a_batch_is_a_tuple():
    [batch] = await batches_of([1], 1)
    assert type(batch) is tuple


async def test_a_batch_size_of_one_wraps_every_item():
    assert await batches_of("abc", 1, bounded_capacity=1) == [("a",), ("b",), ("c",)]


async def test_the_tail_leaves_as_a_smaller_batch_on_completion():
    assert await batches_of(range(5), 3) == [(0, 1, 2), (3, 4)]


async def test_fewer_items_than_a_batch_still_leave_on_completion():
    assert await batches_of([1], 100) == [(1,)]


async def test_an_exact_multiple_leaves_no_empty_batch_behind():
    assert await batches_of(range(4), 2) == [(0, 1), (2, 3)]


async def test_no_items_make_no_batch():
    assert await batches_of([], 2) == []


@settings(deadline=None)
@given(
    delays=st.lists(st.integers(0, 3), max_size=30),
    batch_size=st.integers(1, 6),
    spare=st.integers(0, 6),
    slowness=st.integers(0, 3),
    schedule=st.random_module(),
)
async def test_batches_hold_every_item_once_in_order_and_only_the_last_is_short(
    delays, batch_size, spare, slowness, schedule
):
    async def items():
        for index, delay in enumerate(delays):
            for _ in range(delay):
                await trio.lowlevel.checkpoint()
            yield index

    seen = []

    async def note(batch):
        for _ in range(slowness):
            await trio.lowlevel.checkpoint()
        seen.append(batch)

    batches = BatchBlock(batch_size, bounded_capacity=batch_size + spare)
    await run(SourceBlock(items()), batches, ActionBlock(note, bounded_capacity=1))
    assert [item for batch in seen for item in batch] == list(range(len(delays)))
    assert all(len(batch) == batch_size for batch in seen[:-1])
    assert all(1 <= len(batch) <= batch_size for batch in seen[-1:])


@pytest.mark.parametrize(("batch_size", "capacity"), [(2, 1), (129, 128)])
def test_a_capacity_below_the_batch_size_is_an_error(batch_size, capacity):
    with pytest.raises(ValueError):
        BatchBlock(batch_size, bounded_capacity=capacity)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_below_one_is_an_error(batch_size):
    with pytest.raises(ValueError):
        BatchBlock(batch_size)


@pytest.mark.parametrize(
    ("batch_size", "capacity"), [(1, 128), (64, 128), (65, 130), (128, 256), (200, 400)]
)
def test_the_default_capacity_is_128_or_two_batches_whichever_is_more(batch_size, capacity):
    assert post_until_refused(BatchBlock(batch_size)) == capacity


def test_a_capacity_of_infinity_never_refuses():
    assert post_until_refused(BatchBlock(2, bounded_capacity=math.inf), limit=1_000) == 1_000


async def test_a_capacity_of_just_one_batch_suffices():
    assert await batches_of(range(7), 3, bounded_capacity=3) == [(0, 1, 2), (3, 4, 5), (6,)]


async def test_capacity_counts_items_until_their_batch_has_been_read():
    async with Network() as network:
        batches = network.add(BatchBlock(2, bounded_capacity=4))
        assert [batches.post(item) for item in range(5)] == [True] * 4 + [False]
        await wait_all_tasks_blocked()
        assert batches.post("still full") is False
        assert await batches.receive() == (0, 1)
        assert [batches.post(item) for item in range(4, 7)] == [True, True, False]
        assert batches.receive_all_nowait()[0] == (2, 3)
        await wait_all_tasks_blocked()
        assert batches.receive_all_nowait() in ([(4, 5)], [])


async def test_a_sender_waits_while_unread_batches_fill_the_block():
    async with Network() as network:
        batches = network.add(BatchBlock(2, bounded_capacity=2))
        await batches.send_many([1, 2])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(batches.send, 3)
            await wait_all_tasks_blocked()
            assert batches.statistics().waiting_senders == 1
            assert await batches.receive() == (1, 2)
        batches.complete()
        assert await batches.receive() == (3,)


async def test_trigger_batch_sends_the_pending_items_off_at_once():
    async with Network() as network:
        batches = network.add(BatchBlock(10))
        batches.post(1)
        batches.post(2)
        batches.trigger_batch()
        assert await batches.receive() == (1, 2)


async def test_trigger_batch_returns_none_without_waiting():
    async with Network() as network:
        batches = network.add(BatchBlock(10))
        batches.post(1)
        assert batches.trigger_batch() is None
        assert await batches.receive() == (1,)


async def test_a_triggered_batch_leaves_the_next_one_its_full_size():
    async with Network() as network:
        batches = network.add(BatchBlock(2))
        batches.post(1)
        batches.trigger_batch()
        for item in (2, 3):
            batches.post(item)
        assert [await batches.receive(), await batches.receive()] == [(1,), (2, 3)]


async def test_trigger_batch_on_an_empty_block_does_nothing():
    async with Network() as network:
        batches = network.add(BatchBlock(2))
        batches.trigger_batch()
        await wait_all_tasks_blocked()
        assert batches.receive_all_nowait() == []
        for item in (1, 2):
            batches.post(item)
        assert await batches.receive() == (1, 2)


async def test_trigger_batch_after_full_batches_adds_no_empty_one():
    async with Network() as network:
        batches = network.add(BatchBlock(2))
        for item in (1, 2):
            batches.post(item)
        await wait_all_tasks_blocked()
        batches.trigger_batch()
        await wait_all_tasks_blocked()
        assert batches.receive_all_nowait() == [(1, 2)]


async def test_trigger_batch_on_a_closed_block_does_nothing():
    async with Network() as network:
        batches = network.add(BatchBlock(2))
        batches.post(1)
        batches.complete()
        batches.trigger_batch()
        assert [batch async for batch in batches] == [(1,)]
        batches.trigger_batch()
        assert batches.state is BlockState.COMPLETED


async def test_completion_waits_until_the_tail_has_been_read():
    async with Network() as network:
        batches = network.add(BatchBlock(2))
        batches.post(1)
        batches.complete()
        await wait_all_tasks_blocked()
        assert batches.state is BlockState.DRAINING
        assert await batches.receive() == (1,)
        await batches.completion
        assert batches.state is BlockState.COMPLETED


async def test_an_empty_batch_block_completes_at_once():
    async with Network() as network:
        batches = network.add(BatchBlock(2))
        batches.complete()
        await batches.completion
        with pytest.raises(trio.EndOfChannel):
            await batches.receive()


async def test_a_completed_batch_block_accepts_nothing_more():
    async with Network() as network:
        batches = network.add(BatchBlock(2))
        batches.complete()
        assert batches.post(1) is False
        with pytest.raises(BlockClosedError):
            await batches.send(1)


async def test_batches_already_there_go_to_a_late_link():
    seen = []
    async with Network() as network:
        batches = network.add(BatchBlock(2))
        for item in range(4):
            batches.post(item)
        await wait_all_tasks_blocked()
        batches.link_to(ActionBlock(seen.append))
    assert seen == [(0, 1), (2, 3)]


async def test_statistics_count_items_not_batches():
    async with Network() as network:
        batches = network.add(BatchBlock(3))
        for item in range(8):
            batches.post(item)
        await wait_all_tasks_blocked()
        assert await batches.receive() == (0, 1, 2)
        counts = batches.statistics()
        assert (counts.accepted, counts.finished, counts.inside) == (8, 3, 5)
        assert (counts.input, counts.output) == (2, 3)
        batches.complete()
        assert [batch async for batch in batches] == [(3, 4, 5), (6, 7)]
        counts = batches.statistics()
        assert (counts.accepted, counts.finished, counts.discarded) == (8, 8, 0)


async def test_a_fault_discards_the_pending_items_and_the_unread_batches():
    with pytest.RaisesGroup(ZeroDivisionError):
        async with Network() as network:
            batches = network.add(BatchBlock(2))
            for item in range(5):
                batches.post(item)
            await wait_all_tasks_blocked()
            batches.fault(ZeroDivisionError())
    counts = batches.statistics()
    assert counts.state is BlockState.FAULTED
    assert (counts.accepted, counts.finished, counts.discarded, counts.inside) == (5, 0, 5, 0)
    with pytest.raises(BlockFaultedError) as caught:
        await batches.receive()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


async def test_cancellation_makes_no_tail_batch():
    seen = []
    async with Network() as network:
        batches = network.add(BatchBlock(10))
        batches.link_to(ActionBlock(seen.append))
        batches.post(1)
        await wait_all_tasks_blocked()
        network.cancel()
    assert seen == []
    assert batches.state is BlockState.CANCELLED
    assert batches.statistics().discarded == 1


async def test_several_sources_share_a_batch_and_the_last_to_end_releases_the_tail():
    seen = []
    async with Network() as network:
        batches = BatchBlock(2)
        left, right = BufferBlock(), BufferBlock()
        left.link_to(batches)
        right.link_to(batches)
        batches.link_to(ActionBlock(seen.append))
        network.add(batches)
        left.post("left")
        left.complete()
        await left.completion
        await wait_all_tasks_blocked()
        assert (seen, batches.state) == ([], BlockState.OPEN)
        right.post("right")
        right.post("tail")
    assert seen == [("left", "right"), ("tail",)]
