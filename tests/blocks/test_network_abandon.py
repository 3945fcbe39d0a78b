"""Leaving the body of a network by an exception abandons it."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockClosedError,
    BlockFaultedError,
    BlockState,
    BufferBlock,
    Network,
    SourceBlock,
    TransformBlock,
    pipe,
)


async def test_an_exception_of_the_body_cancels_every_block(autojump_clock):
    waiting, idle = ActionBlock(trio.sleep), BufferBlock()
    with trio.fail_after(100), pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(waiting, idle)
            assert waiting.post(1_000_000)
            await wait_all_tasks_blocked()
            raise ValueError
    assert waiting.state is BlockState.CANCELLED
    assert idle.state is BlockState.CANCELLED


async def test_an_exception_of_the_body_cancels_the_running_functions():
    cancelled = []

    async def note_the_cancellation(item):
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled.append(item)
            raise

    with pytest.RaisesGroup(KeyError):
        async with Network() as network:
            sink = network.add(ActionBlock(note_the_cancellation, max_degree_of_parallelism=2))
            assert sink.post("a")
            assert sink.post("b")
            await wait_all_tasks_blocked()
            raise KeyError
    assert sorted(cancelled) == ["a", "b"]


async def test_an_exception_of_the_body_leaves_unprocessed_items_unprocessed():
    seen = []
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            sink = network.add(ActionBlock(seen.append))
            assert sink.post(1)
            raise ValueError
    assert sink.state is BlockState.CANCELLED
    assert sink.statistics().finished == len(seen)


async def test_a_fault_cancels_the_body():
    reached = []

    def fail(_item):
        raise ValueError

    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            sink = network.add(ActionBlock(fail))
            assert sink.post(1)
            await trio.sleep_forever()
            reached.append(True)
    assert reached == []


@pytest.mark.parametrize("parallelism", [1, 4])
async def test_a_fault_cancels_every_other_block_of_the_network(parallelism):
    def fail(_item):
        raise ValueError

    failing = ActionBlock(fail, max_degree_of_parallelism=parallelism)
    other, running = BufferBlock(), ActionBlock(trio.sleep)
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(failing, other, running)
            assert running.post(1_000_000)
            await wait_all_tasks_blocked()
            assert failing.post(1)
            await trio.sleep_forever()
    assert failing.state is BlockState.FAULTED
    assert other.state is BlockState.CANCELLED
    assert running.state is BlockState.CANCELLED


async def test_a_fault_ends_every_other_block_at_once():
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            failing, other = network.add(BufferBlock(), BufferBlock())
            failing.fault(ValueError())
            assert other.state is BlockState.CANCELLED
            assert other.post(1) is False


async def test_the_targets_of_a_faulted_block_are_cancelled():
    failing, target, sink = BufferBlock(), TransformBlock(str), ActionBlock(str)
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(pipe(failing, target, sink))
            failing.fault(ValueError())
    assert failing.state is BlockState.FAULTED
    assert target.state is BlockState.CANCELLED
    assert sink.state is BlockState.CANCELLED


async def test_waiters_of_a_block_cancelled_by_another_fault_see_the_first_fault_as_cause():
    error = ValueError("first")
    errors = []

    async def wait_for(block):
        with pytest.raises(BlockClosedError) as caught:
            await block.completion
        errors.append(caught.value.__cause__)

    async def send_to(block):
        with pytest.raises(BlockClosedError) as caught:
            await block.send("too much")
        errors.append(caught.value.__cause__)

    async def receive_from(block):
        with pytest.raises(BlockClosedError) as caught:
            await block.receive()
        errors.append(caught.value.__cause__)

    full, empty = BufferBlock(bounded_capacity=1), BufferBlock()
    async with trio.open_nursery() as nursery:
        with pytest.RaisesGroup(ValueError):
            async with Network() as network:
                network.add(full, empty)
                failing = network.add(BufferBlock())
                assert full.post("fills it")
                nursery.start_soon(wait_for, full)
                nursery.start_soon(send_to, full)
                nursery.start_soon(receive_from, empty)
                await wait_all_tasks_blocked()
                failing.fault(error)
                await trio.sleep_forever()
    assert errors == [error, error, error]


async def test_a_fault_wakes_blocked_senders_of_the_faulted_block_with_it_as_cause():
    error = ValueError("first")
    causes = []
    full = BufferBlock(bounded_capacity=1)

    async def send():
        with pytest.raises(BlockClosedError) as caught:
            await full.send("too much")
        causes.append(caught.value.__cause__)

    async with trio.open_nursery() as nursery:
        with pytest.RaisesGroup(ValueError):
            async with Network() as network:
                network.add(full)
                assert full.post("fills it")
                nursery.start_soon(send)
                nursery.start_soon(send)
                await wait_all_tasks_blocked()
                full.fault(error)
    assert causes == [error, error]


async def test_a_fault_during_the_drain_leaves_the_network():
    def fail(_item):
        raise ValueError

    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            first, last = TransformBlock(str), ActionBlock(fail)
            network.add(pipe(first, last))
            assert first.post(1)
    assert last.state is BlockState.FAULTED


async def test_cancellation_from_outside_cancels_every_block_and_passes_on():
    async def endless():
        while True:
            await trio.lowlevel.checkpoint()
            yield "tick"

    source, sink = SourceBlock(endless), ActionBlock(str)
    with trio.CancelScope() as scope:
        async with Network() as network:
            network.add(pipe(source, sink))
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert source.state is BlockState.CANCELLED
    assert sink.state is BlockState.CANCELLED


async def test_cancellation_from_outside_ends_a_drain(autojump_clock):
    sink = ActionBlock(trio.sleep)
    with trio.move_on_after(5) as scope:
        async with Network() as network:
            network.add(sink)
            assert sink.post(1_000_000)
    assert scope.cancelled_caught
    assert sink.state is BlockState.CANCELLED


async def test_completion_of_a_block_cancelled_from_outside_raises_without_a_cause():
    sink = ActionBlock(trio.sleep)
    with trio.CancelScope() as scope:
        async with Network() as network:
            network.add(sink)
            scope.cancel()
            await trio.sleep_forever()
    with pytest.raises(BlockClosedError) as caught:
        await sink.completion
    assert caught.value.__cause__ is None


async def test_a_block_that_completed_before_the_fault_stays_completed():
    early, failing = BufferBlock(), BufferBlock()
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(early, failing)
            early.complete()
            await early.completion
            failing.fault(ValueError())
            await trio.sleep_forever()
    assert early.state is BlockState.COMPLETED
    await early.completion


async def test_the_faulted_block_itself_raises_block_faulted_error_from_the_fault():
    error = ValueError("first")
    failing = BufferBlock()
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(failing)
            failing.fault(error)
    for _ in range(2):
        with pytest.raises(BlockFaultedError) as caught:
            await failing.completion
        assert caught.value.__cause__ is error
