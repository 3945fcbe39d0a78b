"""`receive` and `try_receive` take one item off the output."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from flowstore.blocks import (
    BlockClosedError,
    BlockFaultedError,
    BufferBlock,
    Network,
    SourceBlock,
    TransformBlock,
    TransformManyBlock,
)


async def faulted_with(error):
    block = BufferBlock()
    with pytest.RaisesGroup(type(error)):
        async with Network() as network:
            network.add(block)
            block.fault(error)
    return block


async def cancelled():
    async with Network() as network:
        block = network.add(BufferBlock())
        network.cancel()
    return block


async def test_receive_takes_the_items_in_order():
    async with Network() as network:
        block = network.add(BufferBlock())
        await block.send_many([1, 2, 3])
        assert [await block.receive() for _ in range(3)] == [1, 2, 3]


async def test_receive_waits_for_an_item():
    got = []

    async def receive(block):
        got.append(await block.receive())

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(TransformBlock(str))
        nursery.start_soon(receive, block)
        await wait_all_tasks_blocked()
        assert got == []
        assert block.post(1)
        await wait_all_tasks_blocked()
        assert got == ["1"]


async def test_receive_is_a_checkpoint_even_when_there_is_an_item():
    async with Network() as network:
        block = network.add(BufferBlock())
        await block.send(1)
        await wait_all_tasks_blocked()
        with assert_checkpoints():
            await block.receive()


async def test_waiting_receivers_are_served_in_the_order_they_came():
    got = []

    async def receive(name):
        got.append((name, await block.receive()))

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock())
        for name in "abc":
            nursery.start_soon(receive, name)
            await wait_all_tasks_blocked()
        for item in (1, 2, 3):
            assert block.post(item)
            await wait_all_tasks_blocked()
        assert got == [("a", 1), ("b", 2), ("c", 3)]


async def test_a_cancelled_receive_loses_nothing():
    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock())
        scope = trio.CancelScope()

        async def receive():
            with scope:
                await block.receive()

        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert block.post(1)
        assert await block.receive() == 1


async def test_a_receive_in_a_cancelled_scope_takes_nothing():
    async with Network() as network:
        block = network.add(BufferBlock())
        await block.send(1)
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await block.receive()
        assert scope.cancelled_caught
        assert block.try_receive() == 1


async def test_receive_after_a_good_end_raises_end_of_channel():
    async with Network() as network:
        block = network.add(BufferBlock())
        block.complete()
        with pytest.raises(trio.EndOfChannel):
            await block.receive()
    with pytest.raises(trio.EndOfChannel):
        await block.receive()


async def test_a_good_end_wakes_waiting_receivers_with_end_of_channel():
    ended = []

    async def receive():
        with pytest.raises(trio.EndOfChannel):
            await block.receive()
        ended.append(True)

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(TransformBlock(str))
        nursery.start_soon(receive)
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        block.complete()
        await wait_all_tasks_blocked()
        assert ended == [True, True]


async def test_output_can_be_received_after_complete():
    async with Network() as network:
        block = network.add(TransformBlock(str))
        await block.send_many([1, 2])
        block.complete()
        assert [await block.receive(), await block.receive()] == ["1", "2"]
        with pytest.raises(trio.EndOfChannel):
            await block.receive()


async def test_receive_after_a_fault_raises_block_faulted_error_from_it():
    error = ValueError("fault")
    block = await faulted_with(error)
    with pytest.raises(BlockFaultedError) as caught:
        await block.receive()
    assert caught.value.__cause__ is error


async def test_a_fault_wakes_waiting_receivers_with_it():
    error = ValueError("fault")
    causes = []
    block = BufferBlock()

    async def receive():
        with pytest.raises(BlockFaultedError) as caught:
            await block.receive()
        causes.append(caught.value.__cause__)

    async with trio.open_nursery() as nursery:
        with pytest.RaisesGroup(ValueError):
            async with Network() as network:
                network.add(block)
                nursery.start_soon(receive)
                nursery.start_soon(receive)
                await wait_all_tasks_blocked()
                block.fault(error)
    assert causes == [error, error]


async def test_receive_after_cancellation_raises_block_closed_error():
    block = await cancelled()
    with pytest.raises(BlockClosedError) as caught:
        await block.receive()
    assert caught.value.__cause__ is None


async def test_try_receive_raises_would_block_while_open_and_empty():
    async with Network() as network:
        block = network.add(BufferBlock())
        with pytest.raises(trio.WouldBlock):
            block.try_receive()


async def test_try_receive_takes_the_head():
    async with Network() as network:
        block = network.add(TransformBlock(str))
        await block.send_many([1, 2])
        await wait_all_tasks_blocked()
        assert [block.try_receive(), block.try_receive()] == ["1", "2"]
        with pytest.raises(trio.WouldBlock):
            block.try_receive()


async def test_try_receive_raises_would_block_while_the_last_item_still_runs():
    gate = trio.Event()

    async def hold(item):
        await gate.wait()
        return item

    async with Network() as network:
        block = network.add(TransformBlock(hold))
        await block.send(1)
        block.complete()
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            block.try_receive()
        gate.set()
        assert await block.receive() == 1


async def test_try_receive_after_the_end_raises_as_receive_does():
    block = BufferBlock()
    async with Network() as network:
        network.add(block)
    with pytest.raises(trio.EndOfChannel):
        block.try_receive()
    with pytest.raises(BlockFaultedError):
        (await faulted_with(ValueError())).try_receive()
    with pytest.raises(BlockClosedError):
        (await cancelled()).try_receive()


@pytest.mark.parametrize(
    "make",
    [
        lambda: SourceBlock(range(3)),
        lambda: TransformManyBlock(lambda _item: range(3)),
    ],
)
async def test_every_source_can_be_received_from(make):
    async with Network() as network:
        block = network.add(make())
        if isinstance(block, TransformManyBlock):
            await block.send(None)
        assert [await block.receive() for _ in range(3)] == [0, 1, 2]


@settings(deadline=None)
@given(
    items=st.integers(0, 12),
    patiences=st.lists(st.integers(0, 6), max_size=8),
    capacity=st.integers(1, 3),
    seed=st.random_module(),
)
async def test_impatient_receivers_lose_and_duplicate_nothing(items, patiences, capacity, seed):
    got = []

    async def receive_with_a_limit(patience):
        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:

            async def lose_patience():
                for _ in range(patience):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            nursery.start_soon(lose_patience)
            with scope:
                try:
                    got.append(await block.receive())
                except trio.EndOfChannel:
                    scope.cancel()

    async def send_all():
        await block.send_many(range(items))
        block.complete()

    with trio.fail_after(60):
        async with Network() as network:
            block = network.add(BufferBlock(bounded_capacity=capacity))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_all)
                for patience in patiences:
                    nursery.start_soon(receive_with_a_limit, patience)
                await trio.lowlevel.checkpoint()
                got.extend([item async for item in block])
    assert sorted(got) == list(range(items))
