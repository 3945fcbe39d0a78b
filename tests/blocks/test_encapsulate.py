"""encapsulate(target, source): one block whose input is one and whose output another."""

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
    encapsulate,
    run,
)


def text_of_number(**options):
    """Encapsulate a chain of two: add one, then make a text of it."""
    add_one, to_text = TransformBlock(lambda number: number + 1, **options), TransformBlock(str)
    add_one.link_to(to_text)
    return encapsulate(add_one, to_text), add_one, to_text


async def test_items_go_in_at_the_target_and_come_out_at_the_source():
    async with Network() as network:
        both, _, _ = text_of_number()
        network.add(both)
        assert both.post(1) is True
        await both.send(2)
        await both.send_many([3, 4])
        assert [await both.receive() for _ in range(4)] == ["2", "3", "4", "5"]


async def test_adding_it_adds_both_ends():
    async with Network() as network:
        both, add_one, to_text = text_of_number()
        network.add(both)
        assert {add_one, to_text} <= set(network.statistics())


async def test_adding_it_adds_both_ends_even_when_nothing_links_them():
    async with Network() as network:
        entry, leave = BufferBlock(), BufferBlock()
        network.add(encapsulate(entry, leave))
        assert {entry, leave} <= set(network.statistics())


async def test_completing_it_completes_the_target():
    async with Network() as network:
        both, add_one, _ = text_of_number()
        network.add(both)
        both.post(1)
        both.complete()
        assert add_one.post(2) is False
        assert both.post(2) is False
        with pytest.raises(BlockClosedError):
            await both.send(2)
        assert [text async for text in both] == ["2"]


async def test_its_completion_is_that_of_the_source():
    async with Network() as network:
        both, add_one, to_text = text_of_number()
        network.add(both)
        both.post(1)
        both.complete()
        await add_one.completion
        await wait_all_tasks_blocked()
        assert both.state is to_text.state is BlockState.DRAINING
        assert await both.receive() == "2"
        await both.completion
        assert to_text.state is BlockState.COMPLETED


async def test_its_state_and_statistics_are_those_of_the_source():
    async with Network() as network:
        both, _, to_text = text_of_number()
        network.add(both)
        both.post(1)
        await wait_all_tasks_blocked()
        assert both.statistics() == to_text.statistics()
        assert both.statistics().inside == 1
        assert both.state is to_text.state is BlockState.OPEN
        assert both.try_receive() == "2"


async def test_a_full_target_makes_it_full():
    async with Network() as network:
        entry = BufferBlock(bounded_capacity=1)
        both = encapsulate(entry, BufferBlock())
        network.add(both)
        assert [both.post(item) for item in (1, 2)] == [True, False]
        assert entry.try_receive() == 1


async def test_a_fault_goes_to_the_target():
    fault = ZeroDivisionError()
    with pytest.RaisesGroup(ZeroDivisionError):
        async with Network() as network:
            both, add_one, to_text = text_of_number()
            network.add(both)
            both.fault(fault)
    assert add_one.state is BlockState.FAULTED
    with pytest.raises(BlockFaultedError) as caught:
        await add_one.completion
    assert caught.value.__cause__ is fault
    assert to_text.state in (BlockState.FAULTED, BlockState.CANCELLED)


async def test_it_can_stand_in_the_middle_of_a_chain():
    seen = []
    both, _, _ = text_of_number()
    await run(SourceBlock(range(3)), both, ActionBlock(seen.append))
    assert seen == ["1", "2", "3"]


async def test_linking_to_it_and_from_it_links_its_ends():
    seen = []
    async with Network() as network:
        both, _, _ = text_of_number()
        numbers = SourceBlock(range(3))
        numbers.link_to(both)
        both.link_to(ActionBlock(seen.append))
        network.add(numbers)
    assert seen == ["1", "2", "3"]


async def test_encapsulations_nest():
    seen = []
    inner, _, _ = text_of_number()
    last = TransformBlock(lambda text: text + "!")
    inner.link_to(last)
    await run(SourceBlock([1]), encapsulate(inner, last), ActionBlock(seen.append))
    assert seen == ["2!"]


async def test_receiving_verbs_are_those_of_the_source():
    async with Network() as network:
        both, _, _ = text_of_number()
        network.add(both)
        with pytest.raises(trio.WouldBlock):
            both.try_receive()
        await both.send_many([1, 2])
        assert await both.output_available() is True
        await wait_all_tasks_blocked()
        assert both.receive_all_nowait() == ["2", "3"]
        both.complete()
        assert await both.output_available() is False
