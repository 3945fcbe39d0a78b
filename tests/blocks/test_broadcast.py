"""BroadcastBlock: the latest value, offered to everyone; slow targets lose the ones between."""

import re

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockClosedError,
    BlockState,
    BroadcastBlock,
    BufferBlock,
    Network,
    SourceBlock,
)


def slow_sink(seen, gate):
    """Make a sink that holds its first item until the gate opens."""

    async def note(item):
        seen.append(item)
        await gate.wait()

    return ActionBlock(note, bounded_capacity=1)


async def test_every_target_with_room_gets_every_item():
    first, second = [], []
    async with Network() as network:
        broadcast = network.add(BroadcastBlock())
        broadcast.link_to(ActionBlock(first.append))
        broadcast.link_to(ActionBlock(second.append))
        for item in range(3):
            await broadcast.send(item)
            await wait_all_tasks_blocked()
    assert [first, second] == [[0, 1, 2], [0, 1, 2]]


def test_the_first_line_of_its_docstring_warns_of_the_loss():
    first_line = (BroadcastBlock.__doc__ or "").strip().splitlines()[0]
    assert re.search(r"loss|lossy|lose|miss|drop", first_line)


async def test_a_full_target_loses_the_items_between_and_gets_the_latest():
    seen, gate = [], trio.Event()
    async with Network() as network:
        broadcast = network.add(BroadcastBlock())
        broadcast.link_to(slow_sink(seen, gate))
        for item in range(4):
            await broadcast.send(item)
            await wait_all_tasks_blocked()
        gate.set()
        await wait_all_tasks_blocked()
        assert seen == [0, 3]


async def test_a_full_target_gets_the_last_item_before_completion():
    seen, gate = [], trio.Event()
    async with Network() as network:
        broadcast = network.add(BroadcastBlock())
        sink = slow_sink(seen, gate)
        broadcast.link_to(sink)
        for item in range(3):
            await broadcast.send(item)
            await wait_all_tasks_blocked()
        broadcast.complete()
        await wait_all_tasks_blocked()
        assert broadcast.state is BlockState.DRAINING
        gate.set()
        await broadcast.completion
        await sink.completion
    assert seen == [0, 2]


async def test_a_full_target_holds_up_neither_the_others_nor_the_sender():
    slow, fast, gate = [], [], trio.Event()
    async with Network() as network:
        broadcast = network.add(BroadcastBlock(bounded_capacity=1))
        broadcast.link_to(slow_sink(slow, gate))
        broadcast.link_to(ActionBlock(fast.append))
        for item in range(5):
            await broadcast.send(item)
            await wait_all_tasks_blocked()
        assert fast == [0, 1, 2, 3, 4]
        gate.set()
    assert slow == [0, 4]


@settings(deadline=None)
@given(
    count=st.integers(0, 12),
    slowness=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    delays=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    capacity=st.integers(1, 3),
    schedule=st.random_module(),
)
async def test_every_target_gets_items_in_order_without_repeats_and_the_last_one_always(
    count, slowness, delays, capacity, schedule
):
    async def items():
        for item in range(count):
            for _ in range(delays[item % len(delays)]):
                await trio.lowlevel.checkpoint()
            yield item

    def sink(pauses, seen):
        async def note(item):
            for _ in range(pauses):
                await trio.lowlevel.checkpoint()
            seen.append(item)

        return ActionBlock(note, bounded_capacity=capacity)

    seen_by_all = [[] for _ in slowness]
    async with Network() as network:
        broadcast = BroadcastBlock()
        for pauses, seen in zip(slowness, seen_by_all, strict=True):
            broadcast.link_to(sink(pauses, seen))
        SourceBlock(items()).link_to(broadcast)
        network.add(broadcast)
    for seen in seen_by_all:
        assert seen == sorted(set(seen))
        assert seen[-1:] == list(range(count))[-1:]


async def test_receiving_never_empties_it():
    async with Network() as network:
        broadcast = network.add(BroadcastBlock())
        await broadcast.send("value")
        await wait_all_tasks_blocked()
        assert [await broadcast.receive() for _ in range(3)] == ["value"] * 3
        assert broadcast.try_receive() == "value"


async def test_receive_gives_the_latest_value():
    async with Network() as network:
        broadcast = network.add(BroadcastBlock())
        for item in (1, 2, 3):
            await broadcast.send(item)
        await wait_all_tasks_blocked()
        assert await broadcast.receive() == 3


async def test_receive_waits_for_the_first_value():
    async with Network() as network, trio.open_nursery() as nursery:
        broadcast = network.add(BroadcastBlock())
        received = []

        async def receiver():
            received.append(await broadcast.receive())

        with pytest.raises(trio.WouldBlock):
            broadcast.try_receive()
        for _ in range(2):
            nursery.start_soon(receiver)
        await wait_all_tasks_blocked()
        assert received == []
        broadcast.post("value")
        await wait_all_tasks_blocked()
        assert received == ["value", "value"]


