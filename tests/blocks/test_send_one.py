"""`send` waits for a place, in the order of arrival."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockClosedError,
    BlockState,
    BufferBlock,
    Network,
    TransformBlock,
)


async def test_send_waits_while_the_block_is_full():
    sent = []

    async def send(item):
        await block.send(item)
        sent.append(item)

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock(bounded_capacity=1))
        await send("first")
        nursery.start_soon(send, "second")
        await wait_all_tasks_blocked()
        assert sent == ["first"]
        assert await block.receive() == "first"
        await wait_all_tasks_blocked()
        assert sent == ["first", "second"]
        assert await block.receive() == "second"


async def test_send_is_a_checkpoint_even_when_there_is_room():
    block = BufferBlock()
    with assert_checkpoints():
        await block.send(1)


async def test_waiting_senders_are_served_in_the_order_they_came():
    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock(bounded_capacity=1))
        for item in range(6):
            nursery.start_soon(block.send, item)
            await wait_all_tasks_blocked()
        assert block.statistics().waiting_senders == 5
        assert [await block.receive() for _ in range(6)] == list(range(6))


async def test_a_newcomer_waits_while_older_senders_wait():
    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock(bounded_capacity=1))
        await block.send(1)
        nursery.start_soon(block.send, "older")
        await wait_all_tasks_blocked()
        assert block.try_receive() == 1
        nursery.start_soon(block.send, "newcomer")
        assert [await block.receive(), await block.receive()] == ["older", "newcomer"]


async def test_a_freed_place_belongs_to_the_oldest_waiter_at_once():
    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock(bounded_capacity=1))
        await block.send(1)
        nursery.start_soon(block.send, 2)
        await wait_all_tasks_blocked()
        nursery.start_soon(block.send, 3)
        await wait_all_tasks_blocked()
        assert block.try_receive() == 1
        assert block.statistics().accepted == 2
        assert block.statistics().waiting_senders == 1
        await wait_all_tasks_blocked()
        assert await block.receive() == 2
        assert await block.receive() == 3


async def test_a_waiting_sender_gets_the_first_place_that_is_freed():
    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock(bounded_capacity=8))
        assert all(block.post(item) for item in range(8))
        nursery.start_soon(block.send, "waited")
        await wait_all_tasks_blocked()
        assert block.try_receive() == 0
        assert block.statistics().waiting_senders == 0
        assert block.receive_all_nowait() == [*range(1, 8), "waited"]


async def test_a_cancelled_send_leaves_nothing_behind():
    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock(bounded_capacity=1))
        await block.send(1)
        given_up = trio.CancelScope()

        async def send_and_give_up():
            with given_up:
                await block.send("given up")

        nursery.start_soon(send_and_give_up)
        await wait_all_tasks_blocked()
        nursery.start_soon(block.send, 2)
        await wait_all_tasks_blocked()
        given_up.cancel()
        await wait_all_tasks_blocked()
        assert given_up.cancelled_caught
        assert [await block.receive(), await block.receive()] == [1, 2]
        assert block.statistics().accepted == 2


async def test_a_send_in_a_cancelled_scope_sends_nothing():
    block = BufferBlock()
    with trio.CancelScope() as scope:
        scope.cancel()
        await block.send(1)
    assert scope.cancelled_caught
    assert block.statistics().accepted == 0


async def test_a_send_whose_item_was_taken_is_not_cancelled_any_more():
    outcomes = []

    async def send(block, scope):
        with scope:
            await block.send("late")
            outcomes.append("sent")

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock(bounded_capacity=1))
        await block.send(1)
        scope = trio.CancelScope()
        nursery.start_soon(send, block, scope)
        await wait_all_tasks_blocked()
        assert block.try_receive() == 1
        scope.cancel()
        await wait_all_tasks_blocked()
        assert block.receive_all_nowait() == (["late"] if outcomes == ["sent"] else [])


async def test_send_to_a_completed_block_raises_without_a_cause():
    block = BufferBlock()
    block.complete()
    with pytest.raises(BlockClosedError) as caught:
        await block.send(1)
    assert caught.value.__cause__ is None


async def test_send_to_a_faulted_block_raises_with_the_fault_as_cause():
    error = ValueError("fault")
    block = BufferBlock()
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(block)
            block.fault(error)
    with pytest.raises(BlockClosedError) as caught:
        await block.send(1)
    assert caught.value.__cause__ is error


async def test_complete_wakes_waiting_senders_with_block_closed_error():
    refused = []

    async def send(item):
        with pytest.raises(BlockClosedError) as caught:
            await block.send(item)
        refused.append((item, caught.value.__cause__))

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock(bounded_capacity=1))
        await block.send(1)
        for item in (2, 3):
            nursery.start_soon(send, item)
            await wait_all_tasks_blocked()
        block.complete()
        await wait_all_tasks_blocked()
        assert sorted(refused) == [(2, None), (3, None)]
        assert await block.receive() == 1


@pytest.mark.parametrize("capacity", [1, 3])
async def test_send_to_ones_own_full_block_is_a_runtime_error_naming_it(capacity):
    messages = []
    sink = None

    async def send_to_myself(item):
        if messages:
            return
        while sink.post(item):
            pass
        try:
            await sink.send(item)
        except RuntimeError as error:
            messages.append(str(error))
        sink.complete()

    async with Network() as network:
        sink = network.add(
            ActionBlock(send_to_myself, bounded_capacity=capacity, name="self-sender")
        )
        assert sink.post(1)
        await sink.completion
    assert len(messages) == 1
    assert "self-sender" in messages[0]


async def test_an_uncaught_send_to_ones_own_full_block_faults_it():
    async def send_to_myself(item):
        await block.send(item)

    block = TransformBlock(send_to_myself, bounded_capacity=1, name="self-sender")
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="self-sender")):
        async with Network() as network:
            network.add(block)
            assert block.post(1)
            await trio.sleep_forever()
    assert block.state is BlockState.FAULTED


@pytest.mark.parametrize("parallelism", [1, 2])
async def test_send_to_ones_own_block_with_room_is_allowed(parallelism):
    seen = []

    async def count_down(item):
        seen.append(item)
        if item:
            await sink.send(item - 1)

    async with Network() as network:
        sink = network.add(
            ActionBlock(count_down, bounded_capacity=4, max_degree_of_parallelism=parallelism)
        )
        await sink.send(5)
        await network.wait_idle()
    assert seen == [5, 4, 3, 2, 1, 0]


@settings(deadline=None)
@given(
    senders=st.lists(st.lists(st.integers(0, 3), max_size=5), min_size=1, max_size=4),
    capacity=st.integers(1, 3),
    pauses=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    seed=st.random_module(),
)
async def test_concurrent_senders_lose_duplicate_and_reorder_nothing(
    senders, capacity, pauses, seed
):
    got = []

    async def send_all(sender, delays):
        for index, delay in enumerate(delays):
            for _ in range(delay):
                await trio.lowlevel.checkpoint()
            await sink.send((sender, index))

    async def note(item):
        for _ in range(pauses[len(got) % len(pauses)]):
            await trio.lowlevel.checkpoint()
        got.append(item)

    with trio.fail_after(60):
        async with Network() as network:
            sink = network.add(ActionBlock(note, bounded_capacity=capacity))
            async with trio.open_nursery() as nursery:
                for sender, delays in enumerate(senders):
                    nursery.start_soon(send_all, sender, delays)
    for sender, delays in enumerate(senders):
        assert [index for who, index in got if who == sender] == list(range(len(delays)))
    assert len(got) == sum(map(len, senders))


@settings(deadline=None)
@given(
    plans=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=8),
    capacity=st.integers(1, 2),
    seed=st.random_module(),
)
async def test_an_item_arrives_exactly_if_its_send_returned(plans, capacity, seed):
    sent, got = [], []

    async def send_with_a_limit(index, start, patience):
        for _ in range(start):
            await trio.lowlevel.checkpoint()
        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:

            async def lose_patience():
                for _ in range(patience):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            nursery.start_soon(lose_patience)
            with scope:
                await sink.send(index)
                sent.append(index)

    async def slow(item):
        got.append(item)
        for _ in range(3):
            await trio.lowlevel.checkpoint()

    with trio.fail_after(60):
        async with Network() as network:
            sink = network.add(ActionBlock(slow, bounded_capacity=capacity))
            async with trio.open_nursery() as nursery:
                for index, (start, patience) in enumerate(plans):
                    nursery.start_soon(send_with_a_limit, index, start, patience)
    assert sorted(got) == sorted(sent)
