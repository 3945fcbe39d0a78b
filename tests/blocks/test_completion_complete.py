"""`complete` closes a block, which then finishes what it has accepted."""

import inspect

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockClosedError,
    BlockState,
    BufferBlock,
    Network,
    SourceBlock,
    TransformBlock,
    TransformManyBlock,
)

MAKERS = pytest.mark.parametrize(
    "make",
    [
        BufferBlock,
        lambda: TransformBlock(str),
        lambda: TransformManyBlock(list),
        lambda: ActionBlock(str),
        lambda: TransformBlock(str, max_degree_of_parallelism=4),
        lambda: ActionBlock(str, max_degree_of_parallelism=4),
    ],
)


def test_a_block_is_in_one_of_five_states():
    assert {state.name for state in BlockState} == {
        "OPEN",
        "DRAINING",
        "COMPLETED",
        "FAULTED",
        "CANCELLED",
    }


@MAKERS
async def test_an_empty_block_completes_once_complete_was_called(make, autojump_clock):
    async with Network() as network:
        block = network.add(make())
        assert block.state is BlockState.OPEN
        block.complete()
        with trio.fail_after(1):
            await block.completion
        assert block.state is BlockState.COMPLETED


@MAKERS
async def test_complete_is_idempotent(make):
    async with Network() as network:
        block = network.add(make())
        block.complete()
        block.complete()
        await block.completion
        block.complete()
        assert block.state is BlockState.COMPLETED


@MAKERS
async def test_complete_closes_at_once(make):
    block = make()
    block.complete()
    assert block.post(1) is False


async def test_a_block_that_still_drains_accepts_nothing_more():
    block = BufferBlock()
    assert block.post(1) is True
    block.complete()
    assert block.state is BlockState.DRAINING
    assert block.post(2) is False
    with pytest.raises(BlockClosedError):
        await block.send(2)
    assert block.receive_all_nowait() == [1]
    assert block.state is BlockState.COMPLETED


def test_complete_is_synchronous():
    assert not inspect.isawaitable(BufferBlock().complete())


@pytest.mark.parametrize("parallelism", [1, 3])
async def test_accepted_items_are_still_processed_after_complete(parallelism):
    seen = []
    async with Network() as network:
        sink = network.add(ActionBlock(seen.append, max_degree_of_parallelism=parallelism))
        assert all(sink.post(item) for item in range(10))
        sink.complete()
        await sink.completion
    assert sorted(seen) == list(range(10))


@pytest.mark.parametrize("parallelism", [1, 3])
async def test_complete_may_be_called_from_inside_the_function(parallelism):
    seen = []

    async def stop_at_3(item):
        seen.append(item)
        if item == 3:
            sink.complete()

    async with Network() as network:
        sink = network.add(ActionBlock(stop_at_3, max_degree_of_parallelism=parallelism))
        await sink.send_many(range(10))
        await sink.completion
        assert sink.post("late") is False
    assert sorted(seen) == list(range(10))


async def test_completion_waits_until_the_output_has_been_read():
    async with Network() as network:
        block = network.add(TransformBlock(str))
        await block.send_many([1, 2])
        block.complete()
        await wait_all_tasks_blocked()
        assert block.state is BlockState.DRAINING
        assert await block.receive() == "1"
        await wait_all_tasks_blocked()
        assert block.state is BlockState.DRAINING
        assert await block.receive() == "2"
        await block.completion
        assert block.state is BlockState.COMPLETED


async def test_completion_waits_for_a_running_function():
    gate = trio.Event()

    async def hold(_item):
        await gate.wait()

    async with Network() as network:
        sink = network.add(ActionBlock(hold))
        await sink.send(1)
        sink.complete()
        await wait_all_tasks_blocked()
        assert sink.state is BlockState.DRAINING
        gate.set()
        await sink.completion


async def test_completion_may_be_awaited_often_by_many_and_afterwards():
    woken = []

    async def wait():
        await block.completion
        woken.append(True)

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock())
        for _ in range(3):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert woken == []
        block.complete()
        await wait_all_tasks_blocked()
        assert woken == [True] * 3
        await wait()
        await wait()
    await wait()
    assert len(woken) == 6


async def test_completion_can_be_kept_and_awaited_twice():
    async with Network() as network:
        block = network.add(BufferBlock())
        completion = block.completion
        block.complete()
        await completion
        await completion


async def test_a_cancelled_wait_for_completion_harms_nothing():
    async with Network() as network:
        block = network.add(BufferBlock())
        with trio.CancelScope() as scope:
            scope.cancel()
            await block.completion
        assert scope.cancelled_caught
        assert block.state is BlockState.OPEN
        block.complete()
        await block.completion


async def test_completion_returns_none():
    async with Network() as network:
        block = network.add(BufferBlock())
        block.complete()
        assert await block.completion is None


async def test_a_source_completes_by_itself_at_the_end_of_its_items():
    async with Network() as network:
        source = network.add(SourceBlock([1]))
        assert await source.receive() == 1
        await source.completion
        assert source.state is BlockState.COMPLETED
