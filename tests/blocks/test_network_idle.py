"""`Network.wait_idle` returns once nothing moves and nothing could move."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BatchBlock,
    BlockState,
    BufferBlock,
    Network,
    SourceBlock,
    TransformBlock,
    pipe,
)


async def note_when_idle(network, seen):
    await network.wait_idle()
    seen.append("idle")


async def test_an_empty_network_is_idle(autojump_clock):
    with trio.fail_after(1):
        async with Network() as network:
            await network.wait_idle()


async def test_a_network_of_empty_blocks_is_idle_and_stays_open(autojump_clock):
    with trio.fail_after(1):
        async with Network() as network:
            sink = network.add(ActionBlock(str))
            await network.wait_idle()
            assert sink.state is BlockState.OPEN


@pytest.mark.parametrize("parallelism", [1, 4])
async def test_wait_idle_returns_after_every_item_was_processed(parallelism, autojump_clock):
    seen = []

    async def slow(item):
        await trio.sleep(item)
        seen.append(item)

    with trio.fail_after(1000):
        async with Network() as network:
            first = TransformBlock(int, bounded_capacity=2)
            sink = ActionBlock(slow, bounded_capacity=2, max_degree_of_parallelism=parallelism)
            network.add(pipe(first, sink))
            await first.send_many(range(10))
            await network.wait_idle()
            assert sorted(seen) == list(range(10))


async def test_wait_idle_waits_for_a_running_function():
    gate = trio.Event()
    seen = []

    async def hold(_item):
        await gate.wait()
        seen.append("ran")

    async with Network() as network, trio.open_nursery() as nursery:
        sink = network.add(ActionBlock(hold))
        await sink.send(1)
        nursery.start_soon(note_when_idle, network, seen)
        await wait_all_tasks_blocked()
        assert seen == []
        gate.set()
        await wait_all_tasks_blocked()
        assert seen == ["ran", "idle"]


async def test_unread_output_of_an_unlinked_block_does_not_count(autojump_clock):
    with trio.fail_after(1):
        async with Network() as network:
            block = network.add(TransformBlock(str))
            await block.send_many(range(3))
            await network.wait_idle()
            assert block.receive_all_nowait() == ["0", "1", "2"]


async def test_output_that_no_link_accepts_is_not_deliverable(autojump_clock):
    with trio.fail_after(1):
        async with Network() as network:
            buffer = network.add(BufferBlock())
            link = buffer.link_to(ActionBlock(str), lambda item: item > 0, unmatched="hold")
            await buffer.send(-1)
            await network.wait_idle()
            link.close()
            assert await buffer.receive() == -1


async def test_wait_idle_waits_while_a_source_is_pulling():
    seen = []
    gate = trio.Event()

    async def items():
        await gate.wait()
        yield 1

    async with Network() as network, trio.open_nursery() as nursery:
        network.add(pipe(SourceBlock(items), ActionBlock(seen.append)))
        nursery.start_soon(note_when_idle, network, seen)
        await wait_all_tasks_blocked()
        assert seen == []
        gate.set()
        await wait_all_tasks_blocked()
        assert seen == [1, "idle"]


async def test_a_network_can_be_idle_again_and_again(autojump_clock):
    seen = []
    with trio.fail_after(100):
        async with Network() as network:
            sink = network.add(ActionBlock(seen.append))
            for round_number in range(1, 4):
                await sink.send_many(range(10))
                await network.wait_idle()
                assert len(seen) == 10 * round_number


async def test_every_waiter_for_idleness_is_woken():
    gate = trio.Event()
    seen = []

    async def hold(_item):
        await gate.wait()

    async with Network() as network, trio.open_nursery() as nursery:
        sink = network.add(ActionBlock(hold))
        await sink.send(1)
        for _ in range(3):
            nursery.start_soon(note_when_idle, network, seen)
        await wait_all_tasks_blocked()
        gate.set()
        await wait_all_tasks_blocked()
        assert seen == ["idle"] * 3


async def test_wait_idle_sees_a_whole_cycle(autojump_clock):
    seen = []

    async def decrement(item):
        await trio.sleep(1)
        return item - 1

    with trio.fail_after(1000):
        async with Network() as network:
            loop = network.add(TransformBlock(decrement))
            loop.link_to(loop, lambda item: item > 0)
            loop.link_to(ActionBlock(seen.append))
            await loop.send(100)
            await network.wait_idle()
            assert seen == [0]


async def test_a_cancelled_wait_for_idleness_harms_nothing():
    gate = trio.Event()
    seen = []

    async def hold(item):
        await gate.wait()
        seen.append(item)

    async with Network() as network:
        sink = network.add(ActionBlock(hold))
        await sink.send(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await network.wait_idle()
        assert scope.cancelled_caught
        gate.set()
        await network.wait_idle()
        assert seen == [1]


async def test_wait_idle_waits_for_a_batch_that_will_leave_by_its_age(autojump_clock):
    seen = []
    async with Network() as network:
        batches = network.add(BatchBlock(10, max_age=5))
        batches.link_to(ActionBlock(seen.append))
        await batches.send(1)
        await network.wait_idle()
        assert seen == [(1,)]
        assert trio.current_time() == 5
