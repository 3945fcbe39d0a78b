"""`receive_all_nowait`, `output_available` and `async for` on a block."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockClosedError,
    BlockFaultedError,
    BufferBlock,
    Network,
    SourceBlock,
    TransformBlock,
    TransformManyBlock,
)


async def test_receive_all_nowait_returns_a_list_of_what_there_is():
    async with Network() as network:
        block = network.add(TransformBlock(str))
        await block.send_many(range(5))
        await wait_all_tasks_blocked()
        assert block.receive_all_nowait() == ["0", "1", "2", "3", "4"]


async def test_receive_all_nowait_of_an_open_empty_block_is_an_empty_list():
    async with Network() as network:
        block = network.add(BufferBlock())
        assert block.receive_all_nowait() == []


async def test_receive_all_nowait_makes_room():
    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock(bounded_capacity=3))
        nursery.start_soon(block.send_many, range(10))
        got = []
        while len(got) < 10:
            await wait_all_tasks_blocked()
            news = block.receive_all_nowait()
            assert news
            got += news
        assert got == list(range(10))


async def test_output_available_is_true_when_something_can_be_received():
    async with Network() as network:
        block = network.add(TransformBlock(str))
        await block.send(1)
        assert await block.output_available() is True
        assert block.try_receive() == "1"


async def test_output_available_waits_and_takes_nothing():
    answers = []

    async def ask(block):
        answers.append(await block.output_available())

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock())
        nursery.start_soon(ask, block)
        nursery.start_soon(ask, block)
        await wait_all_tasks_blocked()
        assert answers == []
        assert block.post(1)
        await wait_all_tasks_blocked()
        assert answers == [True, True]
        assert block.receive_all_nowait() == [1]


async def test_output_available_is_false_at_a_good_end():
    answers = []

    async def ask(block):
        answers.append(await block.output_available())

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock())
        nursery.start_soon(ask, block)
        await wait_all_tasks_blocked()
        block.complete()
        await wait_all_tasks_blocked()
        assert answers == [False]
        assert await block.output_available() is False


async def test_output_available_raises_the_fault():
    error = ValueError("fault")
    block = BufferBlock()
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(block)
            block.fault(error)
    with pytest.raises(BlockFaultedError) as caught:
        await block.output_available()
    assert caught.value.__cause__ is error


async def test_iteration_ends_at_a_good_end():
    async with Network() as network:
        block = network.add(BufferBlock())
        await block.send_many(range(5))
        block.complete()
        assert [item async for item in block] == list(range(5))
        assert [item async for item in block] == []


async def test_iteration_over_an_empty_completed_block_is_empty():
    async with Network() as network:
        block = network.add(SourceBlock([]))
        assert [item async for item in block] == []


async def test_iteration_waits_for_items_and_makes_room():
    async with Network() as network:
        block = network.add(SourceBlock(range(300), bounded_capacity=1))
        assert [item async for item in block] == list(range(300))


async def test_breaking_out_of_an_iteration_loses_nothing():
    async with Network() as network:
        block = network.add(BufferBlock())
        await block.send_many(range(6))
        block.complete()
        first = []
        async for item in block:
            first.append(item)
            if item == 2:
                break
        assert first == [0, 1, 2]
        assert [item async for item in block] == [3, 4, 5]


async def test_cancelling_an_iteration_loses_nothing():
    got = []

    async def iterate(block, scope):
        with scope:
            async for item in block:
                got.append(item)  # noqa: PERF401 - what came before the end must be seen

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock())
        await block.send_many([1, 2])
        scope = trio.CancelScope()
        nursery.start_soon(iterate, block, scope)
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert block.post(3)
        assert await block.receive() == 3
    assert got == [1, 2]


async def test_iteration_over_a_faulted_block_raises_block_faulted_error():
    error = ValueError("fault")
    got, causes = [], []
    block = BufferBlock()

    async def iterate():
        async for item in block:
            got.append(item)  # noqa: PERF401 - what came before the end must be seen

    async def iterate_to_the_fault():
        with pytest.raises(BlockFaultedError) as caught:
            await iterate()
        causes.append(caught.value.__cause__)

    async with trio.open_nursery() as nursery:
        with pytest.RaisesGroup(ValueError):
            async with Network() as network:
                network.add(block)
                await block.send(1)
                nursery.start_soon(iterate_to_the_fault)
                await wait_all_tasks_blocked()
                block.fault(error)
    assert got == [1]
    assert causes == [error]


async def test_iteration_over_a_cancelled_block_raises_block_closed_error():
    closed = []
    block = BufferBlock()

    async def iterate():
        with pytest.raises(BlockClosedError):
            await anext(aiter(block))
        closed.append(True)

    async with trio.open_nursery() as nursery, Network() as network:
        network.add(block)
        nursery.start_soon(iterate)
        await wait_all_tasks_blocked()
        network.cancel()
    assert closed == [True]


async def test_two_iterations_share_the_items():
    got = {"a": [], "b": []}

    async def iterate(name):
        async for item in block:
            got[name].append(item)
            await trio.lowlevel.checkpoint()

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(SourceBlock(range(100), bounded_capacity=2))
        nursery.start_soon(iterate, "a")
        nursery.start_soon(iterate, "b")
    assert sorted(got["a"] + got["b"]) == list(range(100))
    assert got["a"] == sorted(got["a"])
    assert got["b"] == sorted(got["b"])


async def test_links_come_before_receivers():
    linked, received = [], []

    async def receive(block):
        with pytest.raises(trio.EndOfChannel):
            received.append(await block.receive())

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock())
        nursery.start_soon(receive, block)
        await wait_all_tasks_blocked()
        block.link_to(ActionBlock(linked.append))
        await block.send_many([1, 2, 3])
        await network.wait_idle()
        block.complete()
    assert linked == [1, 2, 3]
    assert received == []


async def test_a_receiver_takes_what_full_links_leave():
    gate = trio.Event()
    received = []

    async def hold(_item):
        await gate.wait()

    async def receive(block):
        received.append(await block.receive())

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock())
        block.link_to(ActionBlock(hold, bounded_capacity=1))
        nursery.start_soon(receive, block)
        await wait_all_tasks_blocked()
        await block.send_many(["linked", "received"])
        await wait_all_tasks_blocked()
        assert received == ["received"]
        gate.set()


async def test_an_item_no_predicate_accepts_goes_to_a_waiting_receiver_before_it_is_a_fault():
    linked, received = [], []

    async def receive(block):
        received.append(await block.receive())

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock())
        block.link_to(ActionBlock(linked.append), lambda item: item > 0)
        nursery.start_soon(receive, block)
        await wait_all_tasks_blocked()
        await block.send_many([1, -2, 3])
        await network.wait_idle()
    assert linked == [1, 3]
    assert received == [-2]


async def test_an_item_no_predicate_accepts_goes_to_a_waiting_receiver_before_it_is_dropped():
    received = []

    async def receive(block):
        received.append(await block.receive())

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(TransformManyBlock(list))
        block.link_to(ActionBlock(str), lambda item: item > 0, unmatched="drop")
        nursery.start_soon(receive, block)
        await wait_all_tasks_blocked()
        await block.send([-1, -2])
        await network.wait_idle()
    assert received == [-1]
