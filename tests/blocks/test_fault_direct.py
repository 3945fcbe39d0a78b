"""`fault` ends a block with an error."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockFaultedError,
    BlockState,
    BufferBlock,
    Network,
    TransformBlock,
)


@pytest.mark.parametrize("thing", ["text", None, ValueError, 1])
def test_fault_with_something_that_is_no_exception_is_a_type_error(thing):
    block = BufferBlock()
    with pytest.raises(TypeError):
        block.fault(thing)
    assert block.state is BlockState.OPEN


async def test_fault_ends_an_open_block():
    error = ValueError("fault")
    block = BufferBlock()
    with pytest.RaisesGroup(ValueError) as caught:
        async with Network() as network:
            network.add(block)
            block.fault(error)
            await trio.sleep_forever()
    assert caught.value.exceptions == (error,)
    assert block.state is BlockState.FAULTED


async def test_fault_after_complete_wins_while_items_are_unfinished():
    block = BufferBlock()
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(block)
            assert block.post("unread")
            block.complete()
            await wait_all_tasks_blocked()
            assert block.state is BlockState.DRAINING
            block.fault(ValueError())
            await trio.sleep_forever()
    assert block.state is BlockState.FAULTED


async def test_fault_after_the_end_does_nothing():
    async with Network() as network:
        block = network.add(BufferBlock())
        block.complete()
        await block.completion
        block.fault(ValueError())
        assert block.state is BlockState.COMPLETED
    await block.completion


async def test_fault_after_cancellation_does_nothing():
    async with Network() as network:
        block = network.add(BufferBlock())
        network.cancel()
    block.fault(ValueError())
    assert block.state is BlockState.CANCELLED


async def test_the_first_fault_of_a_block_wins():
    first = ValueError("first")
    block = BufferBlock()
    with pytest.RaisesGroup(ValueError) as caught:
        async with Network() as network:
            network.add(block)
            block.fault(first)
            block.fault(KeyError("second"))
    assert caught.value.exceptions == (first,)
    with pytest.raises(BlockFaultedError) as faulted:
        await block.completion
    assert faulted.value.__cause__ is first


async def test_a_block_may_fault_itself_from_inside_its_function():
    error = ValueError("self")
    block = ActionBlock(lambda _item: block.fault(error))
    with pytest.RaisesGroup(ValueError) as caught:
        async with Network() as network:
            network.add(block)
            assert block.post(1)
            await trio.sleep_forever()
    assert caught.value.exceptions == (error,)
    assert block.state is BlockState.FAULTED


@pytest.mark.parametrize("parallelism", [1, 3])
async def test_no_item_is_started_after_the_fault(parallelism):
    started = []

    def fail_at_2(item):
        started.append(item)
        if item == 2:
            raise ValueError

    block = ActionBlock(fail_at_2, max_degree_of_parallelism=parallelism)
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            assert all(block.post(item) for item in range(100))
            network.add(block)
    assert started == [0, 1, 2]


async def test_a_faulted_block_does_not_deliver_its_remaining_output():
    seen = []
    block = BufferBlock()
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(block)
            await block.send_many([1, 2])
            await wait_all_tasks_blocked()
            block.fault(ValueError())
            block.link_to(ActionBlock(seen.append))
            await trio.sleep_forever()
    assert seen == []


async def test_complete_after_a_fault_does_nothing():
    block = TransformBlock(str)
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(block)
            block.fault(ValueError())
            block.complete()
    assert block.state is BlockState.FAULTED


async def test_completion_of_a_faulted_block_waits_for_its_running_function():
    gate, waiting = trio.Event(), []

    async def clean_up(_item):
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await gate.wait()

    async def wait_for(block):
        waiting.append("begun")
        with pytest.raises(BlockFaultedError):
            await block.completion
        waiting.append("over")

    async with trio.open_nursery() as nursery:
        block = ActionBlock(clean_up)
        nursery.start_soon(wait_for, block)
        with pytest.RaisesGroup(ValueError):
            async with Network() as network:
                network.add(block)
                assert block.post(1)
                await wait_all_tasks_blocked()
                block.fault(ValueError())
                with trio.CancelScope(shield=True):
                    await wait_all_tasks_blocked()
                    while_it_ran = list(waiting)
                    gate.set()
    assert while_it_ran == ["begun"]
    assert waiting == ["begun", "over"]


async def test_a_plain_function_that_faults_its_own_block_sees_no_further_item():
    seen = []

    def work(item):
        seen.append(item)
        block.fault(ValueError())

    block = ActionBlock(work)
    assert all(block.post(item) for item in range(10))
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(block)
    assert seen == [0]
