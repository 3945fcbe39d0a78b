"""`send_many` is the fast lane: one checkpoint a call, one place in the queue."""

import pytest
import trio
from trio.abc import Instrument
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from flowstore.blocks import ActionBlock, BlockClosedError, BufferBlock, Network


class StepsOf(Instrument):
    """Counts the scheduling steps of one task."""

    def __init__(self, task):
        self.task = task
        self.steps = 0

    def before_task_step(self, task):
        self.steps += task is self.task


@pytest.mark.parametrize("count", [1, 2, 128])
async def test_send_many_sends_all_in_order(count):
    async with Network() as network:
        block = network.add(BufferBlock())
        await block.send_many(range(count))
        await wait_all_tasks_blocked()
        assert block.receive_all_nowait() == list(range(count))


async def test_send_many_takes_any_iterable():
    async with Network() as network:
        block = network.add(BufferBlock())
        await block.send_many(item * 2 for item in range(3))
        await block.send_many({"a": 1, "b": 2})
        await wait_all_tasks_blocked()
        assert block.receive_all_nowait() == [0, 2, 4, "a", "b"]


async def test_send_many_of_nothing_is_a_checkpoint():
    block = BufferBlock()
    with assert_checkpoints():
        await block.send_many([])
    assert block.statistics().accepted == 0


async def test_send_many_is_a_checkpoint():
    block = BufferBlock()
    with assert_checkpoints():
        await block.send_many([1, 2])


@pytest.mark.parametrize("count", [0, 1, 60])
async def test_send_many_with_room_is_one_checkpoint(count):
    block = BufferBlock()
    counter = StepsOf(trio.lowlevel.current_task())
    trio.lowlevel.add_instrument(counter)
    try:
        await block.send_many(range(count))
    finally:
        trio.lowlevel.remove_instrument(counter)
    assert counter.steps == 1


async def test_send_many_of_more_than_the_capacity_waits_for_room():
    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock(bounded_capacity=2))
        nursery.start_soon(block.send_many, range(7))
        await wait_all_tasks_blocked()
        assert block.statistics().accepted == 2
        assert [await block.receive() for _ in range(7)] == list(range(7))


async def test_send_many_keeps_its_place_until_it_is_done():
    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock(bounded_capacity=2))
        nursery.start_soon(block.send_many, ["a1", "a2", "a3", "a4", "a5"])
        await wait_all_tasks_blocked()
        nursery.start_soon(block.send, "b")
        await wait_all_tasks_blocked()
        nursery.start_soon(block.send_many, ["c1", "c2", "c3"])
        await wait_all_tasks_blocked()
        got = [await block.receive() for _ in range(9)]
        assert got == ["a1", "a2", "a3", "a4", "a5", "b", "c1", "c2", "c3"]


async def test_post_is_refused_while_a_send_many_waits():
    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock(bounded_capacity=1))
        nursery.start_soon(block.send_many, [1, 2, 3])
        await wait_all_tasks_blocked()
        assert block.try_receive() == 1
        assert block.post("barging") is False
        assert [await block.receive(), await block.receive()] == [2, 3]


async def test_a_cancelled_send_many_has_sent_a_prefix():
    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock(bounded_capacity=2))
        scope = trio.CancelScope()

        async def send():
            with scope:
                await block.send_many(range(10))

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        assert [await block.receive() for _ in range(3)] == [0, 1, 2]
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert scope.cancelled_caught
        rest = block.receive_all_nowait()
        assert rest == [3, 4]
        assert block.statistics().accepted == 5
        assert block.statistics().waiting_senders == 0


async def test_the_place_of_a_cancelled_send_many_goes_to_the_next_sender():
    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock(bounded_capacity=1))
        scope = trio.CancelScope()

        async def send():
            with scope:
                await block.send_many(["a", "b"])

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        nursery.start_soon(block.send, "next")
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert [await block.receive(), await block.receive()] == ["a", "next"]


async def test_a_send_many_in_a_cancelled_scope_sends_nothing():
    block = BufferBlock()
    with trio.CancelScope() as scope:
        scope.cancel()
        await block.send_many([1, 2])
    assert scope.cancelled_caught
    assert block.statistics().accepted == 0


async def test_a_send_many_closed_midway_says_how_many_were_accepted():
    errors = []

    async def send(block):
        with pytest.raises(BlockClosedError) as caught:
            await block.send_many(range(10))
        errors.append(caught.value)

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock(bounded_capacity=3))
        nursery.start_soon(send, block)
        await wait_all_tasks_blocked()
        assert await block.receive() == 0
        await wait_all_tasks_blocked()
        block.complete()
        await wait_all_tasks_blocked()
        assert errors[0].accepted == 4
        assert errors[0].__cause__ is None
        assert block.receive_all_nowait() == [1, 2, 3]


async def test_a_send_many_to_a_completed_block_had_nothing_accepted():
    block = BufferBlock()
    block.complete()
    with pytest.raises(BlockClosedError) as caught:
        await block.send_many([1, 2])
    assert caught.value.accepted == 0


async def test_a_send_many_faulted_midway_has_the_fault_as_cause():
    error = ValueError("fault")
    errors = []
    block = BufferBlock(bounded_capacity=3)

    async def send():
        with pytest.raises(BlockClosedError) as caught:
            await block.send_many(range(10))
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        with pytest.RaisesGroup(ValueError):
            async with Network() as network:
                network.add(block)
                nursery.start_soon(send)
                await wait_all_tasks_blocked()
                block.fault(error)
    assert errors[0].accepted == 3
    assert errors[0].__cause__ is error


@pytest.mark.parametrize("capacity", [1, 2, 128])
@pytest.mark.parametrize("parallelism", [1, 4])
async def test_send_many_feeds_a_working_block_to_the_end(capacity, parallelism):
    seen = []

    async def note(item):
        await trio.lowlevel.checkpoint()
        seen.append(item)

    async with Network() as network:
        sink = network.add(
            ActionBlock(note, bounded_capacity=capacity, max_degree_of_parallelism=parallelism)
        )
        await sink.send_many(range(500))
    assert sorted(seen) == list(range(500))


def test_post_is_refused_between_the_items_of_a_send_many_although_there_is_room():
    block = BufferBlock(bounded_capacity=1000)
    posted = []

    def items():
        for number in range(200):
            if number == 150:
                posted.append(block.post("newcomer"))
            yield number

    trio.run(block.send_many, items())
    assert posted == [False]
    assert block.receive_all_nowait() == list(range(200))
