"""WriteOnceBlock: takes the first value, keeps it for ever, gives it to everyone."""

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
    WriteOnceBlock,
    null_target,
)


async def test_only_the_first_value_is_accepted():
    async with Network() as network:
        once = network.add(WriteOnceBlock())
        assert [once.post(item) for item in (1, 2, 3)] == [True, False, False]
        assert await once.receive() == 1


async def test_only_the_first_of_values_that_come_at_once_is_accepted():
    async with Network() as network:
        once = network.add(WriteOnceBlock())
        with pytest.raises(BlockClosedError) as caught:
            await once.send_many([1, 2, 3])
        assert caught.value.accepted == 1
        assert await once.receive() == 1


async def test_a_later_send_learns_that_the_block_has_closed():
    async with Network() as network:
        once = network.add(WriteOnceBlock())
        await once.send(1)
        with pytest.raises(BlockClosedError) as caught:
            await once.send(2)
        assert caught.value.__cause__ is None


async def test_exactly_one_of_many_senders_wins():
    winners, losers = [], []

    async def sender(once, item):
        try:
            await once.send(item)
        except BlockClosedError:
            losers.append(item)
        else:
            winners.append(item)

    async with Network() as network:
        once = network.add(WriteOnceBlock())
        async with trio.open_nursery() as nursery:
            for item in range(5):
                nursery.start_soon(sender, once, item)
        assert len(winners) == 1
        assert len(losers) == 4
        assert await once.receive() == winners[0]


async def test_it_completes_when_it_has_a_value_and_needs_no_reader(autojump_clock):
    with trio.fail_after(10):
        async with Network() as network:
            once = network.add(WriteOnceBlock())
            once.post("value")
            await once.completion
            assert once.state is BlockState.COMPLETED


async def test_the_value_can_be_received_any_number_of_times():
    async with Network() as network:
        once = network.add(WriteOnceBlock())
        once.post("value")
        await once.completion
        assert [await once.receive() for _ in range(3)] == ["value"] * 3
        assert once.try_receive() == "value"
        assert await once.output_available() is True
    assert once.try_receive() == "value"


async def test_all_waiting_receivers_get_the_value():
    received = []

    async def receiver(once):
        received.append(await once.receive())

    async with Network() as network, trio.open_nursery() as nursery:
        once = network.add(WriteOnceBlock())
        for _ in range(3):
            nursery.start_soon(receiver, once)
        await wait_all_tasks_blocked()
        assert received == []
        once.post("value")
        await wait_all_tasks_blocked()
        assert received == ["value"] * 3


async def test_every_target_gets_the_value_and_completes():
    first, second = [], []
    async with Network() as network:
        once = network.add(WriteOnceBlock())
        sinks = [ActionBlock(first.append), ActionBlock(second.append)]
        for sink in sinks:
            once.link_to(sink)
        once.post("value")
        for sink in sinks:
            await sink.completion
    assert (first, second) == (["value"], ["value"])


async def test_a_late_link_gets_the_value():
    seen = []
    async with Network() as network:
        once = network.add(WriteOnceBlock())
        once.post("value")
        await once.completion
        sink = ActionBlock(seen.append)
        once.link_to(sink)
        await sink.completion
    assert seen == ["value"]


async def test_completing_it_without_a_value_ends_it_empty():
    async with Network() as network:
        once = network.add(WriteOnceBlock())
        once.complete()
        await once.completion
        assert once.post(1) is False
        with pytest.raises(trio.EndOfChannel):
            await once.receive()


async def test_completing_it_without_a_value_completes_its_targets():
    async with Network() as network:
        once = network.add(WriteOnceBlock())
        target = BufferBlock()
        once.link_to(target)
        once.complete()
        await target.completion


async def test_a_fault_before_the_value_reaches_those_who_wait_for_it():
    fault = ZeroDivisionError()
    with pytest.RaisesGroup(ZeroDivisionError):
        async with Network() as network:
            once = network.add(WriteOnceBlock())
            once.fault(fault)
    with pytest.raises(BlockFaultedError) as caught:
        await once.receive()
    assert caught.value.__cause__ is fault
    assert once.post(1) is False


async def test_a_fault_after_the_value_changes_nothing():
    async with Network() as network:
        once = network.add(WriteOnceBlock())
        once.post("value")
        await once.completion
        once.fault(ZeroDivisionError())
        assert once.state is BlockState.COMPLETED
        assert await once.receive() == "value"


async def test_each_taker_gets_a_clone_of_its_own():
    seen, made = [], []

    def clone(item):
        made.append([*item])
        return made[-1]

    original = ["value"]
    async with Network() as network:
        once = network.add(WriteOnceBlock(clone))
        for _ in range(2):
            once.link_to(ActionBlock(seen.append))
        once.post(original)
    assert seen == [["value"], ["value"]]
    assert len({id(item) for item in [original, *seen]}) == 3
    assert len(made) == 2


async def test_a_linked_source_keeps_what_comes_after_the_first_item():
    async with Network() as network:
        items = network.add(BufferBlock())
        once = WriteOnceBlock()
        items.link_to(once)
        for item in (1, 2, 3):
            items.post(item)
        assert await once.receive() == 1
        await once.completion
        await wait_all_tasks_blocked()
        assert items.receive_all_nowait() == [2, 3]


async def test_the_rest_of_a_source_can_flow_elsewhere():
    async with Network() as network:
        numbers = SourceBlock(range(100))
        once = WriteOnceBlock()
        numbers.link_to(once)
        numbers.link_to(null_target())
        network.add(numbers)
    assert await once.receive() == 0