async def test_a_late_link_gets_the_current_value():
    seen = []
    async with Network() as network:
        broadcast = network.add(BroadcastBlock())
        for item in (1, 2):
            await broadcast.send(item)
        await wait_all_tasks_blocked()
        broadcast.link_to(ActionBlock(seen.append))
        await wait_all_tasks_blocked()
        assert seen == [2]
        await broadcast.send(3)
    assert seen == [2, 3]


async def test_a_late_link_gets_the_current_value_after_completion_too():
    seen = []
    async with Network() as network:
        broadcast = network.add(BroadcastBlock())
        await broadcast.send("value")
        broadcast.complete()
        await broadcast.completion
        sink = ActionBlock(seen.append)
        broadcast.link_to(sink)
        await sink.completion
    assert seen == ["value"]


async def test_a_value_nobody_reads_does_not_stall_the_network(autojump_clock):
    with trio.fail_after(10):
        async with Network() as network:
            broadcast = network.add(BroadcastBlock())
            await broadcast.send("value")
    assert broadcast.state is BlockState.COMPLETED


async def test_a_value_a_predicate_refuses_is_skipped_for_that_target():
    even, every = [], []
    async with Network() as network:
        broadcast = network.add(BroadcastBlock())
        broadcast.link_to(ActionBlock(even.append), lambda item: item % 2 == 0)
        broadcast.link_to(ActionBlock(every.append))
        for item in range(4):
            await broadcast.send(item)
            await wait_all_tasks_blocked()
    assert (even, every) == ([0, 2], [0, 1, 2, 3])


async def test_a_value_every_predicate_refuses_faults_nothing():
    seen = []
    async with Network() as network:
        broadcast = network.add(BroadcastBlock())
        broadcast.link_to(ActionBlock(seen.append), lambda item: item > 1)
        for item in range(3):
            await broadcast.send(item)
            await wait_all_tasks_blocked()
    assert seen == [2]
    assert broadcast.state is BlockState.COMPLETED


async def test_a_target_owed_the_last_item_no_longer_counts_once_its_link_is_closed():
    seen, gate = [], trio.Event()
    async with Network() as network:
        broadcast = network.add(BroadcastBlock())
        link = broadcast.link_to(slow_sink(seen, gate))
        for item in range(2):
            await broadcast.send(item)
            await wait_all_tasks_blocked()
        broadcast.complete()
        await wait_all_tasks_blocked()
        link.close()
        await broadcast.completion
        gate.set()
    assert seen == [0]


async def test_each_taker_gets_a_clone_of_its_own():
    first, second = [], []
    made = []

    def clone(item):
        made.append([*item])
        return made[-1]

    original = ["value"]
    async with Network() as network:
        broadcast = network.add(BroadcastBlock(clone))
        broadcast.link_to(ActionBlock(first.append))
        broadcast.link_to(ActionBlock(second.append))
        await broadcast.send(original)
    assert first == second == [original]
    assert len({id(original), id(first[0]), id(second[0])}) == 3
    assert len(made) == 2


async def test_a_target_whose_predicate_refuses_costs_no_clone():
    made = []
    async with Network() as network:
        broadcast = network.add(BroadcastBlock(lambda item: made.append(item) or item))
        broadcast.link_to(ActionBlock(lambda _: None), lambda _: False)
        broadcast.link_to(ActionBlock(lambda _: None))
        await broadcast.send("value")
    assert made == ["value"]


async def test_a_raising_clone_faults_with_a_note_naming_block_and_item():
    def clone(item):
        raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError) as caught:
        async with Network() as network:
            broadcast = network.add(BroadcastBlock(clone, name="loudspeaker"))
            broadcast.link_to(ActionBlock(lambda _: None))
            await broadcast.send("the item")
    notes = "\n".join(caught.value.exceptions[0].__notes__)
    assert "loudspeaker" in notes
    assert "the item" in notes


async def test_an_item_is_finished_once_offered():
    async with Network() as network:
        broadcast = network.add(BroadcastBlock())
        broadcast.link_to(ActionBlock(lambda _: None))
        for item in range(3):
            await broadcast.send(item)
        await wait_all_tasks_blocked()
        counts = broadcast.statistics()
        assert (counts.accepted, counts.finished) == (3, 3)


async def test_an_empty_broadcast_completes_its_targets():
    async with Network() as network:
        broadcast = network.add(BroadcastBlock())
        first, second = BufferBlock(), BufferBlock()
        broadcast.link_to(first)
        broadcast.link_to(second)
        broadcast.complete()
        await first.completion
        await second.completion


async def test_a_completed_broadcast_accepts_nothing_more():
    async with Network() as network:
        broadcast = network.add(BroadcastBlock())
        broadcast.complete()
        assert broadcast.post(1) is False
        with pytest.raises(BlockClosedError):
            await broadcast.send(1)
