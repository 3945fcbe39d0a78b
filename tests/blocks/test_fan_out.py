"""FanOutBlock: every target gets every item; the slowest governs."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockState,
    BufferBlock,
    FanOutBlock,
    Network,
    SourceBlock,
    run,
)


@settings(deadline=None)
@given(
    count=st.integers(0, 15),
    slowness=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4), min_size=1, max_size=4),
    capacity=st.integers(1, 4),
    target_capacity=st.integers(1, 3),
    schedule=st.random_module(),
)
async def test_every_target_gets_every_item_in_order_whatever_its_pace(
    count, slowness, capacity, target_capacity, schedule
):
    def sink(delays, seen):
        async def note(item):
            for _ in range(delays[item % len(delays)]):
                await trio.lowlevel.checkpoint()
            seen.append(item)

        return ActionBlock(note, bounded_capacity=target_capacity)

    seen_by_all = [[] for _ in slowness]
    async with Network() as network:
        fan_out = FanOutBlock(bounded_capacity=capacity)
        for delays, seen in zip(slowness, seen_by_all, strict=True):
            fan_out.link_to(sink(delays, seen))
        SourceBlock(range(count)).link_to(fan_out)
        network.add(fan_out)
    assert seen_by_all == [list(range(count))] * len(slowness)


async def test_a_single_target_makes_it_a_buffer():
    seen = []
    await run(SourceBlock(range(200)), FanOutBlock(bounded_capacity=1), ActionBlock(seen.append))
    assert seen == list(range(200))


async def test_the_slowest_target_governs():
    fast, slow = [], []
    gate = trio.Event()

    async def crawl(item):
        await gate.wait()
        slow.append(item)

    async with Network() as network:
        fan_out = network.add(FanOutBlock(bounded_capacity=2))
        fan_out.link_to(ActionBlock(fast.append))
        fan_out.link_to(ActionBlock(crawl, bounded_capacity=1))
        accepted = 0
        for item in range(10):
            accepted += fan_out.post(item)
            await wait_all_tasks_blocked()
        assert accepted == 3
        assert fan_out.statistics().inside == 2
        assert set(fast) <= {0, 1, 2}
        gate.set()
    assert fast == slow == [0, 1, 2]


async def test_a_target_that_took_the_item_does_not_get_it_again_while_another_is_full():
    seen = []
    gate = trio.Event()

    async def crawl(item):
        await gate.wait()

    async with Network() as network:
        fan_out = network.add(FanOutBlock())
        fan_out.link_to(ActionBlock(seen.append))
        fan_out.link_to(ActionBlock(crawl, bounded_capacity=1))
        for item in range(3):
            fan_out.post(item)
        await wait_all_tasks_blocked()
        assert seen == sorted(set(seen))
        gate.set()
    assert seen == [0, 1, 2]


async def test_completion_waits_until_every_target_has_every_item():
    gate = trio.Event()

    async def crawl(item):
        await gate.wait()

    async with Network() as network:
        fan_out = network.add(FanOutBlock())
        fan_out.link_to(ActionBlock(lambda _: None))
        fan_out.link_to(ActionBlock(crawl, bounded_capacity=1))
        for item in range(2):
            fan_out.post(item)
        fan_out.complete()
        await wait_all_tasks_blocked()
        assert fan_out.state is BlockState.DRAINING
        gate.set()
        await fan_out.completion


async def test_all_targets_complete_with_it():
    async with Network() as network:
        fan_out = network.add(FanOutBlock())
        sinks = [ActionBlock(lambda _: None) for _ in range(3)]
        for sink in sinks:
            fan_out.link_to(sink)
        fan_out.post(1)
        fan_out.complete()
        for sink in sinks:
            await sink.completion


async def test_closing_the_link_of_a_full_target_lets_the_items_leave():
    seen = []
    gate = trio.Event()

    async def crawl(item):
        await gate.wait()

    async with Network() as network:
        fan_out = network.add(FanOutBlock(bounded_capacity=1))
        fan_out.link_to(ActionBlock(seen.append))
        link = fan_out.link_to(ActionBlock(crawl, bounded_capacity=1))
        for item in range(2):
            await fan_out.send(item)
        await wait_all_tasks_blocked()
        assert fan_out.statistics().inside == 1
        link.close()
        await wait_all_tasks_blocked()
        assert fan_out.statistics().inside == 0
        await fan_out.send(2)
        await wait_all_tasks_blocked()
        assert seen == [0, 1, 2]
        gate.set()


async def test_an_exhausted_link_is_no_longer_waited_for():
    once, every = [], []
    async with Network() as network:
        fan_out = network.add(FanOutBlock(bounded_capacity=1))
        fan_out.link_to(ActionBlock(once.append), max_messages=1)
        fan_out.link_to(ActionBlock(every.append))
        for item in range(3):
            await fan_out.send(item)
    assert (once, every) == ([0], [0, 1, 2])


async def test_a_target_whose_predicate_refuses_is_skipped_for_that_item():
    even, every = [], []
    async with Network() as network:
        fan_out = network.add(FanOutBlock())
        fan_out.link_to(ActionBlock(even.append), lambda item: item % 2 == 0)
        fan_out.link_to(ActionBlock(every.append))
        for item in range(5):
            fan_out.post(item)
    assert (even, every) == ([0, 2, 4], [0, 1, 2, 3, 4])


async def test_without_a_link_items_are_held():
    async with Network() as network:
        fan_out = network.add(FanOutBlock(bounded_capacity=2))
        assert [fan_out.post(item) for item in range(3)] == [True, True, False]
        await wait_all_tasks_blocked()
        assert fan_out.statistics().inside == 2
        seen = []
        fan_out.link_to(ActionBlock(seen.append))
        await wait_all_tasks_blocked()
        assert seen == [0, 1]


async def test_a_later_link_gets_the_items_that_arrive_after_it():
    first, second = [], []
    async with Network() as network:
        fan_out = network.add(FanOutBlock())
        fan_out.link_to(ActionBlock(first.append))
        fan_out.post("early")
        await wait_all_tasks_blocked()
        fan_out.link_to(ActionBlock(second.append))
        fan_out.post("late")
    assert (first, second) == (["early", "late"], ["late"])


async def test_it_has_no_direct_receive():
    async with Network() as network:
        fan_out = network.add(FanOutBlock())
        fan_out.link_to(ActionBlock(lambda _: None))
        with pytest.raises((AttributeError, NotImplementedError, RuntimeError, TypeError)):
            await fan_out.receive()


async def test_each_taker_gets_a_clone_of_its_own():
    seen, made = [], []

    def clone(item):
        made.append([*item])
        return made[-1]

    original = ["value"]
    async with Network() as network:
        fan_out = network.add(FanOutBlock(clone))
        for _ in range(3):
            fan_out.link_to(ActionBlock(seen.append))
        fan_out.link_to(ActionBlock(seen.append), lambda _: False)
        fan_out.post(original)
    assert seen == [["value"]] * 3
    assert len({id(item) for item in [original, *seen]}) == 4
    assert len(made) == 3


async def test_without_clone_all_takers_share_the_item():
    seen = []
    original = ["value"]
    async with Network() as network:
        fan_out = network.add(FanOutBlock())
        for _ in range(2):
            fan_out.link_to(ActionBlock(seen.append))
        fan_out.post(original)
    assert [item is original for item in seen] == [True, True]


async def test_a_raising_clone_faults_with_a_note_naming_block_and_item():
    def clone(item):
        raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError) as caught:
        async with Network() as network:
            fan_out = network.add(FanOutBlock(clone, name="prism"))
            fan_out.link_to(ActionBlock(lambda _: None))
            await fan_out.send("the item")
    notes = "\n".join(caught.value.exceptions[0].__notes__)
    assert "prism" in notes
    assert "the item" in notes


async def test_an_item_is_finished_when_the_last_target_has_taken_it():
    gate = trio.Event()

    async def crawl(item):
        await gate.wait()

    async with Network() as network:
        fan_out = network.add(FanOutBlock())
        fan_out.link_to(BufferBlock())
        fan_out.link_to(ActionBlock(crawl, bounded_capacity=1))
        for item in range(3):
            fan_out.post(item)
        await wait_all_tasks_blocked()
        counts = fan_out.statistics()
        assert (counts.accepted, counts.finished, counts.inside) == (3, 1, 2)
        network.cancel()
    counts = fan_out.statistics()
    assert (counts.accepted, counts.finished, counts.discarded) == (3, 1, 2)
